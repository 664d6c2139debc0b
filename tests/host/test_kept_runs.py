"""The runs whose attributions were kept, run again: the maps are those that were saved."""

import pytest
import torch
from kept_graphs import KEPT, path_of
from this_core import PINNED

from i2am_pack.i2am_core.storage import load


@pytest.mark.parametrize("name", KEPT)
def test_the_same_graph_gives_the_same_maps(name):
    if not PINNED:
        pytest.skip("kept on the pinned ComfyUI, of which others differ in the order of calls and in digits")
    kept, now = load(path_of(name)), KEPT[name].attribution()
    assert now.mechanism == kept.mechanism and now.captured_calls == kept.captured_calls
    assert [(r.name, r.key, r.grid, r.tokens) for r in now.references] == [
        (r.name, r.key, r.grid, r.tokens) for r in kept.references
    ]
    assert now.layers == kept.layers and now.bins == kept.bins and now.entries.keys() == kept.entries.keys()
    for place, entry in kept.entries.items():
        again = now.entries[place]
        assert again.maps.keys() == entry.maps.keys() and again.pairs.keys() == entry.pairs.keys()
        assert torch.equal(again.seen, entry.seen)
        for field, values in entry.maps.items():
            torch.testing.assert_close(again.maps[field], values, atol=1e-5, rtol=1e-4, msg=f"{place} {field}")
        if entry.pairs:
            assert torch.equal(again.pair_rows, entry.pair_rows)
        for field, values in entry.pairs.items() if KEPT[name].first_order else ():
            torch.testing.assert_close(again.pairs[field], values, atol=1e-5, rtol=1e-4, msg=f"{place} {field}")
