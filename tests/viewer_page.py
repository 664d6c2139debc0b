"""A viewer in the page, through what a person sees and does."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from comfy_page import NOWHERE, ComfyPage
from PIL import Image

from i2am_core.showing.render import color_table

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
        self.until("viewer.frame == null")

    def reset(self) -> None:
        self("viewer.restore(null)")
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

    def part(self, selector: str) -> Any:
        return self.page.locator(f".i2am-viewer {selector}")

    def shot(self, name: str, folder: Path) -> None:
        self.drawn()
        self.page.screenshot(path=folder / f"viewer_{name}.png")
