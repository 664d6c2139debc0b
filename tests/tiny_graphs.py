"""Graphs around the tiny models, one for each mechanism, made and sampled by the host's own nodes.

Text is random tokens of the right width; pictures are random latents or pixels. Each function takes the seed of its
``text`` and of its ``reference``, so that a test can change the one or the other, and as ``**shape`` the ``batch``,
the ``lengths`` in tokens of the positive and the negative text, the ``size`` of the latent (of a frame) in cells, and
``cfg``. Cells of odd number are padded by the models, but not by the host's HunyuanVideo, VACE and Wan Fun.
"""

from dataclasses import dataclass, field
from typing import Any

import comfy.clip_vision
import comfy.sd
import comfy_extras.nodes_edit_model as nodes_edit_model
import comfy_extras.nodes_flux as nodes_flux
import comfy_extras.nodes_hunyuan as nodes_hunyuan
import comfy_extras.nodes_ip2p as nodes_ip2p
import comfy_extras.nodes_model_patch as nodes_model_patch
import comfy_extras.nodes_wan as nodes_wan
import tiny_models
import torch
from comfy.ldm.flux.redux import ReduxImageEncoder
from comfy.model_patcher import ModelPatcher
from tiny_models import POOLED_WIDTH, TEXT_WIDTH
from torch import Tensor

import nodes as comfyui_nodes

Conditioning = list[list[Any]]
Sizes = tuple[tuple[int, int], ...]  # height and width in cells of the latent, of each reference
TWO: Sizes = ((4, 8), (5, 4))  # the second is padded where a token is 2 x 2 cells
FRAMES = 5  # of a video: 2 of its latent


@dataclass
class Graph:
    """Model, conditionings and latent, ready for a sampler; and what the conditioning holds."""

    model: ModelPatcher
    positive: Conditioning
    negative: Conditioning
    latent: dict[str, Tensor]
    cfg: float = 1.0
    text_tokens: int = 0  # of the positive conditioning, without what a node appends
    references: list[Tensor] = field(default_factory=list)  # as the graph got them: latents, pixels or features

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
        return comfyui_nodes.common_ksampler(
            model, seed, steps, cfg, sampler_name, scheduler, *conditionings, self.latent, **kwargs
        )[0]


# Flux


def flux_text(text: int = 1, **shape: Any) -> Graph:
    """Flux without a reference: ``T|I``."""
    return _flux(tiny_models.flux(), text, **shape)


def flux_kontext(
    text: int = 1,
    reference: int = 2,
    sizes: Sizes = TWO,
    negative: bool = True,
    method: str | None = None,
    **shape: Any,
) -> Graph:
    """A ReferenceLatent for each of ``sizes``, ``T|I|R...``; also in the ``negative`` or not."""
    graph = with_references(_flux(tiny_models.flux(), text, **shape), reference, sizes, negative)
    if method:
        node = nodes_flux.FluxKontextMultiReferenceLatentMethod
        graph.positive, graph.negative = (run(node, c, method)[0] for c in (graph.positive, graph.negative))
    return graph


def flux_redux(
    text: int = 1,
    reference: int = 2,
    strength: float = 0.7,
    strength_type: str = "multiply",
    images: int = 1,
    **shape: Any,
) -> Graph:
    """StyleModelApply (nodes.py) with the host's Redux encoder, once for each image: ``T|729...|I``."""
    graph = _flux(tiny_models.flux(), text, **shape)
    encoder = ReduxImageEncoder(redux_dim=8, txt_in_features=TEXT_WIDTH)
    tiny_models.fill(encoder)
    for seed in range(reference, reference + images):
        seen = vision(seed, 729, 8)
        graph.references.append(seen.last_hidden_state)
        graph.positive = comfyui_nodes.StyleModelApply().apply_stylemodel(
            graph.positive, comfy.sd.StyleModel(encoder), seen, strength, strength_type
        )[0]
    return graph


def flux_redux_bias(text: int = 1, reference: int = 2, strength: float = 0.5, **shape: Any) -> Graph:
    """The same, its strength a bias on the logits of the reference's columns: a mask ``[B, L, L]``."""
    return flux_redux(text, reference, strength, "attn_bias", **shape)


def flux_uso(text: int = 1, reference: int = 2, sizes: Sizes = ((4, 8),), style: int = 64, **shape: Any) -> Graph:
    """USOStyleReference (comfy_extras/nodes_model_patch.py) and a ReferenceLatent: ``3 x style|T|I|R...``.

    The host repeats the style for no batch: it is for one item and no guidance.
    """
    graph = flux_kontext(text, reference + 10, sizes, method="uxo/uno", **shape)
    projector = nodes_model_patch.SigLIPMultiFeatProjModel(729, style, 8, 32, operations=torch.nn)
    tiny_models.fill(projector)
    cpu = torch.device("cpu")
    seen = vision(reference, 729, 8)
    graph.references.insert(0, seen.all_hidden_states)
    patch = ModelPatcher(projector, cpu, cpu)
    graph.model = nodes_model_patch.USOStyleReference().apply_patch(graph.model, patch, seen)[0]
    return graph


def flux_fill_canvas(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """Reference in the left half, which is kept; the right half is generated (InpaintModelConditioning)."""
    return with_inpaint_canvas(_flux(tiny_models.flux_fill(), text, **shape), reference)


def flux2_edit(
    text: int = 1, reference: int = 2, sizes: Sizes = ((2, 4), (3, 2)), negative: bool = True, **shape: Any
) -> Graph:
    """ReferenceLatent for Flux.2, a token for each cell: ``max(512, T)|I|R...``."""
    graph = _image(tiny_models.flux2(), text, 128, **{"size": (4, 3)} | shape)
    for conditioning in (graph.positive, graph.negative):
        conditioning[0][1]["pooled_output"] = None
    return with_references(graph, reference, sizes, negative)


def _flux(model: ModelPatcher, text: int, **shape: Any) -> Graph:
    return with_pooled(_image(model, text, 16, **shape), text)


# Other transformers for pictures


def chroma_text(text: int = 1, **shape: Any) -> Graph:
    """Chroma without a reference: ``T|I``."""
    return _flux(tiny_models.chroma(), text, **shape)


def sd3_text(text: int = 1, **shape: Any) -> Graph:
    """Stable Diffusion 3 without a reference: ``T|I``, and ``I`` alone."""
    return with_pooled(_image(tiny_models.sd3(), text, 16, **shape), text)


def qwen_edit(text: int = 1, reference: int = 2, sizes: Sizes = TWO, negative: bool = True, **shape: Any) -> Graph:
    """What TextEncodeQwenImageEditPlus gives: text, and reference latents with one frame, ``T|I|R...``."""
    graph = _image(tiny_models.qwen_image(), text, 16, **shape)
    return with_references(graph, reference, tuple((1, *size) for size in sizes), negative)


def omnigen2_edit(text: int = 1, reference: int = 2, sizes: Sizes = TWO, negative: bool = True, **shape: Any) -> Graph:
    """ReferenceLatent for OmniGen2: refiners of text, picture and references, then ``T|R...|I``."""
    graph = _image(tiny_models.omnigen2(), text, 16, **shape)
    return with_references(with_attention_mask(graph), reference, sizes, negative)


def hidream_text(text: int = 1, **shape: Any) -> Graph:
    """HiDream-I1 without a reference: ``I|T5|llama|llama``."""
    return with_pooled(with_llama(_image(tiny_models.hidream(), text, 16, **shape), text), text)


def hidream_e1(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """InstructPixToPixConditioning for HiDream-E1: the reference is to the right, in the same rows of tokens."""
    graph = hidream_text(text, **shape)
    _, _, height, width = graph.latent["samples"].shape
    graph.references = [pixels(reference, 1, height * 8, width * 8)]
    node = nodes_ip2p.InstructPixToPixConditioning
    graph.positive, graph.negative, _ = run(node, graph.positive, graph.negative, graph.references[0], TinyVAE(16))
    return graph


def lumina2_text(text: int = 1, **shape: Any) -> Graph:
    """Lumina 2, which takes no reference: refiners, then ``T|I``."""
    return with_attention_mask(_image(tiny_models.lumina2(), text, 16, **shape))


def z_image_text(text: int = 1, **shape: Any) -> Graph:
    """Z-Image, which takes no reference: text and picture are each padded to a multiple of 32 tokens."""
    return with_attention_mask(_image(tiny_models.z_image(), text, 16, **shape))


def lumina2_canvas(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    return with_canvas(lumina2_text(text, **shape), reference)


def z_image_canvas(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    return with_canvas(z_image_text(text, **shape), reference)


# U-Nets


def sd15_text(text: int = 1, **shape: Any) -> Graph:
    """Stable Diffusion 1.5: cross-attention to the text alone."""
    return _image(tiny_models.sd15(), text, 4, **UNET | shape)


def sd15_canvas(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """Reference in the left half of the latent, which is kept; the right half is generated (SetLatentNoiseMask)."""
    return with_canvas(sd15_text(text, **shape), reference)


def sd15_inpaint_canvas(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """The same canvas for the model that also has mask and masked image as channels (InpaintModelConditioning)."""
    return with_inpaint_canvas(_image(tiny_models.sd15_inpaint(), text, 4, **UNET | shape), reference)


def sd15_reference_only(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """A reference as item 0 of the batch, which is not denoised; all items also attend to its features.

    After what ReferenceOnlySimple of comfyanonymous/ComfyUI_experiments does: k and v of self-attention have N
    more tokens, those of item 0 of the same conditioning.
    """
    graph = sd15_text(text, **shape)
    generated = graph.latent["samples"]
    graph.references = [noise(reference, 1, *generated.shape[1:])]
    mask = torch.ones(len(generated) + 1, *generated.shape[2:])
    mask[0] = 0
    graph.latent = {"samples": torch.cat([graph.references[0], generated]), "noise_mask": mask}
    graph.model = graph.model.clone()
    graph.model.set_model_attn1_patch(_attend_to_first)
    return graph


def _attend_to_first(x: Tensor, context: Tensor, value: Tensor | None, options: dict[str, Any]) -> tuple:
    chunks = x.unflatten(0, (len(options["cond_or_uncond"]), -1))
    both = torch.cat([chunks, chunks[:, :1].expand_as(chunks)], 2).flatten(0, 1)  # [B, 2N, C]
    return x, both, both


def sdxl_text(text: int = 1, **shape: Any) -> Graph:
    """Stable Diffusion XL: cross-attention to the text alone."""
    return with_pooled(_image(tiny_models.sdxl(), text, 4, **UNET | shape), text)


def sdxl_canvas(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    return with_canvas(sdxl_text(text, **shape), reference)


# Video


def wan_text(text: int = 1, **shape: Any) -> Graph:
    """Wan without a reference: in each block self-attention of the video, then attention to the text."""
    return _video(tiny_models.wan_t2v(), text, **shape)


def wan_i2v(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """WanImageToVideo (comfy_extras/nodes_wan.py): in each block self, then 257 tokens of CLIP, then text."""
    graph = with_pixels(_video(tiny_models.wan_i2v(), text, **shape), reference)
    seen = vision(reference, 257, 1280)
    return through(nodes_wan.WanImageToVideo, graph, start_image=graph.references[0], clip_vision_output=seen)


def wan_flf2v(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """WanFirstLastFrameToVideo: as ``wan_i2v``, with 257 tokens of the first frame and 257 of the last."""
    graph = with_pixels(_video(tiny_models.wan_flf2v(), text, **shape), reference, 2)
    inputs = {}
    for n, end in enumerate(("start", "end")):
        inputs[f"{end}_image"] = graph.references[n]
        inputs[f"clip_vision_{end}_image"] = vision(reference + n, 257, 1280)
    return through(nodes_wan.WanFirstLastFrameToVideo, graph, **inputs)


def wan_phantom(text: int = 1, reference: int = 2, images: int = 2, **shape: Any) -> Graph:
    """WanPhantomSubjectToVideo: each image is a frame after the video, ``video|R...`` in self-attention."""
    graph = with_pixels(_video(tiny_models.wan_t2v(), text, **shape), reference, images)
    return through(nodes_wan.WanPhantomSubjectToVideo, graph, images=torch.cat(graph.references))


def wan_fun_reference(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """Wan22FunControlToVideo with a reference image: a frame before the video, ``R|video`` in self-attention."""
    graph = with_pixels(_video(tiny_models.wan_fun_reference(), text, **shape), reference)
    return through(nodes_wan.Wan22FunControlToVideo, graph, ref_image=graph.references[0])


def wan_vace(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """WanVaceToVideo with a reference image: the first frame of the latent, trimmed off after sampling."""
    graph = with_pixels(_video(tiny_models.wan_vace(), text, **shape), reference)
    return through(nodes_wan.WanVaceToVideo, graph, strength=1.0, reference_image=graph.references[0])


def hunyuan_video_text(text: int = 1, **shape: Any) -> Graph:
    """HunyuanVideo without a reference: refiner of the text, then ``video|T``."""
    return _hunyuan(tiny_models.hunyuan_video(), text, **shape)


def hunyuan_video_padded(text: int = 1, reference: int = 2, padded: int = 2, **shape: Any) -> Graph:
    """``hunyuan_video_custom`` with padding that a mask ``[1, 1, L]`` takes out; the host has it for one item only."""
    return with_attention_mask(hunyuan_video_custom(text, reference, **shape), padded)


def hunyuan_video_custom(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """HunyuanImageToVideo (comfy_extras/nodes_hunyuan.py), "custom": a frame before the video, ``R|video|T``."""
    return _hunyuan_image(hunyuan_video_text(text, **shape), reference, "custom")


def hunyuan_video_i2v(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """HunyuanImageToVideo, "v1 (concat)": the first frame as channels."""
    graph = _hunyuan(tiny_models.hunyuan_video_i2v(), text, **shape)
    return _hunyuan_image(graph, reference, "v1 (concat)")


def hunyuan_video_replace(text: int = 1, reference: int = 2, **shape: Any) -> Graph:
    """HunyuanImageToVideo, "v2 (replace)": the first frame of the latent is kept."""
    return _hunyuan_image(hunyuan_video_text(text, **shape), reference, "v2 (replace)")


def hunyuan_video_15(text: int = 1, reference: int = 2, byt5: int = 5, **shape: Any) -> Graph:
    """HunyuanVideo15ImageToVideo: first frame as channels, and ``video|729 of SigLIP|byt5|T``."""
    graph = _hunyuan(tiny_models.hunyuan_video_15(), text, 32, **shape)
    for n, conditioning in enumerate((graph.positive, graph.negative)):
        conditioning[0][1]["conditioning_byt5small"] = noise(text + 200 + n, 1, byt5, 1472)
    graph = with_pixels(graph, reference, cell=16)
    inputs = {"start_image": graph.references[0], "clip_vision_output": vision(reference, 729, 1152, 2)}
    return through(nodes_hunyuan.HunyuanVideo15ImageToVideo, graph, TinyVAE(32, 4, 16), **inputs)


def _hunyuan(model: ModelPatcher, text: int, channels: int = 16, **shape: Any) -> Graph:
    return with_pooled(_video(model, text, channels, **{"cfg": 1.0} | shape), text)


def _hunyuan_image(graph: Graph, reference: int, guidance_type: str) -> Graph:
    graph = with_pixels(graph, reference)
    batch, _, _, height, width = graph.latent["samples"].shape
    node, sizes = nodes_hunyuan.HunyuanImageToVideo, (width * 8, height * 8, FRAMES, batch)
    for name in ("negative", "positive"):
        conditioning, graph.latent = run(
            node, getattr(graph, name), TinyVAE(16, 4), *sizes, guidance_type, graph.references[0]
        )
        setattr(graph, name, conditioning)
    return graph


def hunyuan_start(graph: Graph, texts: int) -> int:
    """The first token of HunyuanVideo's video or reference: newer ComfyUI cores have all texts before it."""
    block = graph.model.model.diffusion_model.double_blocks[0]
    return 0 if getattr(block, "flipped_img_txt", False) else texts


# What the graphs are put together from


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


UNET = {"size": (8, 8), "cfg": 3.0}


def _image(
    model: ModelPatcher,
    text: int,
    channels: int,
    batch: int = 1,
    lengths: tuple[int, int] = (7, 7),
    size: tuple[int, ...] = (8, 6),
    cfg: float = 1.0,
) -> Graph:
    """Two texts and an empty latent ``[batch, channels, *size]``."""
    positive, negative = ([[noise(text + 100 * n, 1, lengths[n], TEXT_WIDTH), {}]] for n in range(2))
    latent = {"samples": torch.zeros(batch, channels, *size)}
    return Graph(model, positive, negative, latent, cfg, lengths[0])


def _video(model: ModelPatcher, text: int, channels: int = 16, size: tuple = (4, 6), **shape: Any) -> Graph:
    """2 frames; ``size`` is one frame's. Text of another length than the video."""
    frames = 1 + FRAMES // 4
    return _image(model, text, channels, size=(frames, *size), **{"lengths": (9, 9), "cfg": 3.0} | shape)


def run(node: Any, *inputs: Any, **named: Any) -> tuple:
    """The outputs of a node. Those of older cores are of the older kind, which names its function."""
    if hasattr(node, "execute"):
        return node.execute(*inputs, **named).args
    return getattr(node(), node.FUNCTION)(*inputs, **named)


def through(node: Any, graph: Graph, vae: TinyVAE | None = None, **inputs: Any) -> Graph:
    """What a node that makes the latent of a video makes of the graph."""
    vae = vae or TinyVAE(16, 4)
    batch, _, _, height, width = graph.latent["samples"].shape
    sizes = (width * vae.cell, height * vae.cell, FRAMES, batch)
    outputs = run(node, graph.positive, graph.negative, vae, *sizes, **inputs)
    graph.positive, graph.negative = outputs[:2]
    graph.latent = next(output for output in outputs if isinstance(output, dict))
    return graph


def with_pixels(graph: Graph, seed: int, images: int = 1, cell: int = 8) -> Graph:
    """References ``[1, H, W, 3]`` of the size of the latent's picture."""
    height, width = graph.latent["samples"].shape[-2:]
    graph.references = [pixels(seed + n, 1, height * cell, width * cell) for n in range(images)]
    return graph


def with_references(graph: Graph, seed: int, sizes: tuple, negative: bool = True) -> Graph:
    """A ReferenceLatent of random values for each size (comfy_extras/nodes_edit_model.py), one after the other."""
    channels = graph.latent["samples"].shape[1]
    graph.references = [noise(seed + n, 1, channels, *size) for n, size in enumerate(sizes)]
    for latent in graph.references:
        reference = {"samples": latent}
        graph.positive = run(nodes_edit_model.ReferenceLatent, graph.positive, reference)[0]
        if negative:
            graph.negative = run(nodes_edit_model.ReferenceLatent, graph.negative, reference)[0]
    return graph


def with_canvas(graph: Graph, seed: int) -> Graph:
    """Random latent, of which the mask leaves the right half to the model."""
    samples = noise(seed, *graph.latent["samples"].shape)
    graph.references = [samples[..., : samples.shape[-1] // 2]]
    graph.latent = comfyui_nodes.SetLatentNoiseMask().set_mask({"samples": samples}, right_half(samples))[0]
    return graph


def with_inpaint_canvas(graph: Graph, seed: int) -> Graph:
    """Random pixels through InpaintModelConditioning (nodes.py), the right half of them masked."""
    batch, channels, height, width = graph.latent["samples"].shape
    vae = TinyVAE(channels)
    image = pixels(seed, batch, height * vae.cell, width * vae.cell)
    graph.references = [image[:, :, : image.shape[2] // 2]]
    graph.positive, graph.negative, graph.latent = comfyui_nodes.InpaintModelConditioning().encode(
        graph.positive, graph.negative, image, vae, right_half(image[..., 0]), True
    )
    return graph


def with_pooled(graph: Graph, text: int) -> Graph:
    for n, conditioning in enumerate((graph.positive, graph.negative)):
        conditioning[0][1]["pooled_output"] = noise(text + 50 + 100 * n, 1, POOLED_WIDTH)
    return graph


def with_llama(graph: Graph, text: int) -> Graph:
    """HiDream's second text: a state ``[1, layers, T, width]`` of each of two layers."""
    for n, conditioning in enumerate((graph.positive, graph.negative)):
        length = conditioning[0][0].shape[1]
        conditioning[0][1]["conditioning_llama3"] = noise(text + 200 + n, 1, 2, length, TEXT_WIDTH)
    return graph


def with_attention_mask(graph: Graph, padded: int = 0) -> Graph:
    """The mask ``[1, T]`` that a text encoder gives, 0 for the last ``padded`` tokens."""
    for conditioning in (graph.positive, graph.negative):
        mask = torch.ones(1, conditioning[0][0].shape[1], dtype=torch.long)
        mask[:, mask.shape[1] - padded :] = 0
        conditioning[0][1]["attention_mask"] = mask
    return graph


def vision(seed: int, count: int, width: int, layers: int = 20) -> comfy.clip_vision.Output:
    """What CLIPVisionEncode gives, of random tokens ``[1, count, width]``; ``[1, layers, count, width]`` of all."""
    output = comfy.clip_vision.Output()
    output.all_hidden_states = noise(seed, 1, layers, count, width)
    output.last_hidden_state = output.all_hidden_states[:, -1]
    output.penultimate_hidden_states = output.all_hidden_states[:, -2]
    return output


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pixels(seed: int, *shape: int) -> Tensor:
    """``[N, H, W, 3]`` in [0, 1]."""
    return torch.rand(*shape, 3, generator=torch.Generator().manual_seed(seed))


def right_half(picture: Tensor) -> Tensor:
    """A mask of 1 where the picture ``[N, ..., H, W]`` is generated: ``[N, H, W]``."""
    mask = torch.zeros(picture.shape[0], *picture.shape[-2:])
    mask[..., mask.shape[-1] // 2 :] = 1
    return mask


GRAPHS = {
    make.__name__: make
    for make in (
        *(flux_text, flux_kontext, flux_redux, flux_redux_bias, flux_uso, flux_fill_canvas, flux2_edit),
        *(chroma_text, sd3_text),
        *(qwen_edit, omnigen2_edit, hidream_text, hidream_e1, lumina2_text, lumina2_canvas),
        *(z_image_text, z_image_canvas),
        *(sd15_text, sd15_canvas, sd15_inpaint_canvas, sd15_reference_only, sdxl_text, sdxl_canvas),
        *(wan_text, wan_i2v, wan_flf2v, wan_phantom, wan_fun_reference, wan_vace),
        *(hunyuan_video_text, hunyuan_video_custom, hunyuan_video_padded, hunyuan_video_i2v, hunyuan_video_replace),
        hunyuan_video_15,
    )
}
