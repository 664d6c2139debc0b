"""What other packs' functions remember from one call to the next, put back after a call that they are to forget.

It is what can be reached from them, in their own pack: variables that they close over, global variables that they name,
attributes of its classes and of their objects, and what is in lists, dictionaries and sets. ComfyUI's and PyTorch's own
objects stay as they are: they know what is on the device, which a call may change. What is written *into* a tensor, and
what is kept in a file or by code in C, is not put back.
"""

import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from .callers import OUR_PACKAGE, function_of
from .pack_functions import MOST, cells_of
from .proxy import Proxy

NOT_OF_PACKS = ("comfy", "comfy_api", "torch", "numpy", "builtins", "functools", "types", "typing")
OF_MODULES = frozenset(vars(torch.nn.Module()))  # what PyTorch keeps in each, such as its parts and hooks


@contextmanager
def put_back(functions: Iterable[Any], denoisers: Iterable[torch.nn.Module]) -> Iterator[None]:
    """Around a call that these functions of packs, and what they keep on the denoisers, are not to remember."""
    functions = list(functions)
    reach = _Reach(_packs_of(functions))
    for denoiser in denoisers:
        reach.add_attributes(denoiser)
    for function in functions:
        reach.add(function)
    try:
        yield
    finally:
        for restore in reach.restoring:
            restore()


def _packs_of(functions: Iterable[Any]) -> set[str]:
    """The packs that have put functions into the run."""
    known = map(function_of, functions)
    return {x.pack for x in known if x.pack not in NOT_OF_PACKS and not x.module.startswith(OUR_PACKAGE)}


class _Reach:
    """All that may change in reach of some things, with what puts it back: objects and classes of these ``packs``."""

    def __init__(self, packs: Set[str]) -> None:
        self.restoring: list[Callable[[], Any]] = []
        self._known: dict[int, Any] = {}
        self._packs = packs

    def add(self, first: Any) -> None:
        """What is in reach of this."""
        waiting = [first]
        while waiting and len(self._known) < MOST:
            x = waiting.pop()
            if id(x) not in self._known:
                self._known[id(x)] = x
                waiting += self._inside(x)

    def add_attributes(self, denoiser: torch.nn.Module) -> None:
        """What was put on the denoiser beside its parts."""
        before = {name: x for name, x in vars(denoiser).items() if name not in OF_MODULES}

        def restore() -> None:
            present = vars(denoiser)
            for name in [name for name in present if name not in OF_MODULES and name not in before]:
                del present[name]
            present.update(before)

        self.restoring.append(restore)
        for value in before.values():
            if isinstance(value, dict | list | set | deque):
                self.add(value)

    def _inside(self, x: Any) -> Iterable[Any]:
        """What is in it. That it may be put back is noted."""
        if isinstance(x, dict):
            return self._keep(x.copy(), partial(_refill, x))
        if isinstance(x, list | deque):
            return self._keep(x.copy(), partial(_refill_list, x))
        if isinstance(x, set):
            return self._keep(x.copy(), partial(_refill, x))
        if isinstance(x, tuple | frozenset):
            return x
        if isinstance(x, torch.Generator):
            self.restoring.append(partial(x.set_state, x.get_state()))
        if isinstance(x, partial):
            return x.func, x.args, x.keywords
        if isinstance(x, types.MethodType):
            return x.__func__, x.__self__
        if isinstance(x, types.FunctionType):
            return self._inside_function(x)
        if isinstance(x, Proxy):
            return (x.original,)
        if isinstance(x, type):
            return self._inside_class(x) if self._is_in_pack(x) else ()
        return (vars(x), type(x)) if self._is_of_pack(x) else ()

    def _keep(self, copy: Any, restore: Callable[[Any], None]) -> Iterable[Any]:
        self.restoring.append(partial(restore, copy))
        values = copy.values() if isinstance(copy, dict) else copy
        return values if len(copy) < MOST else ()

    def _inside_function(self, function: types.FunctionType) -> Iterable[Any]:
        if function.__module__ is None or function.__module__.startswith(OUR_PACKAGE):
            return
        of_pack = function_of(function).pack in self._packs
        for cell, contents in cells_of(function):
            if of_pack:
                self.restoring.append(partial(_refill_cell, cell, contents))
            yield contents
        yield function.__dict__
        yield from (function.__defaults__ or (), function.__kwdefaults__ or {})
        if of_pack:
            named = _global_names(function.__code__) & function.__globals__.keys()
            before = {name: function.__globals__[name] for name in named}
            variables = {name: x for name, x in before.items() if not isinstance(x, types.ModuleType | type)}
            self.restoring.append(partial(function.__globals__.update, variables))
            yield from before.values()

    def _inside_class(self, of_pack: type) -> Iterable[Any]:
        for name, value in list(vars(of_pack).items()):
            if not name.startswith("__"):
                self.restoring.append(partial(_reset, of_pack, name, value))
            yield getattr(value, "__func__", value)
        yield from of_pack.__bases__

    def _is_of_pack(self, x: Any) -> bool:
        if isinstance(x, type | types.ModuleType | torch.Tensor | torch.nn.Module) or not hasattr(x, "__dict__"):
            return False
        return isinstance(x, types.SimpleNamespace) or self._is_in_pack(type(x))

    def _is_in_pack(self, of_pack: type) -> bool:
        return function_of(of_pack).pack in self._packs


def _global_names(code: types.CodeType) -> set[str]:
    """What it and the functions inside it may take from their module."""
    inside = (x for x in code.co_consts if isinstance(x, types.CodeType))
    return set(code.co_names).union(*map(_global_names, inside))


def _same(one: Iterable[Any], other: Iterable[Any]) -> bool:
    """Whether these are the very same things: what they hold may not know how to be compared."""
    one, other = list(one), list(other)
    return len(one) == len(other) and all(map(lambda a, b: a is b, one, other))


def _refill(x: Any, copy: Any) -> None:
    """A dictionary or a set."""
    if not (_same(x, copy) and (isinstance(x, set) or _same(x.values(), copy.values()))):
        x.clear()
        x.update(copy)


def _refill_list(x: Any, copy: Any) -> None:
    if not _same(x, copy):
        x.clear()
        x.extend(copy)


def _reset(of_pack: type, name: str, value: Any) -> None:
    if vars(of_pack).get(name) is not value:
        setattr(of_pack, name, value)


def _refill_cell(cell: Any, contents: Any) -> None:
    try:
        if cell.cell_contents is contents:
            return
    except ValueError:
        pass
    cell.cell_contents = contents
