"""Deletion and insertion: whole runs without cells of the reference, taken away in the order of a map."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ...demo import data, effect
from ...demo.steer import bracketed, table
from .. import baselines
from ..cells_taken_away import painted_without
from ..curves import Plot, drawn
from ..lab import Lab
from ..section import Section

TITLE = "Deletion and insertion of the reference's tokens"
LEVELS = (5, 10, 20, 35, 50, 75)  # percent of the cells; 0 and 100 are runs that are there anyway
SCENES = 12  # at most: each level of each order is a whole run
CELLS = data.GRID**2
DELETION, INSERTION = "deletion", "insertion"
QUESTION = "which cells of the reference matter (deletion), and which are enough (insertion)"
PAPER, SHARE, EFFECT = "G2R of the paper", "G2R by share", "Effect of 16 regions"
RANDOM = "random"

Curves = dict[str, Tensor]  # "distance" and "psnr" of each scene at each of percents(): [n, levels]


def run(lab: Lab) -> Section:
    text = [
        f"The reference of the object has {CELLS} cells. In the order of a map, the highest first, "
        f"{_listed(percents())} % of them are taken away (deletion), or are all that is left (insertion), in all steps "
        "of a whole run. *Distance* is the root mean square in the mask to the plain picture, of colours in [0, 1]; "
        "PSNR is against the truth. Both are the area under the curve: the mean over 0 to 100 %, of each scene. A map "
        "that knows what counts has a high distance and a low PSNR where its cells are deleted. Where they are "
        "inserted it should be the other way round: whether it is, the truth says, *object* against *random*.",
        "Effect was measured of regions of 4 x 4 cells; cells of one region, like all that a map does not tell apart, "
        "come in an order by chance. In the figures, bands are intervals of the means over scenes. All maps are of the "
        "same scenes, so that the differences in the tables are more certain than bands look. Cells are left out of "
        "the softmax, in the way of Effect. *Object* is the truth, and no map of a model.",
    ]
    figures, verdict = {}, []
    for name, study in lab.studies.items():
        measured = {kind: _of_orders(lab, study, kind) for kind in (DELETION, INSERTION)}
        figure = name.partition("-")[0].partition(" ")[0]
        text += [f"### {name.capitalize()}", table(*_table(measured)), _says(measured), f"{{{figure}}}"]
        figures[figure] = (_drawn(measured), f"Deletion and insertion, {name}")
        verdict.append(f"{name}: {'; '.join(_best(measured, kind) for kind in measured)}")
    text.append(
        "What this does not show: how much a cell counts beside all others. Cells repeat each other, and leaving many "
        "out is nothing that the models were trained for."
    )
    return Section(TITLE, text, figures, {QUESTION: ". ".join(verdict) + "."})


def orders(study: effect.Study) -> dict[str, Tensor]:
    """By the name of each map the cells of the reference, the highest first: ``[n, CELLS]``."""
    own = study.measured()
    by_regions = study.in_mask_of(own["taken away"]).view(-1, 1, effect.PER_SIDE, effect.PER_SIDE)
    maps = {PAPER: own["g2r_paper"]}
    if not study.alone:
        maps[SHARE] = own["g2r_share"]
    maps[EFFECT] = F.interpolate(by_regions, (data.GRID, data.GRID))[:, 0]
    maps |= baselines.on_reference(study)
    return {name: descending(values.flatten(1)[:SCENES]) for name, values in maps.items()}


def descending(values: Tensor) -> Tensor:
    """Places of values ``[n, cells]``, the highest first; those of equal ones by chance, the same each time."""
    shuffled = torch.rand(values.shape, generator=torch.Generator().manual_seed(2)).argsort(1)
    return shuffled.gather(1, values.gather(1, shuffled).argsort(dim=1, descending=True, stable=True))


def taken(order: Tensor, kind: str, percent: int) -> Tensor:
    """Which cells are taken away ``[n, cells]`` (boolean) where so many are deleted, or so many are inserted."""
    first = torch.zeros_like(order, dtype=torch.bool).scatter(
        1, order[:, : round(order.shape[1] * percent / 100)], True
    )
    return first if kind == DELETION else ~first


def percents() -> tuple[int, ...]:
    """Of the cells, at the points of a curve."""
    return (0, *LEVELS, 100)


def area(curve: Tensor) -> Tensor:
    """The mean of a curve ``[n, levels]`` over 0 to 100 %, by the trapezoidal rule: ``[n]``."""
    return torch.trapezoid(curve, torch.tensor(percents(), dtype=curve.dtype) / 100)


def _of_orders(lab: Lab, study: effect.Study, kind: str) -> dict[str, Curves]:
    plain, without = (_scored(study, study.pictures(x)[:SCENES]) for x in (effect.PLAIN, study.without))
    ends = (plain, without) if kind == DELETION else (without, plain)
    result = {}
    for name, order in orders(study).items():
        between = lab.stored(f"{kind} at {LEVELS}, {study.subject.key}, {name}", partial(_between, study, kind, order))
        result[name] = {key: torch.stack([ends[0][key], *between[key].T, ends[1][key]], 1) for key in plain}
    return result


def _between(study: effect.Study, kind: str, order: Tensor) -> Curves:
    levels = [_scored(study, painted_without(study, taken(order, kind, percent))) for percent in LEVELS]
    return {key: torch.stack([level[key] for level in levels], 1) for key in levels[0]}


def _scored(study: effect.Study, pictures: Tensor) -> Curves:
    of = study.order[: len(pictures)]
    mask, truth = study.scenes.mask[of], study.scenes.image[of]
    plain = study.pictures(effect.PLAIN)[: len(pictures)]
    return {
        "distance": study.distance(pictures, plain, mask),
        "psnr": data.psnr(pictures, truth, mask),
    }


# How it is written


def _table(measured: Mapping[str, Mapping[str, Curves]]) -> tuple[list[str], list[list[str]]]:
    heads = [
        "order of",
        *(f"{kind}: {what}" for kind in measured for what in ("distance", "against random", "PSNR, dB")),
    ]
    rows = []
    for name in measured[DELETION]:
        row = [name]
        for of in measured.values():
            one, other = (area(of[x]["distance"]) for x in (name, RANDOM))
            row += [bracketed(one, 3), "" if name == RANDOM else bracketed(one - other, 3, sign=True),
                    bracketed(area(of[name]["psnr"]), 1)]  # fmt: skip
        rows.append(row)
    return heads, rows


def _says(measured: Mapping[str, Mapping[str, Curves]]) -> str:
    scenes = len(measured[DELETION][RANDOM]["psnr"])
    ranked = {
        DELETION: sorted(measured[DELETION], key=lambda x: -_distance(measured[DELETION][x])),
        INSERTION: sorted(measured[INSERTION], key=lambda x: _distance(measured[INSERTION][x])),
    }
    return f"{scenes} scenes. " + " ".join(
        f"From the best to the worst by distance, {kind}: {', '.join(names)}." for kind, names in ranked.items()
    )


def _best(measured: Mapping[str, Mapping[str, Curves]], kind: str) -> str:
    """Each map of the model against the best of the baselines that a user has, and the truth against chance."""
    of = {name: area(curve["distance"]) for name, curve in measured[kind].items()}
    best, wanted = (max, "more") if kind == DELETION else (min, "less")
    rival = best((x for x in baselines.BASELINES if x != "object"), key=lambda x: of[x].mean().item())
    says = [
        f"{name} {bracketed(values - of[rival], 3, sign=True)}"
        for name, values in of.items()
        if name not in baselines.BASELINES
    ]
    truth = bracketed(of["object"] - of[RANDOM], 3, sign=True)
    return (
        f"distance under {kind}, {wanted} is better, against the best baseline ({rival}) in {len(of[RANDOM])} scenes: "
        f"{', '.join(says)} (the truth against random {truth})"
    )


def _drawn(measured: Mapping[str, Mapping[str, Curves]]) -> Figure:
    plots = [
        Plot(kind, percents(), {name: curve["distance"] for name, curve in of.items()}) for kind, of in measured.items()
    ]
    return drawn(
        plots, "% of the reference's cells, taken away or left", "distance to the plain picture",
        dashed=baselines.BASELINES,
    )  # fmt: skip


def _distance(curve: Curves) -> float:
    return area(curve["distance"]).mean().item()


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(map(str, numbers[:-1])) + f" and {numbers[-1]}"
