"""A block while it runs: which attention calls were observed in it, and which of its attentions made none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor
from torch.nn import Module

from .blocks import Block, Part
from .callers import Function


@dataclass(frozen=True)
class ObservedCall:
    """An attention call that was observed in a block."""

    role: str  # of the block's attentions; "" where it is not known, or is none of them
    part: Part | None  # whose module was running
    announced: str  # the role that ComfyUI had announced, of U-Nets
    caller: Function | None  # a pack's function that makes it; None where the model does


class BlockRun:
    """One run of a block, or of the ``replacement`` that a pack has put in its place.

    ``layer`` is the name under which the run counts; "" where it is one more than the model makes.
    """

    def __init__(self, block: Block, layer: str, replacement: Function | None = None) -> None:
        self.block, self.layer, self.replacement = block, layer, replacement
        self.depth = 1  # how often hooks said that it begins: one that a compiler has kept says so once more
        self.running_parts: list[Part] = []  # those whose module runs, the innermost last
        self.announced, self.changed = "", False  # the attention that ComfyUI has announced, of U-Nets
        self.values: tuple[Tensor, Tensor] | None = None  # of it, where a pack has changed these alone
        self.entered: set[Module] = set()  # modules of parts that have run
        self.calls: list[ObservedCall] = []
        self.options: Mapping[str, Any] = {}  # that ComfyUI has announced its attention with, of U-Nets
        self.is_aside = False  # whether the run is none of the picture
        self.delegated = False  # whether what runs in the block's place runs a block itself

    @property
    def part(self) -> Part | None:
        """The innermost part whose module runs."""
        return self.running_parts[-1] if self.running_parts else None

    def is_of(self, block: Block) -> bool:
        """Whether the block's own forward runs."""
        return self.replacement is None and self.block.module is block.module

    def code(self) -> frozenset[str]:
        """The modules of Python in which what runs is written."""
        parts = [type(part.module) for part in self.running_parts if part.module is not None]
        return code_of(type(self.block.module), *parts)

    def unobserved(self, function_of: Callable[["BlockRun", Part], Function]) -> list[Part]:
        """The parts that no call was of; ``function_of`` says in which function the attention of a part ran.

        A call stands for one part at most: for that of its role, else for one whose function may have made it.
        """
        roles = {call.role for call in self.calls if call.caller is None}
        missing = [part for part in self.block.parts if part.role not in roles]
        if not missing:
            return []
        known_roles = {part.role for part in self.block.parts}
        left = [call for call in self.calls if call.caller or call.role not in known_roles]
        for part in list(missing):
            match = next((call for call in left if self._may_stand_for(call, part, function_of(self, part))), None)
            if match is not None:
                left.remove(match)
                missing.remove(part)
        return missing

    def _may_stand_for(self, call: ObservedCall, part: Part, function: Function) -> bool:
        """Whether the call may be the attention of a part, which ran in ``function``."""
        if self.block.announced and call.announced != part.role:
            return False
        if call.caller is not None:
            return call.caller.pack == function.pack
        if call.part is not None:
            return call.part.module is part.module  # which makes several
        return part.module is None or not self.entered  # a compiled graph may not say that it entered a part


def _code_of(*kinds: type) -> frozenset[str]:
    return frozenset(base.__module__ for kind in kinds for base in kind.__mro__ if base is not Module)


code_of: Callable[..., frozenset[str]] = cache(_code_of)
"""The modules of Python in which classes of modules, its arguments, are written."""
