"""The blocks of a denoiser, and the attention that each makes: what a layer is, and what must be accounted for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.nn import Module

Replaced = tuple[str, Any]
"""Where a pack puts a function in place of a block or of its attention: kind and key in ``patches_replace``."""


@dataclass(frozen=True)
class Part:
    """One attention of a block."""

    role: str = ""  # which one, where a block has several
    module: Module | None = None  # whose forward makes it; None where the block's own does
    keys: Module | None = None  # whose output is its keys, where one module makes several
    columns: int = 0  # how many keys it has, where that tells it from the others
    replaced: tuple[Replaced, ...] = ()  # the first that is there counts


@dataclass(frozen=True)
class Block:
    """A module of the denoiser whose forward makes attention calls.

    ``names`` are the layers that it is in one call of the denoiser: one each time that the denoiser runs it.
    """

    names: tuple[str, ...]
    module: Module
    parts: tuple[Part, ...] = (Part(),)
    replaced: tuple[Replaced, ...] = ()


def inner(module: Module, attribute: str) -> Module:
    """The module itself, or what is in it where a pack has put another around it: the first with this attribute."""
    return next((part for part in module.modules() if hasattr(part, attribute)), module)


def listed(modules: Iterable[Module] | None, name: str, replaced: str = "", first: int = 0) -> Iterator[Block]:
    """Blocks of one attention each, in a list: named by their places in it, from ``first``.

    ``replaced`` is their kind among the keys of ``patches_replace["dit"]``.
    """
    for number, module in enumerate(modules or ()):
        place = (("dit", (replaced, number)),) if replaced else ()
        yield Block((f"{name} {first + number}",), module, replaced=place)
