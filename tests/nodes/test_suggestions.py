"""What is suggested, for which mechanism. That each setting is there is asked of the server: comfy/test_server.py."""

from dataclasses import replace

import pytest

from i2am_pack.i2am_core.findings.finding import SUGGESTIONS, Evidence, Finding
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS
from i2am_pack.nodes.suggestions import BY_ATTENTION, BY_GUIDANCE, TRIES, tries


@pytest.mark.parametrize("key", [key for key in SUGGESTIONS if key])
def test_there_is_something_to_try_whatever_the_mechanism(key):
    assert TRIES[key][""].sentence and set(TRIES[key]) <= {"", *MECHANISMS}


def finding(suggestion):
    return Finding("strength", "weak", "fault", {}, Evidence("effect"), suggestion)


def said(findings, *mechanisms):
    return [one.sentence for _, one in tries(findings, mechanisms)]


def test_one_mechanism_has_its_own_and_of_several_none_has():
    (own,) = said([finding("stronger"), finding("")], "IP-Adapter")
    assert "IPAdapter Advanced" in own
    assert said([finding("stronger")], "IP-Adapter", "style tokens") == [BY_GUIDANCE]


def test_of_several_references_the_one_is_named_and_no_steer_reaches_a_conditioning():
    both = [replace(finding("stronger"), evidence=Evidence("effect", owner=n)) for n in (0, 1)]
    assert said(both, "cross-attention tokens") == [
        f"strength 2 on I2AM Steer (reference {n} of I2AM Steer)" for n in (0, 1)
    ]
    assert said([replace(finding("stronger"), evidence=Evidence("effect", owner="conditioning"))]) == []


def test_what_else_there_is_to_try():
    assert said([finding("stronger")], "cross-attention tokens") == [BY_ATTENTION]
    assert said([finding("stronger")], "reference latents") == [BY_GUIDANCE]


def test_an_adapter_has_settings_of_its_own_for_where_and_when():
    for key, name in {"mask it": "attn_mask", "switch on": "start_at", "longer": "end_at"}.items():
        (own,), (other,) = (said([finding(key)], mechanism) for mechanism in ("IP-Adapter", "reference latents"))
        assert name in own and name not in other
