"""Functions that nodes of packs have put into a run: where they are in its options, and what they close over."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch

from .proxy import Proxy

WRAPPER = "model_function_wrapper"  # the one function that a node may put around every call of the model
MOST = 20_000  # things that are looked at: more than any pack has in reach, but for one that keeps a library


def functions_of(model_options: Mapping[str, Any], kinds: Iterable[str]) -> Iterator[Any]:
    """What packs have put into a run's options: around the model, into its patches, beside them.

    ``kinds`` are those of the wrappers that count.
    """
    options = model_options.get("transformer_options", {})
    wrappers = options.get("wrappers", {})
    yield from (x for kind in kinds for some in wrappers.get(kind, {}).values() for x in some)
    others = [x for key, x in options.items() if key != "wrappers"]
    for x in functions_in([model_options.get(WRAPPER), *others]):
        if callable(getattr(x, "of_pack", None)):  # our override, around another
            yield x.of_pack
        elif x is not None and not isinstance(x, str | int | float | torch.Tensor | type):
            yield x


def functions_in(x: Any) -> Iterator[Any]:
    """What is in lists and dictionaries, however deep; of anything else, itself."""
    if isinstance(x, Mapping):
        x = x.values()
    elif not isinstance(x, list | tuple):
        yield x
        return
    for one in x:
        yield from functions_in(one)


def closed_over(function: Any) -> Iterator[Any]:
    """A function, and those that it closes over: a pack may put one around another's."""
    known: dict[int, Any] = {}
    waiting = [function]
    while waiting:
        one = waiting.pop()
        if not callable(one) or isinstance(one, type | torch.nn.Module) or id(one) in known or len(known) > MOST:
            continue
        known[id(one)] = one
        yield one
        waiting += [x for _, x in cells_of(one)]
        if isinstance(one, partial | Proxy):
            waiting.append(one.func if isinstance(one, partial) else one.original)


def cells_of(function: Any) -> Iterator[tuple[Any, Any]]:
    """The variables that a function closes over, each with what is in it."""
    function = getattr(function, "__func__", function)
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell, cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
