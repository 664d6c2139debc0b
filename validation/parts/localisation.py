"""Are maps where they should be? On the picture in the mask and on the object, on the reference on the object.

Three measures that are common for maps of which the truth is a region: the part of the map's sum in it, the part of its
highest cells that are in it (as many as the region has; both as Arras, Osman & Samek, 2022, define them), and whether
the highest cell of all is (the pointing game of Zhang et al., 2018).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...demo import data, effect
from ...demo.steer import bracketed, interval, table
from ...demo.subject import CrossAttention
from ...demo.train import CONSISTENT_FROM, SUPERVISED, SUPERVISED_LATER
from ...i2am_core import CUTS
from .. import baselines
from ..lab import Lab
from ..observed import TRAININGS
from ..section import Section

MEASURES = ("relevance mass", "relevance rank", "pointing game")
TRUTH = "the truth itself"
GUESSES = ("random", "centre", "edges")  # geometry knows where the square is
RANDOM = 100  # maps by chance, of which a baseline is the mean
MAPS_ON_PICTURE = {"R2G of the paper": "r2g_paper", "R2G by share": "r2g_share"}
MAPS_ON_REFERENCE = {
    "G2R of the paper, of the mask": "g2r_paper mask",
    "G2R of the paper, of the whole picture": "g2r_paper whole",
    "G2R by share, of the mask": "g2r_share mask",
    "G2R by share, of the whole picture": "g2r_share whole",
}


def run(lab: Lab) -> Section:
    text = [INTRODUCTION]
    verdicts: dict[str, list[str]] = defaultdict(list)
    for name, study in lab.studies.items():
        on_picture, on_reference = _on_picture(lab, name, study), _on_reference(lab, name, study)
        scenes = study.scenes
        truths = {
            "on the picture, in the mask": (on_picture, scenes.mask),
            "on the picture, on the object": (on_picture, scenes.object_mask),
            "on the reference, on the object": (on_reference, scenes.reference_object_mask),
        }
        for where, (maps, masks) in truths.items():
            truth = baselines.cover(masks)[study.order] > 0.5
            measured = {of: measures(values, truth) for of, values in maps.items()}
            measured["random"] = by_chance(truth)
            measured[TRUTH] = measures(truth.float(), truth)
            text += [f"### {name[0].upper()}{name[1:]}: {where}", _table(measured, truth) + ALONE * study.alone]
            if isinstance(study.subject, CrossAttention):
                text.append(TRAINED[maps is on_reference])
            guesses = GUESSES if "mask" in where else (*GUESSES, "geometry")
            trained = TRAINED_MAPS if isinstance(study.subject, CrossAttention) else ()
            verdicts[where].append(_verdict(name, measured, guesses, trained))
    text.append(MEANING)
    said = {f"How much of each map lies {where}, beside the best guess?": ". ".join(x) for where, x in verdicts.items()}
    return Section("Where maps lie", text, verdicts=said)


def measures(maps: Tensor, truth: Tensor) -> Tensor:
    """Of maps ``[n, h, w]`` and boolean truths, the numbers of ``MEASURES``: ``[3, n]``.

    Of values that are equal those that are cut off, and the highest, are taken for the mean of what they may be.
    """
    values, inside = maps.flatten(1).double().clamp(min=0), truth.flatten(1)
    total = values.sum(1)
    mass = torch.where(total > 0, (values * inside).sum(1) / total.clamp(min=1e-30), inside.double().mean(1))
    most = torch.stack([_part_of_highest(x, y, 1) for x, y in zip(values, inside, strict=True)])
    rank = torch.stack([_part_of_highest(x, y, int(y.sum())) for x, y in zip(values, inside, strict=True)])
    return torch.stack([mass, rank, most]).float()


def _part_of_highest(values: Tensor, inside: Tensor, count: int) -> Tensor:
    """How many of the ``count`` highest values ``[cells]`` are inside: a part of them."""
    last = values.topk(count).values[-1]
    above, equal = values > last, values == last
    drawn = (count - above.sum()) / equal.sum()  # of those that are equal to the last
    return (inside[above].sum() + drawn * inside[equal].sum()) / count


def by_chance(truth: Tensor) -> Tensor:
    """The measures of maps by chance."""
    return torch.stack([measures(baselines.random(len(truth), seed), truth) for seed in range(RANDOM)]).mean(0)


def _on_picture(lab: Lab, name: str, study: effect.Study) -> dict[str, Tensor]:
    own = study.measured()
    effects = {"Effect": own["effect"].mean(1).unflatten(1, (data.GRID, data.GRID))}
    return effects | _of_attention(lab, name, study, MAPS_ON_PICTURE) | _without_random(baselines.on_picture(study))


def _on_reference(lab: Lab, name: str, study: effect.Study) -> dict[str, Tensor]:
    """Effects of regions are spread evenly on their cells."""
    own = study.measured()
    effects = {
        f"Effect of {effect.REGIONS.cells} regions, {cut}": F.interpolate(
            study.in_mask_of(own[cut]).unflatten(1, (effect.PER_SIDE, effect.PER_SIDE))[:, None],
            scale_factor=data.GRID // effect.PER_SIDE,
        )[:, 0]
        for cut in CUTS
    }
    return effects | _of_attention(lab, name, study, MAPS_ON_REFERENCE) | _without_random(baselines.on_reference(study))


def _of_attention(lab: Lab, name: str, study: effect.Study, of: Mapping[str, str]) -> dict[str, Tensor]:
    """Where the reference is all there is to look at, its share is 1 on the picture, and on it what the paper's is."""
    observed = TRAININGS[name].models(0)[-1].observed(lab)
    return {title: observed[key] for title, key in of.items() if not (study.alone and "share" in key)}


def _without_random(maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: values for name, values in maps.items() if name != "random"}


def _table(measured: Mapping[str, Tensor], truth: Tensor) -> str:
    rows = [[name, *(bracketed(x, 2) for x in of)] for name, of in measured.items()]
    area = f"{len(truth)} scenes; the region is {truth.float().mean():.0%} of the cells."
    return f"{table(['map', *MEASURES], rows)}\n\n{area}"


def _verdict(name: str, measured: Mapping[str, Tensor], guess: Sequence[str], trained: Sequence[str]) -> str:
    """Of mass and rank each map, beside the best that a map without a model has."""
    own = [of for of in measured if of not in (*baselines.BASELINES, TRUTH)]
    said = []
    for number, measure in enumerate(MEASURES[:2]):
        best = max(guess, key=lambda of: measured[of][number].mean().item())
        rival = measured[best][number]
        maps = []
        for of in own:
            values = measured[of][number]
            above = "above" if interval(values - rival)[0] > 0 else "not above"
            maps.append(f"{of} {bracketed(values, 2)} ({above}{', trained so' * of.startswith(tuple(trained))})")
        said.append(f"{measure}, {best} {bracketed(rival, 2)}: {', '.join(maps)}")
    return f"{name}: {'; '.join(said)}"


INTRODUCTION = f"""How much of a map is where it must be: in the square that is painted, on the object in the
picture, on the object in its reference. Measured are the part of the map's sum in that region (relevance mass), of
the highest cells, as many as the region has, the part in it (relevance rank), and whether the highest of all is in
it (pointing game). The first two are as Arras, Osman and Samek (2022) define them, the third as Zhang et al. (2018)
do; the formulas are ours: Quantus has them too, but for a classifier whose input is explained, and brings pandas,
scikit-learn and scikit-image along. Below the maps of the model stand guesses that no model made: *random* is the
mean of {RANDOM} maps by chance, *geometry* is where the objects of the other scenes are, *object* is how much of a
cell the object covers. A region is of cells that are covered by more than half."""

ALONE = " Here the reference is all there is to look at, so that share says nothing beside the paper's maps."
TRAINED = {  # by whether it is of the reference
    False: f"From step {CONSISTENT_FROM} on this model was trained with a loss that brings R2G of the paper "
    "into the mask, and there onto the object: that it lies there was made so.",
    True: f"{len(SUPERVISED)} layers of this model, and {len(SUPERVISED + SUPERVISED_LATER)} from step "
    f"{CONSISTENT_FROM} on, were trained to look from each place on the object at the one that it comes from, which "
    "is on the object: that G2R lies there was made so.",
}
TRAINED_MAPS = ("R2G of the paper", "G2R of the paper")
MEANING = """In the mask, the best guess is one that does not know the mask. The mask itself, which a user has
painted, is *the truth itself* there. Relevance mass counts all that a map has everywhere, however little, and rank does
not: a map by share is nowhere 0. A map that lies in the region is not thereby right: *geometry* and *object* see
nothing of what the model does. What a map has to do with the picture is measured by changing the reference, in
other parts."""
