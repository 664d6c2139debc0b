"""Graphs around the tiny models, one for each mechanism, made and sampled by the host's own nodes.

Text is random tokens of the right width; pictures are random latents or pixels. Each function takes the seed of its
``text`` and of its ``reference``, so that a test can change the one or the other.
"""

from dataclasses import dataclass, field
from typing import Any

import comfy_extras.nodes_edit_model as nodes_edit_model
import tiny_models
import torch
from comfy.model_patcher import ModelPatcher
from tiny_models import POOLED_WIDTH, TEXT_WIDTH
from torch import Tensor

import nodes as host_nodes

Conditioning = list[list[Any]]


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
    text: int = 1, reference: int = 2, sizes: tuple = ((4, 8), (5, 4)), batch: int = 1, negative: bool = True
) -> Graph:
    """ReferenceLatent for each of ``sizes`` in cells of the latent, ``T|I|R...``; also in the ``negative`` or not."""
    return with_references(_flux(tiny_models.flux(), text, batch), reference, sizes, negative)


def qwen_edit(
    text: int = 1, reference: int = 2, sizes: tuple = ((4, 8), (5, 4)), batch: int = 1, negative: bool = True
) -> Graph:
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


@dataclass
class TinyVAE:
    """Pixels ``[N, H, W, 3]`` to a latent ``[1 or N, C, (T,) H / 8, W / 8]`` by means, not by a network."""

    channels: int
    frames: int = 0  # of the video that make one of the latent, after the first; 0 for a model of single pictures
    cell: int = 8

    @property
    def downscale_ratio(self) -> int:
        return self.cell

    def spacial_compression_encode(self) -> int:
        return self.cell

    def encode(self, pixels: Tensor) -> Tensor:
        cells = torch.nn.functional.avg_pool2d(pixels[..., :3].movedim(-1, 1), self.cell)
        mix = noise(5, self.channels, 3)
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
    for function in (flux_text, flux_kontext, qwen_edit, sd15_text, sd15_canvas, sd15_inpaint_canvas)
}
