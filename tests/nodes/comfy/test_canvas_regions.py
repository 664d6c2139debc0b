"""Reference and result on one canvas: self-attention from the cells of one region to those of another."""

import pytest
import tiny_graphs
import torch
from asked import maps
from mechanisms import assert_maps_equal, measure

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect


def capture(graph, generated=None, reference=None, **sampling):
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512, generated, reference).args
    watched = graph.sample(model, **sampling)
    assert torch.equal(watched["samples"], graph.sample(**sampling)["samples"])
    return I2AMCollect.execute(handle, watched).args[0]


def left_half(height=64, width=64):
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1
    return mask


@pytest.mark.parametrize(("name", "before"), [("flux_fill_canvas", 7), ("lumina2_canvas", 7), ("z_image_canvas", 32)])
def test_transformers_equal_the_oracle(name, before):
    """``before`` is how many tokens are before the picture's."""
    graph = getattr(tiny_graphs, name)(size=(8, 8))
    attribution = capture(graph, reference=left_half())
    assert attribution.mechanism == "canvas regions"
    assert [(r.name, r.grid) for r in attribution.references] == [("reference region", TokenGrid(4, 2))]
    columns = [before + y * 4 + x for y in range(4) for x in range(2)]
    gain = torch.tensor([0.0, 0, 1, 1]).repeat(4)
    most = max(x.weights.shape[-1] for step in measure(graph, range(1)) for x in step)
    steps = measure(graph, range(before, before + 16), lambda call: call.k.shape[2] == call.q.shape[2] == most)
    assert_maps_equal(attribution, steps, 0, columns, gain)


@pytest.mark.parametrize("name", ["sd15_canvas", "sd15_inpaint_canvas", "sdxl_canvas"])
@pytest.mark.parametrize("shape", [{}, {"batch": 2}, {"cfg": 1.0}])
def test_unets_equal_the_oracle_on_every_grid(name, shape):
    graph = getattr(tiny_graphs, name)(**shape)
    attribution = capture(graph, reference=left_half())
    grids = {layer.grid for layer in attribution.layers}
    finest = max(grids, key=lambda grid: grid.cells)
    expected = {TokenGrid(4, 4)} if name == "sdxl_canvas" else {TokenGrid(4, 4), TokenGrid(8, 8)}
    assert grids == expected
    assert [r.grid for r in attribution.references] == [TokenGrid(finest.height, finest.width // 2)]
    for grid in grids:
        half = grid.width // 2
        columns = [y * grid.width + x for y in range(grid.height) for x in range(half)]
        gain = (torch.arange(grid.cells) % grid.width >= half).float()

        def self_attention(call, n=grid.cells):
            return call.q.shape[2] == call.k.shape[2] == n

        steps = measure(graph, range(grid.cells), self_attention)
        assert_maps_equal(attribution, steps, 0, columns, gain, grid=grid)


def test_regions_of_any_shape():
    """A reference that is no rectangle lies on its bounding box, which is 0 where it is not."""
    graph = tiny_graphs.flux_fill_canvas(size=(8, 8))
    reference, generated = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    for y, x in ((0, 1), (1, 0), (2, 1)):
        reference[0, y, x] = 1
    generated[0, 1:3, 2:] = 1
    attribution = capture(graph, generated, reference)
    assert attribution.references[0].grid == TokenGrid(3, 2)
    used = maps(attribution, "g2r", scope="whole image").values[0]
    assert [(int(y), int(x)) for y, x in used.nonzero()] == [(0, 1), (1, 0), (2, 1)]
    torch.testing.assert_close(used.sum(), torch.tensor(1.0))
    acts = maps(attribution, "r2g").values[0]
    assert acts[1:3, 2:].gt(0).all() and acts.gt(0).sum() == 4


def test_what_is_painted_is_no_reference():
    graph = tiny_graphs.flux_fill_canvas(size=(8, 8))  # the right half is painted
    attribution = capture(graph, reference=torch.ones(1, 8, 8))
    assert attribution.references[0].grid == TokenGrid(4, 2)


def test_the_cell_that_differs_has_the_most():
    """Keys that are all alike but one, in the left column of the middle row: so are the maps."""
    graph = tiny_graphs.sd15_canvas()

    def plant(x, context, value, options):
        side = round(x.shape[1] ** 0.5)
        context = x[:, :1].expand_as(x).clone()
        context[:, side * (side // 2)] = x[:, -1]
        return x, context, context

    graph.model = graph.model.clone()
    graph.model.set_model_attn1_patch(plant)
    attribution = capture(graph, reference=left_half())
    for number, layer in enumerate(attribution.layers):
        used = maps(attribution, "g2r", "unified", "share", scope="whole image", layers=str(number)).values[0]
        middle = layer.grid.height // 2
        others = used.flatten()[torch.arange(used.numel()) != middle * used.shape[1]]
        torch.testing.assert_close(others, others.mean().expand_as(others), rtol=1e-4, atol=0)
        assert (used[middle, 0] - others.mean()).abs() > 0.01 * others.mean()


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ((None, torch.zeros(1, 8, 8)), "reference_region marks nothing"),
        ((torch.zeros(1, 8, 8), torch.ones(1, 8, 8)), "generated_region marks nothing"),
        ((None, torch.ones(2, 8, 8)), "got 2 masks as reference_region: give one"),
    ],
)
def test_bad_masks_get_a_sentence(regions, message):
    with pytest.raises(ValueError, match=message):
        I2AMCapture.execute(tiny_graphs.sd15_text().model, "auto", "positive", "off", 512, *regions)


def test_a_reference_region_needs_a_painted_one():
    with pytest.raises(ValueError, match="give generated_region, or use an inpainting mask"):
        capture(tiny_graphs.flux_text(size=(8, 8)), reference=left_half())


def test_three_masks_for_two_pictures():
    with pytest.raises(ValueError, match="3 masks of the generated region for 2 pictures"):
        capture(tiny_graphs.flux_text(size=(8, 8), batch=2), torch.ones(3, 8, 8), left_half())
