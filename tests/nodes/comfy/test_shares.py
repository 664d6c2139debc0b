"""Who shares the attention with references: the text's part and the references', against an independent oracle."""

import itertools

import pytest
import tiny_graphs
import torch
from mechanisms import capture, measure

from i2am_pack.i2am_core import cells_of
from i2am_pack.nodes.tag_reference import I2AMTagReference


def assert_shares(attribution, steps, of, columns):
    """The share of ``columns`` in each step and layer, as means over heads and positions."""
    for step, calls in enumerate(steps):
        assert len(calls) == len(attribution.layers)
        for layer, measured in enumerate(calls):
            expected = measured.weights[..., list(columns)].sum(-1).mean((1, 2))
            got = attribution.shares[of][:, step, layer, 0].double()
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-3)


RIGHT = torch.zeros(1, 8, 6)
RIGHT[..., 3:] = 1
MASKED = {"mask": RIGHT, "mask_strength": 1.0, "set_area_to_bounds": False}
KONTEXT = [{}, {"batch": 2, "cfg": 3.0}, {"cfg": 3.0, "lengths": (7, 12)}]


@pytest.mark.parametrize("shape", KONTEXT)
def test_kontext(shape):
    graph = tiny_graphs.flux_kontext(**shape)
    attribution = capture(graph)
    text = graph.text_tokens
    steps = measure(graph, range(text, text + 12))
    assert_shares(attribution, steps, "text", range(text))
    assert_shares(attribution, steps, "references", range(text + 12, text + 12 + 14))


COMBINED = {  # what the second conditioning is beside the first, and what both count for in the three columns of cells
    "of equal strength": ({}, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "of a quarter of the strength": ({"strength": 0.25}, (0.8, 0.8, 0.8), (0.2, 0.2, 0.2)),
    "in the right half": (MASKED, (1.0, 0.75, 0.5), (0.0, 0.25, 0.5)),
}


@pytest.mark.parametrize("case", COMBINED)
@pytest.mark.parametrize("batch", [1, 2])
def test_conditionings_that_make_the_picture_together_count_as_much_as_in_it(case, batch):
    """Two texts, of 7 and of 40 tokens, with the same references: the mean over cells and conditionings is weighted."""
    change, *weights = COMBINED[case]
    graph = tiny_graphs.flux_kontext(batch=batch)
    other = tiny_graphs.flux_kontext(text=5, lengths=(40, 7))
    graph.positive = [*graph.positive, *([tokens, about | change] for tokens, about in other.positive)]
    attribution = capture(graph)
    own, others = (
        measure(graph, range(text, text + 12), lambda call, keys=text + 26: call.k.shape[2] == keys) for text in (7, 40)
    )
    own, others = ([calls for calls in steps if calls] for steps in (own, others))
    assert len(own) == len(others) == attribution.steps == 2
    columns = {"text": (range(7), range(40)), "references": (range(19, 33), range(52, 66))}
    of_cells = [torch.tensor(weight, dtype=torch.float64).repeat(4) for weight in weights]
    for step, layer in itertools.product(range(2), range(len(attribution.layers))):
        for owner, of_each in columns.items():
            parts = zip((own[step][layer], others[step][layer]), of_each, of_cells, strict=True)
            both = [(x.weights[..., list(keys)].sum(-1).mean(1) * cells).sum(1) / 12 for x, keys, cells in parts]
            got = attribution.shares[owner][:, step, layer, 0].double()
            torch.testing.assert_close(got, sum(both), atol=2e-5, rtol=1e-3)


def test_style_tokens_in_the_text_are_not_counted_as_text():
    graph = tiny_graphs.flux_redux()
    tokens, about = graph.positive[0]
    graph.positive = I2AMTagReference.execute([[tokens[:, :7], about]], graph.positive).args[0]
    attribution = capture(graph)
    steps = measure(graph, range(7 + 729, 7 + 729 + 12))
    assert_shares(attribution, steps, "text", range(7))
    assert_shares(attribution, steps, "references", range(7, 7 + 729))


def test_a_mask_has_a_mean_of_its_own():
    graph = tiny_graphs.flux_kontext()
    graph.latent["noise_mask"] = torch.zeros(1, 1, 8, 6)
    graph.latent["noise_mask"][..., 3:] = 1
    attribution = capture(graph)
    text, grid = graph.text_tokens, attribution.layers[0].grid
    steps = measure(graph, range(text, text + grid.cells))
    inside = cells_of(attribution.denoise_mask, grid)[0]
    assert 0 < inside.sum() < grid.cells
    for step, calls in enumerate(steps):
        for layer, measured in enumerate(calls):
            expected = measured.weights[0, :, inside, :text].sum(-1).mean()
            assert attribution.shares["text"][0, step, layer, 1] == pytest.approx(float(expected), rel=1e-3)


def test_a_softmax_of_its_own_is_shared_with_nobody():
    attribution = capture(tiny_graphs.wan_i2v())
    assert attribution.shares == {}
