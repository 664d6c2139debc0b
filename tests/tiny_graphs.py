"""Graphs around the tiny models, one for each mechanism, made and sampled by the host's own nodes.

Text is random tokens of the right width; pictures are random latents or pixels. Each function takes the seed of its
``text`` and of its ``reference``, so that a test can change the one or the other.
"""

from dataclasses import dataclass, field
from typing import Any

import comfy.clip_vision
import comfy.sd
import comfy_extras.nodes_edit_model as nodes_edit_model
import comfy_extras.nodes_flux as nodes_flux
import comfy_extras.nodes_model_patch as nodes_model_patch
import comfy_extras.nodes_wan as nodes_wan
import tiny_models
import torch
from comfy.ldm.flux.redux import ReduxImageEncoder
from comfy.model_patcher import ModelPatcher
from tiny_models import POOLED_WIDTH, TEXT_WIDTH
from torch import Tensor

import nodes as host_nodes

Conditioning = list[list[Any]]
Sizes = tuple[tuple[int, int], ...]  # height and width in cells of the latent, of each reference
TWO: Sizes = ((4, 8), (5, 4))  # the second is padded where a token is 2 x 2 cells


@dataclass
class Graph:
    """Model, conditionings and latent, ready for a sampler; and what the conditioning holds."""

    model: ModelPatcher
    positive: Conditioning
    negative: Conditioning
    latent: dict[str, Tensor]
    cfg: float = 1.0
    text_tokens: int = 0  # of the positive conditioning, without what a node appends
    references: list[Tensor] = field(default_factory=list)

    def sample(
        self,
        model: ModelPatcher | None = None,
        steps: int = 2,
        sampler_name: str = "euler",
        cfg: float | None = None,
        seed: int = 7,
        scheduler: str = "simple",
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """The latent that KSampler makes. ``kwargs`` are those of ``common_ksampler``, such as ``denoise``."""
        model = self.model if model is None else model
        cfg = self.cfg if cfg is None else cfg
        conditionings = self.positive, self.negative
        return host_nodes.common_ksampler(
            model, seed, steps, cfg, sampler_name, scheduler, *conditionings, self.latent, **kwargs
        )[0]


def flux_text(text: int = 1, batch: int = 1) -> Graph:
    """Flux without a reference."""
    return _flux(tiny_models.flux(), text, batch)


def flux_kontext(
    text: int = 1,
    reference: int = 2,
    sizes: Sizes = TWO,
    batch: int = 1,
    negative: bool = True,
    method: str | None = None,
) -> Graph:
    """ReferenceLatent for each of ``sizes`` in cells of the latent, ``T|I|R...``; also in the ``negative`` or not."""
    graph = with_references(_flux(tiny_models.flux(), text, batch), reference, sizes, negative)
    if method:
        node = nodes_flux.FluxKontextMultiReferenceLatentMethod
        graph.positive, graph.negative = (node.execute(c, method).args[0] for c in (graph.positive, graph.negative))
    return graph


def flux_redux(
    text: int = 1,
    reference: int = 2,
    strength: float = 0.7,
    strength_type: str = "multiply",
    images: int = 1,
    batch: int = 1,
) -> Graph:
    """StyleModelApply (nodes.py) with the host's Redux encoder, once for each image: ``T|729...|I``."""
    graph = _flux(tiny_models.flux(), text, batch)
    encoder = ReduxImageEncoder(redux_dim=8, txt_in_features=TEXT_WIDTH)
    tiny_models.fill(encoder)
    for seed in range(reference, reference + images):
        seen = vision(seed, 729, 8)
        graph.references.append(seen.last_hidden_state)
        graph.positive = host_nodes.StyleModelApply().apply_stylemodel(
            graph.positive, comfy.sd.StyleModel(encoder), seen, strength, strength_type
        )[0]
    return graph


def flux_redux_bias(text: int = 1, reference: int = 2, strength: float = 0.5, batch: int = 1) -> Graph:
    """The same, its strength a bias on the logits of the reference's columns: a mask ``[B, L, L]``."""
    return flux_redux(text, reference, strength, "attn_bias", batch=batch)


def flux_uso(text: int = 1, reference: int = 2, sizes: Sizes = ((4, 8),), tokens_each: int = 64) -> Graph:
    """USOStyleReference (comfy_extras/nodes_model_patch.py) with a ReferenceLatent: ``style(3n)|T|I|R...``."""
    graph = flux_kontext(text, reference + 10, sizes, method="uxo/uno")
    projector = nodes_model_patch.SigLIPMultiFeatProjModel(729, tokens_each, 8, 32, operations=torch.nn)
    tiny_models.fill(projector)
    cpu = torch.device("cpu")
    seen = vision(reference, 729, 8)
    graph.references.insert(0, seen.all_hidden_states)
    graph.model = nodes_model_patch.USOStyleReference().apply_patch(
        graph.model, ModelPatcher(projector, cpu, cpu), seen
    )[0]
    return graph


def flux_fill_canvas(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    """Reference in the left half, which is kept; the right half is generated (InpaintModelConditioning)."""
    return with_inpaint_canvas(_flux(tiny_models.flux_fill(), text, batch), reference, TinyVAE(16))


def flux2_edit(
    text: int = 1, reference: int = 2, sizes: Sizes = ((2, 4), (3, 2)), batch: int = 1, negative: bool = True
) -> Graph:
    """ReferenceLatent for Flux.2, a token for each cell: ``max(512, T)|I|R...``."""
    positive, negative = (tokens(seed, 7, pooled_output=None) for seed in (text, text + 100))
    graph = Graph(tiny_models.flux2(), positive, negative, empty(batch, 128, 4, 3), text_tokens=7)
    return with_references(graph, reference, sizes, negative)


def qwen_edit(text: int = 1, reference: int = 2, sizes: Sizes = TWO, batch: int = 1, negative: bool = True) -> Graph:
    """What TextEncodeQwenImageEditPlus gives: text, and reference latents with one frame, ``T|I|R...``."""
    graph = Graph(
        tiny_models.qwen_image(), tokens(text, 9), tokens(text + 100, 9), empty(batch, 16, 1, 8, 6), text_tokens=9
    )
    return with_references(graph, reference, [(1, *size) for size in sizes], negative)


def sd15_text(text: int = 1, batch: int = 1) -> Graph:
    """Stable Diffusion 1.5: cross-attention to the text alone."""
    return _unet(tiny_models.sd15(), text, batch)


def sd15_canvas(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    """Reference in the left half of the latent, which is kept; the right half is generated (SetLatentNoiseMask)."""
    return with_canvas(_unet(tiny_models.sd15(), text, batch), reference)


def sd15_inpaint_canvas(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    """The same canvas for the model that also has mask and masked image as channels (InpaintModelConditioning)."""
    return with_inpaint_canvas(_unet(tiny_models.sd15_inpaint(), text, batch), reference, TinyVAE(4))


def sd15_reference_only(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    """A reference as item 0 of the batch, which is not denoised; all items also attend to its features.

    After what ReferenceOnlySimple of comfyanonymous/ComfyUI_experiments does: k and v of self-attention have N
    more tokens, those of item 0 of the same conditioning.
    """
    graph = _unet(tiny_models.sd15(), text, batch)
    empty_latent = graph.latent["samples"]
    picture = noise(reference, 1, *empty_latent.shape[1:])
    mask = torch.ones(batch + 1, *empty_latent.shape[2:])
    mask[0] = 0
    graph.references = [picture]
    graph.latent = {"samples": torch.cat([picture, empty_latent]), "noise_mask": mask}
    graph.model = graph.model.clone()
    graph.model.set_model_attn1_patch(_attend_to_first)
    return graph


def _attend_to_first(x: Tensor, context: Tensor, value: Tensor | None, options: dict[str, Any]) -> tuple:
    chunks = x.unflatten(0, (len(options["cond_or_uncond"]), -1))
    both = torch.cat([chunks, chunks[:, :1].expand_as(chunks)], 2).flatten(0, 1)  # [B, 2N, C]
    return x, both, both


def sdxl_text(text: int = 1, batch: int = 1) -> Graph:
    """Stable Diffusion XL: cross-attention to the text alone."""
    graph = _unet(tiny_models.sdxl(), text, batch)
    for n, conditioning in enumerate((graph.positive, graph.negative)):
        conditioning[0][1]["pooled_output"] = noise(text + 50 + 100 * n, 1, POOLED_WIDTH)
    return graph


def sdxl_canvas(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    return with_canvas(sdxl_text(text, batch), reference)


def wan_text(text: int = 1, batch: int = 1) -> Graph:
    """Wan without a reference: in each block self-attention of the video, then attention to the text."""
    return _wan(tiny_models.wan_t2v(), text, batch)


def wan_i2v(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    """WanImageToVideo (comfy_extras/nodes_wan.py): in each block self, then 257 tokens of CLIP, then text."""
    graph = _wan(tiny_models.wan_i2v(), text)
    picture, seen = pixels(reference, 1, *WAN_SIZE), vision(reference, 257, 1280)
    graph.references = [picture]
    return _wan_node(graph, nodes_wan.WanImageToVideo, batch, start_image=picture, clip_vision_output=seen)


def wan_flf2v(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    """WanFirstLastFrameToVideo: as ``wan_i2v``, with 257 tokens of the first frame and 257 of the last."""
    graph = _wan(tiny_models.wan_flf2v(), text)
    graph.references = [pixels(reference + n, 1, *WAN_SIZE) for n in range(2)]
    inputs = {}
    for n, end in enumerate(("start", "end")):
        inputs[f"{end}_image"] = graph.references[n]
        inputs[f"clip_vision_{end}_image"] = vision(reference + n, 257, 1280)
    return _wan_node(graph, nodes_wan.WanFirstLastFrameToVideo, batch, **inputs)


def wan_phantom(text: int = 1, reference: int = 2, images: int = 2, batch: int = 1) -> Graph:
    """WanPhantomSubjectToVideo: each image is a frame after the video, ``video|R...`` in self-attention."""
    graph = _wan(tiny_models.wan_t2v(), text)
    pictures = pixels(reference, images, *WAN_SIZE)
    graph.references = list(pictures.split(1))
    return _wan_node(graph, nodes_wan.WanPhantomSubjectToVideo, batch, images=pictures)


def wan_fun_reference(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    """Wan22FunControlToVideo with a reference image: a frame before the video, ``R|video`` in self-attention."""
    graph = _wan(tiny_models.wan_fun_reference(), text)
    graph.references = [pixels(reference, 1, *WAN_SIZE)]
    return _wan_node(graph, nodes_wan.Wan22FunControlToVideo, batch, ref_image=graph.references[0])


def wan_vace(text: int = 1, reference: int = 2, batch: int = 1) -> Graph:
    """WanVaceToVideo with a reference image: the first frame of the latent, trimmed off after sampling."""
    graph = _wan(tiny_models.wan_vace(), text)
    graph.references = [pixels(reference, 1, *WAN_SIZE)]
    return _wan_node(graph, nodes_wan.WanVaceToVideo, batch, strength=1.0, reference_image=graph.references[0])


WAN_SIZE = (32, 48)  # pixels: 2 x 3 tokens of a frame
WAN_LENGTH = 5  # frames: 2 of the latent


def _wan(model: ModelPatcher, text: int, batch: int = 1) -> Graph:
    return Graph(model, tokens(text, 9), tokens(text + 100, 9), empty(batch, 16, 2, 4, 6), 3.0, 9)


def _wan_node(graph: Graph, node: Any, batch: int, **inputs: Any) -> Graph:
    """What the node makes of the conditionings, and its latent."""
    height, width = WAN_SIZE
    outputs = node.execute(
        graph.positive, graph.negative, TinyVAE(16, 4), width, height, WAN_LENGTH, batch, **inputs
    ).args
    graph.positive, graph.negative = outputs[:2]
    graph.latent = next(output for output in outputs if isinstance(output, dict))
    return graph


@dataclass
class TinyVAE:
    """Pixels ``[N, H, W, 3]`` to a latent ``[1 or N, C, (T,) H / 8, W / 8]`` by means, not by a network."""

    latent_channels: int
    frames: int = 0  # of the video that make one of the latent, after the first; 0 for a model of single pictures
    cell: int = 8

    @property
    def downscale_ratio(self) -> int:
        return self.cell

    def spacial_compression_encode(self) -> int:
        return self.cell

    def encode(self, pixels: Tensor) -> Tensor:
        cells = torch.nn.functional.avg_pool2d(pixels[..., :3].movedim(-1, 1), self.cell)
        mix = noise(5, self.latent_channels, 3)
        latent = torch.einsum("nchw,dc->ndhw", cells * 2 - 1, mix)
        return latent[:: self.frames].movedim(0, 1)[None] if self.frames else latent


def with_references(graph: Graph, seed: int, sizes: Any, negative: bool = True) -> Graph:
    """A ReferenceLatent of random values for each size (comfy_extras/nodes_edit_model.py), one after the other."""
    channels = graph.latent["samples"].shape[1]
    graph.references = [noise(seed + n, 1, channels, *size) for n, size in enumerate(sizes)]
    for latent in graph.references:
        reference = {"samples": latent}
        graph.positive = nodes_edit_model.ReferenceLatent.execute(graph.positive, reference).args[0]
        if negative:
            graph.negative = nodes_edit_model.ReferenceLatent.execute(graph.negative, reference).args[0]
    return graph


def with_canvas(graph: Graph, seed: int) -> Graph:
    """Random latent, of which the mask leaves the right half to the model."""
    samples = noise(seed, *graph.latent["samples"].shape)
    graph.references = [samples[..., : samples.shape[-1] // 2]]
    graph.latent = host_nodes.SetLatentNoiseMask().set_mask({"samples": samples}, right_half(samples))[0]
    return graph


def with_inpaint_canvas(graph: Graph, seed: int, vae: TinyVAE) -> Graph:
    """Random pixels through InpaintModelConditioning (nodes.py), the right half of them masked."""
    batch, _, height, width = graph.latent["samples"].shape
    image = pixels(seed, batch, height * vae.cell, width * vae.cell)
    graph.references = [image[:, :, : image.shape[2] // 2]]
    graph.positive, graph.negative, graph.latent = host_nodes.InpaintModelConditioning().encode(
        graph.positive, graph.negative, image, vae, right_half(image[..., 0]), True
    )
    return graph


def _flux(model: ModelPatcher, text: int, batch: int) -> Graph:
    positive = tokens(text, 7, pooled_output=noise(text + 50, 1, POOLED_WIDTH))
    negative = tokens(text + 100, 7, pooled_output=noise(text + 150, 1, POOLED_WIDTH))
    return Graph(model, positive, negative, empty(batch, 16, 8, 6), text_tokens=7)


def _unet(model: ModelPatcher, text: int, batch: int) -> Graph:
    return Graph(model, tokens(text, 7), tokens(text + 100, 7), empty(batch, 4, 8, 8), 3.0, 7)


def tokens(seed: int, length: int, width: int = TEXT_WIDTH, **about: Any) -> Conditioning:
    return [[noise(seed, 1, length, width), about]]


def vision(seed: int, count: int, width: int, layers: int = 20) -> comfy.clip_vision.Output:
    """What CLIPVisionEncode gives, of random tokens ``[1, count, width]``; ``[1, layers, count, width]`` of all."""
    output = comfy.clip_vision.Output()
    output.all_hidden_states = noise(seed, 1, layers, count, width)
    output.last_hidden_state = output.all_hidden_states[:, -1]
    output.penultimate_hidden_states = output.all_hidden_states[:, -2]
    return output


def empty(*shape: int) -> dict[str, Tensor]:
    return {"samples": torch.zeros(shape)}


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pixels(seed: int, *shape: int) -> Tensor:
    """``[N, H, W, 3]`` in [0, 1]."""
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed))


def right_half(picture: Tensor) -> Tensor:
    """A mask of 1 where the picture ``[..., H, W]`` is generated: ``[N, H, W]``."""
    mask = torch.zeros(picture.shape[0], *picture.shape[-2:])
    mask[..., mask.shape[-1] // 2 :] = 1
    return mask


GRAPHS = {
    function.__name__: function
    for function in (
        flux_text,
        flux_kontext,
        flux_redux,
        flux_redux_bias,
        flux_uso,
        flux_fill_canvas,
        flux2_edit,
        qwen_edit,
        sd15_text,
        sd15_canvas,
        sd15_inpaint_canvas,
        sd15_reference_only,
        sdxl_text,
        sdxl_canvas,
        wan_text,
        wan_i2v,
        wan_flf2v,
        wan_phantom,
        wan_fun_reference,
        wan_vace,
    )
}
