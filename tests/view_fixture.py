"""Small files of the viewer, and what the core says for selections of them: what the JavaScript is checked against.

``PYTHONPATH=. python tests/view_fixture.py`` writes them anew; a test holds that they are what this would write.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
from recorded import COARSE, FINE, HEADS, REFERENCE
from safetensors.torch import save
from selected import maps, specific

from i2am_core import Layer, Place, Positions, Recorder, Reference, Selection, TokenGrid, attribute, imacs, span
from i2am_core.attribution import Attribution
from i2am_core.effect import Effects, RegionEffects, Removal, region_grid
from i2am_core.reading.aggregate import resampled
from i2am_core.reading.effect import effect_maps, specific_effect
from i2am_core.regions import cells_of
from i2am_core.showing.render import color_table, colorize, heat
from i2am_core.showing.view import view

FOLDER = Path(__file__).resolve().parent / "web" / "fixtures"
LAYERS = [Layer("fine", FINE, HEADS), Layer("coarse", COARSE, 2)]
STEPS = 4
CANVAS = (24, 16)  # px of the picture's heat
REFERENCE_CANVAS = (18, 24)
STEEP = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # resized, it falls below 0
BOX = (0.25, 1 / 6, 0.75, 0.5)  # on cells of the fine grid


def make() -> Attribution:
    """Numbers that are the same on every machine: no random generator, small integers as queries and keys."""
    recorder = Recorder(torch.linspace(8, 0, STEPS + 1), 1, 2**30)
    number = recorder.reference(REFERENCE)
    for step in range(STEPS):
        for n, layer in enumerate(LAYERS):
            if n == 1 and step == 2:
                continue  # not every layer is seen in every step
            q, k = (_numbers((1, layer.heads, rows, 4), step + n) for rows in (layer.grid.cells, REFERENCE.tokens + 3))
            mask = torch.zeros(1, FINE.height, FINE.width)
            mask[:, 1:5, 1:] = 1
            scope = cells_of(mask, layer.grid)
            rows = scope[0].nonzero()[:, 0]
            recorder.pairs_fit(number, layer, len(rows), REFERENCE.tokens)
            (m,) = attribute(
                q, k, [span("reference", 3, REFERENCE.grid)], positions=Positions(scope=scope, pair_rows=rows)
            )
            recorder.add(Place(layer, step, number), m, rows)
    recorder.skip("text", calls=3)
    return recorder.freeze(grid=FINE, denoise_mask=mask, mechanism="fixture", branch="positive")


def _numbers(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    count = torch.arange(torch.tensor(shape).prod().item())
    return ((count * (7 + 2 * seed) + count // 5) % 11 - 5).float().view(shape) / 4


def region(box: tuple[float, ...], height: int, width: int) -> torch.Tensor:
    """A box as a mask, on its pixels."""
    left, top, right, bottom = box
    mask = torch.zeros(height, width)
    mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 1
    return mask


def build() -> tuple[bytes, str]:
    """The file, and the expectations as JSON."""
    attribution = make()
    assert attribution.denoise_mask is not None
    mask = attribution.denoise_mask[0].repeat_interleave(4, 0).repeat_interleave(4, 1)
    return _file(attribution, mask), json.dumps(expected(attribution, mask))


def _file(attribution: Attribution, mask: torch.Tensor) -> bytes:
    seen = view(attribution, 2**20, [mask])
    table = (color_table("viridis")[None] * 255).round().to(torch.uint8)
    tensors = seen.tensors | {"colormaps": table, "mask/0": mask.to(torch.uint8)}
    places = [{"name": None, "canvas": canvas, "note": ""} for canvas in (CANVAS, REFERENCE_CANVAS)]
    pictures = {"generated": places[:1], "reference": [places[1:]] * len(attribution.references)}
    header = {**seen.header, "pictures": pictures, "colormaps": ["viridis"], "masked": ["mask/0"]}
    return save({name: x.contiguous() for name, x in tensors.items()}, metadata={"i2am_view": json.dumps(header)})


def expected(attribution: Attribution, mask: torch.Tensor) -> dict:
    selections = [
        {},
        {"step": 1},
        {"layer": 0, "head": 2},
        {"layer": 1, "step": 3, "head": 1},
        {"layer": 0, "step": 0},
        {"step": 2},
    ]
    whole = heat(maps(attribution, "r2g").values, CANVAS)
    return {
        "maps": [_map(attribution, field, chosen) for chosen in selections for field in ("r2g_paper", "g2r_share")],
        "missing": {"layer": 1, "step": 2},
        "steep": {"values": STEEP.flatten().tolist(), "resampled": resampled(STEEP, 5, 7).flatten().tolist()},
        "canvas": CANVAS,
        "mask": mask.flatten().int().tolist(),
        "imacs": imacs(maps(attribution, "r2g").values[0], mask),
        "colors": (colorize(whole, "viridis") * 255).round().int().flatten().tolist(),
        "table": (colorize(torch.linspace(0, 1, 256)[None, None], "viridis") * 255).round().int().flatten().tolist(),
        "asked": [_requested(attribution, side, box) for side in ("generated", "reference") for box in (BOX, POINT)],
    }


def _map(attribution: Attribution, field: str, chosen: dict) -> dict:
    direction, normalization = field.split("_")
    names = {"layer": "layers", "step": "steps", "head": "heads"}
    values = maps(
        attribution, direction, "unified", normalization, **{names[key]: str(n) for key, n in chosen.items()}
    ).values
    canvas = CANVAS if direction == "r2g" else REFERENCE_CANVAS
    return {
        "field": field,
        "selection": chosen,
        "values": values[0].flatten().tolist(),
        "canvas": canvas,
        "heat": heat(values, canvas)[0].flatten().tolist(),
    }


POINT = (0.55, 0.4, 0.55, 0.4)


def _requested(attribution: Attribution, side: str, box: tuple[float, ...]) -> dict:
    grid = FINE if side == "generated" else REFERENCE.grid
    assert grid is not None
    scale = 24  # px of a mask's cell: boxes lie on pixels
    requested = region(box, grid.height * scale, grid.width * scale)
    if box[0] == box[2]:
        requested[int(box[1] * len(requested)), int(box[0] * requested.shape[1])] = 1
    answer = specific(attribution, requested, "g2r" if side == "generated" else "r2g")
    return {"side": side, "box": box, "values": answer.values.flatten().tolist(), "shape": list(answer.values.shape)}


# A video, of two layers; a second reference, which one of them reads and which has no place.

VIDEO = [Layer("fine", TokenGrid(6, 4, frames=3), HEADS), Layer("coarse", TokenGrid(3, 2, frames=3), 2)]


def make_video() -> Attribution:
    recorder = Recorder(torch.linspace(8, 0, 3), 1, 2**30)
    numbers = [recorder.reference(REFERENCE), recorder.reference(Reference("face", 2, None))]
    groups = [span("reference", 3, REFERENCE.grid), span("face", 15, count=2)]
    for step in range(2):
        for n, layer in enumerate(VIDEO):
            q, k = (_numbers((1, layer.heads, rows, 4), step + n) for rows in (layer.grid.cells, REFERENCE.tokens + 5))
            for number, m in list(zip(numbers, attribute(q, k, groups), strict=True))[: 2 - n]:
                recorder.add(Place(layer, step, number), m)
    return recorder.freeze(grid=VIDEO[0].grid, mechanism="fixture", branch="positive")


def build_video() -> tuple[bytes, str]:
    """The file, and as JSON what the core says of its single frames."""
    attribution = make_video()
    mask = torch.zeros(CANVAS)
    mask[8:, 4:] = 1
    exact = [
        {"layer": layer, "normalization": kind, "frames": maps(
            attribution, "r2g", "frame", kind, layers="all" if layer is None else str(layer)
        ).values.flatten(1).tolist()}
        for layer in (None, 0, 1)
        for kind in ("paper", "share")
    ]  # fmt: skip
    return _file(attribution, mask), json.dumps(exact)


# Effects, of a run whose attention was captured as well, and of one in which there is no attention.

MEASURED = [0, 2]  # steps


def make_effects(attribution: Attribution | None = None) -> Attribution:
    """The run with effects of each certainty: strong in its mask, tiny, rough, and exactly none."""
    attribution = make() if attribution is None else attribution
    inside = cells_of(attribution.denoise_mask, FINE)
    floor = torch.full((1, FINE.cells), 1e-3)
    strong = {(0, "everything"): 0.3, (0, "directly"): 0.2}
    weak = {("all references", "everything"): 5e-3, ("text", "everything"): 1e-3, ("conditioning", "everything"): 0}
    effects = {
        Removal(step, owner, route): inside * size * (2 + _numbers((1, FINE.cells), step) / 4) / 2 + (size > 0) * 1e-4
        for (owner, route), size in (strong | weak).items()
        for step in MEASURED
    }
    grid = region_grid(REFERENCE.grid, 2)
    regions = {
        (0, cut): RegionEffects(0, "everything", grid, inside * (2 + _numbers((1, 4, FINE.cells), seed)) / 10)
        for seed, cut in enumerate(("taken away", "only this left"))
    }
    unmeasured = {"the negative": "the model takes no image there"}
    return replace(attribution, effects=Effects(effects, floor, regions, unmeasured=unmeasured, evaluations=19))


def make_without_attention() -> Attribution:
    """No reference and no attention: what another conditioning lacks, in one step."""
    recorder = Recorder(torch.linspace(8, 0, STEPS + 1), 1, 2**30)
    mask = make().denoise_mask
    attribution = recorder.freeze(grid=FINE, denoise_mask=mask, mechanism="", branch="positive")
    effects = make_effects(attribution).effects
    assert effects is not None
    maps = {Removal(1, "conditioning"): effects.maps[Removal(0, 0)]}
    return replace(attribution, effects=Effects(maps, effects.floor))


def build_effects() -> tuple[bytes, bytes, str]:
    """Both files, and what the core says of the first, as JSON."""
    files = []
    for attribution in (make_effects(), make_without_attention()):
        assert attribution.denoise_mask is not None
        mask = attribution.denoise_mask[0].repeat_interleave(4, 0).repeat_interleave(4, 1)
        files.append(_file(attribution, mask))
    return files[0], files[1], json.dumps(expected_effects(make_effects()))


def expected_effects(attribution: Attribution) -> dict:
    unified, by_step = effect_maps(attribution, "r2g"), effect_maps(attribution, "r2g", "time")
    directly = effect_maps(attribution, "r2g", route="directly")
    effects = attribution.effects
    assert effects is not None and attribution.denoise_mask is not None
    return {
        "unified": unified.values[0].flatten().tolist(),
        "steps": [values.flatten().tolist() for values in by_step.values],
        "directly": directly.values[0].flatten().tolist(),
        "strength": effects.strength(0, "everything", cells_of(attribution.denoise_mask, FINE)),
        "everywhere": effects.strength(0),
        "regions": effect_maps(attribution, "g2r").values[0].flatten().tolist(),
        "asked": [
            _effect_requested(attribution, side, box, cut)
            for cut in ("taken away", "only this left")
            for side, box in (("generated", BOX), ("generated", POINT), ("reference", BOX), ("reference", REGION))
        ],
    }


REGION = (0.5, 0, 1, 2 / 3)  # the second region of the reference, whose two rows of tokens are of the first regions


def _effect_requested(attribution: Attribution, side: str, box: tuple[float, ...], cut: str) -> dict:
    grid = FINE if side == "generated" else REFERENCE.grid
    assert grid is not None
    requested = region(box, grid.height * 24, grid.width * 24)
    if box[0] == box[2]:
        requested[int(box[1] * len(requested)), int(box[0] * requested.shape[1])] = 1
    direction = "g2r" if side == "generated" else "r2g"
    answer = specific_effect(attribution, requested, direction, Selection(), cut).values
    return {"side": side, "box": box, "cut": cut, "values": answer.flatten().tolist()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    file, text = build()
    (FOLDER / "view.safetensors").write_bytes(file)
    (FOLDER / "view.json").write_text(text + "\n")
    video, text = build_video()
    (FOLDER / "video.safetensors").write_bytes(video)
    (FOLDER / "video.json").write_text(text + "\n")
    effects, alone, text = build_effects()
    (FOLDER / "effects.safetensors").write_bytes(effects)
    (FOLDER / "effects_alone.safetensors").write_bytes(alone)
    (FOLDER / "effects.json").write_text(text + "\n")
