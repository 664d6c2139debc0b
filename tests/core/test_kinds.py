"""Kinds of maps and their keys, which are those of files."""

import dataclasses

import pytest

from i2am_core import MapKind, Marginals
from i2am_core.errors import UnknownChoice
from i2am_core.kinds import KINDS, PAIR_KEYS, UNSCOPED


def test_keys_are_the_fields_of_marginals():
    fields = [field.name for field in dataclasses.fields(Marginals)]
    assert [kind.key for kind in KINDS] + ["g2r_pairs", "r2g_pairs"] == [
        name for name in fields if name not in ("row_sums", "arithmetic", "total", "holds")
    ]
    assert set(PAIR_KEYS) == {"g2r_pairs", "r2g_pairs"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.key)
def test_a_kind_is_what_its_key_says(kind):
    assert MapKind.parse(kind.key) == kind
    assert kind.on_reference == kind.key.startswith("g2r")
    assert kind.within(False) in UNSCOPED


def test_only_maps_on_the_reference_have_a_scope():
    assert MapKind("g2r", "share").within(True).key == "g2r_share_scope"
    assert MapKind("r2g", "share").within(True) == MapKind("r2g", "share")


def test_what_is_no_kind_is_refused():
    for key in ("r2g", "g2r_pairs", "r2g_paper_scope", ""):
        with pytest.raises(UnknownChoice, match="kind of map"):
            MapKind.parse(key)
    with pytest.raises(UnknownChoice, match="direction 'up' does not exist"):
        MapKind("up")
    with pytest.raises(UnknownChoice, match="normalization 'raw' does not exist"):
        MapKind("r2g", "raw")
