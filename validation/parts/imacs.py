"""Do IMACS and other scores go with the quality of pictures? Over models, over scenes, and over seeds of a scene."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from ...demo import data, effect
from ...demo.steer import interval, table
from ...demo.train import CONSISTENT_FROM
from ...evaluation.statistics import LEAST, Estimate, over_models, spearman, within
from ...i2am_core import AttributionError, imacs, share_inside
from .. import baselines
from ..lab import Lab, digest
from ..observed import TRAININGS, Model, Training
from ..section import Section

BETWEEN = 3  # averages of weights between two files of a training
NOISES = 12  # from which each scene is painted by the finished model
QUALITIES = ("PSNR", "SSIM", "L1")
HEADLINE = ("IMACS of R2G", "IMACS of R2G by share", "IMACS of G2R of the mask", "strength of the effect")
PLACE = "guess: place in the training"  # its models come in that order
LEVELS = {
    "models": "Over models: do models with higher scores paint better?",
    "scenes": "Over scenes: are the pictures of one model with higher scores better? The mean over the models.",
    "seeds": "Over seeds: of pictures of one scene by one model, are those with higher scores better?",
}
ANSWERED = ("scenes", "seeds")  # of which there are enough, and independent of each other, for an answer
COLOURS = {"cross-attention": ("#0072b2", "o"), "joint attention": ("#e69f00", "s")}  # of Okabe and Ito
NOTHING = Estimate(float("nan"), float("nan"), float("nan"), 0)

Estimates = dict[str, dict[str, Estimate]]  # by score, by quality


@dataclass(frozen=True)
class Rows:
    """What was painted: of each model and noise a row for each scene. ``values`` are scores and qualities, by name."""

    values: Mapping[str, np.ndarray]
    models: Sequence[str]
    scenes: Sequence[str]

    @property
    def scores(self) -> list[str]:
        """Those that say anything: a share of 1 everywhere has no map."""
        return [name for name, x in self.values.items() if name not in QUALITIES and np.isfinite(x).any()]


def run(lab: Lab) -> Section:
    by_model, by_seed = {}, {}
    for name, training in TRAININGS.items():
        models, scenes = training.models(BETWEEN), lab.studies[name]
        by_model[name] = rows_of(lab, scenes, [(x, 0) for x in models])
        by_seed[name] = rows_of(lab, scenes, [(models[-1], noise) for noise in range(NOISES)])
    levels = {
        "models": {name: estimated(rows, _over_models) for name, rows in by_model.items()},
        "scenes": {name: estimated(rows, _over_scenes) for name, rows in by_model.items()},
        "seeds": {name: estimated(rows, _over_seeds) for name, rows in by_seed.items()},
    }
    text = [INTRODUCTION, _about_models(by_model), "{correlations}", "{models}"]
    for level, title in LEVELS.items():
        text += [f"### {title}", _table(levels[level])]
        if level == "scenes":
            text.append(_of_the_finished(by_model))
    text += [_chance(levels), MEANING]
    figures = {
        "correlations": (_draw_correlations(levels), "Spearman of scores with PSNR, with intervals, at three levels"),
        "models": (_draw_models(by_model), "Models of one training: the mean of IMACS and of PSNR of each"),
    }
    verdicts = {
        f"Which scores put {level} in the order of their PSNR?": _verdict(level, of) for level, of in levels.items()
    }
    return Section("IMACS and other scores against the quality of pictures", text, figures, verdicts)


# What is measured


def rows_of(lab: Lab, study: effect.Study, runs: Sequence[tuple[Model, int]]) -> Rows:
    """Scores and qualities of runs, each of a model and from a noise; ``study`` has their scenes."""
    measured = [scores(study, of) | qualities(study, of["image"]) for of in (x.observed(lab, n) for x, n in runs)]
    values = {name: torch.cat([of[name] for of in measured]).double().numpy() for name in measured[0]}
    values["guess: a number by chance"] = np.random.default_rng(0).random(len(values["PSNR"]))
    numbers = [str(n) for n in study.order.tolist()]
    models = [model.name for model, _ in runs for _ in numbers]
    places = list(dict.fromkeys(models))
    values[PLACE] = np.array([places.index(name) for name in models], dtype=float)
    return Rows(values, models, numbers * len(runs))


def scores(study: effect.Study, observed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By name, of each scene ``[n]``. Not a number where there is no score."""
    scenes, order = study.scenes, study.order
    mask, on_object = scenes.mask[order, 0], (scenes.reference_object_mask[order, 0] > 0.5).float()
    cells = baselines.cover(scenes.mask[order])
    paper, shares = observed["r2g_paper"], observed["r2g_share"]
    nothing = torch.full((len(order),), float("nan"))
    by_share = {
        "IMACS of R2G by share": _imacs(shares, mask),
        "IMACS of G2R by share of the mask": _imacs(observed["g2r_share mask"], on_object),
        "mass of share": _mass(shares, cells),
        "share in the mask": (shares * cells).sum((1, 2)) / cells.sum((1, 2)),
    }
    return {
        "IMACS of R2G": _imacs(paper, mask),
        "IMACS of G2R of the mask": _imacs(observed["g2r_paper mask"], on_object),
        "IMACS of G2R of the whole picture": _imacs(observed["g2r_paper whole"], on_object),
        "mass of R2G": _mass(paper, cells),
        **{name: nothing if study.alone else x for name, x in by_share.items()},
        "strength of the effect": observed["effect strength"],
        "mass of the effect": observed["effect inside"],
        "consistency of both maps": consistency(paper, observed["g2r_paper mask"], scenes, order),
        "guess: IMACS of the picture's edges": _imacs(baselines.edges(observed["image"]), mask),
        "guess: IMACS of a map of the centre": _imacs(baselines.centre(len(order)), mask),
        "guess: area of the mask": cells.mean((1, 2)),
    }


def qualities(study: effect.Study, image: Tensor) -> dict[str, Tensor]:
    """Inside the mask, against the right pictures, ``[n]`` each; more is better, so that L1 is negative."""
    truth, mask = study.scenes.image[study.order], study.scenes.mask[study.order]
    _, ssim = structural_similarity_index_measure(
        image, truth, data_range=1.0, reduction="none", return_full_image=True
    )  # fmt: skip
    weight = mask / mask.sum((1, 2, 3), keepdim=True) / 3
    return {
        "PSNR": data.psnr(image, truth, mask),
        "SSIM": (ssim * weight).sum((1, 2, 3)),
        "L1": -((image - truth).abs() * weight).sum((1, 2, 3)),
    }


def consistency(r2g: Tensor, g2r: Tensor, scenes: data.Scenes, order: Tensor) -> Tensor:
    """Spearman of R2G ``[n, GRID, GRID]``, brought to the reference by the known correspondence, with G2R: ``[n]``.

    Over the cells of the reference of which the picture has a counterpart.
    """
    centre = (torch.arange(data.GRID) + 0.5) * data.PATCH
    cells = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1)  # (x, y) in the reference
    zoom, shift = scenes.zoom[order, None, None, None], scenes.shift[order, None, None]
    place = (cells - shift) / zoom  # in the picture
    inside = ((place >= 0) & (place <= data.IMAGE)).all(-1)
    brought = F.grid_sample(
        r2g[:, None], place / (data.IMAGE / 2) - 1, mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0]
    return effect.spearman(brought.flatten(1), g2r.flatten(1), inside.flatten(1))


def _imacs(maps: Tensor, masks: Tensor) -> Tensor:
    def of(one: Tensor, mask: Tensor) -> float:
        try:
            return imacs(one, mask)
        except AttributionError:  # of a map that is flat there is none
            return float("nan")

    return torch.tensor([of(*pair) for pair in zip(maps, masks, strict=True)])


def _mass(maps: Tensor, cells: Tensor) -> Tensor:
    return torch.tensor([share_inside(*pair) for pair in zip(maps, cells, strict=True)])


# Statistics


def estimated(rows: Rows, level: Callable[[np.ndarray, np.ndarray, Rows], Estimate]) -> Estimates:
    """Of each score and quality the correlation at a level."""
    return {
        score: {quality: _known(rows, score, quality, level) for quality in QUALITIES} for score in rows.scores
    }  # fmt: skip


def _known(rows: Rows, score: str, quality: str, level: Callable[[np.ndarray, np.ndarray, Rows], Estimate]) -> Estimate:
    """Over the rows that have both."""
    one, other = rows.values[score], rows.values[quality]
    places = np.flatnonzero(np.isfinite(one) & np.isfinite(other)).tolist()
    names = ([of[n] for n in places] for of in (rows.models, rows.scenes))
    return level(one[places], other[places], Rows({}, *names)) if len(places) else NOTHING


def _over_models(score: np.ndarray, quality: np.ndarray, rows: Rows) -> Estimate:
    return over_models(score, quality, rows.models, scenes=rows.scenes)


def _over_scenes(score: np.ndarray, quality: np.ndarray, rows: Rows) -> Estimate:
    return within(score, quality, rows.models, scenes=rows.scenes)


def _over_seeds(score: np.ndarray, quality: np.ndarray, rows: Rows) -> Estimate:
    """The mean over scenes of the correlation of a scene's own rows; scenes are drawn."""
    names = np.asarray(rows.scenes)
    of = np.array([spearman(score[names == x], quality[names == x]) for x in dict.fromkeys(rows.scenes)], dtype=float)
    of = of[np.isfinite(of)]  # a score that is the same for all seeds says nothing of them
    if not len(of):
        return NOTHING
    return Estimate(float(of.mean()), *interval(torch.from_numpy(of)), len(of))


# What is written


def _about_models(by_model: Mapping[str, Rows]) -> str:
    """How many models there are, and how far apart they are."""
    lines = []
    for name, training in TRAININGS.items():
        rows = by_model[name]
        means = [rows.values["PSNR"][np.asarray(rows.models) == x].mean() for x in dict.fromkeys(rows.models)]
        few = "" if len(means) >= LEAST else f", too few to be compared: {LEAST} or more are needed"
        lines.append(
            f"{name[0].upper()}{name[1:]}: number of models {len(means)}{few}; mean PSNR in the mask of each, from "
            f"{min(means):.1f} to {max(means):.1f} dB{_lacking(training)}. Files: "
            f"{', '.join(f'{path.name} {digest(path)}' for path in training.here)}.{_differing(training)}"
        )
    return " ".join(lines)


def _differing(training: Training) -> str:
    """What the files themselves say."""
    differing = "; ".join(f"{name} {', '.join(of)}" for name, of in training.differing.items())
    return (
        f" Not all of them say the same settings of it, which was begun once and gone on with: {differing}."
        if differing
        else ""
    )


def _lacking(training: Training) -> str:
    return f" (not here, and left out: {', '.join(training.lacking)})" if training.lacking else ""


def _table(levels: Mapping[str, Estimates]) -> str:
    names = _names(levels.values())
    heads = ["score", *(f"{quality}, {name}" for name in levels for quality in QUALITIES)]
    rows = [
        [score, *(_worded(of.get(score, {}).get(quality, NOTHING)) for of in levels.values() for quality in QUALITIES)]
        for score in names
    ]
    return table(heads, rows)


def _names(of: Iterable[Estimates]) -> list[str]:
    """Of all scores; those of the model that has more of them give the order."""
    return list(dict.fromkeys(score for one in sorted(of, key=len, reverse=True) for score in one))


def _worded(one: Estimate) -> str:
    value = _number(one.value)
    return f"{value} [{one.low:.2f}, {one.high:.2f}]" if np.isfinite(one.low) else value


def _of_the_finished(by_model: Mapping[str, Rows]) -> str:
    """The same correlations of the model that ships alone."""
    said = []
    for name, rows in by_model.items():
        places = np.flatnonzero(np.asarray(rows.models) == rows.models[-1])
        scores = [x for x in HEADLINE if x in rows.scores]
        numbers = (spearman(rows.values[x][places], rows.values["PSNR"][places]) for x in scores)
        said.append(f"{name}: " + ", ".join(f"{x} {_number(float(n))}" for x, n in zip(scores, numbers, strict=True)))
    return f"Of the finished model alone, with PSNR, over its scenes: {'; '.join(said)}."


def _number(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "-"


def _chance(levels: Mapping[str, Mapping[str, Estimates]]) -> str:
    """Of how many correlations the interval leaves 0 out. An interval over models says nothing of other models."""
    ours = [of[score]["PSNR"] for level in ANSWERED for of in levels[level].values() for score in of
            if not _is_guess(score) and np.isfinite(of[score]["PSNR"].value)]  # fmt: skip
    below = sum(x.high < 0 for x in ours)
    sure = below + sum(x.low > 0 for x in ours)
    return (
        f"Of {len(ours)} correlations of scores with PSNR over {' and over '.join(ANSWERED)}, those of guesses "
        f"left out, the interval of {sure} leaves 0 out, of {below} below it: there, pictures with higher scores are "
        f"worse. If nothing went together, and the scores had nothing in common, about {round(0.05 * len(ours))} would."
    )


def _verdict(level: str, by_name: Mapping[str, Estimates]) -> str:
    """Of the scores of ``HEADLINE``: over scenes and seeds whether they do, by the interval; over models the number."""
    return "; ".join(f"{name}{_answers(level, of)}" for name, of in by_name.items())


def _answers(level: str, of: Estimates) -> str:
    wanted = HEADLINE if level in ANSWERED else (*HEADLINE, PLACE)
    known = [(score, of[score]["PSNR"]) for score in wanted if score in of and np.isfinite(of[score]["PSNR"].value)]
    if not known:
        return ": not known"
    if level in ANSWERED:
        said = [f"{score} {_answer(one)} ({_worded(one)})" for score, one in known]
        guesses = [(score, x["PSNR"]) for score, x in of.items() if _is_guess(score) and np.isfinite(x["PSNR"].value)]
        strongest = max(guesses, key=lambda x: abs(x[1].value))
        return f": {', '.join(said)}; the strongest guess, {strongest[0].partition(': ')[2]} ({_worded(strongest[1])})"
    numbers = ", ".join(f"{score} {_worded(one)}" for score, one in known)
    return f", {known[0][1].points} models of one training: {numbers}"


def _answer(one: Estimate) -> str:
    if one.low > 0:
        return "does"
    return "the other way round" if one.high < 0 else "not shown"


def _is_guess(score: str) -> bool:
    return score.startswith("guess: ")


# What is drawn


def _draw_correlations(levels: Mapping[str, Mapping[str, Estimates]]) -> Figure:
    """Each score with PSNR, and its interval; a panel a level."""
    names = _names(x for of in levels.values() for x in of.values())
    figure = Figure(figsize=(10, 0.6 + 0.32 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (level, by_name) in zip(figure.subplots(1, len(levels), sharey=True), levels.items(), strict=True):
        for shift, (name, of) in zip((-0.15, 0.15), by_name.items(), strict=True):
            colour, marker = COLOURS[name]
            for place, one in ((names.index(score) + shift, x["PSNR"]) for score, x in of.items()):
                axes.plot([one.low, one.high], [place, place], color=colour, linewidth=1)
                axes.plot([one.value], [place], marker, color=colour, markersize=4)
            axes.plot([], [], marker, color=colour, label=name, markersize=4)
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.set(xlim=(-1.05, 1.05), ylim=(len(names) - 0.5, -0.5), yticks=range(len(names)), yticklabels=names)
        axes.set_title(f"over {level}", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), fontsize=7, loc="outside lower right", ncols=len(COLOURS))
    figure.supxlabel("Spearman with PSNR in the mask", fontsize=8)
    return figure


def _draw_models(by_model: Mapping[str, Rows]) -> Figure:
    """Each model a point, in the order of the training."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, rows) in zip(figure.subplots(1, len(by_model)), by_model.items(), strict=True):
        models, (colour, marker) = np.asarray(rows.models), COLOURS[name]
        for score, style, fill in (("IMACS of R2G", "-", "full"), ("IMACS of G2R of the mask", ":", "none")):
            points = [[rows.values[x][models == m].mean() for x in (score, "PSNR")] for m in dict.fromkeys(rows.models)]
            axes.plot(
                *zip(*points, strict=True), style + marker, color=colour, fillstyle=fill, markersize=4, linewidth=1,
                label=score,
            )  # fmt: skip
            axes.annotate("finished", points[-1], textcoords="offset points", xytext=(4, -9), fontsize=6)
        axes.set_title(name, fontsize=8)
        axes.set_xlabel("mean IMACS", fontsize=8)
        axes.set_ylabel("mean PSNR in the mask, dB", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    return figure


INTRODUCTION = f"""The paper's last claim is that IMACS goes with the established measures of quality, over models.
Here each training gives checkpoints, and averages of the weights of each two that follow each other ({BETWEEN}
between them). All paint the same scenes from the same noise, and the finished one also from {NOISES} noises. Scores
are held against PSNR, SSIM (torchmetrics, its map averaged) and the mean absolute difference (L1, with its sign
turned, so that more is always better), all inside the mask. Correlations are Spearman's; scenes are drawn for the
intervals, each with the pictures of all models, so that an interval says nothing of other models or trainings.

*Mass* is the part of a map's sum inside the mask. *Strength* is the root mean square of the effect there.
*Consistency* is our reading of the paper's first version (2024), which speaks of the consistency between the
attribution maps of the generated and of the reference image and gives no formula: the correlation (Spearman) of R2G,
brought to the reference by the known correspondence, with G2R of the mask, over the cells of the reference that have
a counterpart in the picture. By *share*, a score is that of the model's own probabilities; where the reference is
all there is to look at it has none. *Guesses* are scores that no attention made. *Place in the training* is the
number of a model in the order of its training: over models, all that grows or shrinks while a model is trained has
this correlation or its opposite, whether it is a matter of quality or not. Over models no yes or no is said."""

MEANING = f"""From step {CONSISTENT_FROM} on the U-Net was trained with a loss that brings R2G into the mask, and that
is what IMACS of R2G measures: that its later models have a higher IMACS was made so. The joint model had no such loss.

What this does not show: the models of one training are not independent of each other, an average of
weights is no model that anybody would train, and the scenes are of one kind. PSNR, SSIM and L1 ask for one right
picture, which an object in a reference only nearly determines; FID and KID, which the paper has too, need thousands
of pictures and a network that was not there."""
