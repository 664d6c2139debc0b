"""The device that counts waits: what would make a host wait for a GPU is counted, and nothing else."""

import pytest
import torch
import torch.nn.functional as F
from counting_device import DEVICE, counting

WAITS = {
    "item": lambda x: x[0, 0].item(),
    "float": lambda x: float(x.sum()),
    "if": lambda x: 1 if (x > 0).any() else 0,
    "equal": lambda x: torch.equal(x, x),
    "to the host": lambda x: x.cpu(),
    "to the host, by copy_": lambda x: torch.empty(3, 4).copy_(x),
    "from the host": lambda x: x + torch.ones(3, 4).to(DEVICE),
    "from the host, by copy_": lambda x: x.copy_(torch.ones(3, 4)),
    "from a list": lambda x: torch.tensor([1.0, 2.0], device=DEVICE),
    "to a list": lambda x: x.tolist(),
    "nonzero": lambda x: x.nonzero(),
    "a boolean index": lambda x: x[x > 0],
    "put by a boolean index": lambda x: x.index_put_((x > 0,), torch.ones(12, device=DEVICE)),
    "an index on the host": lambda x: x[torch.tensor([1, 2])],
    "unique": lambda x: x.unique(),
    "repeated as the device says": lambda x: x.repeat_interleave(torch.ones(3, device=DEVICE).long(), 0),
}  # fmt: skip
NO_WAITS = {
    "arithmetic": lambda x: (x @ x.mT + 1).exp().sum(-1),
    "in place": lambda x: x.mul_(2).clamp_(min=0),
    "made there": lambda x: torch.zeros(3, device=DEVICE) + torch.arange(3, device=DEVICE),
    "a slice": lambda x: x[1:, :2],
    "an index there": lambda x: x[torch.arange(2, device=DEVICE)],
    "chosen": lambda x: torch.where(x > 0, x, 0),
    "filled where": lambda x: x.masked_fill(x > 0, 0),
    "a number of the host": lambda x: x * torch.tensor(2.0),
    "attention": lambda x: F.scaled_dot_product_attention(*(x[None, None],) * 3),
    "shapes": lambda x: x.shape[0] + x.numel() + x.stride(0),
}


def device_tensor():
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).abs().add(0.1).to(DEVICE)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", WAITS)
def test_a_planted_wait_is_counted(name, inference):
    with torch.inference_mode(inference):
        x = device_tensor()
        with counting() as count:
            WAITS[name](x)
    assert count.waits.total() == 1, str(count)
    assert "test_counting_device.py" in str(count)


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", NO_WAITS)
def test_what_runs_on_the_device_alone_is_no_wait(name, inference):
    with torch.inference_mode(inference):
        x = device_tensor()
        with counting() as count:
            NO_WAITS[name](x)
    assert not count.waits, str(count)


def test_what_lies_on_two_devices_is_refused():
    with pytest.raises(RuntimeError, match="same device"):
        device_tensor() + torch.ones(3, 4)


def test_it_computes_what_the_cpu_does():
    x = device_tensor()
    torch.testing.assert_close((x @ x.mT).softmax(-1).cpu(), (x.cpu() @ x.cpu().mT).softmax(-1), rtol=0, atol=0)


def test_kernels_are_counted_and_views_are_not():
    x = device_tensor()
    with counting() as count:
        x[0].exp()
        x.mT.unflatten(0, (2, 2))
    assert count.kernels == 1
