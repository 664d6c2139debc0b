"""A node that wants consumers of its own to be notified of a run, beside Capture or without it."""

from collections.abc import Callable, Sequence

from .consumers import Consumer
from .engine import Engine
from .located import Regions
from .mechanisms import chosen
from .model_calls import ModelCalls
from .run import Part, Sampling, Watch


class ConsumerWatch(Watch):
    """``make`` gives the consumers of each run, which are notified of the calls of one branch.

    Where it ``acts``, they are outside all that look: those see the calls as they were made.
    """

    def __init__(self, make: Callable[[], Sequence[Consumer]], mechanism: str = "auto", branch: str = "positive",
                 acts: bool = False) -> None:  # fmt: skip
        self._make, self._mechanism, self._branch, self.acts = make, mechanism, branch, acts

    def begin(self, sampling: Sampling) -> Part:
        engine = Engine(chosen(self._mechanism), self._make())
        calls = ModelCalls(sampling.guider, [self._branch], sampling.noise, sampling.sigmas, Regions(), engine)
        return Part((engine, calls))
