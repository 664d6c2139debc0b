"""Packs that take part in a run of which something was captured: they may bring a reference that no map shows.

A pack that replaces the model's forward (PuLID, IPAdapter-Flux and their kin), a block of it, or puts a function around
the model, makes attention of its own as it likes, of which ComfyUI's attention knows nothing. What a function of a pack
does is not known, but what it has: one that has neither a tensor nor a network within reach brings no picture. So most
functions of ordinary graphs are not named: kernels of attention, guidance, what leaves blocks out or compiles them.
"""

import types
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from comfy.model_base import BaseModel
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...i2am_core.printing import listed
from .caches import is_cache, without_caches
from .callers import Function, function_of
from .evaluation import KINDS
from .pack_functions import MOST, cells_of, functions_of
from .proxy import Proxy
from .unobservable import METHODS, is_named, is_of_pack, parts_of

BRINGERS = ("pulid", "ipadapterflux", "ipaflux")  # packs that are in a run for nothing but to bring a reference
BRINGS = (
    "a reference comes by {}, through attention of its own that these maps do not show: sample once more with the same "
    "seed and without it, and compare the two"
)
MAY_BRING = (
    "of other packs, this run also has {}: if a reference comes by that, through attention of its own, these maps do "
    "not show it"
)
MOST_NAMED = 6


def packs_beside(
    model: BaseModel,
    model_options: Mapping[str, Any],
    known: Collection[str] = (),
    captured: Collection[str] = (),
) -> list[str]:
    """Notes on packs that bring a reference of their own, or may do so.

    ``known`` are the names of functions of which maps and skipped calls say all, ``captured`` those of packs.
    """
    reach = _Reach(model)
    functions = dict.fromkeys(x for x in _in_model(model, reach) if x.pack not in captured)
    for put in functions_of(without_caches(model_options), KINDS):
        of_pack = [
            x
            for x in map(function_of, parts_of(put))
            if is_of_pack(x) and x.name not in known and x.pack not in captured
        ]
        has_picture = bool(of_pack) and reach.has_picture(put)
        functions |= dict.fromkeys(x for x in of_pack if has_picture or is_named(x.module, BRINGERS))
    bringers = [str(x) for x in functions if is_named(x.module, BRINGERS)]
    others = [str(x) for x in functions if not is_named(x.module, BRINGERS)]
    sentences = (BRINGS, bringers), (MAY_BRING, others)
    return [sentence.format(listed(some, MOST_NAMED)) for sentence, some in sentences if some]


def _in_model(model: BaseModel, reach: "_Reach") -> Iterator[Function]:
    """What packs have put in the place of the model's forward, of a block, or of a block's forward.

    A layer without parts, as of packs that keep weights in a format of their own, is none. Where the whole model is a
    pack's, nothing is beside it.
    """
    denoiser = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)
    own = function_of(type(denoiser))
    if is_of_pack(own):
        return
    for name in METHODS:
        method = getattr(denoiser, name, None)
        if method is not None and is_of_pack(function := function_of(method)) and not is_cache(method):
            yield function
    kinds: dict[type, Function | None] = {}  # of each class of parts, its function if it is a pack's
    for part in _parts_of(denoiser):
        if part is not denoiser and any(x is not None for x in part._modules.values()):
            if type(part) not in kinds:
                function = function_of(type(part))
                kinds[type(part)] = function if is_of_pack(function) else None
            if (of_pack := kinds[type(part)]) is not None:
                yield of_pack
        forward = vars(part).get("forward")
        if part is denoiser or forward is None or not is_of_pack(function_of(forward)):
            continue
        if reach.has_picture(forward):
            yield function_of(forward)


def _parts_of(module: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The same as its ``modules()``, which take the longer the deeper each of thousands lies."""
    known: set[torch.nn.Module] = set()
    waiting: list[torch.nn.Module | None] = [module]
    while waiting:
        part = waiting.pop()
        if part is not None and part not in known:
            known.add(part)
            yield part
            waiting += reversed(part._modules.values())


class _Reach:
    """What functions have within reach that is not the run's own model."""

    def __init__(self, model: BaseModel) -> None:
        self._own = {id(part) for part in _parts_of(model)}

    def has_picture(self, function: Any) -> bool:
        """Whether there is anything that a picture could be in: a tensor of more than one side, or a network."""
        known: dict[int, Any] = {}
        waiting = deque([function])
        while waiting and len(known) < MOST:
            x = waiting.popleft()
            if id(x) in known or id(x) in self._own:
                continue
            known[id(x)] = x
            if isinstance(x, torch.nn.Module) or (isinstance(x, Tensor) and x.ndim > 1):
                return True
            waiting += _inside(x)
        return bool(waiting)  # more than anything that brings no picture has


def _inside(x: Any) -> Iterable[Any]:
    if isinstance(x, ModelPatcher):
        return (x.model,)
    if isinstance(x, Mapping):
        return list(x.values())
    if isinstance(x, list | tuple | set | frozenset | deque):
        return list(x)
    if isinstance(x, partial):
        return x.func, x.args, x.keywords
    if isinstance(x, Proxy):
        return (x.original,)
    if isinstance(x, types.MethodType):
        return x.__func__, x.__self__
    if isinstance(x, types.FunctionType):
        return [x.__dict__, x.__defaults__, x.__kwdefaults__, *(contents for _, contents in cells_of(x))]
    if isinstance(x, str | bytes | type | types.ModuleType | Tensor | torch.dtype | torch.device):
        return ()
    return list(getattr(x, "__dict__", {}).values())
