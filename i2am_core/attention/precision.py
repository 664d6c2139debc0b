"""Products in full float32, also where other packs have let PyTorch compute its own in less.

TF32, bfloat16 in oneDNN, and autocast keep 8 to 11 bits of a float32: too few for logits, which are exponents.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

FULL = "ieee"
_AUTOCAST = ("cuda", "cpu", "xpu")  # device types that every PyTorch has it for


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Matrix products of float32 on this device are in float32 while the body of the ``with`` runs.

    The settings are the process's. They are read when a product is launched, not when it runs; a sampler launches the
    model's products and ours one after the other from one thread, and nothing of the model is launched in the body. So
    that the picture does not change, whatever the setting is; it is restored also after an error. Nested, it does
    nothing. Autocast is of the thread alone.
    """
    autocast: Any = torch.autocast
    with autocast(device.type, enabled=False) if device.type in _AUTOCAST else nullcontext():
        restore = _switched_to_full(device.type)
        try:
            yield
        finally:
            restore()


def _switched_to_full(device: str) -> Callable[[], None]:
    """Switch to float32; returns what undoes it."""
    if (settings := _settings()) is not None:
        return _switched(settings[device]) if device in settings else _nothing
    before = torch.get_float32_matmul_precision()
    if before == "highest":
        return _nothing
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.set_float32_matmul_precision(before)


def _settings() -> dict[str, Any] | None:
    """What says since PyTorch 2.9 how devices multiply, of those that know less than float32; None before.

    Older functions raise where other packs have used it, for any device.
    """
    backends: Any = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        return None
    return {"cuda": backends.cuda.matmul, "cpu": backends.mkldnn.matmul, "xpu": backends.mkldnn.matmul}


def _switched(setting: Any) -> Callable[[], None]:
    before = setting.fp32_precision
    if before in (FULL, "none"):
        return _nothing
    setting.fp32_precision = FULL

    def restore() -> None:
        # What is read may be a wider setting (``torch.backends.fp32_precision``), which this one then follows again.
        setting.fp32_precision = "none"
        if setting.fp32_precision != before:
            setting.fp32_precision = before

    return restore


def _nothing() -> None:
    pass
