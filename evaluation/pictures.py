"""How good pictures are, against the right ones: all of it, and PSNR and L1 inside the mask. SSIM is torchmetrics'."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from comfy_client import Json


def opened(picture: bytes | Path, mode: str = "RGB") -> Tensor:
    """A picture as ``[1, 3, H, W]`` (or ``[1, 1, H, W]`` of mode "L") in [0, 1]."""
    with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
        pixels = np.asarray(image.convert(mode), dtype=np.float32) / 255
    return torch.from_numpy(pixels if pixels.ndim == 3 else pixels[..., None]).movedim(-1, 0)[None]


def compared(picture: Tensor, truth: Tensor, mask: Tensor | None = None) -> Json:
    """PSNR in dB, SSIM and mean absolute difference of pictures ``[1, 3, H, W]``; ``mask [1, 1, H, W]`` for ``*.mask``.

    A truth of another size is brought to that of the picture, bicubically. PSNR of equal pictures is not a number.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    size, truth = picture.shape[-2:], of_size(truth, picture)
    ssim = structural_similarity_index_measure(picture, truth, data_range=1.0)
    assert isinstance(ssim, Tensor)
    measured = _differences(picture, truth, torch.ones(1, 1, *size)) | {"ssim": _number(ssim)}
    if mask is not None:
        inside = torch.nn.functional.interpolate(mask, size, mode="nearest-exact") > 0.5
        measured |= {f"{name}.mask": x for name, x in _differences(picture, truth, inside.float()).items()}
    return measured


def of_size(pixels: Tensor, picture: Tensor) -> Tensor:
    """``[1, 3, H, W]`` at the size of another picture, bicubically where it is another."""
    size = picture.shape[-2:]
    if pixels.shape[-2:] == size:
        return pixels
    return torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)


def learned() -> tuple[dict[str, Callable[[Tensor, Tensor], float | None]], dict[str, str]]:
    """Measures by trained networks whose weights can be had here; and of the others why they cannot."""
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        network = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
    except Exception as error:  # no package, no weights, no network: whatever it is, it is said
        return {}, {"lpips": f"{type(error).__name__}: {error}".splitlines()[0]}
    return {"lpips": lambda picture, truth: _number(network(picture, truth))}, {}


def _differences(picture: Tensor, truth: Tensor, weight: Tensor) -> Json:
    """Over the pixels of weight 1."""
    count = weight.sum() * picture.shape[1]
    if count == 0:
        return {"psnr": None, "l1": None}
    difference = (picture - truth) * weight
    return {
        "psnr": _number(-10 * (difference.square().sum() / count).log10()),
        "l1": _number(difference.abs().sum() / count),
    }


def _number(value: Tensor) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
