"""What ComfyUI does with an attention call where no override of ours is installed: it is asked, not imitated.

``optimized_attention`` is a wrapper around a function (``wrap_attn`` in comfy/ldm/modules/attention.py). It hands the
override that function, and goes other ways only where there is none: from 0.33 the wrapper's ``container_function``
for tensors in containers that a kernel may empty, from 0.36 the ``preferred_attention`` that a model file names, which
it has taken out of the arguments by then. So the call is given back to the wrapper as it came, with options in which
ours is not. What the wrapper has taken out is in the variables of its frame.
"""

import dis
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from types import CodeType, FrameType
from typing import Any

import comfy.ldm.modules.attention
from torch import Tensor

from .eager import keep_frames
from .proxy import Proxy

OVERRIDE = "optimized_attention_override"
INSIDE = "_inside_attn_wrapper"  # an argument that the wrapper adds: with it, it goes straight to its function
OUR_PACKAGE = __name__.rpartition(".")[0]


@dataclass(frozen=True)
class AttentionRoute:
    """Called with the arguments of an attention call, it makes it as ComfyUI would without an override of ours."""

    function: Callable  # what the wrapper is around
    wrapper: Callable | None  # None where it is not known: then the function is called, as an override is meant to do
    override: Callable | None = None  # of another pack, which ours took the place of
    taken: Mapping[str, Any] = field(default_factory=dict)  # by name: arguments that do not come to an override
    container: Callable | None = None  # what queries, keys and values each came in

    @classmethod
    def of(cls, function: Callable | None, args: tuple, override: Callable | None) -> "AttentionRoute":
        """That of the call which the present override gets; ``function`` is None where it is not handed over."""
        container = None if not args or isinstance(args[0], Tensor) else type(args[0])
        if (known := _running_wrapper(function)) is not None:
            wrapper, wrapped, taken = known
            return cls(wrapped, wrapper, override, taken, container)
        if function is not None:
            return cls(function, None, override, container=container)
        wrapper = comfy.ldm.modules.attention.optimized_attention
        return cls(getattr(wrapper, "__wrapped__", wrapper), wrapper, override, container=container)

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        options = kwargs.get("transformer_options")
        if self.wrapper is None or options is None:
            called = self.function if self.override is None else partial(self.override, self.function)
            output: Tensor = called(*args, **kwargs)
            return output
        if self.container is not None:
            args = (*map(self.container, args[:3]), *args[3:])
        kwargs = {**self.taken, **kwargs, "transformer_options": _without_ours(options, self.override)}
        kwargs.pop(INSIDE, None)
        return self.wrapper(*args, **kwargs)

    @property
    def kernel(self) -> Callable:
        """The function of ComfyUI that is at the end of the route, or that another pack's override is given."""
        if self.override is not None:
            return self.function
        preferred = (getattr(value, "function", value) for value in self.taken.values())
        of_containers = getattr(self.wrapper, "container_function", None) if self.container is not None else None
        return next(filter(callable, (*preferred, of_containers)), self.function)


def prepare() -> None:
    """Before a run: see to it that what the wrapper takes out can be read, also where a model is compiled."""
    wrapper = comfy.ldm.modules.attention.optimized_attention
    code = getattr(wrapper, "__code__", None)
    if code is not None and hasattr(wrapper, "__wrapped__"):  # one function makes all wrappers of a core, of one code
        keep_frames(code)


def tensors_of(args: tuple) -> tuple | None:
    """The arguments with queries, keys and values as tensors, whatever they came in; None where they cannot be read."""
    tensors = [x if isinstance(x, Tensor) else getattr(x, "peek", lambda: None)() for x in args[:3]]
    return (*tensors, *args[3:]) if all(isinstance(x, Tensor) for x in tensors) else None


def _without_ours(options: Mapping[str, Any], override: Callable | None) -> dict[str, Any]:
    if override is not None:
        return {**options, OVERRIDE: _Handed(override, options)}
    return {name: value for name, value in options.items() if name != OVERRIDE}


class _Handed(Proxy):
    """Another pack's override, with its attributes. It gets the options that ours is in: what it calls is observed."""

    def __init__(self, original: Callable, options: Mapping[str, Any]) -> None:
        super().__init__(original)
        self._options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.original(*args, **{**kwargs, "transformer_options": self._options})


def _running_wrapper(function: Callable | None) -> tuple[Callable, Callable, dict[str, Any]] | None:
    """The wrapper that has called the override, the ``function`` that it is around, and what it has taken out.

    None where somebody else has: what their arguments are, and what they have left out, is then as they want it.
    """
    if (frame := _calling_frame()) is None:
        return None
    variables = frame.f_locals
    wrapped: Any = variables.get("func", function)
    wrapper = variables.get("wrapper") or _wrapper_of(wrapped)
    if wrapper is None or function not in (None, wrapped) or not _runs_in(frame, wrapper):
        return None
    taken = {name: variables.get(variable) for name, variable in _taken_out(frame.f_code).items()}
    return wrapper, wrapped, {name: value for name, value in taken.items() if value is not None}


def _calling_frame() -> FrameType | None:
    """The one that called the override: the innermost that is neither ours nor PyTorch's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith((OUR_PACKAGE, "torch.")):
        frame = frame.f_back
    return frame


def _wrapper_of(function: Callable | None) -> Callable | None:
    """The wrapper around a function that is in the function's module, under its name."""
    module = sys.modules.get(getattr(function, "__module__", ""))
    wrapper: Callable | None = getattr(module, getattr(function, "__name__", ""), None)
    return wrapper if getattr(wrapper, "__wrapped__", None) is function else None


def _runs_in(frame: FrameType, function: Callable) -> bool:
    """Whether a function runs in a frame: by where its code is, which PyTorch's compiler keeps in what it makes."""
    code, running = getattr(function, "__code__", None), frame.f_code
    if code is running:
        return True
    if code is None:
        return False
    return code.co_filename == running.co_filename and code.co_firstlineno == running.co_firstlineno


@cache
def _taken_out(code: CodeType) -> Mapping[str, str]:
    """The arguments that a function takes out of its ``kwargs``, and the variables that it puts them into."""
    taken = {}
    steps = list(dis.get_instructions(code))
    for number, step in enumerate(steps[:-1]):
        if step.argval == "pop" and isinstance(name := steps[number + 1].argval, str):
            stored = (x.argval for x in steps[number + 2 :] if x.opname.startswith("STORE_"))
            variable = next(stored, name)
            taken[name] = variable[0] if isinstance(variable, tuple) else variable
    return taken
