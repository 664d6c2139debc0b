"""All maps at once: thumbnails whose pixels are those of the core, and the ways from one of them to its map."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from comfy_page import NOWHERE, ComfyPage
from page_access import AXE, CONTRASTS, CUT, FOCUSED, LEAST_CONTRAST
from PIL import Image
from recorded import COARSE, FINE, HEADS, REFERENCE
from selected import maps
from torch import Tensor
from view_fixture import make_effects
from viewer_page import NODE, SHOWS, Viewer

import demo_graph
from demo_graph import node
from i2am_core import Layer, Place, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.attribution import Attribution
from i2am_core.files import load
from i2am_core.reading.aggregate import resize
from i2am_core.reading.effect import effect_maps
from i2am_core.showing.render import color_table

pytestmark = pytest.mark.timeout(300)

STEPS = 6
MOMENT = 50  # ms of our work, for all thumbnails of 40 layers and 24 heads
AREA = ".thumbnails .area"
OPEN = ".row button:text-is('All maps at once')"
WHICH, SIDE, SCALE, KIND = (
    f"select[aria-label='{name}']"
    for name in ("Which maps", "Maps on which picture", "Colours of all maps", "What a value says")
)
CELL = f"{AREA} [role=gridcell]"


@pytest.fixture(scope="module", params=["newest-vue", "pinned-canvas"])
def comfy(request: pytest.FixtureRequest, servers: Any, browser: Any) -> Iterator[ComfyPage]:
    frontend, renderer = request.param.split("-")
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    comfy = ComfyPage(context.new_page(), servers(frontend), vue=renderer == "vue")
    comfy.name = request.param
    yield comfy
    assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
    context.close()


@pytest.fixture(scope="module")
def ran(comfy: ComfyPage) -> Viewer:
    """A run of the demo."""
    whole = demo_graph.build(steps=STEPS)
    whole["sampler"]["inputs"]["model"] = ["capture", 0]  # without I2AM Effect
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "sampler", "collect", "decode")
    nodes = {name: whole[name] for name in names}
    nodes["viewer"] = node(
        NODE, attribution=["collect", 0], image=["decode", 0], reference=["scene", 2], mask=["scene", 1]
    )
    nodes["keep"] = node("I2AM_Save", attribution=["collect", 0], filename_prefix="i2am/at_once")
    comfy.load_api(demo_graph.numbered(nodes))
    comfy.show(NODE)
    comfy.run()
    comfy.page.wait_for_function(SHOWS, arg=[0, None])
    comfy.show(NODE)
    comfy.page.add_script_tag(path=comfy.server.host.npm_programs.parent / "axe-core" / "axe.min.js")
    viewer = Viewer(comfy)
    viewer("viewer.first = viewer.result")
    return viewer


@pytest.fixture
def viewer(ran: Viewer) -> Viewer:
    """All maps of heads at once, in colours of which no two are the same."""
    ran("viewer.load(viewer.first)")
    ran.until("viewer.result === viewer.first && viewer.status.hidden")
    ran("viewer.restore({normalization: 'paper', colormap: 'viridis'})")
    ran.page.mouse.move(*NOWHERE)
    open_all(ran)
    return ran


@pytest.fixture(scope="module")
def attribution(ran: Viewer) -> Attribution:
    files = (ran.comfy.server.work / "output" / "i2am").glob("at_once_*")
    return load(max(files, key=lambda path: path.stat().st_mtime))


def open_all(viewer: Viewer) -> None:
    viewer.part(OPEN).click()
    viewer.until("viewer.state.thumbnails !== null")
    viewer.drawn()


def go(viewer: Viewer, row: int, column: int) -> None:
    """By the keyboard, from the first cell."""
    viewer.drawn()
    viewer.part(AREA).focus()
    for key in ("PageUp", "Home", *["ArrowDown"] * row, *["ArrowRight"] * column):
        viewer.page.keyboard.press(key)


def words(viewer: Viewer) -> str:
    viewer.drawn()
    return viewer.part(CELL).get_attribute("aria-label") or ""


def pixels(viewer: Viewer, row: int, column: int) -> np.ndarray:
    """RGBA of a thumbnail, which lies where the cell of its row and column does."""
    go(viewer, row, column)
    viewer.drawn()
    url, box = viewer.part(AREA).evaluate(
        """area => {
            const canvas = area.querySelector("canvas"), cell = area.querySelector("[role=gridcell]");
            const [left, top] = [cell.offsetLeft, cell.parentElement.offsetTop];
            return [canvas.toDataURL("image/png"), [left - canvas.offsetLeft, top - canvas.offsetTop,
                cell.offsetWidth, cell.offsetHeight]];
        }"""
    )
    left, top, width, height = box
    whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))
    return whole[top : top + height, left : left + width]


def levels(viewer: Viewer, row: int, column: int) -> np.ndarray:
    """What the colours of a thumbnail stand for, from 0 to 255."""
    seen = pixels(viewer, row, column)
    assert (seen[..., 3] == 255).all()
    table = (color_table("viridis") * 255).round().int().tolist()
    known = {tuple(color): level for level, color in enumerate(table)}
    return np.array([known[tuple(color)] for color in seen[..., :3].reshape(-1, 3).tolist()]).reshape(seen.shape[:2])


def thumbnail(values: Tensor, height: int, width: int) -> Tensor:
    """A map at the size of a thumbnail, by torch."""
    if values.shape[0] <= height and values.shape[1] <= width:
        return resize(values[None], height, width)[0]
    return F.interpolate(values[None, None], (height, width), mode="area")[0, 0]


def alike(drawn: np.ndarray, values: Tensor, low: float, high: float) -> None:
    expected = ((thumbnail(values, *drawn.shape) - low) / (high - low) * 255).round().clamp(0, 255).numpy()
    assert np.abs(drawn - expected).max() <= 2


def of_core(attribution: Attribution, direction: str, kind: str = "paper", **selection: Any) -> Tensor:
    return maps(attribution, direction, normalization=kind, **selection).values[0]


def grid_of_core(attribution: Attribution, direction: str, kind: str, axis: str) -> list[list[Tensor]]:
    """The map of each layer in each step or head, the means of all first."""
    count = STEPS if axis == "steps" else attribution.layers[0].heads
    layers = [{}, *({"layers": str(n)} for n in range(len(attribution.layers)))]
    others = [{}, *({axis: str(n)} for n in range(count))]
    return [[of_core(attribution, direction, kind, **layer, **other) for other in others] for layer in layers]


@pytest.mark.parametrize("which, axis", [("layers x heads", "heads"), ("steps x layers", "steps")])
@pytest.mark.parametrize("side, direction", [("generated", "r2g"), ("reference", "g2r")])
def test_thumbnails_are_the_maps_of_the_core(
    viewer: Viewer, attribution: Attribution, artifacts: Path, which: str, axis: str, side: str, direction: str
) -> None:
    """On one scale, from the lowest to the highest value of all of them; then each on its own."""
    viewer.part(WHICH).select_option(which)
    viewer.part(SIDE).select_option(side)
    viewer.drawn()
    viewer.shot(f"at_once_{viewer.comfy.name}_{axis}_{side}", artifacts)
    expected = grid_of_core(attribution, direction, "paper", axis)
    every = [values for row in expected for values in row]
    low, high = min(x.min().item() for x in every), max(x.max().item() for x in every)
    rows, columns = len(expected), len(expected[0])
    some = [(0, 0), (1, 2), (rows - 1, columns - 1), (rows // 2, 1)]
    for row, column in some:
        alike(levels(viewer, row, column), expected[row][column], low, high)
    viewer.part(SCALE).select_option("each its own")
    for row, column in some:
        values = expected[row][column]
        alike(levels(viewer, row, column), values, values.min().item(), values.max().item())


def test_the_chosen_step_and_kind_are_those_of_all_thumbnails(viewer: Viewer) -> None:
    attribution = partly()
    viewer.open(attribution, f"chosen_{viewer.comfy.name}")
    viewer("viewer.change({step: 3, normalization: 'share'})")
    viewer.part(SCALE).select_option("each its own")
    for row, column in ((1, 1), (2, 2)):
        values = of_core(attribution, "r2g", "share", steps="3", layers=str(row - 1), heads=str(column - 1))
        alike(levels(viewer, row, column), values, values.min().item(), values.max().item())
    assert "step 4 of 5" in viewer.part(".thumbnails > strong").inner_text()


def test_a_share_of_all_is_said_and_not_painted(viewer: Viewer) -> None:
    """That of the demo, whose reference has attention of its own."""
    viewer.part(KIND).select_option("share")
    viewer.drawn()
    assert viewer.part(".thumbnails .note").inner_text().startswith("100 % everywhere: nothing competes")
    assert viewer.part(AREA).is_hidden()
    viewer.part(SIDE).select_option("reference")
    viewer.drawn()
    assert viewer.part(AREA).is_visible() and viewer.part(".thumbnails .note").is_hidden()


def test_sizes_that_cannot_be_compared_are_said(viewer: Viewer) -> None:
    """A map of 'where' of fewer cells has larger values. On the reference all have as many."""
    hint = viewer.part(".thumbnails .hint")
    assert "compare maps of one size" in hint.inner_text()
    viewer.part(SIDE).select_option("reference")
    viewer.drawn()
    assert "compare maps of one size" not in hint.inner_text()


def test_a_cell_says_what_its_map_comes_to(viewer: Viewer, attribution: Attribution) -> None:
    """By keyboard and by pointer the same: mean, maximum, and what of it lies in the mask."""
    go(viewer, 2, 1)
    values = of_core(attribution, "r2g", layers="1", heads="0")
    text = words(viewer)
    assert text.startswith(f"{attribution.layers[1].name} \u00b7 ") and "head 0: mean " in text
    mean, highest = (float(part.split()[-1]) for part in text.split(": ", 1)[1].split(" \u00b7 ")[:2])
    assert mean == pytest.approx(values.mean().item(), rel=0.02)
    assert highest == pytest.approx(values.max().item(), rel=0.01)
    viewer("viewer.change({layer: 1, head: 0, thumbnails: null})")
    viewer.drawn()
    inside = next(x for x in viewer.part(".numbers").inner_text().split(" \u00b7 ") if x.startswith("inside the mask"))
    assert text.endswith(inside)
    open_all(viewer)
    go(viewer, 0, 0)
    where = viewer.part(f"{AREA} [role=rowheader]").nth(2).bounding_box()
    column = viewer.part(f"{AREA} [role=columnheader]").nth(1).bounding_box()
    viewer.page.mouse.move(column["x"] + column["width"] / 2, where["y"] + where["height"] / 2)
    assert viewer.part(".thumbnails .reading").inner_text() == text
    viewer.page.mouse.move(*NOWHERE)
    assert viewer.part(".thumbnails .reading").inner_text() == words(viewer) != text


def test_enter_shows_a_map_large(viewer: Viewer, attribution: Attribution) -> None:
    go(viewer, 2, 3)
    viewer.page.keyboard.press("Enter")
    viewer.until("viewer.state.thumbnails === null && viewer.frame.number === null")
    assert viewer("[viewer.state.layer, viewer.state.head, viewer.state.step]") == [1, 2, None]
    assert viewer.part(".thumbnails").count() == 0 and viewer.part(".pane.generated").is_visible()
    values = maps(attribution, "r2g", layers="1", heads="2").values[0]
    drawn = viewer.levels("generated")
    alike(drawn, values, *_ends(values, *drawn.shape))
    viewer.drawn()
    viewer.page.keyboard.press("ArrowRight")  # the focus is where it was before: the keys go on from here
    viewer.until("viewer.state.step === 0")


def _ends(values: Tensor, height: int, width: int) -> tuple[float, float]:
    large = resize(values[None], height, width)
    return large.min().item(), large.max().item()


def test_a_click_shows_a_map_large(viewer: Viewer) -> None:
    viewer.part(WHICH).select_option("steps x layers")
    go(viewer, 3, 5)
    viewer.part(CELL).evaluate("cell => cell.scrollIntoView({block: 'nearest'})")
    box = viewer.part(CELL).bounding_box()
    viewer.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    viewer.until("viewer.state.thumbnails === null && viewer.frame.number === null")
    assert viewer("[viewer.state.layer, viewer.state.head, viewer.state.step]") == [2, None, 4]
    open_all(viewer)
    viewer.part(WHICH).select_option("steps x layers")
    viewer.drawn()
    assert "step 5 of 6" in words(viewer)  # where one was


def test_escape_goes_back_and_changes_nothing(viewer: Viewer) -> None:
    before = viewer("[viewer.state.layer, viewer.state.head, viewer.state.step]")
    go(viewer, 1, 1)
    viewer.page.keyboard.press("Escape")
    viewer.until("viewer.state.thumbnails === null && viewer.frame.number === null")
    assert viewer("[viewer.state.layer, viewer.state.head, viewer.state.step]") == before
    assert viewer.part(".pane.generated").is_visible()
    viewer.drawn()
    assert viewer.page.evaluate(FOCUSED) == ["All maps at once", "BUTTON", True]
    viewer.page.keyboard.press("Enter")
    viewer.until("viewer.state.thumbnails !== null")
    viewer.drawn()
    assert viewer.page.evaluate(FOCUSED)[0].startswith("All maps on the picture")
    viewer.part(".thumbnails button:text-is('Back to one map')").click()
    viewer.until("viewer.state.thumbnails === null && viewer.frame.number === null")


def test_what_changes_nothing_here_is_not_offered(viewer: Viewer) -> None:
    """Menus of how one map is drawn, and pictures of the panes, which are not to be seen."""
    names = ("What the colours span", "How maps are drawn", "Strength of the heat")
    menus = [viewer.part(f".bar [aria-label='{name}']") for name in names]
    save = viewer.part("details.save")

    def entries() -> list[str]:
        save.locator("summary").click()
        names = [one.inner_text() for one in save.locator("button").all() if one.is_visible()]
        save.locator("summary").click()
        return names

    assert [one.is_visible() for one in menus] == [False] * 3
    assert entries() == ["Copy as JSON", "Save as HTML"]
    viewer.part(".thumbnails button:text-is('Back to one map')").click()
    viewer.drawn()
    assert [one.is_visible() for one in menus] == [True] * 3
    assert len(entries()) == 4


def test_the_grid_is_one_for_those_who_do_not_see_it(viewer: Viewer, artifacts: Path) -> None:
    """Roles, names, contrast and focus, with a map chosen."""
    viewer("viewer.change({layer: 2, head: 1})")
    viewer.drawn()
    root = viewer.page.locator(".i2am-viewer")
    assert root.evaluate(AXE) == []
    assert [one for one in root.evaluate(CONTRASTS) if one[1] < LEAST_CONTRAST] == []
    assert root.evaluate(CUT) == []
    area = viewer.part(AREA)
    rows, columns = int(area.get_attribute("aria-rowcount")), int(area.get_attribute("aria-colcount"))
    assert viewer.part(f"{AREA} [role=row]").count() == rows
    assert viewer.part(f"{AREA} [role=columnheader]").count() == columns - 1
    assert viewer.part(CELL).get_attribute("id") == area.get_attribute("aria-activedescendant")
    assert viewer.part(CELL).get_attribute("aria-colindex") == "4"
    assert viewer.part(f"{AREA} [role=row]:has([role=gridcell])").get_attribute("aria-rowindex") == "5"
    area.focus()
    viewer.page.keyboard.press("ArrowRight")
    name, _, is_seen = viewer.page.evaluate(FOCUSED)
    assert name.startswith("All maps on the picture") and is_seen
    assert viewer.part(CELL).evaluate("cell => getComputedStyle(cell).outlineStyle") == "solid"
    viewer.shot(f"at_once_{viewer.comfy.name}_focus", artifacts)


def test_what_the_colours_stand_for_is_said(viewer: Viewer, attribution: Attribution) -> None:
    every = [values for row in grid_of_core(attribution, "r2g", "paper", "heads") for values in row]
    low, high = (float(text) for text in viewer.part(".thumbnails .legend span").all_inner_texts())
    assert high == pytest.approx(max(x.max().item() for x in every), rel=0.01)
    assert low == pytest.approx(min(x.min().item() for x in every), rel=0.01, abs=1e-6)
    viewer.part(SCALE).select_option("each its own")
    viewer.drawn()
    assert viewer.part(".thumbnails .legend span").all_inner_texts() == ["lowest of each", "highest of each"]
    assert "do not compare" in viewer.part(".thumbnails .hint").inner_text()


def partly() -> Attribution:
    """Two pictures and two references: one that not every layer reads, one without a place; steps that nothing saw."""
    recorder = Recorder(torch.linspace(10, 0, 6), 2, 2**30)
    face = Reference("face", 4, None, approximate=True)
    numbers = [recorder.reference(REFERENCE), recorder.reference(face)]
    torch.manual_seed(0)
    for step in range(5):
        for layer in (Layer("fine", FINE, HEADS), Layer("coarse", COARSE, 2)):
            if layer.name == "coarse" and step == 2:
                continue
            q, k = torch.randn(2, layer.heads, layer.grid.cells, 8), torch.randn(2, layer.heads, 20, 8)
            groups = [span("reference", 0, REFERENCE.grid), span("face", 12, count=4)]
            for number, marginals in zip(numbers, attribute(q, k, groups), strict=True):
                if number == 0 or layer.name == "fine":
                    recorder.add(Place(layer, step, number), marginals)
    return recorder.freeze(grid=FINE, mechanism="test", branch="positive")


def is_striped(viewer: Viewer, row: int, column: int) -> bool:
    seen = pixels(viewer, row, column)
    return set(np.unique(seen[..., 3])) <= {0, 150} and (seen[..., 3] == 150).any()


def test_a_cell_without_a_map_says_why(viewer: Viewer, artifacts: Path) -> None:
    attribution = partly()
    viewer.open(attribution, f"partly_{viewer.comfy.name}")
    assert is_striped(viewer, 2, 3)
    assert words(viewer) == "coarse \u00b7 2\u00d73 \u00b7 head 2: This layer has only 2 heads."
    assert is_striped(viewer, 0, 1) and "Layers differ in how many heads" in words(viewer)
    viewer.page.keyboard.press("Enter")  # there is nothing to show
    assert viewer("viewer.state.thumbnails") == "layers x heads"
    viewer.shot(f"at_once_{viewer.comfy.name}_partly", artifacts)
    viewer.part(WHICH).select_option("steps x layers")
    assert is_striped(viewer, 2, 3) and words(viewer).endswith(": nothing was captured here")
    viewer("viewer.change({reference: 1})")
    assert is_striped(viewer, 2, 1) and words(viewer).endswith(": This layer does not read the reference.")
    viewer.part(SIDE).select_option("reference")
    viewer.drawn()
    assert "have no place in its image" in viewer.part(".thumbnails .note").inner_text()
    assert viewer.part(AREA).is_hidden()


def test_pictures_and_references_stand_side_by_side(viewer: Viewer, artifacts: Path) -> None:
    attribution = partly()
    viewer.open(attribution, f"pictures_{viewer.comfy.name}")
    viewer.part(WHICH).select_option("pictures x references")
    every = [[of_core(attribution, "r2g", item=i, reference=r) for r in range(2)] for i in range(2)]
    low = min(x.min().item() for row in every for x in row)
    high = max(x.max().item() for row in every for x in row)
    for item in range(2):
        for reference in range(2):
            alike(levels(viewer, item, reference), every[item][reference], low, high)
    viewer.shot(f"at_once_{viewer.comfy.name}_pictures", artifacts)
    go(viewer, 1, 1)
    viewer.page.keyboard.press("Enter")
    viewer.until("viewer.state.thumbnails === null && viewer.frame.number === null")
    assert viewer("[viewer.state.item, viewer.state.reference]") == [1, 1]


def test_merged_heads_are_no_heads(viewer: Viewer) -> None:
    """Whatever does not fit into the file is said, and never painted."""
    viewer("viewer.change({thumbnails: null})")
    viewer("viewer.resolved = viewer.file.header")
    viewer("viewer.file.header = {...viewer.resolved, heads: false, joint: []}")
    try:
        open_all(viewer)
        assert is_striped(viewer, 1, 1) and words(viewer).endswith(": heads are not resolved")
        assert not is_striped(viewer, 1, 0)
    finally:
        viewer("viewer.file.header = viewer.resolved")


def test_text_of_twice_the_size_is_not_cut(viewer: Viewer, artifacts: Path) -> None:
    size = "document.documentElement.style.fontSize = arg"
    viewer(size, "32px")
    try:
        viewer("viewer.change({thumbnailScale: 'each its own'})")
        viewer.shot(f"at_once_{viewer.comfy.name}_large", artifacts)
        cut = viewer.page.locator(".i2am-viewer").evaluate(CUT)
    finally:
        viewer(size, "")
    assert cut == []


def many() -> Attribution:
    """40 layers of 24 heads."""
    recorder = Recorder(torch.linspace(10, 0, 3), 1, 2**30)
    number = recorder.reference(REFERENCE)
    torch.manual_seed(0)
    grid = TokenGrid(32, 32)
    for step in range(2):
        for n in range(40):
            q, k = torch.randn(1, 24, grid.cells, 8), torch.randn(1, 24, 20, 8)
            (marginals,) = attribute(2 * q, 2 * k, [span("reference", 0, REFERENCE.grid)])
            recorder.add(Place(Layer(f"block {n}", grid, 24), step, number), marginals)
    return recorder.freeze(grid=grid, mechanism="test", branch="positive")


def test_many_thumbnails_are_drawn_in_a_moment(viewer: Viewer, artifacts: Path) -> None:
    viewer.open(many(), f"many_{viewer.comfy.name}")
    took = viewer(
        """[0, 1, 0, 1, 0, 1, 0].map(step => {
            viewer.change({step}, false);
            const start = performance.now();
            viewer.drawNow();
            return performance.now() - start;
        })"""
    )
    viewer.shot(f"at_once_{viewer.comfy.name}_many", artifacts)
    (artifacts / f"thumbnails_ms_{viewer.comfy.name}.txt").write_text(f"{sorted(round(x, 1) for x in took)}\n")
    assert min(took) < MOMENT  # the others may have waited for the machine


def test_effects_at_once(viewer: Viewer, artifacts: Path) -> None:
    """Of whatever was taken away, in each measured step; what is too small to measure is said, and not painted."""
    attribution = make_effects()
    viewer.open(attribution, f"effects_{viewer.comfy.name}")
    viewer.part(KIND).select_option("effect")
    viewer.drawn()
    viewer.shot(f"at_once_{viewer.comfy.name}_effects", artifacts)
    assert viewer.part(WHICH).input_value() == "steps x references" and viewer.part(SIDE).is_hidden()
    steps = effect_maps(attribution, "r2g", "time").values
    expected = [effect_maps(attribution, "r2g").values[0], *steps]
    highest = max(values.max().item() for values in expected)
    for column, values in enumerate(expected):
        alike(levels(viewer, 0, column), values, 0, highest)
    assert is_striped(viewer, 2, 0) and "Too small to measure: its effect of" in words(viewer)
    go(viewer, 0, 2)
    viewer.page.keyboard.press("Enter")
    viewer.until("viewer.state.thumbnails === null && viewer.frame.number === null")
    assert viewer("[viewer.state.kind, viewer.state.owner, viewer.state.step]") == ["effect", None, 1]


def video() -> Attribution:
    """Five frames, each with its own place to look at, in two layers."""
    recorder = Recorder(torch.linspace(10, 0, 3), 1, 2**30)
    number = recorder.reference(REFERENCE)
    torch.manual_seed(0)
    for step in range(2):
        for name, side in (("fine", 16), ("coarse", 8)):
            grid = TokenGrid(side, side, frames=5)
            at = (torch.arange(side) + 0.5) / side
            places = [(at[None] - (frame + 1) / 6) ** 2 + (at[:, None] - 0.5) ** 2 for frame in range(5)]
            strength = torch.cat([torch.exp(-60 * place).flatten() * 4 for place in places])
            q = torch.randn(1, 2, grid.cells, 8) / 4 + strength[None, None, :, None]
            (marginals,) = attribute(q, torch.rand(1, 2, 20, 8), [span("reference", 0, REFERENCE.grid)])
            recorder.add(Place(Layer(name, grid, 2), step, number), marginals)
    return recorder.freeze(grid=TokenGrid(16, 16, frames=5), mechanism="test", branch="positive")


def test_the_frames_of_a_video_are_an_axis(viewer: Viewer, artifacts: Path) -> None:
    viewer("viewer.change({thumbnails: null})")
    assert viewer.part(".scrubber[data-axis=frame]").is_hidden()  # of a picture
    attribution = video()
    viewer.open(attribution, f"video_{viewer.comfy.name}")
    viewer.drawn()
    scrubber = viewer.part(".scrubber[data-axis=frame]")
    assert scrubber.locator("output").inner_text() == "mean of 5 frames"
    viewer("viewer.change({step: 1})")
    scrubber.scroll_into_view_if_needed()
    track = scrubber.locator(".track").bounding_box()
    viewer.page.mouse.click(track["x"] + track["width"] * 3.5 / 5, track["y"] + track["height"] / 2)
    viewer.until("viewer.state.frame === 3 && viewer.state.step === null")
    viewer.drawn()
    assert scrubber.locator("output").inner_text() == "frame 4 of 5, number 3"
    assert "A single frame is of all steps" in viewer.part(".numbers").inner_text()
    frames = maps(attribution, "r2g", "frame").values
    drawn = viewer.levels("generated")
    alike(drawn, frames[3], *_ends(frames[3], *drawn.shape))
    assert "mean of all frames" in viewer.part(".pane.reference .detail").inner_text()
    viewer.shot(f"at_once_{viewer.comfy.name}_frame", artifacts)
    scrubber.locator(".all").click()
    viewer.until("viewer.state.frame === null")


def test_all_frames_at_once(viewer: Viewer, artifacts: Path) -> None:
    attribution = video()
    viewer.open(attribution, f"frames_{viewer.comfy.name}")
    viewer.part(WHICH).select_option("frames x layers")
    viewer.drawn()
    viewer.shot(f"at_once_{viewer.comfy.name}_frames", artifacts)
    layers = [{}, {"layers": "0"}, {"layers": "1"}]
    means = [of_core(attribution, "r2g", **layer) for layer in layers]
    single = [maps(attribution, "r2g", "frame", **layer).values for layer in layers]
    every = [*means, *(values for frames in single for values in frames)]
    low, high = min(x.min().item() for x in every), max(x.max().item() for x in every)
    for row in range(3):
        alike(levels(viewer, row, 0), means[row], low, high)
        for frame in (0, 2, 4):
            alike(levels(viewer, row, 1 + frame), single[row][frame], low, high)
    go(viewer, 1, 3)
    viewer.page.keyboard.press("Enter")
    viewer.until("viewer.state.thumbnails === null && viewer.frame.number === null")
    assert viewer("[viewer.state.layer, viewer.state.frame]") == [0, 2]
