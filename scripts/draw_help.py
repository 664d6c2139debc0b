"""Draw the pictures of the help pages (``web/docs/images``) from a run of the demo model.

They hold no words, so that one picture serves the pages of every language. Runs in the host's Python, for
``scripts/pictures``.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageDraw

import demo_graph
from comfy_server import ComfyServer
from demo_graph import Graph, node
from devenv import ROOT, one_sentence_errors, prepare

FOLDER = ROOT / "web" / "docs" / "images"
HEIGHT = 192  # px of one picture in a row
GAP = 8
PAGE = 1100  # px: the width of a page that has to be read
SIZE = demo_graph.SIZE
MADE = (204, 190, 48)  # left, top and side of the square asked about in the generated picture, of SIZE
WENT = (168, 150, 48)  # the same in the reference
MUTED = (120, 144, 144)  # the dark part of the object, in the reference
MIDDLE = 132  # of the painted square, from the left
OTHER = 40  # the object of a second reference
OUTLINE = 4

Read = Callable[[str], list[Image.Image]]


def build() -> Graph:
    """The demo, with runs that nobody looks into, questions about two squares, and the masks as pictures."""
    graph = demo_graph.build()
    add_run(graph, "bare", ["loader", 0])
    for name, output in (("mask", 1), ("reference_mask", 3)):
        graph[f"image:{name}"] = node("MaskToImage", mask=["scene", output])
        show(graph, name, [f"image:{name}", 0])
    add_region_map(graph, "made", MADE, "generated to reference", "large:reference")
    add_region_map(graph, "went", WENT, "reference to generated", "large:generated")
    add_steered(graph)
    return graph


def add_run(graph: Graph, name: str, model: list, conditioning: str = "inpaint") -> None:
    """Another run of the demo's sampler, shown."""
    inputs = graph["sampler"]["inputs"] | {"model": model}
    inputs |= {"positive": [conditioning, 0], "negative": [conditioning, 1]}
    graph[f"sampler:{name}"] = node("KSampler", **inputs)
    graph[f"decode:{name}"] = node("VAEDecode", samples=[f"sampler:{name}", 0], vae=["loader", 1])
    show(graph, name, [f"decode:{name}", 0], "bicubic")


def add_steered(graph: Graph) -> None:
    """A run in which I2AM Steer mutes a part of the reference, and runs with a second one."""
    add_run(graph, "part", add_steer(graph, "part", 0.0, reference_region=add_square(graph, "muted", MUTED)))
    add_second_reference(graph)
    for strength in (0.0, 1.0, 10.0):
        name = f"second:{strength:g}"
        add_run(graph, name, add_steer(graph, name, strength, reference=1), "both")
    right = add_square(graph, "right", (MIDDLE, 0, SIZE))
    graph["left"] = node("InvertMask", mask=right)
    first = add_steer(graph, "first left", 0.0, reference=1, generated_region=["left", 0])
    add_run(graph, "split", add_steer(graph, "second right", 0.0, first, reference=0, generated_region=right), "both")


def add_second_reference(graph: Graph) -> None:
    """The conditioning "both": the demo's, with the tokens of another object after its own."""
    scene = graph["scene"]["inputs"] | {"object": OTHER}
    graph["scene:other"] = node("I2AM_DemoScene", **scene)
    graph["positive:other"] = node("I2AM_DemoReference", encoder=["loader", 2], image=["scene:other", 2])
    graph["joined"] = node(
        "ConditioningConcat", conditioning_to=["positive", 0], conditioning_from=["positive:other", 0]
    )
    graph["tagged"] = node(
        "I2AM_TagReference",
        conditioning_before=["positive", 0],
        conditioning_after=["joined", 0],
        image=["scene:other", 2],
    )
    graph["both"] = node("InpaintModelConditioning", **graph["inpaint"]["inputs"] | {"positive": ["tagged", 0]})


def add_steer(graph: Graph, name: str, strength: float, model: list | None = None, **settings: Any) -> list:
    """The model steered, with all that is not in ``settings`` as the node has it at first."""
    usual = {"by": "attention", "reference": -1, "through": "everything", "branch": "both", "mechanism": "auto"}
    usual |= {"steps": "all", "layers": "all", "heads": "all"}
    graph[f"steer:{name}"] = node(
        "I2AM_Steer", **usual | {"model": model or ["loader", 0], "strength": strength} | settings
    )
    return [f"steer:{name}", 0]


def show(graph: Graph, name: str, image: list, method: str = "nearest-exact") -> None:
    graph[f"large:{name}"] = node(
        "ImageScale", image=image, upscale_method=method, width=SIZE, height=SIZE, crop="disabled"
    )
    graph[f"save:{name}"] = demo_graph.save(name, [f"large:{name}", 0])


def add_region_map(graph: Graph, name: str, square: tuple[int, int, int], direction: str, under: str) -> None:
    graph[f"specific:{name}"] = node(
        "I2AM_SpecificReference",
        attribution=["collect", 0],
        region=add_square(graph, name, square),
        direction=direction,
        image=[under, 0],
        colormap="jet",
        opacity=0.5,
        **demo_graph.selection(),
    )
    graph[f"save:{name}"] = demo_graph.save(name, [f"specific:{name}", 0])


def add_square(graph: Graph, name: str, square: tuple[int, int, int]) -> list:
    """A mask of SIZE in which a square is marked."""
    left, top, side = square
    graph[f"empty:{name}"] = node("SolidMask", value=0.0, width=SIZE, height=SIZE)
    graph[f"square:{name}"] = node("SolidMask", value=1.0, width=side, height=side)
    graph[f"region:{name}"] = node(
        "MaskComposite",
        destination=[f"empty:{name}", 0],
        source=[f"square:{name}", 0],
        x=left,
        y=top,
        operation="add",
    )
    return [f"region:{name}", 0]


def draw(read: Read) -> None:
    def one(name: str) -> Image.Image:
        return read(name)[0]

    generated, reference = one("generated"), one("reference")
    r2g, g2r = one("r2g_unified_overlay"), one("g2r_unified_overlay")
    row("scene", [one("scene"), one("mask"), reference, one("reference_mask"), one("truth")])
    row("demo", [one("scene"), reference, generated, one("truth")])
    row("capture", [one("bare"), generated, r2g])
    row("maps_unified", [generated, r2g, reference, g2r])
    row("maps_time", read("r2g_time_overlay"))
    row("maps_layer", read("r2g_layer_overlay"))
    row("imacs", [outlined(r2g, one("mask")), outlined(g2r, one("reference_mask"))])
    row("steer", [squared(reference, MUTED), one("bare"), one("part")])
    row("steer_two", [*(one(f"second:{strength}") for strength in (0, 1, 10)), one("split")])
    row("effect", [generated, one("r2g_effect_overlay"), reference, one("g2r_effect_overlay")])
    row("counterfactual", [generated, one("with_reference"), one("without_reference")])
    page("report", one("report"))
    page("compare", one("comparison"))
    row("specific", [squared(generated, MADE), one("made"), squared(reference, WENT), one("went")])


def outlined(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with the border of a mask in white."""
    inside = mask.convert("L").point(lambda value: 255 if value > 127 else 0)
    shrunk = inside.copy()
    for x, y in ((OUTLINE, 0), (-OUTLINE, 0), (0, OUTLINE), (0, -OUTLINE)):
        shrunk = ImageChops.darker(shrunk, ImageChops.offset(inside, x, y))
    marked = picture.copy()
    marked.paste("white", mask=ImageChops.subtract(inside, shrunk))
    return marked


def squared(picture: Image.Image, square: tuple[int, int, int]) -> Image.Image:
    left, top, side = square
    marked = picture.copy()
    ImageDraw.Draw(marked).rectangle((left, top, left + side, top + side), outline="red", width=OUTLINE)
    return marked


def row(name: str, pictures: list[Image.Image]) -> None:
    """Pictures side by side, on nothing, so that pages in light and dark show them alike."""
    whole = Image.new("RGBA", (len(pictures) * (HEIGHT + GAP) - GAP, HEIGHT))
    for number, picture in enumerate(pictures):
        whole.paste(picture.resize((HEIGHT, HEIGHT), Image.Resampling.LANCZOS), (number * (HEIGHT + GAP), 0))
    write(name, whole)


def page(name: str, picture: Image.Image) -> None:
    """A page that has to be read, in the width of a help panel."""
    write(name, picture.resize((PAGE, round(PAGE * picture.height / picture.width)), Image.Resampling.LANCZOS))


def write(name: str, picture: Image.Image) -> None:
    path = FOLDER / f"{name}.webp"
    picture.save(path, quality=82, method=6)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.1f} kB")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="i2am-") as work, ComfyServer(prepare(), Path(work)) as server:
        outputs = server.run(build())["outputs"]

        def read(name: str) -> list[Image.Image]:
            entries = outputs[f"save:{name}"]["images"]
            return [Image.open(io.BytesIO(server.view(entry))).convert("RGB") for entry in entries]

        draw(read)


if __name__ == "__main__":
    with one_sentence_errors():
        main()
