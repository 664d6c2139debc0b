"""A small file of the viewer, and what the core says for selections of it: what the JavaScript is checked against.

``PYTHONPATH=. python tests/view_fixture.py`` writes both anew; a test holds that they are what this would write.
"""

import json
from pathlib import Path

import torch
from recorded import COARSE, FINE, HEADS, REFERENCE
from safetensors.torch import save
from selected import maps, specific

from i2am_core import Layer, Place, Positions, Recorder, attribute, imacs, span
from i2am_core.attribution import Attribution
from i2am_core.reading.aggregate import resampled
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
    seen = view(attribution, 2**20, [mask])
    table = (color_table("viridis")[None] * 255).round().to(torch.uint8)
    tensors = seen.tensors | {"colormaps": table, "mask/0": mask.to(torch.uint8)}
    places = [{"name": None, "canvas": canvas, "note": ""} for canvas in (CANVAS, REFERENCE_CANVAS)]
    pictures = {"generated": places[:1], "reference": [places[1:]]}
    header = {**seen.header, "pictures": pictures, "colormaps": ["viridis"], "masked": ["mask/0"]}
    file = save({name: x.contiguous() for name, x in tensors.items()}, metadata={"i2am_view": json.dumps(header)})
    return file, json.dumps(expected(attribution, mask))


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


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    file, text = build()
    (FOLDER / "view.safetensors").write_bytes(file)
    (FOLDER / "view.json").write_text(text + "\n")
