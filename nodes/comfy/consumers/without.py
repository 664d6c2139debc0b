"""Leaving out what is chosen, in the further evaluations that a Steer by guidance makes."""

from collections.abc import Sequence, Set

from ....i2am_core.attention.steering import Steering
from ..attention_call import AttentionCall
from ..steer_choice import Choice, Numbered
from .steer import Steer


class Without(Steer):
    """A Steer that is told of further evaluations alone: ``choice`` is set to strength 0, by attention.

    It acts in all of them. Whether the run evaluates the branches at all, others know.
    """

    def __init__(self, choice: Choice, steps: Set[int], begins_late: bool = False) -> None:
        super().__init__(choice, steps, begins_late)
        self.changed: set[str] = set()  # branches in which anything was left out, since it was emptied last
        self._is_checked = begins_late

    def evaluation_ended(self, branches: Set[str]) -> None:
        if self.choice.branches[0] in branches and not self._is_checked:
            self.choice.check()
            self._is_checked = True

    def finished(self) -> None:
        """At the end of a run in which there was a further evaluation. Raises as ``Choice.check``."""
        self.choice.check()

    def _steering(self, call: AttentionCall, numbered: Sequence[Numbered]) -> Steering | None:
        changes = [(one.one.chunk.branch, self.choice.change(call, one)) for one in numbered]
        self.changed |= {branch for branch, change in changes if change is not None}
        own = [change for _, change in changes if change is not None]
        return call.changed(*own).steering if own else None
