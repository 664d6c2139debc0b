"""Draw the pack's icon and banner for ComfyUI's registry, and the thumbnail of the template with two references.

All from runs of the demo models, whose maps they show.

Runs in the host's Python, for ``scripts/pictures``.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

import demo_graph
from comfy_server import ComfyServer
from devenv import ROOT, one_sentence_errors, prepare

FOLDER = ROOT / "docs" / "images"
ICON = (400, 400)  # the registry's limit
BANNER = (1260, 540)  # 21:9
DRAWN = {
    "reference": "reference",
    "generated": "generated",
    "r2g_unified_overlay": "where it acts",
    "g2r_unified_overlay": "what of it is used",
}
NIGHT, DAY = (24, 26, 36), (246, 244, 238)  # behind the pictures, and the words
RIM = 6  # px around a picture
TEMPLATE = ROOT / "example_workflows" / "two_references.json"
THUMBNAIL = (600, 400)
# The titles of the template's previews, by where they are drawn: each map under its reference.
PREVIEWS = (
    ("Reference 0: the scene", "Reference 1: the object", "The picture"),
    ("Looked at the scene", "Looked at the object"),
)
QUESTION = "Two references:\nwhich one\ndid what?"
CLOSER = (0, 0, 290, 290)  # of the painted picture, where the object is
TITLE, LINES = "I2AM", ("See how a reference image acts", "on the picture being generated.")

Read = Callable[[str], Image.Image]


def build() -> demo_graph.Graph:
    """The demo, less what is not drawn."""
    whole = demo_graph.build()
    graph: demo_graph.Graph = {}
    waiting = [f"save:{name}" for name in DRAWN]
    while waiting:
        name = waiting.pop()
        graph[name] = whole[name]
        waiting += [given[0] for given in whole[name]["inputs"].values() if isinstance(given, list)]
    return graph


def icon(read: Read) -> Image.Image:
    """The reference behind, and before it the picture that was painted from it, with the map of where it acts."""
    whole = Image.new("RGB", ICON, NIGHT)
    put(whole, read("reference"), (10, 10), 226)
    put(whole, read("r2g_unified_overlay").crop(CLOSER), (164, 164), 226)
    return whole


def banner(read: Read) -> Image.Image:
    """What the pack is for, in words and in the two maps."""
    whole = Image.new("RGB", BANNER, NIGHT)
    draw = ImageDraw.Draw(whole)
    draw.text((60, 52), TITLE, fill=DAY, font=font(92, bold=True))
    for number, line in enumerate(LINES):
        draw.text((390, 62 + 44 * number), line, fill=DAY, font=font(32))
    side, gap, top = 261, 32, 208
    for number, (name, caption) in enumerate(DRAWN.items()):
        left = 60 + number * (side + gap)
        put(whole, read(name), (left, top), side)
        draw.text((left + side / 2, top + side + 14), caption, fill=DAY, font=font(22), anchor="ma")
    return whole


def thumbnail(read: Read) -> Image.Image:
    """Both references and the picture; under each reference where it was looked at; the question in the last place."""
    whole = Image.new("RGB", THUMBNAIL, NIGHT)
    side, gap = 186, 10
    for row, titles in enumerate(PREVIEWS):
        for column, title in enumerate(titles):
            put(whole, read(title), (gap + column * (side + gap), gap + row * (side + gap)), side)
    middle = (gap + 2 * (side + gap) + side / 2, gap + side + gap + side / 2)
    ImageDraw.Draw(whole).multiline_text(middle, QUESTION, fill=DAY, font=font(20), anchor="mm", align="center")
    return whole


def put(whole: Image.Image, picture: Image.Image, at: tuple[int, int], side: int) -> None:
    """A picture with round corners and a rim."""
    radius = side // 9
    behind = rounded(side + 2 * RIM, radius + RIM)
    whole.paste(DAY, (at[0] - RIM, at[1] - RIM, at[0] + side + RIM, at[1] + side + RIM), behind)
    whole.paste(picture.resize((side, side), Image.Resampling.LANCZOS), at, rounded(side, radius))


def rounded(side: int, radius: int) -> Image.Image:
    """The mask of a square with round corners, drawn large so that its edge is smooth."""
    large = Image.new("L", (4 * side, 4 * side))
    ImageDraw.Draw(large).rounded_rectangle((0, 0, 4 * side - 1, 4 * side - 1), 4 * radius, fill=255)
    return large.resize((side, side), Image.Resampling.LANCZOS)


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)


def save(picture: Image.Image, path: Path) -> None:
    picture.save(path, optimize=True, quality=85)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.1f} kB")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="i2am-") as work, ComfyServer(prepare(), Path(work)) as server:
        read = reader(server, build(), "save:")
        save(icon(read), FOLDER / "icon.png")
        save(banner(read), FOLDER / "registry_banner.png")
        save(thumbnail(reader(server, demo_graph.of_template(TEMPLATE))), TEMPLATE.with_suffix(".jpg"))


def reader(server: ComfyServer, graph: demo_graph.Graph, prefix: str = "") -> Read:
    """Runs a graph; the pictures by the names of the nodes that save or preview them, less a prefix."""
    outputs = server.run(graph)["outputs"]

    def read(name: str) -> Image.Image:
        return Image.open(io.BytesIO(server.view(outputs[prefix + name]["images"][0]))).convert("RGB")

    return read


if __name__ == "__main__":
    with one_sentence_errors():
        main()
