"""Does a layer's weight in the maps say what it does? The reference is taken away in each layer alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from ...demo import data
from ...demo.effect import BATCH, Study, spearman
from ...demo.steer import bracketed, interval, table
from ...i2am_core import MapKind, Selection, maps
from ...nodes.steer import I2AMSteer
from ..lab import Lab
from ..runs import captured, joined
from ..section import Section

QUESTION = "Does a layer's weight in the maps say what it does?"
PAPER, INSIDE, SHARE = "part of the paper's R2G", "part of R2G in the mask", "share in the mask"
DEPTH, CHANCE = "place in the network", "a number by chance"
GUESSES = (DEPTH, CHANCE)
EQUAL = 0.005  # what parts of a map differ by, and are equal but for the border of resized maps
KINDS = (MapKind("r2g", "paper"), MapKind("r2g", "share"))
NONE, ALL = "none", "all"
STATED = (
    "The object's reference is taken away in one layer alone, in all steps, by I2AM Steer: strength 0, by attention. "
    "Where the reference is all that a layer looks at, the layer's output counts 0. The distance is that of the "
    "finished picture to the plain one: the rms over the pixels in the mask. Beside it is how much of the unified R2G "
    "of the paper comes from the layer: the sum of the layer's map on the largest grid, over that of all layers. A "
    "map of the paper sums to 1 on the layer's own grid, so that in the whole picture this is a matter of the grids "
    "alone; in the mask it is not. The share in the mask is the mean part of the attention there that goes to the "
    f"object. *{DEPTH.capitalize()}* and *{CHANCE}* are guesses to compare with; those of other parts are of "
    f"pictures, and say nothing of layers. Layers that are less than {EQUAL:g} apart have one rank here: by so much "
    "parts of equal layers differ at the border of maps that are resized."
)
NOT_SAID = (
    "There are few layers, so that one that trades its place with another moves the correlation a lot; it is computed "
    "in each scene and then averaged. Taken away in one layer, the reference still acts through all others: what two "
    "layers do alike is counted in neither."
)


@dataclass(frozen=True)
class Layers:
    """Of one model, in ``n`` scenes."""

    names: list[str]
    changes: Tensor  # of the picture in the mask, without each layer's reference: [n, layers]
    of_all: Tensor  # the same of all layers together: [n]
    psnr: Mapping[str, Tensor]  # by what was muted: [n]
    masses: Mapping[str, Tensor]  # [n, layers]

    def agreement(self, name: str) -> str:
        """Spearman over layers of a mass with the changes."""
        masses = tied(self.masses[name])
        if (masses.amax(1) == masses.amin(1)).all():
            return "none (all layers weigh the same)"
        return bracketed(spearman(masses, self.changes), 2)

    @property
    def least(self) -> tuple[list[str], float]:
        """The half of the layers without which the picture changes least, and their part of the paper's R2G."""
        order = self.changes.mean(0).argsort()[: len(self.names) // 2]
        return [self.names[n] for n in order.sort().values], float(self.masses[PAPER][:, order].sum(1).mean())

    @property
    def more_than_all(self) -> list[str]:
        """Layers without which alone the picture changes more than without all, by the interval, and by how much."""
        leads = {name: self.changes[:, n] - self.of_all for n, name in enumerate(self.names)}
        return [f"{name} ({bracketed(x, 3, sign=True)})" for name, x in leads.items() if interval(x)[0] > 0]


def tied(masses: Tensor) -> Tensor:
    """Masses ``[n, layers]``, each the mean of those that are less than ``EQUAL`` from it."""
    near = ((masses[:, :, None] - masses[:, None]).abs() < EQUAL).to(masses.dtype)
    return (near * masses[:, None]).sum(2) / near.sum(2)


def run(lab: Lab) -> Section:
    models = {name: _layers(lab, study) for name, study in lab.studies.items()}
    text = [STATED]
    for name, layers in models.items():
        agreements = ", ".join(f"{mass} {layers.agreement(mass)}" for mass in layers.masses)
        text += [
            f"{name}:",
            _table(layers),
            f"Spearman with the distance over the {len(layers.names)} layers: {agreements}. The half of them without "
            f"which the picture changes least ({', '.join(layers.least[0])}) is {layers.least[1]:.0%} of the paper's "
            "R2G.",
        ]
        if layers.more_than_all:
            text.append(
                "Without one layer alone the picture changes more than without all of them: "
                f"{', '.join(layers.more_than_all)}. So such distances are no parts of a whole."
            )
    text += ["{layers}", NOT_SAID, f"{lab.scenes} scenes of each model, {lab.steps} steps."]
    says = "; ".join(
        f"{name} ({len(layers.names)} layers), {mass} {layers.agreement(mass)}"
        for name, layers in models.items()
        for mass in (INSIDE, SHARE, DEPTH)
        if mass in layers.masses
    )
    halves = "; ".join(f"{name} {layers.least[1]:.0%}" for name, layers in models.items())
    figures = {
        "layers": (
            _drawn(models),
            "What the reference of each layer changes in the picture, and the layer's part of the maps.",
        )
    }
    return Section(
        "Layers: taken away, against their weight in the maps",
        text,
        figures,
        {
            QUESTION: f"Spearman over the layers, with intervals over scenes: {says}. Part of the paper's R2G from the "
            f"half of the layers without which the picture changes least: {halves}"
        },
    )


# What is computed


def _layers(lab: Lab, study: Study) -> Layers:
    def stored(what: str, make: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, Tensor]:
        parts = study.order.split(BATCH)
        return lab.stored(f"knockout, {what}, {study.subject.key}", lambda: joined([make(part) for part in parts]))

    plain = stored("plain", partial(_plain, study))
    names = _names(study)
    pictures = {layer: stored(f"without {layer}", partial(_muted, study, layer))["image"] for layer in [*names, ALL]}
    truth, where = study.scenes.image[study.order], study.scenes.mask[study.order]
    changes = {layer: study.distance(picture, plain["image"], where) for layer, picture in pictures.items()}
    share = {} if study.alone else {SHARE: plain["share"]}
    depth = torch.arange(len(names)).float().expand_as(plain["paper"])
    by_chance = torch.rand(depth.shape, generator=torch.Generator().manual_seed(0))
    return Layers(
        names,
        torch.stack([changes[layer] for layer in names], 1),
        changes[ALL],
        {name: data.psnr(x, truth, where) for name, x in {NONE: plain["image"], **pictures}.items()},
        {PAPER: plain["paper"], INSIDE: plain["inside"]} | share | {DEPTH: depth, CHANCE: by_chance},
    )


def _names(study: Study) -> list[str]:
    """Of the layers that read the object, as maps and I2AM Steer name them."""
    _, attribution = captured(study, study.model, study.order[:1])
    return [
        attribution.layers[n].name for reference, n in sorted(attribution.entries) if reference == study.subject.object
    ]


def _plain(study: Study, part: Tensor) -> dict[str, Tensor]:
    """Pictures, and what each layer is in the maps ``[items, layers]``."""
    samples, attribution = captured(study, study.model, part)
    paper, inside, share = [], [], []
    for item in range(attribution.items):
        selection = Selection(item=item, reference=study.subject.object)
        of_paper, of_share = (maps(attribution, x, "layer", selection).values.flatten(1) for x in KINDS)
        paper.append(of_paper.sum(1) / of_paper.sum())
        where = study.in_mask[part[item]]
        inside.append(of_paper[:, where].sum(1) / of_paper[:, where].sum())
        share.append(of_share[:, where].mean(1))
    return {"image": data.to_image(samples)} | {
        name: torch.stack(values) for name, values in {"paper": paper, "inside": inside, "share": share}.items()
    }


def _muted(study: Study, layer: str, part: Tensor) -> dict[str, Tensor]:
    (model,) = I2AMSteer.execute(study.model, **(study.unsteered | {"strength": 0.0, "layers": layer})).args
    return {"image": data.to_image(study.run(model, "own", part))}


# What is written


def _table(layers: Layers) -> str:
    masses = [name for name in layers.masses if name not in GUESSES]
    rows = [[NONE, "0", bracketed(layers.psnr[NONE], 1), *([""] * len(masses))]]
    for n, name in enumerate(layers.names):
        of_layer = (bracketed(layers.masses[mass][:, n], 3) for mass in masses)
        rows.append([name, bracketed(layers.changes[:, n], 3), bracketed(layers.psnr[name], 1), *of_layer])
    rows.append([ALL, bracketed(layers.of_all, 3), bracketed(layers.psnr[ALL], 1), *([""] * len(masses))])
    return table(["without the reference in", "distance", "PSNR, dB", *masses], rows)


def _drawn(models: Mapping[str, Layers]) -> Figure:
    """Of each model the distances as bars, and as points what the layers are in the maps."""
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, layers) in zip(figure.subplots(1, len(models)), models.items(), strict=True):
        places, bars = range(len(layers.names)), layers.changes.mean(0)
        axes.bar(places, bars.tolist(), color="#bbbbbb")
        axes.set_title(name, fontsize=9)
        axes.set_xticks(list(places), layers.names, rotation=30, fontsize=7)
        axes.set_ylabel("distance of the picture (bars)", fontsize=8)
        weight = axes.twinx()
        for mass, color, marker in ((PAPER, "#d55e00", "o"), (INSIDE, "#e69f00", "^"), (SHARE, "#0072b2", "s")):
            if mass in layers.masses:
                weight.plot(places, layers.masses[mass].mean(0).tolist(), marker, color=color, label=mass)
        weight.set_ylabel("part of the map, or share (points)", fontsize=8)
        weight.legend(fontsize=6.5, loc="upper center", ncols=3, columnspacing=0.8, handletextpad=0.1)
        for each in (axes, weight):
            each.set_ylim(0, 1.25 * each.get_ylim()[1])  # the legend lies above all
            each.tick_params(labelsize=7)
    return figure
