"""One attention call between its beginning and its end: consumers that act, the kernel, consumers that look."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from torch import Tensor

from .attention_call import Arguments, AttentionCall
from .consumers.base import Consumer, LocatedIn
from .forward_pass import ForwardPass
from .located import UNREADABLE, Chunk, Located, Off, Skip


class PendingCall:
    """A call that is not watched, and what there is to do with any: ``run`` it, then ``end`` it."""

    def __init__(self, arguments: Arguments) -> None:
        self.arguments = arguments

    def run(self) -> Tensor:
        """Attention's output."""
        return self.arguments.run()

    def end(self) -> None:
        """When all is there that will be known of the call."""


class Attend(Protocol):
    """Begins an attention call that does not come through ComfyUI's override, or is off: see ``Engine.begin``."""

    def __call__(self, arguments: Arguments, options: Mapping[str, Any], mechanism: Any) -> PendingCall: ...


def chained(outer: Attend, inner: Attend) -> Attend:
    """Begins a call in both engines: what ``outer`` makes of it is what ``inner`` gets."""

    def attend(arguments: Arguments, options: Mapping[str, Any], mechanism: Any) -> PendingCall:
        ended: list[PendingCall] = []

        def kernel(of_outer: Arguments) -> Tensor:
            call = inner(of_outer._replace(kernel=arguments.kernel), options, mechanism)
            ended.append(call)
            return call.run()

        return ChainedCall(outer(arguments._replace(kernel=kernel), options, mechanism), ended)

    return attend


class ChainedCall(PendingCall):
    """A call that is pending in two engines, of which the inner one begins with it in the outer one's kernel."""

    def __init__(self, outer: PendingCall, inner: Sequence[PendingCall]) -> None:
        super().__init__(outer.arguments)
        self._outer, self._inner = outer, inner

    def run(self) -> Tensor:
        return self._outer.run()

    def end(self) -> None:
        for call in self._inner:
            call.end()
        self._outer.end()


class CallHandler(Protocol):
    """What a pending call needs of the ``Engine``, which describes these."""

    consumers: Sequence[Consumer]

    def skip(self, skip: Skip, calls: int = 1) -> None: ...
    def notify(self, consumer: Consumer, method: Any, *arguments: Any, calls: int = 0) -> Any: ...
    def skipping(self, what: str, calls: int = 1) -> AbstractContextManager: ...


class WatchedCall(PendingCall):
    """A call of the watched branch in which nothing was located."""

    def __init__(self, arguments: Arguments, forward: ForwardPass) -> None:
        super().__init__(arguments)
        self.forward = forward

    def run(self) -> Tensor:
        """Attention's output. An attention call that the kernel makes itself is no other call of the model."""
        before, self.forward.in_kernel = self.forward.in_kernel, True
        try:
            return super().run()
        finally:
            self.forward.in_kernel = before


class OffCall(WatchedCall):
    """In the place of a call that is not made, since what would make it is off: see ``Consumer.off``."""

    def __init__(
        self,
        engine: CallHandler,
        forward: ForwardPass,
        call: AttentionCall,
        mechanism: str,
        off: Sequence[tuple[Chunk, Off]],
    ) -> None:
        super().__init__(call.arguments, forward)
        self.engine, self.call, self.mechanism, self.off = engine, call, mechanism, off

    def end(self) -> None:
        for chunk, off in self.off:
            for consumer in self.engine.consumers:
                self.engine.notify(consumer, consumer.off, self.call, chunk, self.mechanism, off)


class LocatedCall(WatchedCall):
    """A call in which references were located."""

    def __init__(
        self, engine: CallHandler, forward: ForwardPass, call: AttentionCall, located: Sequence[LocatedIn]
    ) -> None:
        super().__init__(call.arguments, forward)
        self.engine, self.call, self.located = engine, call, located
        self.output: Tensor | None = None

    def run(self) -> Tensor:
        """Attention's output, of the call as those that act have made it."""
        for consumer in self.engine.consumers:
            self.call = self.engine.notify(consumer, consumer.before, self.call, self.located) or self.call
        self.arguments = self.call.arguments
        self.output = super().run()
        return self.output

    def end(self) -> None:
        """Notify those that look."""
        located = [one for one in map(self._completed, self.located) if one.by_mechanism]
        if not located:
            return
        for consumer in self.engine.consumers:
            arguments = self.call, located, self.output
            self.engine.notify(consumer, consumer.after, *arguments, calls=len(located))

    def _completed(self, one: LocatedIn) -> LocatedIn:
        """With what is known by now. What turns out to be no reference is a skip, if nothing else was located."""
        if all(located.completed is None for located in one.by_mechanism.values()):
            return one
        answers: dict[str, Located | Skip] = dict(one.by_mechanism)
        with self.engine.skipping(UNREADABLE):
            for name, located in one.by_mechanism.items():
                if located.completed is not None:
                    answers[name] = located.completed()
            skips = [answer for answer in answers.values() if isinstance(answer, Skip)]
            if len(skips) == len(answers):
                self.engine.skip(skips[0])
            return replace(one, by_mechanism={n: x for n, x in answers.items() if isinstance(x, Located)})
        return replace(one, by_mechanism={})
