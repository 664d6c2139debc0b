"""Capture beside real packs: the picture is the same to the bit, and the summary says what was seen and what not.

``I2AM_PACKS=/folder scripts/test tests/nodes/packs``. ComfyUI_UltimateSDUpscale wants the script of
Coyote-A/ultimate-upscale-for-automatic1111 in its folder repositories/ultimate_sd_upscale, which it downloads itself.
"""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import comfy.sd
import pytest
import real_packs
import tiny_graphs
import tiny_models
import torch
from comfy.ldm.flux.redux import ReduxImageEncoder
from comfy.model_patcher import ModelPatcher
from tiny_graphs import Graph
from torch import Tensor

from i2am_pack.i2am_core import Attribution
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.collect_runs import I2AMCollectRuns
from i2am_pack.nodes.comfy.packs_beside import packs_beside
from i2am_pack.nodes.comfy.tags import KEY, tag
from i2am_pack.nodes.imacs import I2AMIMACS
from i2am_pack.nodes.tag_reference import I2AMTagReference

Patch = Callable[[ModelPatcher], ModelPatcher]
STEPS = 6


def sampled(graph: Graph, patch: Patch, after: bool = False, steps: int = STEPS) -> tuple[Any, dict[str, Tensor]]:
    """The capture and the latent of a run behind a pack's node, which Capture must leave as it is."""
    plain = graph.sample(patch(graph.model), steps=steps)["samples"]
    before = patch(graph.model) if after else graph.model
    model, capture = I2AMCapture.execute(before, "auto", "positive", "off", 512).args
    latent = graph.sample(model if after else patch(model), steps=steps)
    assert torch.equal(plain, latent["samples"])
    return capture, latent


def collected(graph: Graph, patch: Patch, after: bool = False, steps: int = STEPS) -> tuple[Attribution, str]:
    """The attribution and its summary."""
    attribution, _, summary = I2AMCollect.execute(*sampled(graph, patch, after, steps)).args
    return attribution, summary


def refused(graph: Graph, patch: Patch, after: bool = False) -> str:
    """The sentence of Collect, which has nothing to give."""
    capture, latent = sampled(graph, patch, after)
    with pytest.raises(ValueError) as error:
        I2AMCollect.execute(capture, latent)
    return str(error.value)


def tagged(**shape: Any) -> Graph:
    """SD1.5 with three tagged tokens in its text."""
    graph = tiny_graphs.sd15_text(**shape)
    ((tokens, about),) = graph.positive
    graph.positive = [[tokens, about | {KEY: [tag("mine", 1, tokens[:, 1:4], None)]}]]
    return graph


@pytest.mark.parametrize("method", ["MultiDiffusion", "Mixture of Diffusers", "SpotDiffusion"])
def test_tiled_diffusion_is_refused_by_its_name(method: str) -> None:
    node = real_packs.nodes_of("ComfyUI-TiledDiffusion")["TiledDiffusion"]
    sentence = refused(tagged(size=(32, 32)), lambda model: node().apply(model, method, 128, 128, 32, 4)[0])
    assert "TiledDiffusion" in sentence
    assert "tile" in sentence
    assert "context windows" not in sentence


@pytest.mark.parametrize("after", [False, True], ids=["capture first", "capture last"])
def test_teacache_is_named(after: bool) -> None:
    node = real_packs.part_of("ComfyUI-TeaCache", "nodes").TeaCache
    graph = tiny_graphs.flux_kontext()
    sentence = refused(graph, lambda x: node().apply_teacache(x, "flux", 0.4, 0.0, 1.0, "cpu")[0], after)
    assert "TeaCache" in sentence


def test_first_block_cache_is_named() -> None:
    node = real_packs.nodes_of("Comfy-WaveSpeed")["ApplyFBCacheOnModel"]
    sentence = refused(tiny_graphs.flux_kontext(), lambda x: node().patch(x, "diffusion_model", 0.5)[0])
    assert "WaveSpeed" in sentence


@pytest.mark.parametrize("after", [False, True], ids=["capture first", "capture last"])
@pytest.mark.parametrize("name", ["RAUNet", "MSW-MSA"])
def test_what_jankhidiffusion_leaves_alone_is_captured(name: str, after: bool) -> None:
    nodes = real_packs.nodes_of("comfyui_jankhidiffusion")
    times = {"time_mode": "percent", "start_time": 0.0, "end_time": 0.9}
    raunet = {"input_blocks": "2", "output_blocks": "1", "upscale_mode": "bicubic", "ca_start_time": 0.0}
    raunet |= {"ca_end_time": 0.9, "ca_input_blocks": "", "ca_output_blocks": "", "ca_upscale_mode": "bicubic"}
    windows = {"input_blocks": "1", "middle_blocks": "", "output_blocks": "2,3"}

    def patch(model: ModelPatcher) -> ModelPatcher:
        if name == "RAUNet":
            return nodes["ApplyRAUNet"].patch(model=model, **times, **raunet)[0]
        return nodes["ApplyMSWMSAAttention"]().patch(model=model, **times, **windows)[0]

    attribution, _ = collected(tagged(size=(32, 32)), patch, after)
    assert len(attribution.layers) == 7
    assert attribution.captured_calls == 7 * STEPS


def reflux(graph: Graph, factor: float, mask: Tensor | None) -> Graph:
    encoder = ReduxImageEncoder(redux_dim=8, txt_in_features=tiny_models.TEXT_WIDTH)
    tiny_models.fill(encoder)
    position = SimpleNamespace(position_embedding=SimpleNamespace(weight=torch.zeros(729, 8)))
    model = SimpleNamespace(vision_model=SimpleNamespace(embeddings=position))
    vision = SimpleNamespace(model=model, encode_image=lambda image: tiny_graphs.vision(3, 729, 8))
    node = real_packs.nodes_of("ComfyUI_AdvancedRefluxControl")["ReduxAdvanced"]()
    image = torch.rand(1, 384, 384, 3)
    after = node.apply_stylemodel(
        vision, image, comfy.sd.StyleModel(encoder), graph.positive, factor, "area", "center crop (square)", 1.0, mask
    )[0]
    return replace(graph, positive=after)


def marked(height: int, width: int) -> Tensor:
    """A mask of 384 px that leaves so many patches of 14 px."""
    mask = torch.zeros(1, 384, 384)
    mask[:, : 14 * height, : 14 * width] = 1
    return mask


def test_reflux_that_is_not_tagged_points_to_tag_reference() -> None:
    graph = tiny_graphs.flux_text(lengths=(256, 256))  # as ComfyUI pads the text of Flux
    assert "Tag Reference" in refused(reflux(graph, 3, None), lambda model: model)


def test_a_masked_reflux_has_no_layout_though_its_count_is_a_square() -> None:
    graph = tiny_graphs.flux_text()
    masked = reflux(graph, 1, marked(9, 16))
    added = masked.positive[0][0].shape[1] - graph.positive[0][0].shape[1]
    assert added == 144
    both = replace(graph, positive=I2AMTagReference.execute(graph.positive, masked.positive).args[0])
    attribution, summary = collected(both, lambda model: model)
    assert attribution.references[0].grid is None or attribution.references[0].approximate, summary


def test_the_runs_of_an_upscaler_are_collected_by_its_picture() -> None:
    node = real_packs.nodes_of("ComfyUI_UltimateSDUpscale")["UltimateSDUpscaleNoUpscale"]()
    graph = tagged(size=(16, 16))
    image = torch.linspace(0, 1, 128 * 128 * 3).view(1, 128, 128, 3)
    sampling = (1, 2, 3.0, "euler", "simple", 0.5)
    tiles = ("Linear", 64, 64, 8, 32, "None", 1.0, 64, 8, 16, True, False)

    def upscaled(model: ModelPatcher) -> Tensor:
        return node.upscale(image, model, graph.positive, graph.negative, TinyVAE(), *sampling, *tiles)[0]

    model, capture = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    picture = upscaled(model)
    assert torch.equal(picture, upscaled(graph.model))
    with pytest.raises(ValueError, match="I2AM Collect Runs"):
        I2AMCollect.execute(capture, {"samples": TinyVAE().encode(picture)})
    attributions, same, summary = I2AMCollectRuns.execute(capture, picture, "all", 0).args
    assert same is picture
    assert len(attributions) == 4, summary
    assert "nor where a part lies" in summary


class TinyVAE(tiny_graphs.TinyVAE):
    """Both ways, for nodes that sample what they have encoded and decode it again."""

    def __init__(self) -> None:
        super().__init__(4)

    def decode(self, latent: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(latent[:, :3], scale_factor=8).movedim(1, -1).sigmoid()

    def spacial_compression_decode(self) -> int:
        return 8


def test_a_mask_of_the_whole_picture_is_noted_where_a_crop_was_sampled() -> None:
    node = real_packs.nodes_of("ComfyUI-Inpaint-CropAndStitch")["InpaintCropImproved"]
    defaults = {name: about[1]["default"] for name, about in node.INPUT_TYPES()["required"].items() if len(about) > 1}
    image, whole = torch.rand(1, 256, 256, 3), torch.zeros(1, 256, 256)
    whole[:, 20:60, 180:230] = 1
    chosen = {"output_resize_to_target_size": False, "output_padding": "32", "device_mode": "cpu (compatible)"}
    _, _, cropped = node().inpaint_crop(image, **(defaults | chosen), mask=whole)
    graph = tagged(size=(cropped.shape[-2] // 8, cropped.shape[-1] // 8))
    graph.latent["noise_mask"] = cropped
    attribution, _ = collected(graph, lambda model: model)
    rest = {"scope": "auto", "penalty": 3.0, "threshold": 0.4, "steps": "all", "layers": "all", "heads": "all"}
    _, _, of_whole = I2AMIMACS.execute(attribution, **rest, reference=0, item=0, inpainting_mask=whole).args
    _, _, of_crop = I2AMIMACS.execute(attribution, **rest, reference=0, item=0, inpainting_mask=cropped).args
    assert "hardly overlaps" in of_whole
    assert "hardly overlaps" not in of_crop


def beside(patch: Patch, graph: Graph) -> list[str]:
    """What would be said of a pack where something is captured beside it."""
    model = patch(graph.model)
    model.patch_model(load_weights=False)
    try:
        return packs_beside(model.model, model.model_options)
    finally:
        model.unpatch_model()


def test_packs_that_bring_no_reference_are_not_named_beside_one() -> None:
    kj = real_packs.part_of("ComfyUI-KJNodes", "nodes.model_optimization_nodes")
    caches = real_packs.nodes_of("Comfy-WaveSpeed")["ApplyFBCacheOnModel"]
    teacache = real_packs.part_of("ComfyUI-TeaCache", "nodes").TeaCache
    video = {"samples": torch.zeros(1, 16, 2, 4, 6)}
    cases: list[tuple[Patch, Graph]] = [
        (lambda x: teacache().apply_teacache(x, "flux", 0.4, 0.0, 1.0, "cpu")[0], tiny_graphs.flux_kontext()),
        (lambda x: caches().patch(x, "diffusion_model", 0.5)[0], tiny_graphs.flux_kontext()),
        (lambda x: kj.WanVideoEnhanceAVideoKJ().enhance(x, 2.0, video)[0], tiny_graphs.wan_phantom()),
        (lambda x: kj.ModelMemoryUsageFactorOverride().patch(x, 1.5)[0], tiny_graphs.flux_kontext()),
        (lambda x: kj.SkipLayerGuidanceWanVideo().slg(x, 0.0, 1.0, "1")[0], tiny_graphs.wan_phantom()),
        (lambda x: kj.CFGZeroStarAndInit().patch(x, True, 1)[0], tiny_graphs.flux_kontext()),
        (lambda x: kj.WanChunkFeedForward.execute(x, 2, 8).args[0], tiny_graphs.wan_phantom()),
    ]
    for patch, graph in cases:
        assert beside(patch, graph) == []


def test_a_pack_that_holds_a_text_of_its_own_is_named_as_what_may_be() -> None:
    """Nothing says of its tensor whether it is a picture: the sentence says that it may be."""
    kj = real_packs.part_of("ComfyUI-KJNodes", "nodes.model_optimization_nodes")
    graph = tiny_graphs.wan_phantom()
    (note,) = beside(lambda x: kj.WanVideoNAG().patch(x, graph.negative, 11.0, 0.25, 2.5)[0], graph)
    assert "KJNodes" in note and "if a reference comes by that" in note
