"""Two references in joint attention, of the scene and of the object: which made what, and by which route?

Only the model with joint attention has both: in the other one the scene comes by channels.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ...demo import effect
from ...demo.steer import bracketed, table
from ...i2am_core import Removal
from ...i2am_core.effect import ROUTES
from ...nodes.comfy.removals import Settings
from .. import baselines
from ..lab import Lab
from ..section import Section
from ..side_by_side import Scores, in_short, side_by_side

TITLE = "Two references: which made what"
SCENE = 0  # the number of its reference; that of the object is behind it
BOTH_ROUTES = Settings(routes=ROUTES)
TRUTHS = ("in the mask", "on the object")
OBJECT_ALONE = ", object alone"  # ends the names of maps that leave out what the scene gets
RUNS = {"with the mask": True, "without": False}  # whether the sampler gets it


def run(lab: Lab) -> Section:
    study = lab.joint
    scores = {name: of_positions(study, measured(lab, painted)) for name, painted in RUNS.items()}
    text = [
        "The joint model gets two references: the scene, and the object. What the object looks like can only come from "
        "its own, and all outside of the mask from the scene's. So the truth is known: is what a map gives to the "
        "object, minus what it gives to the scene, higher in the mask, or on the object in it, than outside of the "
        "mask? AUC over positions, in each scene; 0.5 is chance. The background in the mask has to be guessed from the "
        "scene, so that a right map is below 1 in the mask and 1 on the object. The mask itself, which a user has "
        "painted, is a map of 1 in both. *Geometry* and *object* are no guesses here: both are 0 outside of the mask.",
        table(*side_by_side({"AUC": scores["with the mask"]})),
        "Where the sampler gets no mask, so that the model paints everything, no mean differs by more than "
        f"{_most_apart(*scores.values()):.3f}: what is to be painted, the model sees in the scene's reference.",
        "*Object alone* leaves out what the scene gets. The paper's R2G sums to 1 over the picture for each reference, "
        "so that its levels do not compare two of them.",
        "### Routes",
        "A reference reaches the picture directly, since the picture's positions look at it, and by way of all others "
        "that do: text and scene. Of the object, in the run with the mask:",
        table(*_routes(study, measured(lab, True))),
        f"{lab.scenes} scenes, joint attention alone: the U-Net has one reference. What this does not show: how two "
        "references share what both could have made.",
    ]
    of_both = {name: x for name, x in scores["with the mask"].items() if not name.endswith(OBJECT_ALONE)}
    verdict = f"the mask itself 1, {in_short(of_both, TRUTHS[0])}."
    return Section(TITLE, text, verdicts={"which of two references made a place (joint attention, AUC)": verdict})


def measured(lab: Lab, painted: bool) -> dict[str, Tensor]:
    """Of both references maps on the picture ``[n, cells]``, by 'object share' and the like, of one run each."""
    study = lab.joint
    name = f"two references, {study.subject.key}, {'' if painted else 'not '}painted in the mask"
    return lab.stored(name, partial(_measured, study, painted))


def _measured(study: effect.Study, painted: bool) -> dict[str, Tensor]:
    parts = [_measured_in(study, part, painted) for part in study.order.split(effect.BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _measured_in(study: effect.Study, part: Tensor, painted: bool) -> dict[str, Tensor]:
    _, attribution = study.attribution("own", 1.0, part, BOTH_ROUTES, painted)
    effects, result = attribution.effects, {}
    assert effects is not None
    assert not effects.unmeasured
    for name, owner in (("scene", SCENE), ("object", study.subject.object)):
        for route in ROUTES:
            maps = [effects.maps[Removal(step, owner, route)] for step in effects.steps(owner, route)]
            result[f"{name} {route}"] = torch.stack(maps).mean(0)
        for key in ("share", "paper"):
            maps = [effect.map_of(attribution, f"r2g_{key}", owner, n).flatten() for n in range(len(part))]
            result[f"{name} {key}"] = torch.stack(maps)
    return result


def of_positions(study: effect.Study, maps: dict[str, Tensor]) -> Scores:
    """Of each map, how well it tells positions of the object's reference from those of the scene's: AUC ``[n]``."""
    candidates = {
        "Effect": maps["object everything"] - maps["scene everything"],
        "Effect, directly": maps["object directly"] - maps["scene directly"],
        f"Effect{OBJECT_ALONE}": maps["object everything"],
        "share": maps["object share"] - maps["scene share"],
        f"share{OBJECT_ALONE}": maps["object share"],
        "R2G of the paper": maps["object paper"] - maps["scene paper"],
        f"R2G of the paper{OBJECT_ALONE}": maps["object paper"],
    }
    made = baselines.on_picture(study)
    candidates |= {name: made[name].flatten(1) for name in ("random", "centre", "edges")}  # others know the mask
    inside = study.in_mask[study.order]
    on_object = made["object"].flatten(1) > 0.5
    truths = dict(zip(TRUTHS, (inside, on_object & inside), strict=True))
    return {
        name: {what: auc_of_positions(values, truth, ~inside) for what, truth in truths.items()}
        for name, values in candidates.items()
    }


def auc_of_positions(values: Tensor, good: Tensor, bad: Tensor) -> Tensor:
    """Of each row of values ``[n, cells]``, how often a good position is above a bad one: ``[n]``."""
    rows = zip(values, good, bad, strict=True)
    return torch.tensor([effect.auc(of[yes], of[no]) for of, yes, no in rows])


def _most_apart(one: Scores, other: Scores) -> float:
    """The largest difference of the means of two tables."""
    return max(abs(float(x.mean() - other[name][truth].mean())) for name, of in one.items() for truth, x in of.items())


def _routes(study: effect.Study, maps: dict[str, Tensor]) -> tuple[list[str], list[list[str]]]:
    inside = study.in_mask[study.order]
    change = study.change(study.pictures(study.without), study.pictures(effect.PLAIN))
    everything = study.in_mask_of(maps["object everything"])
    rows = []
    for route in ROUTES:
        values = maps[f"object {route}"]
        strength = study.in_mask_of(values)
        rows.append([route, bracketed(strength, 3), bracketed(strength / everything, 2),
                     bracketed(effect.spearman(values, change, inside), 2)])  # fmt: skip
    return ["route", "strength in the mask", "of everything", "Spearman with the change without it"], rows
