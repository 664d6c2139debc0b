"""Leaving out what is chosen, in the further evaluations that a Steer by guidance makes."""

from collections.abc import Sequence, Set

from ....i2am_core.attention.steering import Steering
from ....i2am_core.attribution import Reference
from ..attention_call import AttentionCall
from ..located import ModelCall
from ..steer_choice import Choice, Numbered
from .steer import Steer


class Without(Steer):
    """A Steer of further evaluations alone, in all of which it acts. ``choice`` is set to strength 0, by attention.

    A Steer with the same choice watches the run's own evaluations: it says what does not exist.
    """

    def __init__(self, choice: Choice) -> None:
        super().__init__(choice, frozenset())
        self.changed: set[str] = set()  # branches in which anything was left out, since it was emptied last

    def is_chosen(self, call: ModelCall) -> bool:
        return True

    def given(self, references: Sequence[Reference], branch: str) -> None:
        """The other Steer has numbered them."""

    def evaluation_ended(self, branches: Set[str]) -> None:
        """The other Steer has checked what there is."""

    def _steering(self, call: AttentionCall, numbered: Sequence[Numbered]) -> Steering | None:
        chosen = [(one.one.chunk.branch, change) for one in numbered if (change := self.choice.change(call, one))]
        self.changed |= {branch for branch, _ in chosen}
        return call.changed(*(change for _, change in chosen)).steering if chosen else None
