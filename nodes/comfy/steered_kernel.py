"""An attention call made by ComfyUI's own kernel, steered: fewer columns, or a small bias on them, for some rows.

No mask of all rows and columns is ever made. Rows that are steered otherwise are calls of their own, which together
cost what one call does.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from ...i2am_core.attention.marginals import additive
from ...i2am_core.attention.steering import Rows, Softmax, Steering
from .attention_call import Arguments


def kernel_of(attention: Callable[..., Tensor]) -> Callable[[Arguments], Tensor]:
    """The kernel that calls ``attention``, as ComfyUI or another pack's override has it."""

    def kernel(arguments: Arguments) -> Tensor:
        if arguments.steering is None:
            return _called(attention, arguments)
        return _steered(attention, arguments, arguments.steering)

    return kernel


def _called(attention: Callable[..., Tensor], arguments: Arguments) -> Tensor:
    if arguments.calls_made is not None:  # not with the list itself: a ring would keep the call's tensors alive
        arguments.calls_made.append(arguments._replace(calls_made=None))
    return attention(*arguments.args, **arguments.kwargs)


def _steered(attention: Callable[..., Tensor], arguments: Arguments, steering: Steering) -> Tensor:
    arguments = _joined(arguments)
    q, k = arguments.args[:2]
    parts = steering.rows((q.shape[0], arguments.heads, q.shape[-2], k.shape[-2]), q.device)
    if len(parts) == 1:
        return _sum_of_softmaxes(attention, arguments, parts[0].softmaxes)
    output: Tensor | None = None
    for rows in parts:
        part = _sum_of_softmaxes(attention, _of_rows(arguments, rows), rows.softmaxes)
        if output is None:
            tokens = part.shape[-2] if rows.positions is None else q.shape[-2]
            output = part.new_empty(q.shape[0], *part.shape[1:-2], tokens, part.shape[-1])
        rows.put(part, output, axis=-2)
    assert output is not None
    return output


def _joined(arguments: Arguments) -> Arguments:
    """Further rows of keys and values, which are further tokens of the same item, are joined into a longer list.

    So are heads, where they are apart in one of the three alone: Stable Diffusion 3 has values ``[B, K, H, D]``.
    """
    q, k, v = arguments.args[:3]
    if q.ndim == 3 and (k.shape[0] != q.shape[0] or v.ndim != q.ndim):
        k, v = (x.flatten(2).reshape(q.shape[0], -1, x[0, 0].numel()) for x in (k, v))
        return arguments._replace(args=(q, k, v, *arguments.args[3:]))
    return arguments


def _of_rows(arguments: Arguments, rows: Rows) -> Arguments:
    """The call for some items of the batch, and some of their tokens."""
    q, k, v = (x if len(rows.items) == len(x) else x[rows.items] for x in arguments.args[:3])
    mask = arguments.mask
    if mask is not None and mask.shape[0] > 1:
        mask = mask[rows.items]
    if rows.positions is not None:
        q = q.index_select(-2, rows.positions)
        if mask is not None and mask.shape[2] > 1:
            mask = mask.index_select(2, rows.positions)
    return arguments.with_columns(q, k, v, mask)


def _sum_of_softmaxes(attention: Callable[..., Tensor], arguments: Arguments, softmaxes: tuple[Softmax, ...]) -> Tensor:
    if not softmaxes:  # no column is left: one of them says what shape the output has
        q, k, v = arguments.args[:3]
        arguments = arguments._replace(calls_made=None).with_columns(q, k[..., :1, :], v[..., :1, :], None)
        return torch.zeros_like(_called(attention, arguments))
    output: Tensor | None = None
    for softmax in softmaxes:
        part = _called(attention, _biased(_with_values(arguments, softmax), softmax))
        if softmax.gain is not None:
            part = _times(part, softmax.gain, arguments.heads)
        output = part if output is None else output + part
    assert output is not None
    return output


def takes_masks(attention: Callable[..., Tensor], arguments: Arguments) -> bool:
    """Whether a kernel heeds masks, of a call like this one.

    For one row, and a mask that leaves one column, it has to give the value of that column.
    """
    q, k, v = _joined(arguments).args[:3]
    mask = torch.full((1, 1, 1, k.shape[-2]), -1e4, dtype=q.dtype, device=q.device)
    mask[..., -1] = 0
    one_row = q[..., :1, :]
    masked, unmasked = (arguments.with_columns(one_row, k, v, x) for x in (mask, None))
    return k.shape[-2] < 2 or not torch.equal(*(attention(*x.args, **x.kwargs) for x in (masked, unmasked)))


def _with_values(arguments: Arguments, softmax: Softmax) -> Arguments:
    """The call with the values of columns counted as a softmax has it."""
    if softmax.factor is None:
        return arguments
    q, k, v = arguments.args[:3]
    factor, heads = softmax.factor.to(v), arguments.heads
    if len(factor) == 1:
        return arguments.with_columns(q, k, v * factor[0, :, None], arguments.mask)
    size = q.shape[-1] if q.ndim == 4 else q.shape[-1] // heads
    k, v = (_of_all_heads(x, heads, size) for x in (k, v))
    v = v * factor[:, :, None] if v.ndim == 4 else (v.unflatten(-1, (heads, -1)) * factor.T[..., None]).flatten(-2)
    return arguments.with_columns(q, k, v, arguments.mask)


def _of_all_heads(x: Tensor, heads: int, size: int) -> Tensor:
    """Keys or values ``[B, K, G * D]``, or ``[B, G, K, D]``, of which several heads share some, one for each head."""
    if x.ndim == 4:
        return x.repeat_interleave(heads // x.shape[1], 1)
    groups = x.unflatten(-1, (-1, size))
    return groups.repeat_interleave(heads // groups.shape[-2], -2).flatten(-2)


def _biased(arguments: Arguments, softmax: Softmax) -> Arguments:
    """The call with the bias of a softmax. Columns that are left out are not given to the kernel at all."""
    if softmax.bias is None:
        return arguments
    (q, k, v), mask = arguments.args[:3], arguments.mask
    if softmax.columns_left is not None:
        k, v = (x.index_select(-2, softmax.columns_left) for x in (k, v))
        if mask is not None and mask.shape[-1] > 1:
            mask = mask.index_select(-1, softmax.columns_left)
        return arguments.with_columns(q, k, v, mask)
    bias = softmax.bias[None, :, None]  # [1, H or 1, 1, K]
    if mask is not None:
        bias = additive(mask, bias.dtype) + bias
    return arguments.with_columns(q, k, v, bias.to(q))


def _times(output: Tensor, gain: Tensor, heads: int) -> Tensor:
    """An output ``[B, N, H * D]``, or ``[B, H, N, D]``, of which each head counts ``gain [H or 1]`` times."""
    gain = gain.to(output)
    if output.ndim == 4:
        return output * gain[:, None, None]
    return output * gain if len(gain) == 1 else (output.unflatten(-1, (heads, -1)) * gain[:, None]).flatten(-2)
