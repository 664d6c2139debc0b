"""A constant vector added to all keys of attention, as a run's own model would have it: Capture sees such keys."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..nodes.comfy.attention_call import Arguments, AttentionCall
from ..nodes.comfy.consumers.base import Consumer, LocatedIn

Direction = Callable[[Tensor, Tensor, str], Tensor]
"""Of queries of the picture ``[B, H, N, D]``, which are inside the mask ``[B, N]``, in a layer: ``[B or 1, H, D]``."""


@dataclass
class MovedKeys(Consumer):
    """Adds one vector to all keys of a call in which a reference is: to those of the text and the picture, too.

    It comes after the rotary embedding, so that a row's logits all change by the same number, and softmax over the
    keys does not. The vector is as long as a mean key. ``changed`` is what any probability of any call has changed by
    at most: rounding.
    """

    direction: Direction
    masks: Tensor  # [B, 1, H, W], of the pictures of the run
    changed: float = 0.0

    acts = True

    def before(self, call: AttentionCall, located: Sequence[LocatedIn]) -> AttentionCall:
        first = located[0].first
        inside = torch.nn.functional.adaptive_avg_pool2d(self.masks, (first.layer.grid.height, first.layer.grid.width))
        queries = call.q[:, :, first.queries]
        direction = self.direction(queries, inside.flatten(1) > 0.5, first.layer.name)
        length = call.k.norm(dim=-1).mean(-1, keepdim=True)
        added = (length * direction / direction.norm(dim=-1, keepdim=True))[:, :, None]  # [B, H, 1, D]
        keys = call.k + added
        self.changed = max(self.changed, _change(call, keys))
        return call._replace(k=keys, arguments=_with_keys(call, keys))


def _with_keys(call: AttentionCall, keys: Tensor) -> Arguments:
    """The arguments of the call with other keys, in the layout in which they came."""
    q, k, v = call.arguments.args[:3]
    laid_out = keys if k.ndim == 4 else keys.transpose(1, 2).flatten(2)
    return call.arguments.with_columns(q, laid_out, v, call.bias)


def _change(call: AttentionCall, changed: Tensor) -> float:
    assert call.bias is None  # of the demo's models
    scale = call.q.shape[-1] ** -0.5
    before, after = ((call.q @ keys.transpose(-1, -2) * scale).softmax(-1) for keys in (call.k, changed))
    change = float((after - before).abs().max())
    assert math.isfinite(change)
    return change
