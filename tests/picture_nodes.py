"""Nodes that sample and give a picture, and no latent, as detailers and upscalers do; and ComfyUI's own executor.

They call ComfyUI's sampler in the ways that such packs do: several times in a row, on parts of the latent, for nothing
at all, or in a node that unfolds into others.
"""

import itertools
from typing import Any

import execution
import torch
from comfy_execution.graph_utils import GraphBuilder

import nodes as comfyui_nodes

INPUTS = {
    "model": ("MODEL",),
    "positive": ("CONDITIONING",),
    "negative": ("CONDITIONING",),
    "vae": ("VAE",),
    "latent": ("LATENT",),
    "seed": ("INT", {"default": 0}),
    "steps": ("INT", {"default": 2}),
    "way": ("STRING", {"default": "once"}),
}


class Detailer:
    """Samples in one of the ways of ``PARTS``; ``image`` is the picture that it would work on."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": INPUTS, "optional": {"image": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "detail"

    def detail(self, model, positive, negative, vae, latent, seed, steps, way, image=None):
        whole = latent["samples"]
        pictures = []
        if way.startswith("unless"):  # as a detailer that detects nothing in one of several
            way = "nothing" if way == f"unless the seed is {seed}" else "once"
        for n, part in enumerate(PARTS[way](whole)):
            one = latent if part is whole else {"samples": part}
            (sampled,) = comfyui_nodes.common_ksampler(
                *(model, seed + n, steps, 1.0, "euler", "normal", positive, negative, one), denoise=1.0
            )
            pictures.append(vae.decode(sampled["samples"]))
        return (pictures[-1] if pictures else vae.decode(whole),)


def _quarters(latent):
    height, width = (side // 2 for side in latent.shape[-2:])
    return [latent[..., y : y + height, x : x + width] for y in (0, height) for x in (0, width)]


PARTS = {
    "once": lambda latent: [latent],
    "twice": lambda latent: [latent, latent],
    "tiles": _quarters,
    "whole and tiles": lambda latent: [latent, *_quarters(latent)],
    "strip": lambda latent: [latent[..., : latent.shape[-2] // 2, :]],
    "nothing": lambda latent: [],
}


class Unfolding:
    """Unfolds into a KSampler and a VAE Decode, as loops do."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": INPUTS}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "unfold"

    def unfold(self, model, positive, negative, vae, latent, seed, steps, way):
        graph = GraphBuilder()
        sampler = graph.node(
            "KSampler", model=model, positive=positive, negative=negative, latent_image=latent, seed=seed, steps=steps,
            cfg=1.0, sampler_name="euler", scheduler="normal", denoise=1.0,
        )  # fmt: skip
        decode = graph.node("VAEDecode", samples=sampler.out(0), vae=vae)
        return {"result": (decode.out(0),), "expand": graph.finalize()}


class Seeds:
    """A list of seeds: what comes after it runs once for each."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"count": ("INT", {"default": 2})}}

    RETURN_TYPES = ("INT",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "seeds"

    def seeds(self, count):
        return (list(range(count)),)


class Turned:
    """Takes a list of pictures whole, and gives it in another order."""

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"images": ("IMAGE",)}}

    INPUT_IS_LIST = True
    RETURN_TYPES = ("IMAGE",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "turn"

    def turn(self, images):
        return (images[::-1],)


class Batched(Turned):
    """Makes one batch of a list of pictures."""

    OUTPUT_IS_LIST = (False,)

    def turn(self, images):
        return (torch.cat(images),)


class Single(Detailer):
    """Samples for each, and gives a list of what it made, as detailers give what they cut out."""

    OUTPUT_IS_LIST = (True,)

    def detail(self, **given):
        (picture,) = super().detail(**given)
        return ([picture] * len(PARTS[given["way"]](given["latent"]["samples"])),)


class Keeps:
    """Hands a test the list that it is given, by a name."""

    values: dict[str, list[Any]] = {}

    @classmethod
    def INPUT_TYPES(cls):  # noqa: N802
        return {"required": {"value": ("*",), "name": ("STRING", {})}}

    @classmethod
    def VALIDATE_INPUTS(cls, input_types):  # noqa: N802
        return True

    INPUT_IS_LIST = True
    OUTPUT_NODE = True
    RETURN_TYPES = ()
    FUNCTION = "keep"

    def keep(self, value, name):
        Keeps.values[name[0]] = value
        return {}


def keeps(name, *link):
    """A ``Keeps`` node of this name."""
    return {"class_type": "Keeps", "inputs": {"value": list(link), "name": name}}


NODES = {node.__name__: node for node in (Detailer, Unfolding, Seeds, Turned, Batched, Single, Keeps)}


class _Server:
    """What an executor wants of ComfyUI's server."""

    client_id = last_node_id = None

    def send_sync(self, *args):
        pass


class Executor:
    """ComfyUI's own executor. Each ``queue`` is one of its queues."""

    _numbers = itertools.count()

    def __init__(self, cache=execution.CacheType.CLASSIC, **cache_args):
        self._executor = execution.PromptExecutor(
            _Server(), cache, {"ram": 0.0, "ram_inactive": 0.0, "lru": 0, **cache_args}
        )

    def queue(self, graph, *outputs):
        """What these ``Keeps`` nodes were given, by name, but for those that ComfyUI had cached.

        Raises RuntimeError with the sentence of a node's error.
        """
        Keeps.values = {}
        if error := self.execute({name: graph[name] for name in _needed(graph, outputs)}, *outputs):
            raise RuntimeError(f"{error['node_id']}: {error['exception_message']}")
        return dict(Keeps.values)

    def execute(self, graph, *outputs):
        """Run a graph up to these nodes. What ComfyUI says of one that ended it with an error; None where all ran."""
        self._executor.execute(graph, f"queue {next(self._numbers)}", {}, list(outputs))
        errors = [data for kind, data in self._executor.status_messages if kind == "execution_error"]
        assert bool(errors) != self._executor.success, self._executor.status_messages
        return errors[0] if errors else None

    @property
    def cached(self):
        """The nodes that did not run in the last queue."""
        (data,) = [data for kind, data in self._executor.status_messages if kind == "execution_cached"]
        return set(data["nodes"])


def _needed(graph, outputs):
    needed, waiting = set(), list(outputs)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            links = (x for x in graph[name]["inputs"].values() if isinstance(x, list) and len(x) == 2)
            waiting += [link[0] for link in links]
    return sorted(needed)
