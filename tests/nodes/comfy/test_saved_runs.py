"""The runs whose attributions were saved, run once more: the maps are those that were saved."""

import pytest
import torch
from saved_runs import SAVED_RUNS, path_of
from this_core import PINNED

from i2am_pack.i2am_core.files import load


@pytest.mark.parametrize("name", SAVED_RUNS)
def test_the_same_graph_gives_the_same_maps(name):
    if not PINNED:
        pytest.skip("made on the pinned ComfyUI, of which others differ in the order of calls and in digits")
    saved, now = load(path_of(name)), SAVED_RUNS[name].attribution()
    assert now.mechanism == saved.mechanism and now.captured_calls == saved.captured_calls
    assert [(r.name, r.key, r.grid, r.tokens) for r in now.references] == [
        (r.name, r.key, r.grid, r.tokens) for r in saved.references
    ]
    assert now.layers == saved.layers and now.bins == saved.bins and now.entries.keys() == saved.entries.keys()
    for place, entry in saved.entries.items():
        entry_now = now.entries[place]
        assert entry_now.maps.keys() == entry.maps.keys() and entry_now.pairs.keys() == entry.pairs.keys()
        assert torch.equal(entry_now.seen, entry.seen)
        for field, values in entry.maps.items():
            torch.testing.assert_close(entry_now.maps[field], values, atol=1e-5, rtol=1e-4, msg=f"{place} {field}")
        if entry.pairs:
            assert torch.equal(entry_now.pair_rows, entry.pair_rows)
        for field, values in entry.pairs.items() if SAVED_RUNS[name].first_order else ():
            torch.testing.assert_close(entry_now.pairs[field], values, atol=1e-5, rtol=1e-4, msg=f"{place} {field}")


def test_pair_maps_of_a_sampler_of_second_order_are_now_means_over_steps():
    """Saved as means over calls, they differed from the maps; the last step has one call, the others have two."""
    if not PINNED:
        pytest.skip("made on the pinned ComfyUI")
    saved, now = load(path_of("second order")), SAVED_RUNS["second order"].attribution()
    before = {place: of_pairs(entry) for place, entry in saved.entries.items()}
    after = {place: of_pairs(entry) for place, entry in now.entries.items()}
    apart = []
    for place, entry in now.entries.items():
        maps = entry.maps["g2r_paper"].mean((1, 2))  # over steps and heads
        torch.testing.assert_close(after[place], maps, atol=1e-6, rtol=1e-5)
        apart.append(((before[place] - maps).abs().max() / maps.max()).item())
    assert 0.002 < max(apart) < 0.1  # of the maximum; it was 3.8 %


def of_pairs(entry):
    return entry.pairs["g2r_pairs"].mean(1)
