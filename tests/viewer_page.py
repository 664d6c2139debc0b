"""A viewer in the page, through what a person sees and does."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from comfy_page import NOWHERE, ComfyPage
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from i2am_core.attribution import Attribution
from i2am_core.showing.render import COLORMAPS, color_table
from i2am_core.showing.view import view

NODE = "I2AM_Viewer"
VIEWERS = """() => {
    const nodesIn = graph => (graph?.nodes ?? []).flatMap(node => [node, ...nodesIn(node.subgraph)]);
    return nodesIn(app.rootGraph ?? app.graph).filter(node => node.i2amViewer);
}"""
SHOWS = f"([number, old]) => {{ const it = ({VIEWERS})()[number]?.i2amViewer; return it?.file && it.file !== old; }}"


class Viewer:
    """The first viewer of a page, through what a person sees and does."""

    def __init__(self, comfy: ComfyPage, number: int = 0) -> None:
        self.comfy = comfy
        self.page = comfy.page
        self.number = number

    def __call__(self, script: str, arg: Any = None) -> Any:
        """The value of an expression of ``viewer`` and ``arg``."""
        node = f"({VIEWERS})()[{self.number}]"
        return self.page.evaluate(f"arg => {{ const node = {node}, viewer = node.i2amViewer; return {script}; }}", arg)

    def until(self, script: str, arg: Any = None) -> None:
        node = f"({VIEWERS})()[{self.number}]"
        self.page.wait_for_function(f"arg => {{ const viewer = {node}?.i2amViewer; return {script}; }}", arg=arg)

    def drawn(self) -> None:
        self.until("viewer.frame.number === null")

    def reset(self) -> None:
        """Nothing is selected, and maps are the paper's, which tests compare."""
        self("viewer.restore({normalization: 'paper'})")
        self.page.mouse.move(*NOWHERE)
        self.drawn()

    def pixels(self, side: str) -> np.ndarray:
        """The colours on a pane's heat."""
        self.drawn()
        url = self(f"viewer.panes.{side}.heat.toDataURL('image/png')")
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))

    def levels(self, side: str) -> np.ndarray:
        """The heat that these colours stand for, from 0 to 255."""
        self("viewer.change({colormap: 'viridis'}, false)")  # hardly two of its colours are the same
        table = (color_table("viridis") * 255).round().int().tolist()
        known = {tuple(color): level for level, color in enumerate(table)}
        assert len(known) > 250
        pixels = self.pixels(side)
        return np.array([known[tuple(color)] for color in pixels.reshape(-1, 3).tolist()]).reshape(pixels.shape[:2])

    def place(self, side: str, u: float, v: float) -> tuple[float, float]:
        """Where on the screen a place of a picture is."""
        left, top, width, height = self(
            f"(r => [r.left, r.top, r.width, r.height])(viewer.panes.{side}.stage.getBoundingClientRect())"
        )
        return left + u * width, top + v * height

    def click(self, side: str, u: float, v: float) -> None:
        """Ask about a place."""
        self("viewer.asked = viewer.state.ask")
        self.page.mouse.click(*self.place(side, u, v))
        self.until("viewer.state.ask && viewer.state.ask !== viewer.asked")
        self.drawn()

    def drag(self, side: str, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.page.mouse.move(*self.place(side, *start))
        self.page.mouse.down()
        self.page.mouse.move(*self.place(side, *end), steps=5)
        self.page.mouse.up()
        self.page.mouse.move(*NOWHERE)
        self.drawn()

    def open(self, attribution: Attribution, name: str, **given: Any) -> None:
        """Show an attribution, whose file lies where the node would have put it; ``given`` as ``write_view`` says."""
        folder = self.comfy.server.work / "temp" / "temp"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.safetensors"
        write_view(attribution, path, **given)
        self.load(path.name, path.stat().st_size)
        self.until("viewer.result?.filename === arg && viewer.file && viewer.status.hidden", path.name)

    def load(self, name: str, size: int) -> None:
        """Show a file that lies there."""
        self("viewer.load(arg)", {"filename": name, "subfolder": "", "type": "temp", "bytes": size})

    def part(self, selector: str, **having: Any) -> Any:
        return self.page.locator(f".i2am-viewer {selector}", **having)

    def shot(self, name: str, folder: Path) -> None:
        self.drawn()
        self.page.screenshot(path=folder / f"viewer_{name}.png")


BUDGET = 60 * 2**20
BLANK = {"name": None, "canvas": [384, 256], "note": ""}


def write_view(
    attribution: Attribution, path: Path, mask: Tensor | None = None, pictures: dict[str, np.ndarray] | None = None
) -> None:
    """The viewer's file of an attribution.

    ``mask [H, W]`` is that of all items, at the size of the heat. ``pictures [H, W, 3]`` are 'generated' and
    'reference', for all items and references; without them there is only heat, of 384 x 256 px. 'with' and 'without'
    are predictions of the first item and reference in step 0.
    """
    items = range(attribution.items)
    seen = view(attribution, BUDGET, [] if mask is None else [mask for _ in items])
    places = {name: {"name": name, "canvas": x.shape[:2], "note": ""} for name, x in (pictures or {}).items()}
    generated, reference = (places.get(name, BLANK) for name in ("generated", "reference"))
    about: dict[str, Any] = {
        "pictures": {
            "generated": [generated for _ in items],
            "reference": [[reference for _ in items] for _ in attribution.references],
        },
        "colormaps": list(COLORMAPS),
    }
    if {"with", "without"} <= places.keys():
        names = {"picture_with": "with", "picture_without": "without"}
        about["predictions"] = [{"item": 0, "owner": 0, "step": 0, **names}]
    tables = torch.stack([color_table(name) for name in COLORMAPS])
    tensors = seen.tensors | {"colormaps": (tables * 255).round().to(torch.uint8)}
    tensors |= {f"mask/{item}": mask.to(torch.uint8) for item in items if mask is not None}
    tensors |= {name: _png(x) for name, x in (pictures or {}).items()}
    save_file(
        {key: x.contiguous() for key, x in tensors.items()},
        path,
        metadata={"i2am_view": json.dumps(seen.header | about)},
    )


def _png(picture: np.ndarray) -> Tensor:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return torch.frombuffer(bytearray(stream.getvalue()), dtype=torch.uint8)
