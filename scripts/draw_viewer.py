"""Draw the viewer for the README, its help page and the template, from the demo model in the real page.

Runs in the host's Python, for ``scripts/pictures``: python scripts/draw_viewer.py CHROMIUM
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))

from comfy_page import FLAGS, ComfyPage
from PIL import Image, ImageDraw

import demo_graph
from comfy_client import Json
from comfy_server import ComfyServer
from devenv import ROOT, prepare

README = ROOT / "docs" / "images"
HELP = ROOT / "web" / "docs" / "images"
TEMPLATE = ROOT / "example_workflows" / "reference_inpainting_demo.jpg"
SIZE = (800, 780)  # px of the viewer's node, as a new one has
WAIT = 90  # milliseconds of a frame
STEPS = 20


def main(chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    HELP.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="i2am-") as work,
        ComfyServer(prepare(tests=True), Path(work)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1600, "height": 1100}, device_scale_factor=1)
        look(Actor(ComfyPage(page, server, vue=False)))
        browser.close()


def look(actor: Actor) -> None:
    """What a person does with the viewer, as pictures and as one that moves."""
    actor.open()
    save(actor.frame(pointer=False), HELP / "viewer.webp")
    thumbnail(actor.frame(pointer=False), actor.panes())
    frames = list(actor.play())
    save(actor.answered, HELP / "viewer_ask.webp")
    first, *others = frames
    first.save(README / "viewer.webp", save_all=True, append_images=others, duration=WAIT, loop=0, quality=70, method=4)
    print(f"{README / 'viewer.webp'}: {len(frames)} frames, {(README / 'viewer.webp').stat().st_size // 1024} kB")


class Actor:
    """Moves the pointer over the viewer, and takes pictures of it."""

    def __init__(self, comfy: ComfyPage) -> None:
        self.comfy = comfy
        self.page = comfy.page
        self.at = (0.0, 0.0)

    def open(self) -> None:
        self.comfy.load_api(viewer_graph())
        self.comfy.page.evaluate(
            "size => { app.graph.nodes.find(node => node.type === 'I2AM_Viewer').setSize(size); }", list(SIZE)
        )
        self.comfy.show("I2AM_Viewer")
        self.comfy.run()
        self.page.wait_for_function(f"() => {VIEWER}?.file && {VIEWER}.frame.number === null")
        self.page.evaluate(f"() => {VIEWER}.ready()")

    def play(self) -> Iterator[Image.Image]:
        """What it changed, and a walk over the picture with the question which parts made each spot; then attention:
        every step, every layer, and the same walk."""
        yield from [self.frame(pointer=False)] * 6
        yield from self.walk()
        self.page.mouse.down()
        self.page.mouse.up()
        self.answered = self.frame(pointer=False)
        yield from [self.frame()] * 12
        self.page.locator(".i2am-viewer button", has_text="Clear").first.click()
        self.page.evaluate(f"() => {VIEWER}.change({{ normalization: 'paper' }})")
        yield from [self.frame()] * 6
        for number in range(STEPS):
            yield self.on_bar("step", (number + 0.5) / STEPS)
        yield self.press("step")
        for number in range(6):
            yield from [self.on_bar("layer", (number + 0.5) / 6)] * 5
        yield from [self.press("layer")] * 4
        yield from self.walk()

    def walk(self) -> Iterator[Image.Image]:
        for number in range(25):
            part = number / 24
            yield self.hover(0.16 + 0.42 * part, 0.3 + 0.22 * part)

    def on_bar(self, axis: str, part: float) -> Image.Image:
        box = self.page.locator(f".i2am-viewer .scrubber[data-axis={axis}] .track").bounding_box()
        assert box is not None
        self.move(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        self.page.mouse.down()
        self.page.mouse.up()
        return self.frame()

    def press(self, axis: str) -> Image.Image:
        box = self.page.locator(f".i2am-viewer .scrubber[data-axis={axis}] .all").bounding_box()
        assert box is not None
        self.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        self.page.mouse.down()
        self.page.mouse.up()
        return self.frame()

    def hover(self, u: float, v: float) -> Image.Image:
        box = self.page.locator(".i2am-viewer .pane.generated .stage").bounding_box()
        assert box is not None
        self.move(box["x"] + u * box["width"], box["y"] + v * box["height"])
        return self.frame()

    def move(self, x: float, y: float) -> None:
        self.at = (x, y)
        self.page.mouse.move(x, y)

    def panes(self) -> tuple[int, int, int, int]:
        """Where both panes are within the viewer."""
        box = self.page.locator(".i2am-viewer").bounding_box()
        inner = [self.page.locator(f".i2am-viewer .pane.{side}").bounding_box() for side in ("generated", "reference")]
        x, y = box["x"], box["y"]
        left, top = min(pane["x"] for pane in inner), min(pane["y"] for pane in inner)
        right = max(pane["x"] + pane["width"] for pane in inner)
        bottom = max(pane["y"] + pane["height"] for pane in inner)
        return int(left - x), int(top - y), int(right - x), int(bottom - y)

    def frame(self, pointer: bool = True) -> Image.Image:
        """The viewer as it is now, with the pointer, which a screenshot leaves out."""
        self.page.wait_for_function(f"() => {VIEWER}.frame.number === null")
        box = self.page.locator(".i2am-viewer").bounding_box()
        assert box is not None
        shot = open_image(self.page.screenshot(clip=box))
        if pointer:
            x, y = self.at[0] - box["x"], self.at[1] - box["y"]
            arrow = [(x, y), (x, y + 17), (x + 4, y + 13), (x + 7, y + 19), (x + 10, y + 18), (x + 7, y + 12)]
            ImageDraw.Draw(shot).polygon([*arrow, (x + 12, y + 12)], fill="white", outline="black")
        return shot


VIEWER = "app.graph.nodes.find(node => node.type === 'I2AM_Viewer')?.i2amViewer"


def viewer_graph() -> Json:
    """The demo with a viewer in place of its maps, in API format with numbers for names."""
    whole = demo_graph.build(steps=STEPS)
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "effect", "sampler", "collect", "decode")
    nodes = {name: whole[name] for name in (*names, "large:generated", "large:reference")}
    nodes["viewer"] = demo_graph.node(
        "I2AM_Viewer",
        attribution=["collect", 0],
        image=["large:generated", 0],
        reference=["large:reference", 0],
        mask=["scene", 1],
    )
    return demo_graph.numbered(nodes)


def thumbnail(frame: Image.Image, box: tuple[int, int, int, int]) -> None:
    """What the template browser shows: the panes, which are in this box."""
    panes = frame.crop(box)
    panes.resize((512, round(512 * panes.height / panes.width)), Image.Resampling.LANCZOS).save(TEMPLATE, quality=85)


def open_image(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, quality=82, method=6)
    print(f"{path}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main(sys.argv[1])
