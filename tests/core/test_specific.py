"""SRAM: over everything it is G2R and R2G, a planted correspondence is found, and what was not kept is said."""

import pytest
import torch
from selected import maps, specific

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.regions import cells_of

GRID, REFERENCE = TokenGrid(6, 4), Reference("reference", 20, TokenGrid(4, 5))


def record(q, k, rows=None, scope=None, layers=("a",)):
    recorder = Recorder(torch.tensor([2.0, 1.0, 0.0]), q.shape[0], 2**30)
    number = recorder.reference(REFERENCE)
    (m,) = attribute(q, k, [span("reference", 3, REFERENCE.grid)], positions=Positions(scope=scope, pair_rows=rows))
    for step in range(2):
        for name in layers:
            recorder.add(Place(Layer(name, GRID, q.shape[1]), step, number), m, rows)
    return recorder.freeze(grid=GRID)


@pytest.fixture
def everywhere():
    return record(torch.randn(2, 3, 24, 8), torch.randn(2, 3, 23, 8), torch.arange(24))


def test_over_everything_it_is_the_unified_map(everywhere):
    for direction in ("g2r", "r2g"):
        got = specific(everywhere, torch.ones(60, 40), direction, item=1).values
        torch.testing.assert_close(got, maps(everywhere, direction, item=1).values[0])


def test_a_planted_correspondence_is_found():
    """Reference token j is a copy of position order[j]: each region of one cell finds its partner."""
    q = torch.nn.functional.normalize(torch.randn(1, 1, 24, 16), dim=-1) * 20
    order = torch.randperm(24)[:20]
    attribution = record(q, torch.cat([torch.zeros(1, 1, 3, 16), q[:, :, order]], 2), torch.arange(24))
    for token, position in enumerate(order.tolist()):
        picture, reference = torch.zeros(24), torch.zeros(20)
        picture[position], reference[token] = 1, 1
        made_by = specific(attribution, picture.view(6, 4), "g2r").values
        went_to = specific(attribution, reference.view(4, 5), "r2g").values
        assert made_by.argmax() == token and made_by.max() > 0.9
        assert went_to.argmax() == position and went_to.max() > 0.9


def test_rows_of_the_mask_only():
    rows = torch.tensor([0, 1, 4, 5])
    attribution = record(torch.randn(1, 2, 24, 8), torch.randn(1, 2, 23, 8), rows)
    inside, outside = torch.zeros(6, 4), torch.zeros(6, 4)
    inside[0, 0], outside[5, 3] = 1, 1
    got = specific(attribution, inside, "g2r")
    torch.testing.assert_close(got.values.flatten(), attribution.entries[0, 0].pairs["g2r_pairs"][0, 0])
    assert "inpainting mask only" in got.note
    with pytest.raises(ValueError, match="outside the inpainting mask"):
        specific(attribution, outside, "g2r")
    went = specific(attribution, torch.ones(4, 5), "r2g").values.flatten()
    assert went[rows].gt(0).all() and went.count_nonzero() == 4


def test_layers_are_chosen(everywhere):
    q, k = torch.randn(1, 1, 24, 8), torch.randn(1, 1, 23, 8)
    attribution = record(q, k, torch.arange(24), layers=("a", "b"))
    assert specific(attribution, torch.ones(6, 4), "g2r", layers="b").note == "mean of 1 layer(s): b"
    assert specific(attribution, torch.ones(6, 4), "g2r").note == "mean of 2 layer(s): a, b"


def test_cells_of_a_region():
    region = torch.zeros(60, 40)
    region[:10, :20] = 1  # the first row's first two cells of 10x10 px
    assert cells_of(region, GRID).nonzero().flatten().tolist() == [0, 1]
    dot = torch.zeros(60, 40)
    dot[35, 12] = 1
    assert cells_of(dot, GRID).nonzero().flatten().tolist() == [13]
    assert not cells_of(torch.zeros(60, 40), GRID).any()
    batch = cells_of(torch.stack([region, dot, torch.zeros(60, 40)]), GRID)
    assert batch.sum(1).tolist() == [2, 1, 0]


def test_an_empty_region(everywhere):
    with pytest.raises(ValueError, match="the region is empty"):
        specific(everywhere, torch.zeros(60, 40), "g2r")


@pytest.mark.parametrize("arguments", [dict(steps="0"), dict(heads="1")])
def test_steps_and_heads_cannot_be_told_apart(everywhere, arguments):
    with pytest.raises(ValueError, match="means over steps and heads"):
        specific(everywhere, torch.ones(6, 4), "g2r", **arguments)


def test_without_pair_maps():
    attribution = record(torch.randn(1, 1, 24, 8), torch.randn(1, 1, 23, 8))
    with pytest.raises(ValueError, match="no pair maps were kept for the selected layers"):
        specific(attribution, torch.ones(6, 4), "g2r")
