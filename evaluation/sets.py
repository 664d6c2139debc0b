"""How far the pictures of a model are from the right ones as a set: FID and KID, by torchmetrics.

Both need a trained network, whose weights are downloaded by torch-fidelity: where they cannot be had, that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from evaluation.pictures import opened

AT_A_TIME = 16
SIDE = 299  # px, at which pictures of several sizes are looked at
Pair = tuple[Path, Path]  # of a picture that was made, and of the right one
Distances = Mapping[str, Mapping[str, float]]  # by model, "fid" and "kid"


def set_distances(pairs: Mapping[str, Sequence[Pair]], network: torch.nn.Module | None = None) -> Distances | str:
    """FID and KID of each model's pictures; or why there are none. ``network`` stands for Inception's features."""
    try:
        return {model: _distances(of_model, network) for model, of_model in pairs.items()}
    except Exception as error:  # no package, no weights, too few pictures: whatever it is, it is said
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return f"not computed ({reason})"


def _distances(pairs: Sequence[Pair], network: torch.nn.Module | None) -> dict[str, float]:
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance

    given: dict[str, Any] = {"normalize": True} | ({} if network is None else {"feature": network})
    fid = FrechetInceptionDistance(**given)
    kid = KernelInceptionDistance(subset_size=min(50, len(pairs)), **given)
    for start in range(0, len(pairs), AT_A_TIME):
        made, right = (
            torch.cat([_square(path) for path in paths]) for paths in zip(*pairs[start:][:AT_A_TIME], strict=True)
        )
        for measure in (fid, kid):
            measure.update(made, real=False)
            measure.update(right, real=True)
    return {"fid": float(fid.compute()), "kid": float(kid.compute()[0])}


def _square(path: Path) -> Tensor:
    return torch.nn.functional.interpolate(opened(path), (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)
