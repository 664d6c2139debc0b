"""HiDream-O1 at the smallest size, and graphs around it, by the host's own classes. ComfyUI 0.33 has it.

Its pictures are pixels, of which a token has 32 x 32.
"""

from typing import Any

import comfy.supported_models
import tiny_graphs
import tiny_models
import torch
from comfy.model_patcher import ModelPatcher
from this_core import need
from tiny_graphs import Graph

FIRST, LAST = (151644, 872, 198), (151645, 198, 151644, 77091, 198, 151669, 151673)  # tokens around a prompt
SIDE = 32


def hidream_o1(**config: Any) -> ModelPatcher:
    """A language model of 2 layers, 2 heads of queries and 1 of keys, with eyes of one layer."""
    text = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "rope_dims": [4, 2, 2],
    }
    eyes = {"hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "depth": 1, "num_position_embeddings": 16}
    tiny = {"image_model": "hidream_o1", "text_config_overrides": text, "vision_config_overrides": eyes}
    return tiny_models.build(tiny | config, need(comfy.supported_models, "HiDreamO1"))


class ForgettingGraph(Graph):
    """Before each run, the model forgets the keys that the host keeps of the runs before: their rounding is another."""

    def sample(self, model: ModelPatcher | None = None, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        self.model.model.diffusion_model.clear_kv_cache()
        return super().sample(model, *args, **kwargs)


def hidream_o1_text(
    text: int = 1, batch: int = 1, lengths: tuple[int, int] = (5, 6), size: tuple[int, int] = (2, 3), cfg: float = 1.0
) -> Graph:
    """Text, ``size`` tokens of picture: ``T|time|I``."""
    positive, negative = (_words(text + 100 * n, lengths[n]) for n in range(2))
    latent = {"samples": torch.zeros(batch, 3, SIDE * size[0], SIDE * size[1])}
    return ForgettingGraph(hidream_o1(), positive, negative, latent, cfg, positive[0][0].shape[1])


def hidream_o1_edit(
    text: int = 1, reference: int = 2, sizes: tuple[tuple[int, int], ...] = ((3, 2), (2, 4)), **shape: Any
) -> Graph:
    """HiDreamO1ReferenceImages: each image is in the text, as the eyes see it, and behind the picture, in patches."""
    from comfy_extras.nodes_hidream_o1 import HiDreamO1ReferenceImages

    graph = hidream_o1_text(text, **shape)
    graph.references = [tiny_graphs.pixels(reference + n, 1, SIDE * h, SIDE * w) for n, (h, w) in enumerate(sizes)]
    images = {f"image_{n + 1}": image for n, image in enumerate(graph.references)}
    graph.positive, graph.negative = HiDreamO1ReferenceImages.execute(
        positive=graph.positive, negative=graph.negative, images=images
    ).args
    return graph


def _words(seed: int, count: int) -> list:
    """What the model's text encoder gives: the numbers of its tokens."""
    words = torch.randint(1000, (count,), generator=torch.Generator().manual_seed(seed)).tolist()
    ids = torch.tensor([[*FIRST, *words, *LAST]])
    return [[ids[..., None].float(), {"text_input_ids": ids}]]
