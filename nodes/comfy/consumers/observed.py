"""Counting: how many attention calls an evaluation makes. None, where a node answers it from memory."""

from collections.abc import Sequence

from torch import Tensor

from ..attention_call import AttentionCall
from ..located import Skip
from .base import Consumer, LocatedIn


class Observed(Consumer):
    """How many attention calls an evaluation makes."""

    def __init__(self) -> None:
        self.calls = 0

    def after(self, call: AttentionCall, located: Sequence[LocatedIn], output: Tensor) -> None:
        self.calls += 1

    def skip(self, skip: Skip, calls: int = 1) -> None:
        self.calls += calls
