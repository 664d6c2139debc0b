"""The single frames of a video as a viewer reads them: how a reference acts on each, as means of all steps and heads.

Tensors, for ``<place>`` = ``<item>/<reference>/<layer number or 'all'>``, whose rows are frames of the video's latent:

* ``frames/<place>/<field>`` uint8 ``[frames, h, w]`` and ``frame_range/<place>/<field>`` float32 ``[frames, 2]``, of
  the maps on the picture: see ``view``;
* ``frame_measures/<place>`` float32 ``[3, frames]``: the measures of ``view``.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..attribution import Attribution
from ..kinds import UNSCOPED
from ..reading.levels import maps
from ..selection import Selection
from .header import HeaderVideo
from .quantized import quantize
from .view_measures import MEASURES, add_measures

KINDS = tuple(kind for kind in UNSCOPED if not kind.on_reference)
BYTES_BESIDE_MAP = 4 * (2 * len(KINDS) + len(MEASURES))  # of a frame: its ranges and its measures, as float32


def add_frames(
    tensors: dict[str, Tensor], attribution: Attribution, masks: Sequence[Tensor | None], free_bytes: int
) -> HeaderVideo | None:
    """Add the frames of each layer and of the mean of all, or of that mean alone, or none: what fits ``free_bytes``.

    What they are of is returned; None where the picture is no video, or its layers have unlike numbers of frames.
    """
    read = sorted({layer for _, layer in attribution.entries})
    counts = {attribution.layers[n].grid.frames for n in read}
    if len(counts) != 1 or counts == {1}:
        return None
    for layers in (read, []):
        if _size(attribution, layers) <= free_bytes:
            _add(tensors, attribution, masks, layers)
            return {"frames": counts.pop(), "layers": layers}
    return None


def _size(attribution: Attribution, layers: Sequence[int]) -> int:
    """Bytes of the frames of each of these layers, and of the mean of all."""
    total = 0
    for reference in range(len(attribution.references)):
        grids = {n: attribution.layers[n].grid for r, n in attribution.entries if r == reference}
        sizes = {n: grid.frames * (len(KINDS) * grid.plane + BYTES_BESIDE_MAP) for n, grid in grids.items()}
        total += sum(size for n, size in sizes.items() if n in layers) + max(sizes.values(), default=0)
    return total * attribution.items


def _add(
    tensors: dict[str, Tensor], attribution: Attribution, masks: Sequence[Tensor | None], layers: Sequence[int]
) -> None:
    for reference, layer in _places(attribution, layers):
        for item in range(attribution.items):
            place = f"{item}/{reference}/{layer}"
            selection = Selection(item=item, reference=reference, layers=layer)
            mask = masks[item] if masks else None
            for kind in KINDS:
                rows = maps(attribution, kind, "frame", selection).values
                tensors[f"frames/{place}/{kind.key}"], tensors[f"frame_range/{place}/{kind.key}"] = quantize(rows)
                none = torch.full((len(MEASURES), len(rows)), math.nan)
                measured = tensors.setdefault(f"frame_measures/{place}", none)
                add_measures(measured, rows, kind, (attribution, item), mask)


def _places(attribution: Attribution, layers: Sequence[int]) -> list[tuple[int, str]]:
    """Of each reference that any layer has read: the mean of all these, and each of ``layers`` among them."""
    read = sorted(attribution.entries)
    means = [(reference, "all") for reference in sorted({reference for reference, _ in read})]
    return [*means, *((reference, str(n)) for reference, n in read if n in layers)]
