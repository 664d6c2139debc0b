"""Everything attention was given and returned, and the formula written out by hand.

Independent of the pack: it uses ComfyUI's override and wrapper directly and imports nothing of ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from torch import Tensor

FACTS = (
    "cond_or_uncond",
    "uuids",
    "sigmas",
    "sample_sigmas",
    "block",
    "block_index",
    "block_type",
    "total_blocks",
    "transformer_index",
    "activations_shape",
    "original_shape",
)


@dataclass
class ForwardPass:
    """One call of ``BaseModel.apply_model``."""

    x: tuple[int, ...]
    conditions: dict[str, Any]  # name to shape; a list of shapes for a list; the value itself if it has no shape
    facts: dict[str, Any]

    @property
    def cond_or_uncond(self) -> list[int]:
        return self.facts["cond_or_uncond"]

    @property
    def uuids(self) -> list:
        return self.facts["uuids"]

    @property
    def sigma(self) -> float:
        return float(self.facts["sigmas"][0])


@dataclass
class Call:
    """One call of attention: q ``[B, H, N, D]``, k and v ``[B, G, K, D]``, output ``[B, N, H * D]``.

    Newer versions of ComfyUI hand out the G groups of heads that share a key as they are; older ones repeat them, so
    that G is H.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    heads: int
    mask: Tensor | None  # as it was given
    scale: float
    output: Tensor
    facts: dict[str, Any]  # of FACTS, what transformer_options held
    keys: frozenset[str]  # all that was in transformer_options
    forward: int  # index in Oracle.forwards
    arguments: int  # how many were positional

    def group(self, head: int) -> int:
        """Which keys and values a head has: neighbours share them."""
        return head // (self.heads // self.k.shape[1])


@dataclass
class Oracle:
    calls: list[Call] = field(default_factory=list)
    forwards: list[ForwardPass] = field(default_factory=list)

    def on(self, model: ModelPatcher) -> ModelPatcher:
        """A clone of the model that is recorded. An override that is already there stays in use."""
        model = model.clone()
        options = model.model_options["transformer_options"]
        options["optimized_attention_override"] = self._override(options.get("optimized_attention_override"))
        model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "oracle", self._wrapper())
        return model

    def of(self, forward: int) -> list[Call]:
        """The calls of one forward, in their order."""
        return [call for call in self.calls if call.forward == forward]

    @staticmethod
    def logits(call: Call, row: int, head: int) -> Tensor:
        """q k^T scale + mask, ``[N, K]`` in 64 bits."""
        q, k = call.q[row, head].double(), call.k[row, call.group(head)].double()
        logits = q @ k.T * call.scale
        if call.mask is None:
            return logits
        mask = _four_axes(call.mask)
        mask = mask.expand(call.q.shape[0], call.heads, *logits.shape)[row, head]
        return logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.double()

    @classmethod
    def weights(cls, call: Call, row: int, head: int) -> Tensor:
        """exp(logit) over the sum of exp(logit) of all keys, ``[N, K]`` in 64 bits."""
        logits = cls.logits(call, row, head)
        exponentials = (logits - logits.amax(1, keepdim=True)).exp()
        return exponentials / exponentials.sum(1, keepdim=True)

    @classmethod
    def output(cls, call: Call, row: int) -> Tensor:
        """What attention has to return for this row of the batch: ``[N, H * D]`` in 64 bits."""
        values = [call.v[row, call.group(head)].double() for head in range(call.heads)]
        heads = [cls.weights(call, row, head) @ v for head, v in enumerate(values)]
        return torch.cat(heads, 1)

    def _override(self, earlier: Callable | None) -> Callable:
        """A plain function: cloning a model copies any other object in its options."""

        def override(attention: Callable, *args: Any, **kwargs: Any) -> Tensor:
            copies = [tensor.detach().clone() for tensor in args[:3]]
            output = earlier(attention, *args, **kwargs) if earlier else attention(*args, **kwargs)
            self.calls.append(self._call(copies, args, kwargs, output))
            return output

        return override

    def _wrapper(self) -> Callable:
        def wrapper(executor: Callable, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            t, concat, context, control, options = args
            named = {"t": t, "c_concat": concat, "c_crossattn": context, "control": control} | kwargs
            conditions = {name: _shape(value) for name, value in named.items() if value is not None}
            self.forwards.append(ForwardPass(tuple(x.shape), conditions, _facts(options)))
            return executor(x, *args, **kwargs)

        return wrapper

    def _call(self, copies: list[Tensor], args: tuple, kwargs: dict[str, Any], output: Tensor) -> Call:
        heads = args[3] if len(args) > 3 else kwargs["heads"]
        mask = args[4] if len(args) > 4 else kwargs.get("mask")
        q, k, v = copies if copies[0].ndim == 4 else (_split(tensor, heads, len(copies[0])) for tensor in copies)
        output = output.detach().clone()
        output = output.transpose(1, 2).flatten(2) if output.ndim == 4 else output  # skip_output_reshape
        options = kwargs.get("transformer_options") or {}
        scale = kwargs.get("scale") or q.shape[-1] ** -0.5
        return Call(
            q,
            k,
            v,
            heads,
            None if mask is None else mask.detach().clone(),
            scale,
            output,
            _facts(options),
            frozenset(options),
            len(self.forwards) - 1,
            len(args),
        )


def _split(tensor: Tensor, heads: int, batch: int) -> Tensor:
    """``[B, N, H * D]``, or ``[B, N, H, D]``, to ``[B, H, N, D]``; rows beyond the batch are further tokens of it."""
    tensor = tensor.flatten(2)
    return tensor.reshape(batch, -1, heads, tensor.shape[-1] // heads).transpose(1, 2)


def _four_axes(mask: Tensor) -> Tensor:
    """``[N, K]``, ``[B, N, K]`` or ``[B, H, N, K]``, as ``attention_pytorch`` in comfy/ldm/modules/attention.py."""
    mask = mask[None] if mask.ndim == 2 else mask
    return mask[:, None] if mask.ndim == 3 else mask


def _facts(options: dict[str, Any]) -> dict[str, Any]:
    """Copies: ComfyUI writes the next block's into the same dictionary."""
    known = {name: options[name] for name in FACTS if name in options}
    return {name: list(value) if isinstance(value, list) else value for name, value in known.items()}


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return [_shape(item) for item in value] if isinstance(value, list) else value
