"""Do maps say what a reference changed? Against whole runs without it, and changes that Effect does not make."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ...demo import effect
from ...demo.steer import percent, table
from .. import baselines
from ..lab import Lab
from ..section import Section
from ..side_by_side import Scores, in_short, side_by_side

TITLE = "What maps say of what the reference changed"
CHANGED = {  # what is done to a region
    "without the region": "taken away",
    "background over it": "background",
    "blurred": "blurred",
}
# What Effect does itself in one step: its own measure, over a whole run.
OWN = ("without the reference", "the same, from other noise", "without the region")
OF_POSITIONS, OF_REGIONS = "positions in the mask, Spearman", f"{effect.REGIONS.cells} regions, Spearman"
IN_THE_MASK = "edges of the picture, in the mask"


def run(lab: Lab) -> Section:
    studies = lab.studies
    positions = {name: of_positions(study) for name, study in studies.items()}
    regions = {name: of_regions(study) for name, study in studies.items()}
    among_object = {name: of_regions(study, among_object=True) for name, study in studies.items()}
    text = [
        "Everything here is held against the finished pictures of *whole* runs. Columns that are called *Effect's own* "
        f"({', '.join(OWN)}) are circular: taking away is how Effect measures, there in one step and here in all. They "
        "say whether the one foretells the other, and not that Effect is better than a map of attention. The other "
        "changes are not such as Effect makes: other references in its place, other pixels in a region of it. "
        "Another reference changes more than what the right one caused: the wrong object is painted as well. "
        "*Object* is the truth, and no map that a user has.",
        "### Where the picture changes",
        "Spearman over the positions in the mask, in each scene; the mean of the scenes.",
        table(*side_by_side(positions)),
        "### What of the reference counts",
        f"Spearman over {effect.REGIONS.cells} regions of the reference, against what the picture changes by in the "
        "mask where the region is taken away, has the background painted over it, or is blurred. Effect was measured "
        "in the first step alone.",
        table(*side_by_side(regions)),
        f"Among the regions that hold the object, {effect.HOLDS:.0%} of a region or more:",
        table(*side_by_side(among_object)),
        *_strengths(studies),
        *(f"In the {name} model {effect.NO_SHARE}" for name, study in studies.items() if study.alone),
        f"{lab.scenes} scenes. What this does not show: whether the change is a good one, and what holds in guidance "
        "above 1 or in many steps.",
    ]
    verdicts = {
        f"where the picture changes without the reference ({OF_POSITIONS}; Effect's own change)": _verdict(
            positions, "without the reference"
        ),
        f"where it changes with another reference in its place ({OF_POSITIONS})": _verdict(
            positions, "another one in its place"
        ),
        f"where it changes with a blank one in its place ({OF_POSITIONS})": _verdict(
            positions, "a blank one in its place"
        ),
        f"which parts of the reference count when they are taken away ({OF_REGIONS}; Effect's own change)": _verdict(
            regions, "without the region"
        ),
        f"which parts count when the background is painted over them ({OF_REGIONS})": _verdict(
            regions, "background over it"
        ),
        f"which parts count when they are blurred ({OF_REGIONS})": _verdict(regions, "blurred"),
        "whether the reference says anything (AUC of the right one against those that do not)": _separated(studies),
    }
    return Section(TITLE, text, verdicts=verdicts)


# Positions and regions


def of_positions(study: effect.Study) -> Scores:
    """Of each map on the picture, the correlation in the mask with each change of the picture."""
    inside, changes = study.in_mask[study.order], effect.changes_of_the_picture(study)
    maps = effect.maps_on_the_picture(study) | {k: x.flatten(1) for k, x in baselines.on_picture(study).items()}
    return {
        name: {_head(what): effect.spearman(values, change, inside) for what, change in changes.items()}
        for name, values in maps.items()
    }


def of_regions(study: effect.Study, among_object: bool = False) -> Scores:
    """Of each map on the reference, the correlation over regions, or those that hold the object, with each change."""
    made = baselines.on_reference(study)
    maps = effect.maps_on_the_reference(study, ("taken away",)) | {k: effect.by_region(x) for k, x in made.items()}
    where = maps["object"] > effect.HOLDS if among_object else None
    changes = {what: study.change_by_region(how) for what, how in CHANGED.items()}
    return {
        name: {_head(what): effect.spearman(values, change, where) for what, change in changes.items()}
        for name, values in maps.items()
    }


def _head(change: str) -> str:
    """Of its column."""
    return f"{change} (Effect's own)" if change in OWN else change


def _verdict(models: Mapping[str, Scores], change: str) -> str:
    words = [f"{model}: {in_short(of, _head(change))}" for model, of in models.items()]
    return ". ".join(words) + "."


# Does the strength tell?


def strengths(study: effect.Study) -> dict[str, dict[str, Tensor]]:
    """By score and by reference, one number of each scene ``[n]``."""
    results = effect.measured_references(study)
    inside = study.in_mask[study.order].float()
    scores = {
        "strength of Effect": {name: study.in_mask_of(x["effect"]).mean(1) for name, x in results.items()},
        "share in the mask": {name: _mean_in(x["r2g_share"], inside) for name, x in results.items()},
        "IMACS of R2G": {name: x["imacs"] for name, x in results.items()},
        IN_THE_MASK: {name: _mean_in(baselines.edges(x["image"]), inside) for name, x in results.items()},
    }
    if study.alone:
        del scores["share in the mask"]
    return scores


def _mean_in(maps: Tensor, inside: Tensor) -> Tensor:
    return (maps.flatten(1) * inside).sum(1) / inside.sum(1)


def _strengths(studies: Mapping[str, effect.Study]) -> list[str]:
    models = {name: strengths(study) for name, study in studies.items()}
    others = [x for x in next(iter(next(iter(models.values())).values())) if x != effect.RIGHT]
    rows = []
    for model, scores in models.items():
        for score, of in scores.items():
            right = of[effect.RIGHT]
            cells = (f"{effect.bracketed_auc(right, of[x])}, {percent(right > of[x])}" for x in others)
            rows.append([f"{model}: {score}", *cells])
    return [
        "### Does the strength tell a good reference from one that says nothing?",
        "How often a run with the right reference has the higher score: AUC, any two scenes, 0.5 is chance; behind it, "
        "in how many scenes the right one is above the other in the same scene.",
        table(["score", *others], rows),
    ]


def _separated(studies: Mapping[str, effect.Study]) -> str:
    words = []
    for model, study in studies.items():
        for name, of in strengths(study).items():
            others = [x for x in of if x not in (effect.RIGHT, effect.WRONG)]
            numbers = ", ".join(f"{x} {effect.bracketed_auc(of[effect.RIGHT], of[x])}" for x in others)
            words.append(f"{model}, {name}: {numbers}")
    return "; ".join(words) + "."
