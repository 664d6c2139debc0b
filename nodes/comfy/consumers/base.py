"""What a consumer of located references may do: look at an attention call, or change it."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from torch import Tensor

from ....i2am_core.attribution import Reference
from ....i2am_core.recording.recorder import Verdict
from ....i2am_core.recording.steps import How
from ....i2am_core.recording.transfer import to_host
from ..attention_call import AttentionCall
from ..located import Chunk, Located, ModelCall, Off, Skip


@dataclass(frozen=True)
class LocatedIn:
    """What was located in the rows of one conditioning: by the name of each mechanism that located any, its answer."""

    chunk: Chunk
    by_mechanism: Mapping[str, Located]
    text: Located | None = None  # where the text is, beside them, where that was requested and is known

    @property
    def first(self) -> Located:
        """That of the first mechanism: all of them agree about the layer and the rows."""
        return next(iter(self.by_mechanism.values()))


class Consumer:
    """Is notified of every attention call of the watched branches in one run.

    Calls in which references were located come to ``before`` and ``after``, all others to ``skip``.

    One that looks leaves the output as it is: what goes wrong in it is only its own loss. One that ``acts`` changes
    what is computed, comes before all that look, and raises where it cannot, in any of its methods: the run then ends
    with that error, for a picture that was to be changed and was not would be a lie. Methods may be called from
    several threads: ComfyUI may run the chunks of one step in several.
    """

    acts = False

    def given(self, references: Sequence[Reference], branch: str) -> None:
        """Before the first call: the references that the run was given in a branch, in the order of their numbers."""

    def before(self, call: AttentionCall, located: Sequence[LocatedIn]) -> AttentionCall | None:
        """Before the kernel runs. Returns the call to make in place of this one, or None to leave it.

        One that acts steers it (``call.changed``); one that looks may put something around its kernel.
        """
        return None

    def after(self, call: AttentionCall, located: Sequence[LocatedIn], output: Tensor) -> None:
        """After the kernel has run. ``call`` is the one that was made; its ``output`` must not be changed."""

    def off(self, call: AttentionCall, chunk: Chunk, mechanism: str, off: Off) -> None:
        """References of a mechanism are off for the rows of a conditioning: no attention call is made for them.

        ``call`` is one of the same queries, of which nothing else counts.
        """

    def evaluated(self, step: int, how: How, layers: Set[str] = frozenset()) -> None:
        """What became of an evaluation, or of one call of the denoiser in it; ``layers`` are those that it ran."""

    def forward_ended(self, call: ModelCall, layers: Set[str]) -> None:
        """A call of the denoiser has ended; ``layers`` are those whose blocks ran in it, as far as hooks say."""

    def evaluation_ended(self, branches: Set[str]) -> None:
        """All calls of one evaluation, or of one context window of it, have ended.

        ``branches`` are the watched ones that it was for: none, where a guidance node evaluates another one alone.
        """

    def skip(self, skip: Skip, calls: int = 1) -> None:
        """Attention calls in which nothing was located, or that were not observed; each chunk of a call counts.

        A call of the denoiser that is not watched as a whole counts as one. Of 0 calls it is a warning.
        """

    def retract(self, layers: Sequence[str], skip: Skip) -> None:
        """What was located in these layers, now or before, cannot be trusted: its calls are skips after all."""

    def note(self, *notes: str) -> None:
        """What a person should know of this run."""


def verdicts_of(located: Sequence[LocatedIn]) -> list[Verdict]:
    """What is assumed of a call in which this was located."""
    return [verdict for one in located for match in one.by_mechanism.values() for verdict in match.verdicts]


def why_refuted(assumed: Sequence[Verdict]) -> str:
    """The reason of the first verdict that does not hold, "" where all do. Waits for the device once."""
    results = zip(assumed, to_host([verdict.holds for verdict in assumed]), strict=True)
    return next((verdict.otherwise for verdict, holds in results if not holds), "")
