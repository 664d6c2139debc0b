"""USO: style tokens before the text, beside the reference latent of the subject."""

import inspect

import comfy.ldm.qwen_image.model as qwen_image
import comfy_extras.nodes_model_patch as nodes_model_patch
import pytest
import tiny_graphs
import tiny_models
import torch
from comfy.model_patcher import ModelPatcher
from mechanisms import assert_maps_equal, capture, measure

from i2am_pack.i2am_core import TokenGrid

RUNS_STYLES = "post_input" in inspect.getsource(qwen_image)  # in Qwen-Image: newer cores


@pytest.mark.parametrize(
    "shape", [{}, {"style": 5, "size": (7, 5), "lengths": (13, 13)}, {"sizes": ((4, 8), (5, 4)), "style": 9}]
)
def test_style_and_subject_equal_the_oracle(shape):
    graph = tiny_graphs.flux_uso(**shape)
    attribution = capture(graph)
    height, width = graph.latent["samples"].shape[-2:]
    style, cells = 3 * shape.get("style", 64), -(-height // 2) * -(-width // 2)
    subjects = [TokenGrid(-(-r.shape[-2] // 2), -(-r.shape[-1] // 2)) for r in graph.references[1:]]
    by_name = {r.name: (n, r.grid) for n, r in enumerate(attribution.references)}
    named = {f"reference latent {n + 1}": grid for n, grid in enumerate(subjects)} | {"USO style 1": None}
    assert {name: grid for name, (_, grid) in by_name.items()} == named
    picture = style + graph.text_tokens
    steps = measure(graph, range(picture, picture + cells))
    assert_maps_equal(attribution, steps, by_name["USO style 1"][0], range(style))
    start = picture + cells
    for name, grid in list(named.items())[:-1]:
        assert_maps_equal(attribution, steps, by_name[name][0], range(start, start + grid.cells))
        start += grid.cells


def test_the_style_of_a_later_node_comes_first():
    graph = tiny_graphs.flux_uso(style=5)
    projector = nodes_model_patch.SigLIPMultiFeatProjModel(729, 4, 8, 32, operations=torch.nn)
    tiny_models.fill(projector, 1)
    patch = ModelPatcher(projector, *[torch.device("cpu")] * 2)
    seen = tiny_graphs.vision(8, 729, 8)
    graph.model = nodes_model_patch.USOStyleReference().apply_patch(graph.model, patch, seen)[0]
    attribution = capture(graph)
    assert [(r.name, r.tokens) for r in attribution.references[1:]] == [("USO style 1", 15), ("USO style 2", 12)]
    start = 27 + graph.text_tokens
    steps = measure(graph, range(start, start + 12))
    assert_maps_equal(attribution, steps, 1, range(12, 27))
    assert_maps_equal(attribution, steps, 2, range(12))


def test_qwen_image_has_styles_where_its_core_runs_what_adds_them():
    graph = tiny_graphs.qwen_edit()
    projector = nodes_model_patch.SigLIPMultiFeatProjModel(729, 5, 8, 32, operations=torch.nn)
    tiny_models.fill(projector)
    patch = ModelPatcher(projector, torch.device("cpu"), torch.device("cpu"))
    seen = tiny_graphs.vision(2, 729, 8)
    graph.model = nodes_model_patch.USOStyleReference().apply_patch(graph.model, patch, seen)[0]
    attribution = capture(graph)
    numbers = {r.name: n for n, r in enumerate(attribution.references)}
    styles = 15 if RUNS_STYLES else 0
    start = styles + graph.text_tokens
    steps = measure(graph, range(start, start + 12))
    assert_maps_equal(attribution, steps, numbers["reference latent 1"], range(start + 12, start + 20))
    if styles:
        assert_maps_equal(attribution, steps, numbers["USO style 1"], range(styles))
    else:
        assert attribution.layer_maps(numbers["USO style 1"], 0) is None


def test_tokens_of_another_patch_are_not_taken_for_a_style():
    graph = tiny_graphs.flux_uso(style=5)

    def more_text(kwargs):
        kwargs["txt"] = torch.cat([kwargs["txt"], kwargs["txt"][:, :2]], 1)
        kwargs["txt_ids"] = torch.cat([kwargs["txt_ids"], kwargs["txt_ids"][:, :2]], 1)
        return kwargs

    graph.model.set_model_post_input_patch(more_text)
    with pytest.raises(ValueError, match="which are not 15 of style, 7 of text"):
        capture(graph)
