"""Which maps depend on what a model has learned? Its weights are permuted, block by block (Adebayo et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ...demo.effect import OTHER_NOISE, Study
from ...demo.steer import bracketed, interval, table
from ..lab import DRAWN, Lab
from ..likeness import beside_guesses, ranked_alike, structured_alike
from ..permuted import Block, blocks_of, permuted
from ..runs import ON_PICTURE, ON_REFERENCE, keys_of, maps_of
from ..section import Section

STEPS = 4  # of each run, at most: there are many runs
PROBES = 1
QUESTION = "Does the map depend on what the model has learned?"
COLORS = ["#d55e00", "#0072b2", "#000000", "#e69f00", "#56b4e9"]
STATED = (
    "Weights are permuted: each tensor keeps its numbers, in another order by chance, so that their spread is that of "
    "the trained ones and nothing that was learned is left. *In cascade*: from the output to the input, one block "
    "more each time. *Alone*: one block, with all others as trained. Each map of the permuted model is compared with "
    "that of the trained one, of the same scene and noise: on the picture in the mask, on the reference over all of "
    "it. Each tensor has one permutation: which one was drawn is not in the intervals, which are over scenes. A map "
    "that stays alike when all is permuted does not show what the model has learned."
)
NOT_SAID = (
    "Spearman and SSIM do not say that a map is right. A map may also change since another picture is painted, in "
    "which the same weights look elsewhere. That a map stays alike when one block alone is permuted says that the "
    "block has no part in it, or that others make up for it."
)

FOLDED = "<details><summary>{}, the same by SSIM</summary>\n\n{}\n\n</details>"


@dataclass(frozen=True)
class Randomized:
    """Of one model: maps of the trained model, of the same from another noise, in cascade and alone, by block."""

    study: Study
    trained: Mapping[str, Tensor]
    other_noise: Mapping[str, Tensor]
    cascade: Mapping[str, Mapping[str, Tensor]]
    alone: Mapping[str, Mapping[str, Tensor]]
    keys: Mapping[str, str]  # of maps by name

    def ranked(self, key: str, other: Mapping[str, Tensor]) -> Tensor:
        """Spearman with the trained model's map in each scene."""
        return ranked_alike(self.study, self.trained[key], other[key], key in ON_PICTURE.values())

    def structured(self, key: str, other: Mapping[str, Tensor]) -> Tensor:
        """SSIM with it."""
        return structured_alike(self.study, self.trained[key], other[key], key in ON_PICTURE.values())

    @property
    def random(self) -> Mapping[str, Tensor]:
        """With all weights permuted."""
        return list(self.cascade.values())[-1]


def run(lab: Lab) -> Section:
    models = {name: _randomized(lab, name) for name in lab.studies}
    text = [STATED, "{cascade}"]
    for name, model in models.items():
        text += [
            f"{name}, Spearman:",
            _table(model, "ranked"),
            _said(model),
            FOLDED.format(name, _table(model, "structured")),
        ]
        text += [
            "What the trained model's maps have in common with maps that no model makes, "
            f"Spearman:\n\n{beside_guesses(model.study, model.trained, model.keys)}"
        ]
    text += [NOT_SAID, f"{lab.scenes} scenes of each model, {_steps(lab)} steps; Effect is measured in one of them."]
    verdict = (
        "Spearman with the trained model's map (one permutation, intervals over scenes), which is to be near 0: "
        f"{'. '.join(f'{name}, {_last(model)}' for name, model in models.items())}"
    )
    figures = {
        "cascade": (
            _drawn(models),
            "How like the trained model's each map still is, as blocks are permuted from the output on.",
        )
    }
    return Section("Which maps depend on what was learned", text, figures, {QUESTION: verdict})


# What is computed


def _steps(lab: Lab) -> int:
    return min(STEPS, lab.steps)


def _randomized(lab: Lab, name: str) -> Randomized:
    study = _study(lab, lab.studies[name])
    blocks = blocks_of(study.subject)

    def maps(what: str, changed: Sequence[Block], noise: int = 0) -> dict[str, Tensor]:
        return lab.stored(
            f"randomization, {_steps(lab)} steps, {what}, {study.subject.key}",
            partial(_maps, lab, study, changed, noise),
        )

    cascade = {block: maps(f"from the output to {block}", blocks[: n + 1]) for n, (block, _) in enumerate(blocks)}
    alone = {block: maps(f"{block} alone", [(block, modules)]) for block, modules in blocks[1:]}
    first = blocks[0][0]  # which is alone in cascade, too
    return Randomized(
        study, maps("trained", []), maps("other noise", [], OTHER_NOISE), cascade, {first: cascade[first]} | alone,
        keys_of(lab.studies[name]),
    )  # fmt: skip


def _study(lab: Lab, study: Study) -> Study:
    """The same scenes in fewer steps."""
    return study if _steps(lab) == lab.steps else Study(DRAWN, _steps(lab), subject=study.subject, first=lab.scenes)


def _maps(lab: Lab, study: Study, blocks: Sequence[Block], noise: int) -> dict[str, Tensor]:
    with permuted(blocks):
        if any(name == "reference encoder" for name, _ in blocks):  # what it made of references is another thing now
            study = Study(DRAWN, study.steps, subject=study.subject, first=lab.scenes)
        return maps_of(study, study.model, PROBES, noise)


# What is written


def _table(model: Randomized, measure: str) -> str:
    alike = {"ranked": model.ranked, "structured": model.structured}[measure]
    compared = {"nothing, from another noise": model.other_noise}
    compared |= {f"from the output to {name}": maps for name, maps in model.cascade.items()}
    compared |= {f"{name} alone": maps for name, maps in model.alone.items()}
    rows = [[name, *(bracketed(alike(key, x), 2) for key in model.keys.values())] for name, x in compared.items()]
    return table(["permuted", *model.keys], rows)


def _last(model: Randomized) -> str:
    """The map of each kind when all is permuted, and when all but the block that is nearest to the input is."""
    *_, (name, before), (last, _) = model.cascade.items()

    def ranked(maps: Mapping[str, Tensor]) -> str:
        return ", ".join(f"{what} {bracketed(model.ranked(key, maps), 2)}" for what, key in model.keys.items())

    return f"all weights permuted: {ranked(model.random)}; from the output to {name}, without {last}: {ranked(before)}"


def _said(model: Randomized) -> str:
    """Which maps still are like the trained model's, by the interval."""
    alike = [name for name, key in model.keys.items() if interval(model.ranked(key, model.random))[0] > 0]
    others = [name for name in model.keys if name not in alike]
    return f"All permuted, the interval is above 0 for {', '.join(alike) or 'no map'}" + (
        f"; for {', '.join(others)} it is not." if others else "."
    )


def _drawn(models: Mapping[str, Randomized]) -> Figure:
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, model) in zip(figure.subplots(1, len(models), sharey=True), models.items(), strict=True):
        _draw(axes, model)
        axes.set_title(name, fontsize=9)
    return figure


def _draw(axes: Axes, model: Randomized) -> None:
    stages = {"nothing": model.trained, **model.cascade}
    for number, (name, key) in enumerate((ON_PICTURE | ON_REFERENCE).items()):
        if name in model.keys:
            values = [model.ranked(key, maps) for maps in stages.values()]
            low, high = zip(*map(interval, values), strict=True)
            axes.plot(
                range(len(stages)),
                [x.mean().item() for x in values],
                "--" if key in ON_REFERENCE.values() else "-",
                color=COLORS[number],
                label=name,
            )
            axes.fill_between(range(len(stages)), low, high, color=COLORS[number], alpha=0.15)
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_xticks(range(len(stages)), stages, rotation=60, fontsize=7, ha="right", rotation_mode="anchor")
    axes.tick_params(labelsize=7)
    axes.set_ylabel("Spearman with the trained model's", fontsize=8)
    axes.legend(fontsize=7)
