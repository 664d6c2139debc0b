"""Copies of a pack's functions that call another attention than the one in their module: no module is changed."""

import dis
from collections.abc import Callable, Mapping
from functools import cache
from types import CodeType, FunctionType
from typing import Any, TypeGuard

from torch import Tensor

ATTENTION = "optimized_attention"  # the name by which packs call ComfyUI's attention

AttentionFunction = Callable[[Callable, tuple, Mapping[str, Any]], Tensor]
"""Takes the attention function that a pack calls, and its arguments. Returns attention's output."""


def can_intercept(function: Any) -> TypeGuard[FunctionType]:
    """Whether it is a plain function that calls attention by its name in its globals, and sets no globals itself."""
    if not isinstance(function, FunctionType) or ATTENTION not in function.__globals__:
        return False
    return not _sets_globals(function.__code__)


def with_attention(function: FunctionType, replacement: AttentionFunction) -> FunctionType:
    """The same code and globals, but that each call of attention is ``replacement(attention, args, kwargs)``."""
    attention = function.__globals__[ATTENTION]

    def replaced(*args: Any, **kwargs: Any) -> Tensor:
        return replacement(attention, args, kwargs)

    return _with_globals(function, {ATTENTION: replaced})


def with_attention_reached(function: FunctionType, replacement: AttentionFunction) -> FunctionType | None:
    """The same where it calls attention itself, or by a function that it calls by name; None where it does neither."""
    if _calls_attention(function):
        return with_attention(function, replacement)
    inside = {
        name: with_attention(inner, replacement)
        for name in function.__code__.co_names
        if _calls_attention(inner := function.__globals__.get(name))
    }
    return _with_globals(function, inside) if inside and not _sets_globals(function.__code__) else None


def _calls_attention(function: Any) -> TypeGuard[FunctionType]:
    return can_intercept(function) and ATTENTION in function.__code__.co_names


def _with_globals(function: FunctionType, others: Mapping[str, Any]) -> FunctionType:
    """The same code, for which these names in its module are others."""
    names = {**function.__globals__, **others}
    same = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    same.__kwdefaults__ = function.__kwdefaults__
    return same


@cache
def _sets_globals(code: CodeType) -> bool:
    return any(instruction.opname == "STORE_GLOBAL" for instruction in dis.get_instructions(code))
