"""A U-Net of as many blocks as Advanced-ControlNet counts, and a graph on it."""

from typing import Any

import tiny_graphs
import tiny_models
from tiny_graphs import Graph

LAYERS = ("input 4.0", "middle 0.0", "output 5.0")
DEPTHS = {  # of transformers: one on the way in, one in the middle, one on the way out
    "transformer_depth": [0, 0, 1, 0, 0, 0, 0, 0],
    "transformer_depth_output": [0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0],
}


def sd15(**shape: Any) -> Graph:
    """Stable Diffusion 1.5 with four levels, all of one width: a latent of at least 8 x 8 cells."""
    shape = {"size": (16, 8), "cfg": 3.0} | shape
    graph = tiny_graphs.sd15_text(**shape)
    graph.model = tiny_models.sd15(num_res_blocks=[2] * 4, channel_mult=(1,) * 4, **DEPTHS)
    return graph
