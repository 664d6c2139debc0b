"""The demo models in graphs, run by calling ComfyUI's own nodes in this process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy_extras.nodes_edit_model as nodes_edit_model
import tiny_graphs
import torch

import nodes as comfyui_nodes
from i2am_pack.demo.model import load
from i2am_pack.demo.nodes import DemoLoader, DemoReference, DemoScene
from i2am_pack.demo.weights import JOINT
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect


@dataclass
class Workflow:
    """Scene, reference and model, ready for a sampler."""

    model: Any
    vae: Any
    positive: list
    negative: list
    latent: dict
    scene: dict[str, torch.Tensor] = field(default_factory=dict)

    def capture(self, mechanism="auto", branch="positive", pair_maps="inpainting mask", budget_mb=512):
        return I2AMCapture.execute(self.model, mechanism, branch, pair_maps, budget_mb).args

    def sample(self, model=None, sampler="euler", steps=3, cfg=1.0, seed=7, **kwargs):
        model = self.model if model is None else model
        return comfyui_nodes.common_ksampler(
            model, seed, steps, cfg, sampler, "normal", self.positive, self.negative, self.latent, **kwargs
        )[0]

    def attribution(self, steps=3, cfg=1.0, sampler="euler", **capture):
        model, handle = self.capture(**capture)
        return I2AMCollect.execute(handle, self.sample(model, sampler, steps, cfg)).args[0]


def make(batch: int = 1, seed: int = 3, text_tokens: int = 0, negative_tokens: int | None = None) -> Workflow:
    """The demo graph. ``text_tokens`` stand before the reference in the positive conditioning."""
    scene = drawn(batch, seed)
    model, vae, encoder = load()
    positive = DemoReference.execute(encoder, scene["reference"]).args[0]
    if text_tokens:
        positive = with_text_before(positive, text_tokens)
    count = positive[0][0].shape[1] if negative_tokens is None else negative_tokens
    negative = [[torch.zeros(1, count, positive[0][0].shape[2]), {}]]
    positive, negative, latent = comfyui_nodes.InpaintModelConditioning().encode(
        positive, negative, scene["scene"], vae, scene["mask"], True
    )
    return Workflow(model, vae, positive, negative, latent, scene)


def make_joint(references: Sequence[str] = ("scene", "reference"), batch: int = 1, seed: int = 3) -> Workflow:
    """The graph of two references, or of those that are named, in the order in which ReferenceLatent adds them."""
    scene = drawn(batch, seed)
    model, vae, _, empty_prompt = DemoLoader.execute(JOINT).args
    positive = empty_prompt
    for name in references:
        latent = {"samples": vae.encode(scene[name])}
        positive = tiny_graphs.run(nodes_edit_model.ReferenceLatent, positive, latent)[0]
    return Workflow(model, vae, positive, empty_prompt, {"samples": vae.encode(scene["scene"])}, scene)


def drawn(batch: int, seed: int) -> dict[str, torch.Tensor]:
    """What I2AM Demo Scene gives, by the names of its outputs."""
    outputs = DemoScene.execute(11, seed, batch).args
    return dict(zip(("scene", "mask", "reference", "reference_mask", "truth"), outputs, strict=True))


def with_text_before(conditioning: list, count: int) -> list:
    """The same conditioning with random tokens in front, and its tags moved accordingly."""
    tokens, about = conditioning[0]
    text = torch.randn(tokens.shape[0], count, tokens.shape[2], generator=torch.Generator().manual_seed(1))
    tags = [t | {"start": t["start"] + count} for t in about["i2am_references"]]
    return [[torch.cat([text, tokens], 1), about | {"i2am_references": tags}]]
