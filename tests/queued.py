"""A workflow queued in ComfyUI's own executor, in this process: what a node says when it ends with an error."""

import importlib

import comfy_extras.nodes_post_processing  # noqa: F401  (before nodes_latent, on newer cores: they import each other)
import pytest
from picture_nodes import Executor

import nodes as comfyui_nodes
from i2am_pack.demo.nodes import DEMO_NODES
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

OF_COMFYUI = {  # its nodes that the graphs use, by their modules
    "nodes_custom_sampler": (
        *("BasicScheduler", "KSamplerSelect", "RandomNoise", "CFGGuider", "SamplerCustomAdvanced"),
        *("SplitSigmas", "SplitSigmasDenoise"),
    ),
    "nodes_latent": ("LatentBatch",),
    "nodes_primitive": ("Int", "Float"),
}


def registered(patch: pytest.MonkeyPatch, *nodes: type) -> None:
    """Our nodes, ComfyUI's that the graphs use, and ``nodes``, which are stand-ins for packs."""
    ours = {node.define_schema().node_id: node for node in (I2AMCapture, I2AMCollect, *DEMO_NODES)}
    of_comfyui = {}
    for module, names in OF_COMFYUI.items():
        for name in names:
            node = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
            patch.setattr(node, "RELATIVE_PYTHON_MODULE", f"comfy_extras.{module}")  # as ComfyUI's own start does
            of_comfyui[node.GET_SCHEMA().node_id] = node
    for name, node in (ours | of_comfyui | {node.__name__: node for node in nodes}).items():
        patch.setitem(comfyui_nodes.NODE_CLASS_MAPPINGS, name, node)


class Queue(Executor):
    """An executor, which keeps what it has computed from one graph to the next."""

    def run(self, graph: dict, end: str) -> str:
        """Run a graph up to one node. The sentence that it ends with, "" where nothing is wrong."""
        error = self.execute(graph, end)
        if error is None:
            return ""
        assert error["exception_type"] == "ValueError", error
        assert error["node_id"] == end, error
        return error["exception_message"].strip()

    def executed(self) -> set[str]:
        """The nodes of the last graph that were not taken from memory."""
        return set(self._executor.caches.outputs.cache_key_set.keys) - self.cached
