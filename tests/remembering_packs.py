"""Stand-ins for packs that remember something from one call of the model to the next."""

import random
import types
from typing import Any
from unittest.mock import patch

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP


class TeaCacheStandIn:
    """As TeaCache for Flux does it: around the model, with another forward, and what it remembers on the denoiser.

    Every other evaluation is answered from the residual of the one before.
    """

    def __init__(self, denoiser, every=2):
        self.denoiser, self.every, self.computed, self.remembered = denoiser, every, 0, 0
        original = denoiser.forward_orig
        this = self

        def forward(self, img, *args, **kwargs):
            state = getattr(self, "teacache_state", None) or {"count": 0, "residual": None}
            state["count"] += 1
            self.teacache_state = state
            residual = state["residual"]
            if state["count"] % this.every and residual is not None and residual.shape[0] == img.shape[0]:
                this.remembered += 1
                return residual
            this.computed += 1
            state["residual"] = original(img, *args, **kwargs)
            return state["residual"]

        self.forward = types.MethodType(forward, denoiser)

    @classmethod
    def on(cls, model, name="teacache", **settings):
        """A clone of the model with it, and the stand-in. Of another ``name``, nothing says that it is a cache."""
        stand_in = cls(model.model.diffusion_model, **settings)

        def wrapper(apply_model, given):
            with patch.object(stand_in.denoiser, "forward_orig", stand_in.forward):
                return apply_model(given["input"], given["timestep"], **given["c"])

        wrapper.__qualname__ = f"{name}.<locals>.wrapper"
        wrapper.__module__ = "another_pack"
        model = model.clone()
        model.set_model_unet_function_wrapper(wrapper)
        return model, stand_in


COUNTED = 0


class Remembers:
    """A pack's object with all kinds of memory, which its answers depend on."""

    on_class = 0

    def __init__(self):
        self.count, self.items, self.by_name, self.seen = 0, [], {}, set()
        self.generator = torch.Generator().manual_seed(3)

    def scale(self):
        global COUNTED
        COUNTED += 1
        Remembers.on_class += 1
        self.count += 1
        self.items.append(self.count)
        self.by_name[self.count] = [self.count]
        self.seen.add(self.count)
        drawn = float(torch.rand((), generator=self.generator)) + random.random()
        return 1 + 0.01 * (
            COUNTED + Remembers.on_class + self.count + len(self.items) + len(self.by_name) + len(self.seen) + drawn
        )


PLACES = ["around the model", "a wrapper of the denoiser", "a patch", "in the options"]


def remembering(model: ModelPatcher, place: str) -> ModelPatcher:
    """A clone of the model, whose outputs depend on all that was computed since; it begins anew."""
    global COUNTED
    COUNTED, Remembers.on_class, calls, memory = 0, 0, 0, Remembers()

    def count() -> float:
        nonlocal calls
        calls += 1
        return memory.scale() + 0.01 * calls

    def around(apply_model: Any, given: Any) -> Any:
        return apply_model(given["input"], given["timestep"], **given["c"]) * count()

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        return executor(*args, **kwargs) * count()

    def block(args: Any, extra: Any) -> Any:
        output = extra["original_block"](args)
        return output | {"img": output["img"] * count()}

    def from_options(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = next(x for x in (*args, *kwargs.values()) if isinstance(x, dict) and "holder" in x)
        return executor(*args, **kwargs) * options["holder"].scale()

    model = model.clone()
    if place == PLACES[0]:
        model.set_model_unet_function_wrapper(around)
    elif place == PLACES[1]:
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another pack", wrapper)
    elif place == PLACES[2]:
        model.set_model_patch_replace(block, "dit", "double_block", 0)
    else:
        model.model_options["transformer_options"]["holder"] = memory
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "another pack", from_options)
    return model


class BlockCacheStandIn:
    """As FBCache for Flux does it: the first block runs, and the others are answered from memory in most steps."""

    @staticmethod
    def on(model, key, every=2):
        """A clone of the model with it, in a wrapper of this key around the denoiser."""
        denoiser = model.model.diffusion_model
        cached = _CachedBlocks(list(denoiser.double_blocks), every)

        def wrapper(executor, *args, **kwargs):
            with patch.dict(denoiser._modules, {"double_blocks": torch.nn.ModuleList([cached])}):
                return executor(*args, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, key, wrapper)
        return model


class _CachedBlocks(torch.nn.Module):
    def __init__(self, blocks, every):
        super().__init__()
        self.blocks, self.every, self.calls, self.residuals = blocks, every, 0, None  # a list: no modules of its own

    def forward(self, img, txt, **kwargs):
        first = self.blocks[0](img=img, txt=txt, **kwargs)
        if self.calls % self.every == 0:
            last = first
            for block in self.blocks[1:]:
                last = block(img=last[0], txt=last[1], **kwargs)
            self.residuals = [x - y for x, y in zip(last, first, strict=True)]
        self.calls += 1
        return tuple(x + y for x, y in zip(first, self.residuals, strict=True))
