"""How alike two maps of the same scenes are, by ranks (Spearman) and by SSIM (torchmetrics); and maps and guesses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from ..demo.effect import Study, spearman
from ..demo.steer import bracketed, table
from ..i2am_core import min_max
from . import baselines
from .runs import ON_PICTURE

WINDOW = 7  # cells: the default of scikit-image, which Adebayo et al. used


def ranked_alike(study: Study, one: Tensor, other: Tensor, on_picture: bool) -> Tensor:
    """Spearman of maps ``[n, h, w]`` in each scene, ``[n]``: on the picture over the positions in the mask."""
    where = study.in_mask[study.order] if on_picture else None
    return spearman(one.flatten(1), other.flatten(1), where)


def structured_alike(study: Study, one: Tensor, other: Tensor, on_picture: bool) -> Tensor:
    """SSIM of the same, each map stretched to [0, 1]: on the picture of the painted square alone."""
    cut = baselines.squares(study.scenes.mask[study.order]) if on_picture else [slice(None)] * len(one)
    pairs = [(min_max(a[square]), min_max(b[square])) for a, b, square in zip(one, other, cut, strict=True)]
    return torch.stack([_ssim(a[None, None], b[None, None]) for a, b in pairs])


def beside_guesses(study: Study, maps: Mapping[str, Tensor], keys: Mapping[str, str]) -> str:
    """A table: what the maps of ``keys`` have in common with maps that no model makes, by Spearman.

    ``maps`` are those of one run, with its picture as 'image'.
    """
    guesses = {True: baselines.on_picture(study, maps["image"]), False: baselines.on_reference(study)}
    rows = []
    for name, key in keys.items():
        on_picture = key in ON_PICTURE.values()
        alike = (ranked_alike(study, maps[key], guesses[on_picture][x], on_picture) for x in baselines.BASELINES)
        rows.append([name, *(bracketed(x, 2) for x in alike)])
    return table(["map", *baselines.BASELINES], rows)


def _ssim(one: Tensor, other: Tensor) -> Tensor:
    result = structural_similarity_index_measure(one, other, gaussian_kernel=False, kernel_size=WINDOW, data_range=1.0)
    assert isinstance(result, Tensor)
    return result
