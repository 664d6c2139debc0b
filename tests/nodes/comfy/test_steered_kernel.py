"""A steered call of ComfyUI's own kernels, in every layout and with every mask, against the definitions in 64 bits."""

import math

import comfy.ldm.modules.attention as kernels
import pytest
import torch
from by_hand import ByHand, attention

from i2am_pack.i2am_core.attention.steering import Change, Steering
from i2am_pack.nodes.comfy.attention_call import Arguments
from i2am_pack.nodes.comfy.steered_kernel import kernel_of

B, H, N, K, D = 3, 2, 5, 6, 4
ROWS = torch.tensor([[True, False, True, True, False], [False, False, True, False, True]])

STEERINGS = {
    "muted": (Change(slice(0, B), torch.tensor([1, 4]), 0.0),),
    "muted for one item": (Change(slice(1, 2), torch.tensor([1, 4]), 0.0),),
    "weighed in rows of two items": (Change(slice(1, B), torch.tensor([0, 2, 5]), 0.3, positions=ROWS),),
    "muted in rows of all": (Change(slice(0, B), torch.tensor([3]), 0.0, positions=ROWS[:1]),),
    "by output in a head": (
        Change(slice(0, 2), torch.tensor([1, 2]), -1.0, "output", ROWS[:1], torch.tensor([False, True])),
    ),
    "values in rows and a head": (
        Change(slice(1, B), torch.tensor([1, 4]), 2.5, "values", ROWS, torch.tensor([False, True])),
    ),
    "values, and columns left out": (
        Change(slice(0, B), torch.tensor([1, 4, 5]), 0.3, "values"),
        Change(slice(0, 2), torch.tensor([4, 0]), 0.0, positions=ROWS[:1]),
    ),
    "all of it, and a part": (
        Change(slice(0, 2), torch.arange(K), 0.0),
        Change(slice(1, B), torch.tensor([0, 1]), 4.0, positions=ROWS, heads=torch.tensor([True, False])),
    ),
    "two parts that are all": (
        Change(slice(0, B), torch.tensor([0, 1, 2]), 0.0, positions=ROWS[:1]),
        Change(slice(0, B), torch.tensor([3, 4, 5]), 0.0, heads=torch.tensor([True, False])),
    ),
}
MASKS = {
    "none": None,
    "[N, K]": (N, K),
    "[B, N, K]": (B, N, K),
    "[B, 1, 1, K]": (B, 1, 1, K),
    "[B, H, N, K]": (B, H, N, K),
}


def by_hand(steering):
    def steers(item, head):
        applied = []
        for change in steering:
            here = change.items.start <= item < change.items.stop
            if here and (change.heads is None or change.heads[head]):
                rows = change.of_item(item)
                rows = None if rows is None else rows.nonzero().flatten().tolist()
                applied.append(ByHand(change.strength, change.columns.tolist(), change.by, rows))
        return applied

    return steers


# Of ComfyUI's kernels in plain PyTorch, attention_basic knows boolean masks of padding alone.
KERNELS = [
    (function, mask, boolean)
    for function in ("attention_pytorch", "attention_basic")
    for mask in MASKS
    for boolean in (False, True)
    if not boolean or (mask != "none" and function == "attention_pytorch")
]


@pytest.mark.parametrize("four_axes", [False, True])
@pytest.mark.parametrize(("function", "mask", "boolean"), KERNELS)
@pytest.mark.parametrize("name", STEERINGS)
def test_every_layout_and_mask(name, function, mask, boolean, four_axes):
    g = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(B, H, n, D, generator=g) for n in (N, K, K))
    given = None if MASKS[mask] is None else torch.randn(MASKS[mask], generator=g) * 2
    logits = q.double() @ k.double().transpose(-1, -2) * D**-0.5
    if given is not None and boolean:
        given = given > -2
        given[..., 0] = given[..., 5] = True
    if given is not None:
        wide = given[None, None] if given.ndim == 2 else given[:, None] if given.ndim == 3 else given
        logits = logits.masked_fill(~wide, -math.inf) if boolean else logits + wide.double()
    steering = STEERINGS[name]
    kwargs = {"mask": given, "skip_reshape": four_axes, "skip_output_reshape": four_axes}
    tensors = (q, k, v) if four_axes else tuple(x.transpose(1, 2).flatten(2) for x in (q, k, v))
    kernel = kernel_of(getattr(kernels, function))
    output = Arguments(kernel, (*tensors, H), kwargs, steering=Steering(steering)).run()
    output = output.transpose(1, 2).flatten(2) if four_axes else output
    expected = attention(logits, v, by_hand(steering))
    torch.testing.assert_close(output.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", STEERINGS)
def test_values_whose_heads_are_apart(name):
    """Stable Diffusion 3 has queries and keys ``[B, N, H * D]``, and values ``[B, K, H, D]``."""
    g = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(B, H, n, D, generator=g) for n in (N, K, K))
    joined = (x.transpose(1, 2).flatten(2) for x in (q, k))
    steering = STEERINGS[name]
    kernel = kernel_of(kernels.attention_pytorch)
    output = Arguments(kernel, (*joined, v.transpose(1, 2), H), {}, steering=Steering(steering)).run()
    logits = q.double() @ k.double().transpose(-1, -2) * D**-0.5
    torch.testing.assert_close(output.double(), attention(logits, v, by_hand(steering)), rtol=1e-4, atol=1e-5)
