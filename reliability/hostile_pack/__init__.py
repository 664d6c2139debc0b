"""A pack for a test server: a node that hands out broken objects as any type, and one that takes anything.

Nodes of other packs do have outputs of type ``*``, which ComfyUI lets into every input unchecked.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.append(str(Path(__file__).resolve().parents[2]))


def objects() -> dict[str, Callable[[], Any]]:
    """What can be handed out, by name. The first ones are valid; the others are for no input, or odd for theirs."""
    return valid() | images() | masks() | latents() | conditionings() | things()


def valid() -> dict[str, Callable[[], Any]]:
    return {
        "text": lambda: [[torch.ones(1, 4, 8), {}]],
        "text and tokens": lambda: [[torch.cat([torch.ones(1, 4, 8), torch.rand(1, 729, 8)], 1), {}]],
        "adapter": adapter,
        "vision": vision,
    }


def adapter() -> Any:
    from reliability import places  # noqa: F401  (before what it makes importable)

    import ip_adapter_standin  # isort: skip

    return ip_adapter_standin.weights(plus=True)


def vision() -> Any:
    import comfy.clip_vision

    config = {
        "model_type": "clip_vision_model", "num_hidden_layers": 3, "hidden_size": 8, "num_attention_heads": 2,
        "intermediate_size": 16, "hidden_act": "gelu", "num_channels": 3, "patch_size": 14, "image_size": 224,
        "projection_dim": 4,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        path.write_text(json.dumps(config))
        model = comfy.clip_vision.ClipVisionModel(str(path))
    for parameter in model.model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def images() -> dict[str, Callable[[], Any]]:
    return {
        "image 1x1": lambda: torch.rand(1, 1, 1, 3),
        "image 2x512": lambda: torch.rand(1, 2, 512, 3),
        "image of 4 channels": lambda: torch.rand(1, 64, 64, 4),
        "image of 2 channels": lambda: torch.rand(1, 64, 64, 2),
        "image of 1 channel": lambda: torch.rand(1, 64, 64, 1),
        "no image": lambda: torch.rand(0, 64, 64, 3),
        "image without pixels": lambda: torch.rand(1, 0, 0, 3),
        "image of NaN": lambda: torch.full((1, 64, 64, 3), torch.nan),
        "image of infinities": lambda: torch.full((1, 64, 64, 3), torch.inf),
        "image far out of range": lambda: torch.rand(1, 64, 64, 3) * 1e30 - 1e29,
        "image of half precision": lambda: torch.rand(1, 64, 64, 3).half(),
        "image of double precision": lambda: torch.rand(1, 64, 64, 3).double(),
        "image of bytes": lambda: torch.ones(1, 64, 64, 3, dtype=torch.uint8),
        "image of truth values": lambda: torch.ones(1, 64, 64, 3, dtype=torch.bool),
        "image of complex numbers": lambda: torch.ones(1, 64, 64, 3, dtype=torch.complex64),
        "image on no device": lambda: torch.empty(1, 64, 64, 3, device="meta"),
        "image of 3 dimensions": lambda: torch.rand(64, 64, 3),
        "image of 5 dimensions": lambda: torch.rand(1, 1, 64, 64, 3),
        "7 images": lambda: torch.rand(7, 64, 64, 3),
        "image as an array": lambda: torch.rand(1, 64, 64, 3).numpy(),
    }


def masks() -> dict[str, Callable[[], Any]]:
    return {
        "mask 1x1": lambda: torch.ones(1, 1, 1),
        "mask of another size": lambda: torch.ones(1, 17, 5),
        "mask of 2 dimensions": lambda: (torch.rand(64, 64) > 0.5).float(),
        "mask of 4 dimensions": lambda: torch.ones(1, 1, 64, 64),
        "mask of 1 dimension": lambda: torch.ones(64),
        "number as a tensor": lambda: torch.tensor(1.0),
        "no mask": lambda: torch.ones(0, 64, 64),
        "mask without pixels": lambda: torch.ones(1, 0, 64),
        "empty mask": lambda: torch.zeros(1, 64, 64),
        "full mask": lambda: torch.ones(1, 64, 64),
        "mask of NaN": lambda: torch.full((1, 64, 64), torch.nan),
        "negative mask": lambda: torch.full((1, 64, 64), -3.0),
        "mask of truth values": lambda: torch.rand(1, 64, 64) > 0.5,
        "mask of whole numbers": lambda: torch.ones(1, 64, 64, dtype=torch.int64),
        "7 masks": lambda: (torch.rand(7, 64, 64) > 0.5).float(),
    }


def latents() -> dict[str, Callable[[], Any]]:
    return {
        "latent without samples": lambda: {},
        "latent of nothing": lambda: {"samples": None},
        "latent of a word": lambda: {"samples": "samples"},
        "latent without items": lambda: {"samples": torch.zeros(0, 4, 8, 8)},
        "latent of NaN": lambda: {"samples": torch.full((1, 4, 8, 8), torch.nan)},
        "latent of another shape": lambda: {"samples": torch.zeros(3)},
        "latent of several": nested,
        "latent on no device": lambda: {"samples": torch.empty(1, 4, 8, 8, device="meta")},
        "latent of complex numbers": lambda: {"samples": torch.ones(1, 4, 8, 8, dtype=torch.complex64)},
    }


def nested() -> Any:
    import comfy.nested_tensor

    return {"samples": comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)])}


def conditionings() -> dict[str, Callable[[], Any]]:
    return {
        "no conditioning": lambda: [],
        "conditioning of None": lambda: [[None, {}]],
        "conditioning without a dictionary": lambda: [[torch.ones(1, 4, 8)]],
        "conditioning of 2 dimensions": lambda: [[torch.ones(4, 8), {}]],
        "conditioning of other tokens": lambda: [[torch.zeros(1, 9, 3), {}]],
        "conditioning with bad marks": lambda: [[torch.ones(1, 4, 8), {"i2am_references": 5}]],
        "conditioning with marks of others": lambda: [[torch.ones(1, 4, 8), {"i2am_references": [{}]}]],
    }


def things() -> dict[str, Callable[[], Any]]:
    return {
        "None": lambda: None,
        "object": object,
        "function": lambda: len,
        "module": lambda: torch.nn.Linear(1, 1),
        "empty dictionary": dict,
        "dictionary of an adapter": lambda: {"image_proj": {}, "ip_adapter": {}},
        "adapter of words": lambda: {"image_proj": {"latents": "latents"}},
        "adapter of other sizes": lambda: {"image_proj": {"latents": torch.ones(1)}},
        "empty list": list,
        "list of None": lambda: [None],
        "bytes": lambda: b"\x00\xff",
        "-1": lambda: -1,
        "huge number": lambda: 2**70,
        "NaN": lambda: float("nan"),
        "infinity": lambda: float("inf"),
        "1.5": lambda: 1.5,
        "True": lambda: True,
        "word": lambda: "word",
        "empty word": lambda: "",
        "long word": lambda: "x" * 100_000,
        "odd word": lambda: "\x00\x1b[31m\n\u202e\ud800",
        "list of words": lambda: ["all"],
    }


class Anything(str):
    """ComfyUI compares types as strings: this one is equal to every other."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return False


class HostileObject:
    RETURN_TYPES = (Anything("*"),)
    FUNCTION = "make"
    CATEGORY = "hostile"

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802  (ComfyUI's name)
        return {"required": {"name": ("STRING", {})}}

    def make(self, name: str) -> tuple:
        return (objects()[name](),)


class HostileSink:
    """Takes anything; of pictures and masks it says whether they are."""

    RETURN_TYPES = ()
    FUNCTION = "take"
    CATEGORY = "hostile"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict:  # noqa: N802  (ComfyUI's name)
        return {"required": {"value": (Anything("*"), {}), "kind": ("STRING", {})}}

    def take(self, value: Any, kind: str) -> dict:
        dimensions = {"IMAGE": 4, "MASK": 3}.get(kind)
        if dimensions is not None and (value.ndim != dimensions or not value.is_floating_point() or not value.numel()):
            raise AssertionError(f"{kind} of shape {tuple(value.shape)} and {value.dtype}")
        if kind == "IMAGE" and value.shape[-1] != 3:
            raise AssertionError(f"{kind} of shape {tuple(value.shape)}")
        return {"ui": {}}


NODE_CLASS_MAPPINGS = {"Hostile_Object": HostileObject, "Hostile_Sink": HostileSink}
