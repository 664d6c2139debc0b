"""Locate, then act: between the mechanisms, which locate references, and the consumers, which do something with them.

One run goes through ``Engine`` from top to bottom. ``given`` numbers the references that the run was given.
``watching`` is around each call of the denoiser. ``attend`` is each attention call in it: where it comes from, what the
mechanisms locate in it, the consumers that act, the kernel, and the consumers that look. ``evaluation_ended`` is for
those that act and must know soon what there was. ``finish`` accounts for attention that was not observed. What goes
wrong becomes a skip with a reason: the picture comes first.
"""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from comfy.model_management import InterruptProcessingException
from torch import Tensor

from ...i2am_core.attribution import Reference
from ...i2am_core.printing import listed
from ...i2am_core.recording.steps import How
from ...i2am_core.tokens import TokenGrid
from .attention_call import Arguments, AttentionCall
from .block_hooks import BlockHooks, Running
from .blocks import TEXT_ALONE, Blocks
from .callers import Function, one_of, patches_of_packs
from .consumers.base import Consumer, LocatedIn
from .forward_pass import CallOrigin, ForwardPass
from .located import UNREADABLE, CallSite, Chunk, Given, Located, ModelCall, Skip
from .mechanisms.base import Mechanism
from .pending_call import LocatedCall, OffCall, PendingCall, WatchedCall
from .refusal import NotSupported
from .token_orders import blocks_of, variant_of

log = logging.getLogger(__name__)

MOST_NAMED = 9  # layers in a sentence
UNKNOWN = "attention in which I2AM knows no reference"
OTHER_ROWS = "attention over other rows than the model was given: it splits them, or another pack changed them"
CHANGED_ROWS = "self-attention that {} changed: it has {} rows, where the model was given {}"
MADE_BY_PACK = "attention that {} makes, in place of the model's own or beside it: what it holds is not known"
UNOBSERVED = (
    "attention that was not observed: it ran in {}, which does not pass the run's options on to ComfyUI's attention"
)
REPEATED = "a block that {} runs more than once in one call of the model: which run counts is not known"
NEGATIVE = "attention of the negative conditioning to an IP-Adapter's negative image"
OF_TEXT = "attention of the text alone, before it meets the picture"
OTHERS = "attention of tokens that are none of the picture, in a call of their own"
NESTED = "attention inside the attention of another call"
OUTSIDE_BLOCKS = "attention outside the model's blocks that I2AM knows"
NOT_FOLLOWED = "I2AM could not follow the blocks of the model"

SKIPPED = "skipped in step %d: %s, %d queries, %d keys: %s"  # for developers: ComfyUI shows it with --verbose DEBUG


MechanismsFor = Callable[[Chunk, ModelCall], Sequence[Mechanism]]
"""Those that may say something of an attention call, of the rows of a conditioning in a call of the denoiser."""


class Engine:
    """``mechanisms`` locate references, by their priority; ``consumers`` are notified, those that act first.

    ``beside`` locates what competes with references where there are any: the text.
    """

    def __init__(
        self, mechanisms: Sequence[Mechanism], consumers: Sequence[Consumer], beside: Mechanism | None = None
    ) -> None:
        self._beside = beside
        self.mechanisms = _by_priority(mechanisms)
        self.consumers: Sequence[Consumer] = sorted(consumers, key=lambda consumer: not consumer.acts)
        self.refusal: Exception | None = None  # what a consumer that acts has raised
        # Whether what is computed is changed: then no evaluation may be passed over.
        self.acts = any(consumer.acts for consumer in self.consumers)
        self._following = Skipping(self, NOT_FOLLOWED, 0)
        self._running = Running()
        self._hooks = BlockHooks(self._running, self.following)
        self._blocks: dict[tuple, Blocks] = {}  # by denoiser, and what of the call its blocks depend on
        self._observed_any = False  # whether any attention call of the watched branch was observed
        self._unobserved: dict[Function, Counter[str]] = {}  # calls by the function that hid them, and by layer
        self._numbered: set[str] = set()  # branches
        self._lock = threading.RLock()  # ComfyUI may run the chunks of one step in several threads

    @property
    def forward(self) -> ForwardPass | None:
        """The call of the denoiser that is watched and under way in this thread."""
        return self._running.forward

    # The run, from its beginning to its end

    def given(self, run: Given) -> None:
        """Number the references that the run was given in a branch, once."""
        with self._lock:
            if run.branch in self._numbered:
                return
            self._numbered.add(run.branch)
            references: dict[Reference, None] = {}
            for mechanism in self.mechanisms:
                with self.skipping(f"I2AM could not read what {mechanism.name} was given", calls=0):
                    references.update(dict.fromkeys(mechanism.given(run)))
            for consumer in self.consumers:
                self.notify(consumer, consumer.given, list(references), run.branch)

    @contextmanager
    def watching(self, call: ModelCall | None) -> Iterator[None]:
        """While ``call`` runs; None is one that has no rows of the watched branch."""
        before, forward = self._running.forward, None if call is None else self._forward_pass(call)
        self._running.forward = forward
        try:
            yield
            if call is not None and forward is not None:
                for consumer in self.consumers:
                    self.notify(consumer, consumer.forward_ended, call, forward.layers_run)
                if not call.perturbed:
                    self.evaluated(call.step, "computed" if forward.was_computed else "from memory", forward.layers_run)
        finally:
            self._running.forward = before

    def evaluated(self, step: int, how: How, layers: Set[str] = frozenset()) -> None:
        """What became of an evaluation, or of one call of the denoiser in it: see ``Consumer``."""
        for consumer in self.consumers:
            self.notify(consumer, consumer.evaluated, step, how, layers)

    def evaluation_ended(self, branches: Set[str]) -> None:
        """All calls of one evaluation, or of one context window of it, have ended: see ``Consumer``."""
        for consumer in self.consumers:
            self.notify(consumer, consumer.evaluation_ended, branches)

    def attend(self, arguments: Arguments) -> Tensor:
        """Make one attention call that ComfyUI's override hands over. Returns its output."""
        pending_call = self._begin(arguments, arguments.kwargs.get("transformer_options") or {}, self._in_use)
        output = pending_call.run()
        pending_call.end()
        return output

    def begin(self, arguments: Arguments, options: Mapping[str, Any], mechanism: Mechanism) -> PendingCall:
        """Begin an attention call that ``mechanism`` has intercepted by itself, and that it alone can locate.

        One that is about the text is located by those that are about it, too, and one of the model by all that are in
        use. To be ended by ``run`` and ``end``.
        Where the mechanism ``is_off``, it is a call that is not made: its arguments say of which queries it would be.
        """
        if mechanism.is_off:
            return self._begin_off(arguments, options, mechanism)
        if mechanism.of_model:
            announced = {} if self.forward is None else self.forward.announced_options

            def in_use_and_this(chunk: Chunk, call: ModelCall) -> list[Mechanism]:
                return _by_priority([*self._in_use(chunk, call), mechanism])

            return self._begin(arguments, {**options, **announced}, in_use_and_this, by_model=True)
        of_text = [other.beside_adapters() for other in self.mechanisms] if mechanism.of_text else []
        mechanisms = _by_priority([mechanism, *filter(None, of_text)])
        return self._begin(arguments, options, lambda *of: mechanisms, by_model=True, is_beside=mechanism.is_beside)

    def finish(self, why_unobservable: Callable[[], str]) -> None:
        """At the end of the run: report what was not observed. ``why_unobservable`` is the reason if nothing was.

        Consumers that act know it already: see ``_report_unobserved``.
        """
        for function, layers in self._unobserved.items():
            reason = UNOBSERVED.format(function) if self._observed_any else why_unobservable()
            for consumer in self.consumers:
                if not consumer.acts:
                    self.notify(consumer, consumer.skip, Skip(reason), layers.total())
            if self._observed_any:
                self.note(f"not observed, since their attention ran in {function}: {listed(layers, MOST_NAMED)}")

    def unhook(self) -> None:
        """Leave nothing on the model."""
        self._hooks.remove()
        self._blocks.clear()

    # What consumers are notified of

    def skip(self, skip: Skip, calls: int = 1) -> None:
        """So many attention calls are not located."""
        for consumer in self.consumers:
            self.notify(consumer, consumer.skip, skip, calls)

    def note(self, *notes: str) -> None:
        """What a person should know of this run."""
        for consumer in self.consumers:
            self.notify(consumer, consumer.note, *notes)

    def notify(self, consumer: Consumer, method: Callable, *arguments: Any, calls: int = 0) -> Any:
        """Call a method of a consumer. Where one that looks fails, it loses so many calls, and no other consumer does.

        Raises what a consumer that acts has raised, and ComfyUI's interrupt.
        """
        try:
            return method(*arguments)
        except InterruptProcessingException:
            raise
        except Exception as error:
            if consumer.acts:
                self.refusal = error
                raise
            log.warning("%s failed in %s", type(consumer).__name__, method.__name__, exc_info=True)
            if calls:
                self.notify(consumer, consumer.skip, Skip(f"{UNREADABLE} ({type(error).__name__}: {error})"), calls)
        return None

    def skipping(self, what: str, calls: int = 1) -> "Skipping":
        """An error inside becomes a skip of so many calls, with ``what`` as its reason."""
        return Skipping(self, what, calls)

    def following(self) -> "Skipping":
        """Around what is done while blocks run: an error inside becomes a note."""
        return self._following

    # One attention call

    def _begin(
        self, arguments: Arguments, options: Mapping[str, Any], mechanisms: MechanismsFor, by_model: bool = False,
        is_beside: bool = False,
    ) -> PendingCall:  # fmt: skip
        """``by_model``: whether it is known already that no pack's function makes the call.

        ``is_beside``: whether it is none of the attentions of the block that runs.
        """
        forward = self.forward
        if forward is None or forward.is_aside:
            return PendingCall(arguments)
        self._observed_any = True
        with self.skipping(UNREADABLE, len(forward.call.chunks)):
            origin = forward.beside(options) if is_beside else forward.observe(arguments.args[1], options, by_model)
            if (skip := self._why_skipped(origin, forward, arguments)) is not None:
                queries, keys = (x.shape[-2] for x in arguments.args[:2])
                log.debug(SKIPPED, forward.call.step, origin.layer or "no known block", queries, keys, skip.reason)
                may_read = by_model or self._may_be_read(origin.role, forward.call)
                self.skip(replace(skip, absent=not may_read), len(forward.call.chunks))
                return WatchedCall(arguments, forward)
            call = AttentionCall.read(forward.call, arguments)
            if located := self._locate(_site(origin, call, options), forward, mechanisms):
                return LocatedCall(self, forward, call, located)
        return WatchedCall(arguments, forward)

    def _begin_off(self, arguments: Arguments, options: Mapping[str, Any], mechanism: Mechanism) -> PendingCall:
        """In the layer that runs, what the mechanism has that is off; nothing is counted."""
        forward = self.forward
        if forward is None or forward.is_aside:
            return PendingCall(arguments)
        with self.skipping(UNREADABLE, 0):
            call = AttentionCall.read(forward.call, arguments)
            site = _site(CallOrigin(forward.layer(options), ""), call, options)
            answers = [(chunk, mechanism.off(site, chunk, forward.call)) for chunk in forward.call.chunks]
            off = [(chunk, answer) for chunk, answer in answers if answer is not None]
            if site.layer and off:
                return OffCall(self, forward, call, mechanism.name, off)
        return WatchedCall(arguments, forward)

    def _why_skipped(self, origin: CallOrigin, forward: ForwardPass, arguments: Arguments) -> Skip | None:
        """Why a call is not the model's own, one for each row; None where it is."""
        if origin.caller is not None:
            return Skip(MADE_BY_PACK.format(origin.caller))
        if forward.in_kernel:
            return Skip(NESTED)
        if origin.role == TEXT_ALONE:
            return Skip(OF_TEXT)
        if (rows := arguments.args[0].shape[0]) != forward.call.x[0]:
            changing = patches_of_packs(forward.call.options, "attn1_patch") if origin.role == "attn1" else []
            known = origin.changed and changing
            return Skip(CHANGED_ROWS.format(one_of(changing), rows, forward.call.x[0]) if known else OTHER_ROWS)
        return self._retract(origin.repeated, forward) if origin.repeated else None

    def _in_use(self, chunk: Chunk, call: ModelCall) -> list[Mechanism]:
        """Those of the run that are in use for these rows in this call of the denoiser."""
        in_use: list[Mechanism] = call.once(
            (self, "mechanisms in use", chunk.rows.start),
            lambda: [mechanism for mechanism in self.mechanisms if mechanism.is_in_use(chunk, call)],
        )
        return in_use

    def _locate(self, site: CallSite, forward: ForwardPass, mechanisms: MechanismsFor) -> list[LocatedIn]:
        """What was located in the chunks of the call. A chunk in which nothing was is a skip."""
        call = forward.call
        answers = [self._locate_in(chunk, site, forward, mechanisms(chunk, call)) for chunk in call.chunks]
        for answer in answers:
            if isinstance(answer, Skip):
                where = f"{site.layer or 'no known block'} {site.role}".strip()
                log.debug(SKIPPED, forward.call.step, where, site.queries, site.keys, answer.reason)
                self.skip(answer)
        return [answer for answer in answers if isinstance(answer, LocatedIn)]

    def _locate_in(
        self, chunk: Chunk, site: CallSite, forward: ForwardPass, mechanisms: Sequence[Mechanism]
    ) -> LocatedIn | Skip:
        """What the mechanisms locate in the rows of one conditioning; else the reason of the first that skips."""
        located: dict[str, Located] = {}
        skips: list[Skip] = []
        for mechanism in mechanisms:
            answer = mechanism.locate(site, chunk, forward.call)
            if not self.acts:
                answer = _of_picture(answer)
            if isinstance(answer, Located):
                located[mechanism.name] = answer
            elif answer is not None:
                skips.append(answer)
        if not located:
            return Skip(skips[0].reason, all(skip.absent for skip in skips)) if skips else Skip(UNKNOWN, absent=True)
        layers = [answer.layer.name for answer in located.values()]
        if not all(layers):
            return Skip(OUTSIDE_BLOCKS)
        of_picture = [answer for answer in located.values() if not answer.of_others]
        if of_picture and not forward.is_first_to_read(chunk, of_picture):
            return self._retract(layers, forward)
        return LocatedIn(chunk, located, self._locate_beside(chunk, site, forward))

    def _locate_beside(self, chunk: Chunk, site: CallSite, forward: ForwardPass) -> Located | None:
        """What competes with the references, if that is to be known. It is beside the point: no call is lost for it."""
        answer: Located | Skip | None = None
        if self._beside is not None:
            with self.skipping(f"I2AM could not locate {self._beside.name}", calls=0):
                answer = self._beside.locate(site, chunk, forward.call)
        return answer if isinstance(answer, Located) else None

    def _retract(self, layers: Sequence[str], forward: ForwardPass) -> Skip:
        """What was read in these layers may be of a run that does not count: it is taken back, in all steps."""
        skip = Skip(REPEATED.format(forward.repeating_function()))
        for consumer in self.consumers:
            self.notify(consumer, consumer.retract, list(layers), skip)
        return skip

    # One call of the denoiser

    def _forward_pass(self, call: ModelCall) -> ForwardPass:
        blocks = Blocks(())
        with self.skipping("I2AM could not read the blocks of the model", calls=0):
            blocks = self._hooked_blocks(call)
        return ForwardPass(call, blocks, partial(self._report_unobserved, call))

    def _hooked_blocks(self, call: ModelCall) -> Blocks:
        """The blocks of the denoiser, listed and hooked once."""
        key = call.denoiser, variant_of(call)
        with self._lock:
            if key not in self._blocks:
                self._blocks[key] = Blocks(blocks_of(call))
                self._hooks.put_on(self._blocks[key])
            return self._blocks[key]

    def _may_be_read(self, role: str, call: ModelCall) -> bool:
        """Whether references may be read in this attention of a block."""
        return role != TEXT_ALONE and any(mechanism.may_be_read(role, call) for mechanism in self.mechanisms)

    def _report_unobserved(self, call: ModelCall, layer: str, role: str, function: Function) -> None:
        """Consumers that act learn it at once. For the others the reason depends on the whole run: see ``finish``."""
        with self._lock:
            self._unobserved.setdefault(function, Counter())[layer] += len(call.chunks)
        for consumer in self.consumers:
            if consumer.acts:
                skip = Skip(UNOBSERVED.format(function), absent=not self._may_be_read(role, call))
                self.notify(consumer, consumer.skip, skip, len(call.chunks))


class Skipping:
    """An error inside becomes a skip with a reason: the picture comes first. What one that acts has raised goes on.

    A class, not a generator: it is entered many times for each attention call. Nothing in it changes, so that
    one may be entered several times, and in several threads.
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
        if isinstance(error, NotSupported):
            self._engine.skip(Skip(str(error)), self._calls)
            return True
        log.warning("%s", self._what, exc_info=error)
        self._engine.skip(Skip(f"{self._what} ({type(error).__name__}: {error})"), self._calls)
        return True


def _by_priority(mechanisms: Iterable[Mechanism]) -> list[Mechanism]:
    return sorted(mechanisms, key=lambda mechanism: -mechanism.priority)


def _of_picture(answer: Located | Skip | None) -> Located | Skip | None:
    """For those that look: what is read by none of the picture's rows is nothing to them."""
    if not isinstance(answer, Located) or not (answer.of_negative or answer.of_others):
        return answer
    return Skip(NEGATIVE if answer.of_negative else OTHERS, absent=True)


def _site(origin: CallOrigin, call: AttentionCall, options: Mapping[str, Any]) -> CallSite:
    """Where in the model the call is made."""
    grid = TokenGrid(*options["activations_shape"][2:]) if "activations_shape" in options else None
    heads, queries, keys = call.q.shape[1], call.q.shape[2], call.k.shape[2]
    masked = 0 if call.bias is None else call.bias.shape[-2]
    return CallSite(
        origin.layer, origin.role, queries, keys, heads, grid, call.k, origin.changed, origin.values, masked
    )
