"""Qwen-Image-Layered at the smallest size: it makes the layers of a picture, which are frames of its latent."""

from typing import Any

import comfy_extras.nodes_flux as nodes_flux
import comfy_extras.nodes_qwen as nodes_qwen
import tiny_graphs
import tiny_models
from tiny_graphs import Graph, Sizes

LAYERS = 2  # beside the picture that they make together
ONE: Sizes = ((8, 6),)  # of the same size as the layers


def layered(
    text: int = 1, reference: int = 2, sizes: Sizes = ONE, batch: int = 1, size: tuple[int, int] = (8, 6),
    method: str | None = None, **shape: Any,
) -> Graph:  # fmt: skip
    """EmptyQwenImageLayeredLatentImage and ReferenceLatent: ``T|I I I|R``, the picture in three frames."""
    model = tiny_models.qwen_image(use_additional_t_cond=True, default_ref_method="negative_index")
    graph = tiny_graphs._image(model, text, 16, **shape)
    height, width = (8 * side for side in size)
    node = nodes_qwen.EmptyQwenImageLayeredLatentImage
    graph.latent = tiny_graphs.run(node, width, height, LAYERS, batch)[0]
    graph = tiny_graphs.with_references(graph, reference, tuple((1, *one) for one in sizes))
    if method:
        node = nodes_flux.FluxKontextMultiReferenceLatentMethod
        graph.positive, graph.negative = (tiny_graphs.run(node, c, method)[0] for c in (graph.positive, graph.negative))
    return graph
