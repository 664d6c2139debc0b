"""Attention of a model's modules that a pack runs without the run's options: it is handed to the engine all the same.

A pack that replaces the model's forward, or a block's, calls what is in it without the options in which ComfyUI's
override is. While the denoiser runs, the forward of such a module is a copy of the same code, whose attention goes to
the engine. What comes with the options goes to the override, as ever. Other packs' overrides are not called: they are
not without Capture.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FunctionType, MethodType
from typing import Any

from torch import Tensor

from .attention_call import Arguments
from .attention_route import OVERRIDE
from .blocks import ForeignModule
from .eager import eager
from .intercepted_functions import with_attention_reached
from .mechanisms.base import Mechanism
from .pending_call import Attend, chained
from .proxy import Proxy
from .steered_kernel import kernel_of
from .torch_attention import TorchAttention

log = logging.getLogger(__name__)

MechanismFor = Callable[[tuple], Mechanism | None]
"""Takes the arguments of an attention call. None where it is none of those that count."""


class OfModel(Mechanism):
    """Stands for attention of the model itself."""

    name = "the model's own attention"
    priority = 0
    of_model = True

    def locate(self, *about: Any) -> None:
        """Nothing: the other mechanisms are asked."""


def observe(
    module: ForeignModule,
    options: Mapping[str, Any],
    attend: Attend,
    stack: ExitStack,
    mechanism_for: MechanismFor = lambda args: OfModel(),
) -> None:
    """Hand the attention of a module to the engine, where it does not come with ``options``, until the stack closes."""
    present = vars(module).get("forward")
    if isinstance(present, _Observed) and present.attend == attend:  # of a call inside a call
        return
    if isinstance(present, _Observed):  # by another node of ours, which is inside this one
        module.forward = _Observed(present.original, options, chained(attend, present.attend), mechanism_for)
    else:
        original = module.forward
        if not isinstance(original, MethodType) or not isinstance(original.__func__, FunctionType):
            return
        module.forward = _Observed(original, options, attend, mechanism_for)
    put_back(module, present, stack)


def observe_torch(module: ForeignModule, options: Mapping[str, Any], attend: Attend, stack: ExitStack) -> None:
    """The same of a module that calls PyTorch's attention, and not ComfyUI's."""
    present = vars(module).get("forward")
    if isinstance(present, _TorchObserved) and present.attend == attend:
        return
    if isinstance(present, _TorchObserved):
        module.forward = _TorchObserved(present.original, options, chained(attend, present.attend))
    else:
        module.forward = _TorchObserved(module.forward, options, attend)
    put_back(module, present, stack)


@contextmanager
def unobserved_on_error() -> Iterator[None]:
    """The picture comes first: what cannot be observed for an error is not, which the engine reports as such."""
    try:
        yield
    except Exception:
        log.warning("I2AM could not observe what a pack runs", exc_info=True)


def put_back(module: ForeignModule, present: Any, stack: ExitStack) -> None:
    """When the stack closes, the module's own forward is ``present`` again; None where it is that of its class."""
    if present is None:
        stack.callback(delattr, module, "forward")
    else:
        stack.callback(setattr, module, "forward", present)


class _Observed(Proxy):
    """In the place of a module's forward, for one call of the denoiser."""

    def __init__(
        self, original: MethodType, options: Mapping[str, Any], attend: Attend, mechanism_for: MechanismFor
    ) -> None:
        super().__init__(original)
        self.attend = attend

        def attention(attention: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
            came_with_options = OVERRIDE in (kwargs.get("transformer_options") or ())
            are_tensors = all(isinstance(x, Tensor) for x in args[:3])
            mechanism = mechanism_for(args) if are_tensors and not came_with_options else None
            if mechanism is None:
                output: Tensor = attention(*args, **kwargs)
                return output
            pending_call = attend(Arguments(kernel_of(attention), args, kwargs), options, mechanism)
            output = pending_call.run()
            pending_call.end()
            return output

        function: Any = original.__func__
        self._function = with_attention_reached(function, eager(attention)) or function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(self.original.__self__, *args, **kwargs)


class _TorchObserved(Proxy):
    """In the place of a module's forward, for one call of the denoiser."""

    def __init__(self, original: Any, options: Mapping[str, Any], attend: Attend) -> None:
        super().__init__(original)
        self.options, self.attend = options, attend
        self._call = eager(self._watched)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(args, kwargs)

    def _watched(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        with TorchAttention(self._attend):
            return self.original(*args, **kwargs)

    def _attend(self, arguments: Arguments) -> Tensor:
        pending_call = self.attend(arguments, self.options, OfModel())
        output = pending_call.run()
        pending_call.end()
        return output
