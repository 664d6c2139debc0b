"""The queries and keys of a plain run, as attention itself got them: by ComfyUI's own override, without I2AM."""

# ComfyUI's own modules have no types.
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from comfy.patcher_extension import WrappersMP
from torch import Tensor

from ..demo import data
from ..demo.effect import Study
from ..demo.joint_network import TEXT_TOKENS
from ..demo.subject import CrossAttention
from .oracle import Call

Pair = tuple[Tensor, Tensor]  # q [B, H, N, D], k [B, H, K, D]
CELLS = data.GRID**2


def calls_of(study: Study, part: Tensor) -> list[list[list[Call]]]:
    """Of each of the scenes ``part``, in each step, the calls of all layers that look at the object's reference."""
    steps: list[list[Pair]] = []
    model = study.model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = _override(steps)
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "validation", _wrapper(steps))
    study.run(model, "own", part)
    select = _of_cross if isinstance(study.subject, CrossAttention) else _of_joint
    return [[select(calls, item) for calls in steps] for item in range(len(part))]


def _of_cross(calls: list[Pair], item: int) -> list[Call]:
    """Each block of the U-Net looks at itself, then at the tokens of the object, which are all that it looks at."""
    assert len(calls) % 2 == 0
    assert all(k.shape[2] == CELLS for _, k in calls[1::2])
    return [_call(q[item], k[item], slice(0, CELLS)) for q, k in calls[1::2]]


def _of_joint(calls: list[Pair], item: int) -> list[Call]:
    """All tokens look at all: text, picture, scene, object."""
    picture, last = slice(TEXT_TOKENS, TEXT_TOKENS + CELLS), TEXT_TOKENS + 3 * CELLS
    assert all(k.shape[2] == last for _, k in calls)
    return [_call(q[item, :, picture], k[item], slice(last - CELLS, last)) for q, k in calls]


def _call(q: Tensor, k: Tensor, reference: slice) -> Call:
    return Call(q.numpy().astype(np.float64), k.numpy().astype(np.float64), reference)


def _override(steps: list[list[Pair]]) -> Callable:
    """A plain function: cloning a model copies any other object in its options."""

    def override(attention: Callable, *args: Any, **kwargs: Any) -> Tensor:
        heads = args[3] if len(args) > 3 else kwargs["heads"]
        q, k = (x if x.ndim == 4 else x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in args[:2])
        steps[-1].append((q.clone(), k.clone()))
        output: Tensor = attention(*args, **kwargs)
        return output

    return override


def _wrapper(steps: list[list[Pair]]) -> Callable:
    def wrapper(executor: Callable, *args: Any, **kwargs: Any) -> Any:
        steps.append([])  # with euler and guidance 1, a step is one call of the model
        return executor(*args, **kwargs)

    return wrapper
