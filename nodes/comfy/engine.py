"""Locate, then act: where the references are in an attention call, before its kernel runs, and who is told of it."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from comfy.model_management import InterruptProcessingException
from torch import Tensor

from ...i2am_core.attribution import Reference
from ...i2am_core.tokens import TokenGrid
from .attention_call import Arguments, AttentionCall
from .blocks import Blocks
from .callers import Function
from .consumers.base import Consumer, LocatedIn
from .forward_pass import BlockHooks, ForwardPass, Running
from .located import CallSite, Chunk, Given, Located, ModelCall, Skip
from .mechanisms.base import Mechanism
from .pending_call import UNREAD, LocatedCall, PendingCall, WatchedCall
from .token_orders import blocks_of, variant_of

log = logging.getLogger(__name__)

UNKNOWN = "attention in which I2AM knows no reference"
OTHER_ROWS = "attention over other rows than the model was given: it splits them, or another pack changed them"
FOREIGN = "attention that {} makes, in place of the model's own or beside it: what it holds is not known"
UNHEARD = "attention that ran unseen in {}, which does not give ComfyUI's attention the options of the run"
AGAIN = "a block that {} runs more than once in one call of the model: which run counts is not known"
NESTED = "attention inside the attention of another call"
NOWHERE = "attention outside the model's blocks that I2AM knows"


class Engine:
    """``mechanisms`` are asked in the order of their priority; ``consumers`` are told, those that act first."""

    def __init__(self, mechanisms: Sequence[Mechanism], consumers: Sequence[Consumer]) -> None:
        self.mechanisms = sorted(mechanisms, key=lambda mechanism: -mechanism.priority)
        self.consumers: Sequence[Consumer] = sorted(consumers, key=lambda consumer: not consumer.acts)
        self._running = Running()
        self._hooks = BlockHooks(self._running, self.following)
        self._blocks: dict[tuple, Blocks] = {}  # by denoiser, and what of the call its blocks depend on
        self._unheard: dict[Function, Counter[str]] = {}  # in which function, calls of which blocks
        self._heard = False  # whether any attention call was
        self._numbered = False
        self.refusal: Exception | None = None  # what a consumer that acts has raised
        self._lock = threading.RLock()  # ComfyUI may run the chunks of one step in several threads

    @property
    def forward(self) -> ForwardPass | None:
        """The call of the denoiser that is watched and under way in this thread."""
        return self._running.forward

    def given(self, run: Given) -> None:
        """Number the references that the run was given, once."""
        with self._lock:
            if self._numbered:
                return
            self._numbered = True
            references: dict[Reference, None] = {}
            for mechanism in self.mechanisms:
                with self.skipping(f"I2AM could not read what {mechanism.name} was given", calls=0):
                    references.update(dict.fromkeys(mechanism.given(run)))
            for consumer in self.consumers:
                self.tell(consumer, consumer.given, list(references))

    @contextmanager
    def watching(self, call: ModelCall | None) -> Iterator[None]:
        """While ``call`` runs; None is one that has no rows of the watched branch."""
        before, self._running.forward = self._running.forward, None if call is None else self._forward(call)
        try:
            yield
        finally:
            self._running.forward = before

    def attend(self, arguments: Arguments) -> Tensor:
        """Make one attention call that ComfyUI's override is told of."""
        pending_call = self._begin(arguments, arguments.kwargs.get("transformer_options") or {}, self.mechanisms)
        output = pending_call.run()
        pending_call.end()
        return output

    def begin(self, arguments: Arguments, options: Mapping[str, Any], mechanism: Mechanism) -> PendingCall:
        """An attention call that a mechanism has heard of by itself, and alone can locate."""
        return self._begin(arguments, options, [mechanism], known=True)

    def skip(self, skip: Skip, calls: int = 1) -> None:
        """So many attention calls are not located."""
        for consumer in self.consumers:
            self.tell(consumer, consumer.skip, skip, calls)

    def note(self, *notes: str) -> None:
        """What a person should know of this run."""
        for consumer in self.consumers:
            self.tell(consumer, consumer.note, *notes)

    def unhook(self) -> None:
        """Leave nothing on the model."""
        self._hooks.remove()
        self._blocks.clear()

    def finish(self, blind: Callable[[], str]) -> None:
        """At the end of the run: what was not heard of. ``blind`` says why, where that is all there is.

        Those who act know it already.
        """
        for function, blocks in self._unheard.items():
            reason = UNHEARD.format(function) if self._heard else blind()
            for consumer in self.consumers:
                if not consumer.acts:
                    self.tell(consumer, consumer.skip, Skip(reason), blocks.total())
            if self._heard:
                self.note(f"not seen, since their attention ran in {function}: {_listed(list(blocks))}")

    def following(self) -> "Skipping":
        """Around what is done while blocks run."""
        return Skipping(self, "I2AM could not follow the blocks of the model", 0)

    def skipping(self, what: str, calls: int = 1) -> "Skipping":
        """An error inside becomes a skip with a reason."""
        return Skipping(self, what, calls)

    def tell(self, consumer: Consumer, method: Callable, *what: Any, calls: int = 0) -> Any:
        """Call a method of a consumer. Where one that looks fails, that costs itself so many calls, and nobody else."""
        try:
            return method(*what)
        except InterruptProcessingException:
            raise
        except Exception as error:
            if consumer.acts:
                self.refusal = error
                raise
            log.warning("%s of a %s", UNREAD, type(consumer).__name__, exc_info=True)
            if calls:
                self.tell(consumer, consumer.skip, Skip(f"{UNREAD} ({type(error).__name__}: {error})"), calls)
        return None

    def _begin(
        self, arguments: Arguments, options: Mapping[str, Any], mechanisms: Sequence[Mechanism], known: bool = False
    ) -> PendingCall:
        """``known``: whose call it is."""
        forward = self.forward
        if forward is None:
            return PendingCall(arguments)
        self._heard = True
        with self.skipping(UNREAD, len(forward.call.chunks)):
            site, call = self._site(forward, arguments, options, known)
            if isinstance(site, Skip):
                self.skip(site, len(forward.call.chunks))
            elif located := self._locate(site, forward, mechanisms):
                return LocatedCall(self, forward, call, located)
        return WatchedCall(arguments, forward)

    def _site(
        self, forward: ForwardPass, arguments: Arguments, options: Mapping[str, Any], known: bool
    ) -> tuple[CallSite | Skip, AttentionCall]:
        """Where in the model the call is made, if the model itself makes it; and the call, as it reads."""
        whose = forward.hear(arguments.args[1], options, known)
        call = AttentionCall.read(forward.call, arguments)
        if whose.caller is not None:
            return Skip(FOREIGN.format(whose.caller)), call
        if forward.in_kernel:
            return Skip(NESTED), call
        if call.q.shape[0] != forward.call.x[0]:
            return Skip(OTHER_ROWS), call
        if whose.again:
            return self._distrust(whose.again, forward), call
        grid = TokenGrid(*options["activations_shape"][2:]) if "activations_shape" in options else None
        heads, queries, keys = call.q.shape[1], call.q.shape[2], call.k.shape[2]
        return CallSite(whose.layer, whose.role, queries, keys, heads, grid, call.k, whose.changed), call

    def _locate(self, site: CallSite, forward: ForwardPass, mechanisms: Sequence[Mechanism]) -> list[LocatedIn]:
        """Ask every mechanism about every chunk. What none locates is skipped, with the first reason."""
        answers = [self._ask(site, chunk, forward, mechanisms) for chunk in forward.call.chunks]
        for answer in answers:
            if isinstance(answer, Skip):
                self.skip(answer)
        return [answer for answer in answers if isinstance(answer, LocatedIn)]

    def _ask(
        self, site: CallSite, chunk: Chunk, forward: ForwardPass, mechanisms: Sequence[Mechanism]
    ) -> LocatedIn | Skip:
        """What the mechanisms say of the rows of one conditioning."""
        answers = {mechanism.name: mechanism.locate(site, chunk, forward.call) for mechanism in mechanisms}
        located = {name: answer for name, answer in answers.items() if isinstance(answer, Located)}
        if not located:
            skips = [answer for answer in answers.values() if isinstance(answer, Skip)]
            return Skip(skips[0].reason, all(skip.absent for skip in skips)) if skips else Skip(UNKNOWN)
        layers = [answer.layer.name for answer in located.values()]
        if not all(layers):
            return Skip(NOWHERE)
        if not forward.reads(chunk, located.values()):
            return self._distrust(layers, forward)
        return LocatedIn(chunk, located)

    def _distrust(self, layers: Sequence[str], forward: ForwardPass) -> Skip:
        """What was read in these layers may be of a run that does not count: it is taken back, in all steps."""
        skip = Skip(AGAIN.format(forward.ran_again()))
        for consumer in self.consumers:
            self.tell(consumer, consumer.retract, list(layers), skip)
        return skip

    def _forward(self, call: ModelCall) -> ForwardPass:
        blocks = Blocks(())
        with self.skipping("I2AM could not read the blocks of the model", calls=0):
            blocks = self._hooked(call)
        return ForwardPass(call, blocks, lambda block, function: self._miss(call, block, function))

    def _hooked(self, call: ModelCall) -> Blocks:
        """The blocks of the denoiser, listed and hooked once."""
        key = call.denoiser, variant_of(call)
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = Blocks(blocks_of(call))
                self._hooks.put_on(self._blocks[key])
            return self._blocks[key]

    def _miss(self, call: ModelCall, block: str, function: Function) -> None:
        """Those who act are told at once; for the others, ``finish`` knows whether anything was heard at all."""
        with self._lock:
            self._unheard.setdefault(function, Counter())[block] += len(call.chunks)
        for consumer in self.consumers:
            if consumer.acts:
                self.tell(consumer, consumer.skip, Skip(UNHEARD.format(function)), len(call.chunks))


class Skipping:
    """An error inside becomes a skip with a reason: the picture comes first. What one who acts has raised goes on.

    A class, not a generator: it is entered many times for each attention call.
    """

    def __init__(self, engine: Engine, what: str, calls: int) -> None:
        self._engine, self._what, self._calls = engine, what, calls

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        if error is None:
            return False
        if not isinstance(error, Exception) or isinstance(error, InterruptProcessingException):
            return False
        if error is self._engine.refusal:
            return False
        log.warning("%s", self._what, exc_info=error)
        self._engine.skip(Skip(f"{self._what} ({type(error).__name__}: {error})"), self._calls)
        return True


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
