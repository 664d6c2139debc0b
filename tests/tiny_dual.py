"""OmniGen2 with Dual CFG Guider: text and images, images alone, and neither, as its published workflow has them."""

from dataclasses import dataclass, field
from typing import Any

import comfy.samplers
import tiny_graphs
import torch
from comfy.model_patcher import ModelPatcher
from comfy_extras.nodes_custom_sampler import DualCFGGuider
from tiny_graphs import TWO, Conditioning, Graph, Sizes
from torch import Tensor

LISTS = ("negative", "middle", "positive")  # in the order in which the guider hands them over


@dataclass
class DualGraph(Graph):
    """A graph whose sampler has three conditionings; ``scales`` are those of the guider."""

    middle: Conditioning = field(default_factory=list)
    scales: tuple[float, float] = (3.0, 1.5)
    style: str = "regular"

    def sample(self, model: ModelPatcher | None = None, steps: int = 2, **_: Any) -> dict[str, Tensor]:
        model, latent = self.model if model is None else model, self.latent["samples"]
        node = DualCFGGuider
        guider = tiny_graphs.run(node, model, self.positive, self.middle, self.negative, *self.scales, self.style)[0]
        sigmas = torch.linspace(1, 0, steps + 1)
        sampler = comfy.samplers.sampler_object("euler")
        noise = tiny_graphs.noise(7, *latent.shape)
        return {"samples": guider.sample(noise, latent, sampler, sigmas, None, None, True, 0)}


def omnigen2_dual(
    text: int = 1, reference: int = 2, sizes: Sizes = TWO, style: str = "regular", **shape: Any
) -> DualGraph:
    """``T|R...|I`` twice, with 7 and with 5 tokens of text, and ``T|I``."""
    graph = tiny_graphs.omnigen2_edit(text, reference, sizes, negative=False, **shape)
    dual = DualGraph(graph.model, graph.positive, graph.negative, graph.latent, text_tokens=7, style=style)
    tokens, about = graph.positive[0]
    other = tiny_graphs.noise(text + 300, 1, 5, tokens.shape[2])
    dual.middle = [[other, about | {"attention_mask": torch.ones(1, 5, dtype=torch.long)}]]
    dual.references = graph.references
    return dual
