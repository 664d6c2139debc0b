"""Which patch of the reference does a patch of the picture come from? The strongest of a layer, against the truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

import torch
from torch import Tensor

from ...demo import data, effect, evaluate
from ...demo.steer import bracketed, interval, table
from ...demo.subject import CrossAttention
from ...demo.train import SUPERVISED, SUPERVISED_LATER
from ...i2am_core import TokenGrid
from ...nodes.comfy import handle
from ...nodes.comfy.captured import capture_with
from ..curves import Plot, drawn
from ..lab import Lab
from ..section import Section

TITLE = "Correspondence"
GEOMETRY = "by geometry alone"
GUESSES = (GEOMETRY, "random", "centre")
BUDGET = 2**32

Hits = tuple[Tensor, Tensor]  # whether a cell's patch is right, and whether the cell shows the object: [n, cells]
Layers = Mapping[str, tuple[TokenGrid, Hits]]
Guesses = Mapping[TokenGrid, Mapping[str, Tensor]]


def run(lab: Lab) -> Section:
    text = [
        "For each position on the object in the picture: is the patch of the reference that it looks at most within "
        "one patch of the one that it truly comes from? The maps are means over heads and steps of one run. *By "
        "geometry alone* is a guess that sees neither picture: linear in the place in the square, fitted to all other "
        "scenes. *Random* is any patch by chance, *centre* the middle of the reference. Bands in "
        "the figure are intervals of the mean over scenes.",
    ]
    plots, says = [], []
    for name, study in lab.studies.items():
        layers, guesses = _marked(of_layers(lab, study), _trained(study)), guesses_of(study)
        heads = ["layer", "grid", "accuracy", "against geometry"]
        text += [f"### {name.capitalize()}", table(heads, _rows(layers, guesses))]
        plots.append(Plot(name, list(layers), _curves(layers, guesses)))
        says.append(f"{name}: {_best(layers, guesses)}")
    text += [
        "{layers}",
        f"{lab.scenes} scenes. Layers that are *trained to* were trained on this very truth; the joint model has none. "
        "What this does not show: that a position takes its colours from where it looks most, or what single heads do.",
    ]
    figure = drawn(
        plots, "layer, in the order of the model", "part of the positions whose patch is right", dashed=GUESSES
    )  # fmt: skip
    verdicts = {"which patch of the reference a place comes from": ". ".join(says) + "."}
    return Section(TITLE, text, {"layers": (figure, "How often the strongest patch is right, by layer")}, verdicts)


def of_layers(lab: Lab, study: effect.Study) -> dict[str, tuple[TokenGrid, Hits]]:
    """By the name of a layer, in the order of the model, its grid, and whether the strongest patches are right."""
    stored = lab.stored(f"strongest patches, {study.subject.key}", partial(_strongest, study))
    scenes = study.scenes.part(study.order)
    result = {}
    for name in sorted(stored):
        side = round(stored[name].shape[1] ** 0.5)
        grid = TokenGrid(side, side)
        result[name.partition(" ")[2]] = grid, evaluate.correspondence_hits(scenes, stored[name], grid)
    return result


def _strongest(study: effect.Study) -> dict[str, Tensor]:
    """Of each layer, by its number and name, the strongest patch of each cell: ``[n, cells]``."""
    parts = [_strongest_in(study, part) for part in study.order.split(effect.BATCH)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _strongest_in(study: effect.Study, part: Tensor) -> dict[str, Tensor]:
    capture = handle.Capture(handle.Settings("auto", "positive", "everywhere", BUDGET))
    samples = study.run(capture_with(study.model, capture), "own", part)
    attribution = capture.find(samples)
    return {
        f"{number:03d} {layer.name}": evaluate.strongest_patches(attribution, study.subject.object, number)
        for number, layer in enumerate(attribution.layers)
    }


def guesses_of(study: effect.Study) -> dict[TokenGrid, dict[str, Tensor]]:
    """By grid and by the name of a guess, its accuracy in each scene ``[n]``."""
    result = {}
    for side in (data.GRID, data.GRID // 2):
        grid = TokenGrid(side, side)
        truth, on_object = (x[study.order] for x in evaluate.true_patches(study.scenes, grid))
        by_geometry, _ = evaluate.geometry_hits(study.scenes, side)
        result[grid] = {
            GEOMETRY: accuracy((by_geometry[study.order], on_object)),
            "random": accuracy((by_chance(truth), on_object)),
            "centre": accuracy(((truth - (data.GRID - 1) / 2).abs().amax(-1) <= 1, on_object)),
        }
    return result


def by_chance(truth: Tensor) -> Tensor:
    """How many of all patches are within one of the truth ``[n, cells, 2]``: ``[n, cells]``, between 0 and 1."""
    near = (torch.arange(data.GRID) - truth[..., None]).abs() <= 1  # [n, cells, 2, GRID]
    return near.float().mean(-1).prod(-1)


def accuracy(hits: Hits) -> Tensor:
    """Of each scene the mean over cells that show the object: ``[n]``."""
    values, on_object = hits
    return (values.float() * on_object).sum(1) / on_object.sum(1)


# How it is written


def _marked(layers: Layers, trained: Collection[str]) -> Layers:
    return {name + " (trained to)" * (name in trained): of for name, of in layers.items()}


def _rows(layers: Layers, guesses: Guesses) -> list[list[str]]:
    rows = []
    for layer, (grid, hits) in layers.items():
        values = accuracy(hits)
        lead = bracketed(values - guesses[grid][GEOMETRY], 2, sign=True)
        rows.append([layer, str(grid), bracketed(values, 2), lead])
    grids = {grid for grid, _ in layers.values()}
    for grid, of in guesses.items():
        rows += [[guess, str(grid), bracketed(x, 2), ""] for guess, x in of.items() if grid in grids]
    return rows


def _best(layers: Layers, guesses: Guesses) -> str:
    name = max(layers, key=lambda x: accuracy(layers[x][1]).mean().item())
    grid, hits = layers[name]
    above = [of for of, (at, x) in layers.items() if interval(accuracy(x) - guesses[at][GEOMETRY])[0] > 0]
    return (
        f"the best of {len(layers)} layers on these scenes, {name}, {bracketed(accuracy(hits), 2)}, by geometry alone "
        f"{bracketed(guesses[grid][GEOMETRY], 2)}; above it by their interval: {', '.join(above) or 'none'}"
    )


def _trained(study: effect.Study) -> list[str]:
    """Names of layers that were trained on the true correspondence."""
    of = (*SUPERVISED, *SUPERVISED_LATER) if isinstance(study.subject, CrossAttention) else ()
    return [f"{name} {number}.0" for name, number in of]


def _curves(layers: Layers, guesses: Guesses) -> dict[str, Tensor]:
    """By name the accuracy in each scene, of each layer: ``[n, layers]``."""
    curves = {"strongest patch": torch.stack([accuracy(hits) for _, hits in layers.values()], 1)}
    for guess in GUESSES:
        curves[guess] = torch.stack([guesses[grid][guess] for grid, _ in layers.values()], 1)
    return curves
