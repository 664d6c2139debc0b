"""Edit models of 2026 that take reference latents: tiny models, and graphs around them, by the host's own classes.

ComfyUI 0.33 has them, the pinned one does not.
"""

from typing import Any

import comfy.supported_models
import comfy_extras.nodes_flux as nodes_flux
import tiny_graphs
import tiny_models
from comfy.model_patcher import ModelPatcher
from this_core import need
from tiny_graphs import TWO, Graph, Sizes
from tiny_models import TEXT_WIDTH


def krea2(**config: Any) -> ModelPatcher:
    """Krea 2: its text has two layers of a language model for each token, then ``T|I|R...`` in 2 blocks."""
    tiny = {
        "image_model": "krea2",
        "features": 32,
        "heads": 2,
        "kvheads": 1,
        "multiplier": 1,
        "layers": 2,
        "txtdim": TEXT_WIDTH // 2,
        "txtlayers": 2,
        "txtheads": 2,
        "txtkvheads": 1,
    }
    return tiny_models.build(tiny | config, need(comfy.supported_models, "Krea2"))


def boogu(**config: Any) -> ModelPatcher:
    """Boogu: refiners as OmniGen2's, 2 double blocks (``T|R...|I``, then ``R...|I``), 2 of ``T|R...|I``."""
    tiny = {
        "image_model": "boogu",
        "hidden_size": 48,
        "num_layers": 2,
        "num_double_stream_layers": 2,
        "num_refiner_layers": 1,
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "multiple_of": 16,
        "axes_dim_rope": (4, 4, 4),
        "instruction_feat_dim": TEXT_WIDTH,
    }
    return tiny_models.build(tiny | config, need(comfy.supported_models, "Boogu"))


def joyimage(**config: Any) -> ModelPatcher:
    """JoyImage: ``I|R...|T`` in 2 double blocks; the class of its configuration needs heads of 128 channels."""
    tiny = {
        "image_model": "joyimage",
        "hidden_size": 256,
        "num_attention_heads": 2,
        "text_dim": TEXT_WIDTH,
        "mlp_width_ratio": 0.5,
        "num_layers": 2,
    }
    return tiny_models.build(tiny | config, need(comfy.supported_models, "JoyImage"))


def mage_flow(**config: Any) -> ModelPatcher:
    """Mage-Flow: 128 channels, a cell is a token, ``T|I|R...`` in 2 of Qwen-Image's blocks."""
    tiny = {
        "image_model": "mage_flow",
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_WIDTH,
        "axes_dims_rope": (4, 6, 6),
    }
    return tiny_models.build(tiny | config, need(comfy.supported_models, "MageFlow"))


def krea2_edit(
    text: int = 1, reference: int = 2, sizes: Sizes = TWO, negative: bool = True, method: str | None = "index",
    **shape: Any,
) -> Graph:  # fmt: skip
    """ReferenceLatent for Krea 2, which reads it where a method is set: ``T|I|R...``."""
    graph = tiny_graphs._image(krea2(), text, 16, **shape)
    graph = tiny_graphs.with_references(graph, reference, _of_one_frame(sizes), negative)
    if method:
        node = nodes_flux.FluxKontextMultiReferenceLatentMethod
        graph.positive, graph.negative = (tiny_graphs.run(node, c, method)[0] for c in (graph.positive, graph.negative))
    return graph


def boogu_edit(text: int = 1, reference: int = 2, sizes: Sizes = TWO, negative: bool = True, **shape: Any) -> Graph:
    """What TextEncodeBooguEdit gives: text, and reference latents in both conditionings."""
    graph = tiny_graphs.with_attention_mask(tiny_graphs._image(boogu(), text, 16, **shape))
    return tiny_graphs.with_references(graph, reference, sizes, negative)


def joyimage_edit(text: int = 1, reference: int = 2, sizes: Sizes = TWO, negative: bool = True, **shape: Any) -> Graph:
    """What TextEncodeJoyImageEdit gives: text, and reference latents of one frame, ``I|R...|T``."""
    graph = tiny_graphs._image(joyimage(), text, 16, **shape)
    return tiny_graphs.with_references(graph, reference, _of_one_frame(sizes), negative)


def mage_flow_edit(
    text: int = 1, reference: int = 2, sizes: Sizes = ((2, 4), (3, 2)), negative: bool = True, **shape: Any
) -> Graph:
    """What TextEncodeMageFlowEdit gives, a token for each cell: ``T|I|R...``."""
    graph = tiny_graphs._image(mage_flow(), text, 128, **{"size": (4, 3)} | shape)
    return tiny_graphs.with_references(graph, reference, sizes, negative)


def _of_one_frame(sizes: Sizes) -> tuple:
    """As the VAE of videos makes latents of pictures."""
    return tuple((1, *size) for size in sizes)
