"""What a consumer of located references may do: look at a call, or change it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ....i2am_core.attribution import Reference
from ..attention_call import AttentionCall
from ..located import Chunk, Located


@dataclass(frozen=True)
class LocatedIn:
    """What one mechanism located for the rows of one conditioning."""

    mechanism: str
    chunk: Chunk
    located: Located


class Consumer:
    """Is told of every attention call of the watched branch, in which references were located or which is skipped.

    One that looks leaves the output as it is: whatever goes wrong in it becomes a skip with a reason. One that
    ``acts`` changes what is computed, comes before all that look, and raises where it cannot: a picture that was to
    be changed and was not would be a lie.
    """

    acts = False

    def given(self, references: Sequence[Reference]) -> None:
        """Before the first call: the references that the run was given, in the order of their numbers."""

    def before(self, call: AttentionCall, located: Sequence[LocatedIn]) -> AttentionCall | None:
        """Before the kernel runs. Returns the call to make in place of this one, or None to leave it."""
        return None

    def after(self, call: AttentionCall, located: Sequence[LocatedIn], output: Tensor) -> None:
        """When its output is there, which must not be changed. ``call`` is the one that was made."""

    def skip(self, reason: str, calls: int = 1) -> None:
        """So many attention calls, each of one conditioning, were not located, or their block was not heard from."""

    def note(self, *notes: str) -> None:
        """What a person should know of this run."""
