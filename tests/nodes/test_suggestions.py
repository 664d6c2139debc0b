"""What is suggested can be done: each setting exists in the node that it names, and in that mechanism's graphs."""

from dataclasses import replace

import pytest
from comfy_extras import nodes_flux, nodes_wan

import nodes as comfyui_nodes
from i2am_pack.i2am_core.findings.finding import SUGGESTIONS, Evidence, Finding
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS
from i2am_pack.nodes.effect import I2AMEffect
from i2am_pack.nodes.steer import I2AMSteer
from i2am_pack.nodes.suggestions import TRIES, tries

OF_PACKS = {("IPAdapterAdvanced", name) for name in ("weight", "start_at", "end_at")}  # see tests/nodes/packs
OURS = {"I2AM_Steer": I2AMSteer, "I2AM_Effect": I2AMEffect}
SETTINGS = sorted({setting for tries in TRIES.values() for one in tries.values() for setting in one.settings})


def inputs_of(name):
    if name in OURS:
        return {one.id for one in OURS[name].define_schema().inputs}
    if name in comfyui_nodes.NODE_CLASS_MAPPINGS:
        kinds = comfyui_nodes.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()
        return {x for inputs in kinds.values() for x in inputs}
    node = next(getattr(module, name) for module in (nodes_wan, nodes_flux) if hasattr(module, name))
    return {one.id for one in node.define_schema().inputs}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_there(setting):
    node, name = setting
    assert setting in OF_PACKS or name in inputs_of(node)


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
    assert said([finding("stronger")], "IP-Adapter", "style tokens") == ["strength 2 on I2AM Steer"]


def test_of_several_references_the_one_is_named_and_no_steer_reaches_a_conditioning():
    both = [replace(finding("stronger"), evidence=Evidence("effect", owner=n)) for n in (0, 1)]
    assert said(both, "reference latents") == [
        f"strength 2 on I2AM Steer (reference {n} of I2AM Steer)" for n in (0, 1)
    ]
    assert said([replace(finding("stronger"), evidence=Evidence("effect", owner="conditioning"))]) == []


def test_what_else_there_is_to_try():
    (other,) = [one.sentence for _, one in tries([finding("stronger")], ["reference latents"])]
    assert other == "strength 2 on I2AM Steer"
