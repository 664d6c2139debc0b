"""Steering: the columns of chosen references, or of parts of them, are weighed otherwise.

This is the consumer of I2AM Steer. It acts, so that it raises wherever it cannot: a picture that was to be changed and
was not would be a lie. What is changed: ``steer_choice``. What a change does to attention:
``i2am_core.attention.steering``.
"""

import re
import threading
from collections.abc import Callable, Sequence, Set
from functools import partial
from typing import Any

from ....i2am_core.attention.steering import Steering
from ....i2am_core.attribution import Reference
from ....i2am_core.recording.recorder import Verdict
from ..attention_call import Arguments, AttentionCall
from ..callers import function_of
from ..located import Chunk, Located, ModelCall, Off, Skip
from ..refusal import refuse
from ..steer_choice import Choice, Numbered
from ..steered_kernel import takes_masks
from .base import Consumer, LocatedIn, verdicts_of, why_refuted

COUPLES_ROWS = (
    "attention runs in {}, whose kernel mixes rows that are to be steered with others. Sample without it (sage and "
    "sparse attention)"
)
NO_MASKS = (
    "attention runs in {}, which takes no masks, so that columns cannot be weighed in it: only strength 0 works there, "
    "of all heads. Sample without it"
)
CACHED = (
    "the model did not run {} in a later step, as caches (EasyCache, TeaCache and their kin) and packs that leave "
    "blocks out do. Remove that node"
)
NOT_CALLED = (
    "I2AM Steer is set to the {0} conditioning, but the model is not run with it. It may be that guidance is off (cfg "
    "1), where ComfyUI leaves the negative one out, that the sampler has none, or that it begins after the last step. "
    "Choose another branch, or raise cfg."
)
# Of functions and modules. Also attention in int8 quantises blocks of rows.
ROW_COUPLING = re.compile(r"(?<![A-Za-z])sage|Sage|SAGE|[Ss]parse|[Ss]parge|[Rr]adial|[Ii]nt8")


class Steer(Consumer):
    """In one run, with these ``steps`` of its schedule chosen.

    ``begins_late``: a conditioning may begin after the first evaluation, which does not read all references then.
    """

    acts = True

    def __init__(self, choice: Choice, steps: Set[int], begins_late: bool = False) -> None:
        self.choice, self.steps, self.begins_late = choice, steps, begins_late
        self._layers_run: dict[Any, Set[str]] = {}  # at first, by the uuid of a conditioning
        self._evaluated: set[str] = set()  # branches
        self._without = 0  # evaluations before any of the first branch
        self._take_masks: list[Callable] = []  # overrides of other packs that were tried
        self._assumed: list[Verdict] = []  # in the present evaluation, of what only the device can prove
        self._lock = threading.Lock()

    def is_chosen(self, call: ModelCall) -> bool:
        """Whether it acts in a call of the denoiser."""
        return call.step in self.steps

    def given(self, references: Sequence[Reference], branch: str) -> None:
        self.choice.give(references, branch)

    def before(self, call: AttentionCall, located: Sequence[LocatedIn]) -> AttentionCall | None:
        numbered = [self.choice.numbered(one) for one in located]
        _check_certain(call, located)
        with self._lock:
            self._assumed += verdicts_of(located)
        chosen = self.is_chosen(call.model_call)
        if not chosen and self._evaluated:  # the first evaluation says what does not exist, whatever its step
            return None
        key = (self, call.steering, call.shape, *(one.signature for one in numbered))
        steering: Steering | None = call.model_call.once(key, lambda: self._steering(call, numbered))
        if not chosen or steering is None:
            return None
        self._check_takes_masks(call.arguments)
        return call.steered(steering)

    def off(self, call: AttentionCall, chunk: Chunk, mechanism: str, off: Off) -> None:
        nothing = Located(off.layer, slice(None), 0, off.references)
        self.choice.numbered(LocatedIn(chunk, {mechanism: nothing}))  # as Capture numbers what is off

    def forward_ended(self, call: ModelCall, layers: Set[str]) -> None:
        if call.perturbed:  # guidance leaves blocks out on purpose
            return
        at_first = [self._layers_run.setdefault(uuid, frozenset(layers)) for uuid in call.options["uuids"]]
        if missing := sorted(frozenset().union(*at_first) - layers):
            refuse(CACHED.format(missing[0] if len(missing) == 1 else f"{len(missing)} of its blocks"))

    def evaluation_ended(self, branches: Set[str]) -> None:
        with self._lock:
            assumed, self._assumed = self._assumed, []
        if reason := why_refuted(assumed):
            refuse(reason)
        first = self.choice.branches[0]
        with self._lock:
            is_new = first in branches and first not in self._evaluated
            self._evaluated |= branches
            self._without += first not in self._evaluated
        if self._without > 1:
            raise ValueError(NOT_CALLED.format(first))
        if is_new and not self.begins_late:
            self.choice.check()

    def finished(self) -> None:
        """At the end of the run. Raises ValueError where there was nothing to steer."""
        if (first := self.choice.branches[0]) not in self._evaluated:
            raise ValueError(NOT_CALLED.format(first))
        self.choice.check()  # once more: references that begin late are in other layers

    def skip(self, skip: Skip, calls: int = 1) -> None:
        if calls and not skip.absent:
            refuse(skip.reason)

    def retract(self, layers: Sequence[str], skip: Skip) -> None:
        refuse(skip.reason)

    def _check_takes_masks(self, arguments: Arguments) -> None:
        """Raises where another pack's override drops masks: weights of columns would be lost without a word."""
        settings, override = self.choice.settings, arguments.override
        weighs = (settings.by == "attention" and settings.strength > 0) or not settings.selection.all_heads
        if override is None or arguments.function is None or not weighs or override in self._take_masks:
            return
        if not takes_masks(partial(override, arguments.function), arguments):
            refuse(NO_MASKS.format(function_of(override)))
        self._take_masks.append(override)

    def _steering(self, call: AttentionCall, numbered: Sequence[Numbered]) -> Steering | None:
        """The changes that the call has, and ours; None where there is nothing to change."""
        changes = [change for one in numbered if (change := self.choice.change(call, one)) is not None]
        return call.changed(*changes).steering if changes else None


def _check_certain(call: AttentionCall, located: Sequence[LocatedIn]) -> None:
    """Raises where what was located is not certain, or the kernel does not treat rows one by one."""
    for kernel in (call.arguments.override, call.arguments.function):
        if kernel is not None and ROW_COUPLING.search(name := str(function_of(kernel))):
            refuse(COUPLES_ROWS.format(name))
    for match in (match for one in located for match in one.by_mechanism.values()):
        if match.guessed:
            refuse(match.note)
