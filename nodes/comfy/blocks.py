"""The blocks of a denoiser, and the attention that each makes: what a layer is, and what must be accounted for."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch.nn import Module

ForeignModule = Any
"""A network of ComfyUI's, whose attributes are read: lists of blocks, sizes of patches.

PyTorch gives every attribute of a module the type ``Tensor | Module``, which is wrong for most of these; what they are
is written in the class that each token order names.
"""

ReplacedPlace = tuple[str, Any]
"""Where a pack puts a function in place of a block or of its attention: kind and key in ``patches_replace``."""


TEXT_ALONE = "text alone"
"""The role of attention in which only the text is, before it meets anything else: no reference can be read in it."""


@dataclass(frozen=True)
class Part:
    """One attention of a block."""

    role: str = ""  # which one, where a block has several
    module: Module | None = None  # whose forward makes it; None where the block's own does
    keys: Module | None = None  # whose output is its keys, where one module makes several
    replaced: tuple[ReplacedPlace, ...] = ()  # the first that is there counts


@dataclass(frozen=True)
class Block:
    """A module of the denoiser whose forward makes attention calls.

    ``names`` are the layers that it is in one call of the denoiser: one each time that the denoiser runs it.
    """

    names: tuple[str, ...]
    module: Module
    parts: tuple[Part, ...] = (Part(),)
    replaced: tuple[ReplacedPlace, ...] = ()
    announced: bool = False  # whether ComfyUI announces its parts, as in U-Nets: see ``hooks``


class Blocks:
    """All blocks of a denoiser, by their modules and by what may stand in their place."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self.blocks: dict[Module, Block] = {}
        self.parts: dict[Module, Part] = {}  # where a module makes several attentions, the last of them
        self.keys: dict[Module, Part] = {}
        self.replaced: dict[ReplacedPlace, Block] = {}
        self.names: set[str] = set()
        for block in blocks:
            self.blocks[block.module] = block
            self.names.update(block.names)
            self.replaced |= dict.fromkeys(block.replaced, block)
            self.parts |= {part.module: part for part in block.parts if part.module is not None}
            self.keys |= {part.keys: part for part in block.parts if part.keys is not None}


def inner(module: Module, attribute: str) -> Module:
    """The module itself, or what is in it where a pack has put another around it: the first with this attribute."""
    module = getattr(module, "_orig_mod", module)  # torch.compile
    if hasattr(module, attribute):
        return module
    return next((part for part in module.modules() if hasattr(part, attribute)), module)


def of_text(modules: Iterable[Module], name: str, attention: str) -> Iterator[Block]:
    """Blocks in which the text is alone; ``attention`` is the attribute of each that makes its attention."""
    for number, module in enumerate(modules):
        module = inner(module, attention)
        yield Block((f"{name} {number}",), module, (Part(TEXT_ALONE, getattr(module, attention)),))


def listed(modules: Iterable[Module] | None, name: str, replaced: str = "", first: int = 0) -> Iterator[Block]:
    """Blocks of one attention each, in a list: named by their places in it, from ``first``.

    ``replaced`` is their kind among the keys of ``patches_replace["dit"]``.
    """
    for number, module in enumerate(modules or ()):
        place = (("dit", (replaced, number)),) if replaced else ()
        yield Block((f"{name} {first + number}",), getattr(module, "_orig_mod", module), replaced=place)
