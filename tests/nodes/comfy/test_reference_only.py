"""Reference-only: the first picture of the batch is the reference, whose tokens come after those of each picture."""

import pytest
import tiny_graphs
import tiny_models
import torch
from mechanisms import assert_maps_equal, capture, measure
from steered_graphs import captured

from i2am_pack.i2am_core import MapKind, TokenGrid, maps


@pytest.mark.parametrize("shape", [{}, {"batch": 2, "cfg": 1.0}, {"lengths": (7, 12), "size": (6, 10)}])
def test_maps_equal_the_oracle_and_are_empty_for_the_reference_itself(shape):
    graph = tiny_graphs.sd15_reference_only(**shape)
    attribution = capture(graph)
    items, _, height, width = graph.latent["samples"].shape
    grids = {1: TokenGrid(height, width), 2: TokenGrid(height // 2, width // 2)}
    assert attribution.mechanism == "reference-only"
    assert {layer.grid for layer in attribution.layers} == set(grids.values())
    assert [r.grid for r in attribution.references] == [grids[1]]  # one reference, on the finest of its grids
    gain = torch.ones(items, 1)
    gain[0] = 0
    for grid in grids.values():
        cells = grid.cells
        steps = measure(graph, range(cells), lambda call, n=cells: call.k.shape[2] == 2 * call.q.shape[2] == 2 * n)
        assert_maps_equal(attribution, steps, 0, range(cells, 2 * cells), gain, grid=grid)


def with_patches(graph, *patches):
    graph.model = tiny_models.sd15()
    for patch in patches:
        graph.model.set_model_attn1_patch(patch)
    return graph


def test_a_cell_of_the_reference_that_stands_out_has_the_most():
    def plant(x, context, value, options):
        x = x.clone()
        x.unflatten(0, (len(options["cond_or_uncond"]), -1))[:, 0, 13] *= 10
        return x, context, value

    graph = with_patches(tiny_graphs.sd15_reference_only(), plant, tiny_graphs._attend_to_first)
    attribution = capture(graph)
    for layer in range(len(attribution.layers)):
        for reference in range(len(attribution.references)):
            entry = attribution.layer_maps(reference, layer)
            if entry is not None:
                assert (entry.maps["g2r_share"][1].mean(1).argmax(-1) == 13).all()


def test_other_tokens_are_not_taken_for_a_reference():
    def twice(x, context, value, options):
        return x, *[torch.cat([x, x], 1)] * 2

    with pytest.raises(ValueError, match="the second half is not the batch's first picture"):
        capture(with_patches(tiny_graphs.sd15_reference_only(), twice))


def test_the_reference_itself_is_not_off():
    """Its maps are 0 since it is the reference, also where it is taken out of the batch alone."""
    graph = tiny_graphs.sd15_reference_only()
    model, handle = captured(graph.model)
    latent = graph.sample(model)["samples"]
    for picked in (latent, latent[:1]):  # as LatentFromBatch gives it
        attribution = handle.find(picked)
        time = maps(attribution, MapKind("r2g", "share"), "time", time_groups=0)
        assert not time.values.any() and not any("off" in label for label in time.labels)
        assert not any("is off" in note for note in attribution.notes)


def test_a_batch_of_the_reference_alone_is_refused():
    graph = tiny_graphs.sd15_reference_only()
    graph.latent = {name: values[:1] for name, values in graph.latent.items()}
    with pytest.raises(ValueError, match="holds the reference alone"):
        capture(graph)
