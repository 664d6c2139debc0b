"""Locate, then act: where the references are in an attention call, before its kernel runs, and who is told of it."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from comfy.model_management import InterruptProcessingException
from torch import Tensor

from ...i2am_core.attribution import Reference
from ...i2am_core.tokens import TokenGrid
from .attention_call import Arguments, AttentionCall
from .blocks import Blocks
from .callers import Function
from .consumers.base import Consumer, LocatedIn
from .context import BlockHooks, Forward, Running
from .located import CallSite, Chunk, Given, Located, ModelCall, Skip
from .mechanisms.base import Mechanism
from .token_orders import blocks_of, variant_of

log = logging.getLogger(__name__)

UNKNOWN = "attention in which I2AM knows no reference"
OTHER_ROWS = "attention over other rows than the model was given: it splits them, or another pack changed them"
FOREIGN = "attention that {} makes, in place of the model's own or beside it: what it holds is not known"
UNHEARD = "attention that ran unseen in {}, which does not give ComfyUI's attention the options of the run"
AGAIN = "a block that {} runs once more in the same call of the model: only its first run counts"
NESTED = "attention inside the attention of another call"
NOWHERE = "attention outside the model's blocks that I2AM knows"
UNREAD = "I2AM could not read it"


class Engine:
    """``mechanisms`` are asked in the order of their priority; ``consumers`` are told, those that act first."""

    def __init__(self, mechanisms: Sequence[Mechanism], consumers: Sequence[Consumer]) -> None:
        self.mechanisms = sorted(mechanisms, key=lambda mechanism: -mechanism.priority)
        self.consumers = sorted(consumers, key=lambda consumer: not consumer.acts)
        self._running = Running()
        self._hooks = BlockHooks(self._running)
        self._known: dict[tuple, Blocks] = {}  # by denoiser, and what of the call its blocks depend on
        self._unheard: dict[Function, Counter[str]] = {}  # calls of blocks
        self.heard = 0  # attention calls
        self._given = False
        self._lock = threading.Lock()  # ComfyUI may run the chunks of one step in several threads

    @property
    def forward(self) -> Forward | None:
        """The call of the denoiser that is watched and under way in this thread."""
        return self._running.forward

    def given(self, run: Given) -> None:
        """Number the references that the run was given, once."""
        if self._given:
            return
        self._given = True
        references: dict[Reference, None] = {}
        for mechanism in self.mechanisms:
            with self.skipping(f"I2AM could not read what {mechanism.name} was given", calls=0):
                references.update(dict.fromkeys(mechanism.given(run)))
        for consumer in self.consumers:
            consumer.given(list(references))

    @contextmanager
    def watching(self, call: ModelCall | None) -> Iterator[None]:
        """While ``call`` runs; None is one that has no rows of the watched branch."""
        before, self._running.forward = self._running.forward, None if call is None else self._forward(call)
        try:
            yield
        finally:
            self._running.forward = before

    def attend(self, function: Callable, kernel: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
        """Make one attention call that ComfyUI's override is told of. ``function`` is at the end of ``kernel``."""
        under_way = self._begin(Arguments(kernel, args, kwargs, function), kwargs.get("transformer_options"))
        output = under_way.run()
        under_way.end()
        return output

    def begin(
        self,
        kernel: Callable,
        args: tuple,
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        mechanism: Mechanism,
    ) -> "UnderWay":
        """An attention call that a mechanism has heard of by itself, and alone can locate: ``run``, then ``end`` it."""
        return self._begin(Arguments(kernel, args, kwargs), options, [mechanism])

    def skip(self, reason: str, calls: int = 1) -> None:
        """So many attention calls are not located."""
        for consumer in self.consumers:
            consumer.skip(reason, calls)

    def note(self, *notes: str) -> None:
        """What a person should know of this run."""
        for consumer in self.consumers:
            consumer.note(*notes)

    def unhook(self) -> None:
        """Leave nothing on the model."""
        self._hooks.remove()
        self._known.clear()

    def finish(self, blind: Callable[[], str]) -> None:
        """At the end of the run: what was not heard of. ``blind`` says why, where that is all there is."""
        for function, blocks in self._unheard.items():
            if not self.heard:
                self.skip(blind(), blocks.total())
                continue
            self.skip(UNHEARD.format(function), blocks.total())
            self.note(f"not seen, since their attention ran in {function}: {_listed(list(blocks))}")

    @contextmanager
    def skipping(self, what: str, calls: int = 1, consumer: Consumer | None = None) -> Iterator[None]:
        """An error inside becomes a skip with a reason: the picture comes first. A consumer that acts gets it."""
        try:
            yield
        except InterruptProcessingException:
            raise
        except Exception as error:
            if consumer is not None and consumer.acts:
                raise
            log.warning("%s", what, exc_info=True)
            reason = f"{what} ({type(error).__name__}: {error})"
            for one in self.consumers if consumer is None else [consumer]:
                one.skip(reason, calls)

    def _begin(
        self,
        arguments: Arguments,
        options: Mapping[str, Any] | None,
        mechanisms: Sequence[Mechanism] | None = None,
    ) -> "UnderWay":
        under_way = UnderWay(self, arguments, self.forward)
        if self.forward is not None:
            self.heard += 1
            with self.skipping(UNREAD, len(self.forward.call.chunks)):
                under_way.locate(options or {}, self.mechanisms if mechanisms is None else mechanisms)
        return under_way

    def _forward(self, call: ModelCall) -> Forward:
        blocks = Blocks(())
        with self.skipping("I2AM could not read the blocks of the model", calls=0):
            blocks = self._blocks(call)
        return Forward(call, blocks, call.options.get("patches_replace", {}), partial(self._miss, call))

    def _blocks(self, call: ModelCall) -> Blocks:
        """Those of the denoiser, hooked."""
        key = call.denoiser, variant_of(call)
        with self._lock:
            if key not in self._known:
                self._known[key] = Blocks(blocks_of(call))
                self._hooks.put_on(self._known[key])
            return self._known[key]

    def _miss(self, call: ModelCall, block: str, function: Function) -> None:
        with self._lock:
            self._unheard.setdefault(function, Counter())[block] += len(call.chunks)


@dataclass
class UnderWay:
    """One attention call: located, then run, then told to those who look."""

    engine: Engine
    arguments: Arguments
    forward: Forward | None
    call: AttentionCall | None = None  # as it will be made, or was
    found: list[LocatedIn] = field(default_factory=list)
    output: Tensor | None = None

    def locate(self, options: Mapping[str, Any], mechanisms: Sequence[Mechanism]) -> None:
        """Ask every mechanism about every chunk. What none locates is skipped, with the first reason."""
        forward, given = self.forward, self.arguments
        assert forward is not None
        known = given.function is None
        layer, role, function = forward.hear(given.args[1], options, known)
        if forward.in_kernel:
            return self._skip_all(NESTED if function is None else FOREIGN.format(function))
        call = AttentionCall.read(forward.call, given)
        if call.q.shape[0] != forward.call.x[0]:
            return self._skip_all(OTHER_ROWS if function is None else FOREIGN.format(function))
        if function is not None:
            return self._skip_all(FOREIGN.format(function))
        if not layer and forward.visit is not None:
            return self._skip_all(AGAIN.format(forward.ran_again()))
        grid = TokenGrid(*options["activations_shape"][2:]) if "activations_shape" in options else None
        site = CallSite(layer, role, call.q.shape[2], call.k.shape[2], call.q.shape[1], grid, call.k)
        found = [x for chunk in forward.call.chunks for x in self._locate(site, chunk, mechanisms)]
        self.call, self.found = call, found
        return None

    def run(self) -> Tensor:
        """Attention's output, of the call as those who act have made it."""
        kernel, args, kwargs = self.arguments.kernel, self.arguments.args, self.arguments.kwargs
        if self.found:
            self._let_act()
            assert self.call is not None
            kernel, args, kwargs = self.call.kernel, self.call.args, self.call.kwargs
        if self.forward is None:
            return kernel(*args, **kwargs)
        before, self.forward.in_kernel = self.forward.in_kernel, True
        try:
            self.output = kernel(*args, **kwargs)
        finally:
            self.forward.in_kernel = before
        return self.output

    def end(self) -> None:
        """When all that is known of the call is there: tell those who look."""
        if self.forward is None or self.call is None or self.output is None:
            return
        found = []
        for one in self.found:
            with self.engine.skipping(UNREAD):
                completed = one.located.completed() if one.located.completed else one.located
                if isinstance(completed, Skip):
                    self.engine.skip(completed.reason)
                else:
                    found.append(replace(one, located=completed))
        if not found:
            return
        for consumer in self.engine.consumers:
            with self.engine.skipping(UNREAD, len({one.chunk.rows.start for one in found}), consumer):
                consumer.after(self.call, found, self.output)

    def _let_act(self) -> None:
        assert self.forward is not None and self.call is not None
        for consumer in self.engine.consumers:
            with self.engine.skipping(UNREAD, 0, consumer):
                self.call = consumer.before(self.call, self.found) or self.call

    def _locate(self, site: CallSite, chunk: Chunk, mechanisms: Sequence[Mechanism]) -> Iterator[LocatedIn]:
        assert self.forward is not None
        answers = [(mechanism.name, mechanism.locate(site, chunk, self.forward.call)) for mechanism in mechanisms]
        located = [(name, answer) for name, answer in answers if isinstance(answer, Located)]
        if not located:
            return self.engine.skip(next((a.reason for _, a in answers if isinstance(a, Skip)), UNKNOWN))
        layer = located[0][1].layer.name
        if not layer:
            return self.engine.skip(NOWHERE)
        read = frozenset((layer, chunk.rows.start, g.name, g.key) for _, x in located for g in x.references)
        if read <= self.forward.read:
            return self.engine.skip(AGAIN.format(self.forward.ran_again()))
        self.forward.read |= read
        yield from (LocatedIn(name, chunk, answer) for name, answer in located)

    def _skip_all(self, reason: str) -> None:
        assert self.forward is not None
        self.engine.skip(reason, len(self.forward.call.chunks))


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
