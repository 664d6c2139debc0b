"""Steering by hand: a run whose attention is computed in 64 bits, with its columns weighed as they were told to be.

It is independent of the pack: it uses ComfyUI's override directly, is told by the test which columns are a reference
and which rows the picture, and imports nothing of ours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from by_hand import ByHand, attention
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor


@dataclass
class Run:
    """A model whose calls are steered by hand; those for which there are no ``steers`` are left to ComfyUI."""

    steers: Callable[[int, int], Sequence[ByHand]]  # of a call of so many queries and keys
    keep: bool = False  # whether to keep what each column counted in the calls of the first branch
    made: int = 0  # calls that were steered, or could have been
    counted: list[Tensor] = field(default_factory=list)  # [B, H, N, K]
    _layer: int = 0

    def on(self, model: ModelPatcher) -> ModelPatcher:
        model = model.clone()
        model.model_options["transformer_options"]["optimized_attention_override"] = self._override()
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "by hand", self._wrapper())
        return model

    def _wrapper(self) -> Callable:
        def wrapper(executor: Callable, *args: Any, **kwargs: Any) -> Tensor:
            self._layer = 0
            return executor(*args, **kwargs)

        return wrapper

    def _override(self) -> Callable:
        def override(function: Callable, *args: Any, **kwargs: Any) -> Tensor:
            heads = args[3] if len(args) > 3 else kwargs["heads"]
            q, k, v = (_split(x if x.ndim == args[0].ndim else x.flatten(2), heads, len(args[0])) for x in args[:3])
            options = kwargs.get("transformer_options") or {}
            of_call = self.steers(q.shape[2], k.shape[2]) if "sigmas" in options else ()
            if not of_call:
                return function(*args, **kwargs)
            layer, self._layer = self._layer, self._layer + 1
            mask = args[4] if len(args) > 4 else kwargs.get("mask")
            scale = kwargs.get("scale") or q.shape[-1] ** -0.5
            schedule = options["sample_sigmas"].tolist()
            step = min(range(len(schedule)), key=lambda n: abs(schedule[n] - float(options["sigmas"][0])))
            lists = options["cond_or_uncond"]

            def steers(item: int, head: int) -> list[ByHand]:
                branch = lists[item // (q.shape[0] // len(lists))]
                return [
                    steer
                    for steer in of_call
                    if branch in steer.branches
                    and all(
                        chosen is None or number in chosen
                        for number, chosen in (
                            (head, steer.heads),
                            (layer, steer.layers),
                            (step, steer.steps),
                        )
                    )
                ]

            self.made += 1
            logits = _masked(q.double() @ k.double().transpose(-1, -2) * scale, mask)
            if self.keep:
                own = lists.index(0) * (q.shape[0] // len(lists))
                identity = torch.eye(k.shape[2], dtype=torch.float64).expand(q.shape[0], heads, -1, -1)
                of_columns = attention(logits, identity, steers).unflatten(-1, (heads, -1)).transpose(1, 2)
                self.counted.append(of_columns[own : own + q.shape[0] // len(lists)])
            output = attention(logits, v, steers).to(args[0].dtype)
            return _as_host(output, heads) if kwargs.get("skip_output_reshape") else output

        return override


def _split(tensor: Tensor, heads: int, batch: int) -> Tensor:
    if tensor.ndim == 4:
        return tensor.repeat_interleave(heads // tensor.shape[1], 1)
    return tensor.reshape(batch, -1, heads, tensor.shape[-1] // heads).transpose(1, 2)


def _masked(logits: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return logits
    mask = mask[None] if mask.ndim == 2 else mask
    mask = mask[:, None] if mask.ndim == 3 else mask
    return logits.masked_fill(~mask, -math.inf) if mask.dtype == torch.bool else logits + mask.double()


def _as_host(output: Tensor, heads: int) -> Tensor:
    return output.unflatten(-1, (heads, -1)).transpose(1, 2)
