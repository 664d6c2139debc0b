"""A block while it runs: which attention calls were heard in it, and of which of its attentions there were none."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from torch.nn import Module

from .blocks import Block, Part
from .callers import Function


@dataclass(frozen=True)
class ObservedCall:
    """An attention call that was heard in a block."""

    role: str  # of the block's attentions; "" where it is not known, or is none of them
    part: Part | None  # whose module was running
    announced: str  # the role that ComfyUI had announced, of U-Nets
    caller: Function | None  # a pack's function that makes it; None where the model does


class BlockRun:
    """One run of a block, or of the function that a pack has put in its place (``function``)."""

    def __init__(self, block: Block, name: str, function: Function | None = None) -> None:
        self.block, self.name, self.function = block, name, function
        self.depth = 1
        self.inside: list[Part] = []  # parts whose module runs
        self.announced, self.changed = "", False  # the attention that ComfyUI has announced, of U-Nets
        self.entered: set[Module] = set()  # of parts, those that ran
        self.calls: list[ObservedCall] = []
        self.delegated = False  # whether what runs in the block's place runs a block itself

    @property
    def part(self) -> Part | None:
        """The innermost whose module runs."""
        return self.inside[-1] if self.inside else None

    def is_of(self, block: Block) -> bool:
        return self.function is None and self.block.module is block.module

    def code(self) -> frozenset[str]:
        """The modules of Python in which what runs is written."""
        parts = (code_of(type(part.module)) for part in self.inside if part.module is not None)
        return code_of(type(self.block.module)).union(*parts)

    def unheard(self, function_of: Callable[["BlockRun", Part], Function]) -> list[Part]:
        """The parts that no call was of; ``function_of`` says in which function the attention of a part ran.

        A call stands for one part at most: for that of its role, else for one whose function may have made it.
        """
        roles = {heard.role for heard in self.calls if heard.caller is None}
        missing = [part for part in self.block.parts if part.role not in roles]
        if not missing:
            return []
        left = [heard for heard in self.calls if heard.caller or heard.role not in {x.role for x in self.block.parts}]
        for part in list(missing):
            stands = next((heard for heard in left if self._may_stand_for(heard, part, function_of(self, part))), None)
            if stands is not None:
                left.remove(stands)
                missing.remove(part)
        return missing

    def _may_stand_for(self, heard: ObservedCall, part: Part, function: Function) -> bool:
        if self.block.announced and heard.announced != part.role:
            return False
        if heard.caller is not None:
            return heard.caller.pack == function.pack
        if heard.part is not None:
            return heard.part.module is part.module  # which makes several
        return part.module is None or not self.entered  # a compiled graph may not say that it entered a part


@cache
def code_of(kind: type[Module]) -> frozenset[str]:
    """The modules of Python in which such a module is written."""
    return frozenset(base.__module__ for base in kind.__mro__ if base is not Module)
