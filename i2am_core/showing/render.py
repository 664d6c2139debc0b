"""Maps as pictures: colormaps, overlays, and a shared or separate scale.

matplotlib is imported when a colormap is used, so that the core can be used without it.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import MissingPackage, UnknownColormap
from ..reading.aggregate import resize
from ..reading.metrics import is_flat, min_max

COLORMAPS = ("jet", "turbo", "viridis", "inferno", "magma", "gray")
DIVERGING = "RdBu_r"  # that most people see, also those who do not tell red from green
Scale = Literal["each map", "shared"]


def stretch(values: Tensor, scale: Scale = "each map") -> Tensor:
    """Maps ``[n, h, w]`` stretched to [0, 1]: each on its own, or with one scale for all, by which they compare."""
    if scale == "shared":
        return min_max(values.reshape(1, -1, values.shape[-1])).reshape(values.shape)
    return min_max(values)


def heat(values: Tensor, size: tuple[int, int], scale: Scale = "each map", blocks: bool = False) -> Tensor:
    """Maps ``[n, h, w]`` resized to ``size`` (height, width) and stretched to [0, 1].

    Bicubically, or as ``blocks``: those of regions say nothing of what lies between. A map that is flat but for
    rounding has one colour: resizing would make its rounding larger, and stretching the whole range of it.
    """
    values = values.float()
    values = torch.where(is_flat(values), values.mean((-2, -1), keepdim=True), values)
    if blocks:
        return stretch(F.interpolate(values[:, None], size, mode="nearest-exact")[:, 0], scale)
    return stretch(resize(values, *size), scale)


def colorize(heat_values: Tensor, colormap: str = "jet") -> Tensor:
    """Heat ``[n, h, w]`` in [0, 1] as RGB ``[n, h, w, 3]`` in [0, 1]; what is no number is 0. Raises what
    ``color_table`` does."""
    return color_table(colormap)[(heat_values.nan_to_num(0).clamp(0, 1) * 255).round().long()]


def blended(image: Tensor, colors: Tensor, opacity: float = 0.75) -> Tensor:
    """Colours over a grey image, all ``[n, h, w, 3]`` in [0, 1]: what is lighter has more, also without colours."""
    return (1 - opacity) * image.mean(-1, keepdim=True) + opacity * colors


def diverging(values: Tensor, size: tuple[int, int], blocks: bool = False) -> Tensor:
    """Differences ``[n, h, w]`` as RGB ``[n, height, width, 3]``, all in one scale: white is 0, red more, blue less.

    The scale ends at ``largest_of_both(values)`` on either side. Raises MissingPackage without matplotlib.
    """
    return colorize(0.5 + resized(values, size, blocks) / (2 * (largest_of_both(values) or 1)), DIVERGING)


def largest_of_both(values: Tensor) -> float:
    """The largest value on either side of 0."""
    return float(values.abs().max())


def resized(values: Tensor, size: tuple[int, int], blocks: bool = False) -> Tensor:
    """Differences ``[n, h, w]`` at ``size``: as ``blocks``, or linearly, so that none gets another sign."""
    if blocks:
        return F.interpolate(values[:, None].float(), size, mode="nearest-exact")[:, 0]
    return F.interpolate(values[:, None].float(), size, mode="bilinear")[:, 0]


def color_table(colormap: str) -> Tensor:
    """The colours of a colormap of matplotlib, ``[256, 3]`` in [0, 1].

    Raises UnknownColormap where matplotlib has none of this name, and MissingPackage without matplotlib.
    """
    try:
        import matplotlib
    except ImportError:
        raise MissingPackage("matplotlib", "sheets", "a colormap") from None
    if colormap not in matplotlib.colormaps:
        raise UnknownColormap("colormap", colormap, COLORMAPS)
    return torch.tensor(matplotlib.colormaps[colormap](range(256)), dtype=torch.float32)[:, :3]


def overlay(image: Tensor, colors: Tensor, opacity: float = 0.5) -> Tensor:
    """Colours over an image, all ``[n, h, w, 3]`` in [0, 1]; opacity 0.5 is the paper's ``0.7 image + 0.5 heat``."""
    return ((1 - 0.6 * opacity) * image + opacity * colors).clamp(0, 1)
