"""How much do the pictures differ?"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from ...attribution import Attribution
from ...errors import Lacking
from ..facts import Facts
from ..finding import Evidence, Finding, Rule, Values
from .two import MOST, Pictures, TwoRuns, mean_of_pairs

NO_PICTURES = "the pictures of both runs are not known"
PROOF = Evidence("picture")


def find(two: TwoRuns) -> Iterator[Finding]:
    """By the mean difference of their colours, against what a picture of one colour differs by."""
    of_a, of_b = _pictures(two.a, two.pictures[0]), _pictures(two.b, two.pictures[1])
    if two.item not in of_a or two.item not in of_b:
        raise Lacking(NO_PICTURES)
    a, b = of_a[two.item], of_b[two.item]
    if a.shape != b.shape:
        raise Lacking(f"the pictures have {_size(a)} and {_size(b)} pixels")
    difference = (a - b).abs().mean(-1)
    if not difference.any():
        yield Finding("picture", "same", "fact", {}, PROOF)
        return
    values: Values = {"differ": float(difference.mean()), "flat": float((a - a.flatten(0, -2).mean(0)).abs().mean())}
    batch_a, batch_b = ([picture for n, picture in of.items() if n < MOST] for of in (of_a, of_b))
    seeds = mean_of_pairs(batch_a, batch_b, lambda x, y: float((x - y).abs().mean()))
    values |= {} if seeds is None else {"seeds": seeds}
    yield Finding("picture", "differs" + ("" if seeds is None else ", beside seeds"), "fact", values, PROOF)
    if difference.ndim == 2:
        yield from _in_the_mask(two.facts[0], difference)


def _in_the_mask(facts: Facts, difference: Tensor) -> Iterator[Finding]:
    """Of a difference ``[H, W]`` what lies inside the mask of A, and outside."""
    grid = facts.attribution.grid
    if facts.cover is None:
        return
    cover = facts.cover.view(grid.frames, grid.height, grid.width).amax(0)
    inside = F.interpolate(cover[None, None], difference.shape, mode="nearest-exact")[0, 0] > 0
    if inside.all():
        return
    values: Values = {"inside": float(difference[inside].mean()), "outside": float(difference[~inside].mean())}
    yield Finding("picture", "in the mask", "fact", values, PROOF)


def _pictures(run: Attribution, given: Pictures) -> dict[int, Tensor]:
    """Those that are given, or else those that the run was saved with: ``[H, W, 3]`` in [0, 1]."""
    if given:
        return dict(given)
    stored = {item: run.picture("r2g", 0, item) for item in range(run.items)}
    return {item: picture.float() / 255 for item, picture in stored.items() if picture is not None}


def _size(picture: Tensor) -> str:
    frames = f"{picture.shape[0]} frames of " if picture.ndim == 4 else ""
    return f"{frames}{picture.shape[-2]}x{picture.shape[-3]}"


_DIFFER = (
    "The pictures of A and B differ by {differ:.1%} of the range of colours; a picture of one colour, the mean of A, "
    "differs from A by {flat:.1%}"
)
SENTENCES = {
    "same": "The pictures of A and B are the same in every pixel.",
    "differs": _DIFFER + ".",
    "differs, beside seeds": _DIFFER + ", and two pictures of one batch from each other by {seeds:.1%}.",
    "in the mask": "In the mask of A they differ by {inside:.1%}, outside it by {outside:.1%}.",
}
RULE = Rule("picture", find, SENTENCES)
