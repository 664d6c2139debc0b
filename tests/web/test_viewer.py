"""The viewer in the page, after a run of the demo model: both renderers of the host's frontend and of the newest."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_page import NOWHERE, RECORDED, ComfyPage
from PIL import Image
from selected import maps, specific
from viewer_page import NODE, SHOWS, Viewer

import demo_graph
from comfy_client import PromptFailed
from i2am_core import imacs
from i2am_core.files import load
from i2am_core.showing.render import heat

pytestmark = pytest.mark.timeout(300)

STEPS = 6
SIZE = (512, 512)


def graph(seed: int = 3, mask: bool = True) -> dict[str, Any]:
    """The demo with a viewer at its end, in API format, and its attribution saved for the tests to read."""
    whole = demo_graph.build(steps=STEPS, seed=seed)
    whole["sampler"]["inputs"]["model"] = ["capture", 0]  # without I2AM Effect
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "sampler", "collect", "decode")
    nodes = {name: whole[name] for name in (*names, "large:generated", "large:reference")}
    given = {"image": ["large:generated", 0], "reference": ["large:reference", 0]} | (
        {"mask": ["scene", 1]} if mask else {}
    )
    nodes["viewer"] = demo_graph.node(NODE, attribution=["collect", 0], **given)
    nodes["keep"] = demo_graph.node("I2AM_Save", attribution=["collect", 0], filename_prefix="i2am/viewed")
    return demo_graph.numbered(nodes)


def level_of(values: torch.Tensor) -> np.ndarray:
    return (heat(values[None], SIZE)[0] * 255).round().numpy()


def alike(drawn: np.ndarray, values: torch.Tensor, tolerance: int = 2) -> None:
    """A pane shows this map: its colours differ by the quantization at most."""
    assert np.abs(drawn - level_of(values)).max() <= tolerance


@pytest.fixture(scope="module")
def comfy(comfy: ComfyPage) -> ComfyPage:
    comfy.load_api(graph())
    return comfy


@pytest.fixture(scope="module")
def ran(comfy: ComfyPage, artifacts: Path) -> Viewer:
    """After one run, with the viewer in view."""
    viewer = Viewer(comfy)
    comfy.show(NODE)
    assert "Queue the workflow" in viewer("viewer.status.textContent")
    viewer.shot(f"{comfy.name}_empty", artifacts)
    comfy.run()
    comfy.page.wait_for_function(SHOWS, arg=[0, None])
    comfy.show(NODE)
    return viewer


@pytest.fixture
def viewer(ran: Viewer) -> Viewer:
    ran.reset()
    return ran


@pytest.fixture(scope="module")
def attribution(ran: Viewer) -> Any:
    """What the viewer is looking at, from the file that I2AM Save wrote in the same run."""
    files = (ran.comfy.server.work / "output" / "i2am").glob("viewed_*")
    return load(max(files, key=lambda path: path.stat().st_mtime))


@pytest.fixture
def name(comfy: ComfyPage) -> str:
    return comfy.name


@pytest.mark.in_every_pair
def test_shows_the_unified_maps(viewer: Viewer, attribution: Any, artifacts: Path, name: str) -> None:
    alike(viewer.levels("generated"), maps(attribution, "r2g").values[0])
    alike(viewer.levels("reference"), maps(attribution, "g2r").values[0])
    viewer.shot(f"{name}_unified", artifacts)
    assert viewer.part(".pane.generated strong").inner_text() == "Where the reference acts"
    assert viewer("viewer.panes.generated.picture.naturalWidth") == demo_graph.SIZE


@pytest.mark.in_every_pair
def test_is_large_enough_at_first(viewer: Viewer) -> None:
    width, height = viewer("[viewer.panes.generated.size[0], viewer.panes.reference.size[1]]")
    assert width > 250 and height > 250


def test_scrubbing_shows_each_step(viewer: Viewer, attribution: Any) -> None:
    track = viewer.part(".scrubber[data-axis=step] .track").bounding_box()
    for step in (0, 3, STEPS - 1):
        x = track["x"] + track["width"] * (step + 0.5) / STEPS
        viewer.page.mouse.click(x, track["y"] + track["height"] / 2)
        viewer.until("viewer.state.step === arg", step)
        alike(viewer.levels("generated"), maps(attribution, "r2g", steps=str(step)).values[0])
        alike(viewer.levels("reference"), maps(attribution, "g2r", steps=str(step)).values[0])
        label = viewer.part(".scrubber[data-axis=step] output").inner_text()
        assert label.startswith(f"step {step + 1} of {STEPS}, number {step} \u00b7 noise left ")
    viewer.part(".scrubber[data-axis=step] .all").click()
    viewer.until("viewer.state.step === null")


@pytest.mark.in_every_pair
def test_dragging_scrubs(viewer: Viewer) -> None:
    track = viewer.part(".scrubber[data-axis=step] .track").bounding_box()
    y = track["y"] + track["height"] / 2
    viewer("viewer.steps = []")
    viewer("viewer.changed = viewer.change.bind(viewer)")
    viewer("viewer.change = (...args) => (viewer.steps.push(args[0].step), viewer.changed(...args))")
    viewer.page.mouse.move(track["x"] + 3, y)
    viewer.page.mouse.down()
    viewer.page.mouse.move(track["x"] + track["width"] - 3, y, steps=30)
    viewer.page.mouse.up()
    viewer.until("new Set(viewer.steps).size === arg", STEPS)
    viewer("delete viewer.change")


def test_keys_move_through_steps_layers_and_heads(viewer: Viewer, attribution: Any) -> None:
    viewer.part(".numbers").click()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "]", "]"):
        viewer.page.keyboard.press(key)
    viewer.until("[viewer.state.step, viewer.state.layer, viewer.state.head].join() === '1,0,1'")
    alike(viewer.levels("generated"), maps(attribution, "r2g", steps="1", layers="0", heads="1").values[0])
    alike(viewer.levels("reference"), maps(attribution, "g2r", steps="1", layers="0", heads="1").values[0])
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "[", "["):
        viewer.page.keyboard.press(key)
    viewer.until("[viewer.state.step, viewer.state.layer, viewer.state.head].every(value => value === null)")
    assert viewer.comfy.count(NODE) == 1  # the canvas behind did not act on them


def test_share_and_scale_and_style(viewer: Viewer, attribution: Any, artifacts: Path, name: str) -> None:
    viewer.part("select[aria-label='What a value says']").select_option("share")
    alike(viewer.levels("reference"), maps(attribution, "g2r", normalization="share").values[0])
    viewer.part("select[aria-label='What the colours span']").select_option("over time")
    viewer("viewer.change({step: 0, normalization: 'paper'})")
    first = maps(attribution, "r2g", steps="0").values[0]
    every = maps(attribution, "r2g", "time", time_groups=0).values
    large = heat(first[None], SIZE)[0] * (first.max() - first.min()) + first.min()
    expected = ((large - every.min()) / (every.max() - every.min())).clamp(0, 1) * 255
    assert np.abs(viewer.levels("generated") - expected.numpy()).mean() < 3
    viewer.part("select[aria-label='How maps are drawn']").select_option("contours")
    viewer.shot(f"{name}_contours", artifacts)
    viewer.part("select[aria-label='How maps are drawn']").select_option("off")
    viewer.drawn()
    assert not viewer.part(".pane.generated canvas.heat").is_visible()


@pytest.mark.parametrize(("style", "of_picture"), [("blend", 0.5), ("heat", 0.7)])
def test_the_overlay_is_what_it_is_called(viewer: Viewer, style: str, of_picture: float) -> None:
    """What is on the screen: (1 - opacity) picture + opacity colours; of the paper, (1 - 0.6 opacity) picture."""
    viewer("viewer.change({style: arg, opacity: 0.5})", style)
    viewer.drawn()
    left, top = viewer.place("reference", 0, 0)
    right, bottom = viewer.place("reference", 1, 1)
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    shot = np.asarray(Image.open(io.BytesIO(viewer.page.screenshot(clip=clip))).convert("RGB")).astype(float)
    size = shot.shape[1::-1]
    colors = np.asarray(Image.fromarray(viewer.pixels("reference").copy()).resize(size, Image.BILINEAR)).astype(float)
    viewer("viewer.change({style: 'off'})")
    viewer.drawn()
    picture = np.asarray(Image.open(io.BytesIO(viewer.page.screenshot(clip=clip))).convert("RGB")).astype(float)
    expected = np.clip(of_picture * picture + 0.5 * colors, 0, 255)
    inside = (slice(8, -8), slice(8, -8))
    assert np.abs(shot - expected)[inside].mean() < 3


def test_a_click_on_the_picture_asks_what_made_it(viewer: Viewer, attribution: Any, artifacts: Path, name: str) -> None:
    u, v = centre_of_mask(attribution)
    viewer.click("generated", u, v)
    region = torch.zeros(160, 160)
    region[int(v * 160), int(u * 160)] = 1
    alike(viewer.levels("reference"), specific(attribution, region, "g2r").values, tolerance=4)
    alike(viewer.levels("generated"), maps(attribution, "r2g").values[0])
    assert viewer.part(".pane.reference strong").inner_text() == "Which parts made the marked part"
    shares = [float(text.partition(" ")[0]) for text in viewer.part(".patches li").all_inner_texts()]
    assert shares == sorted(shares, reverse=True) and len(shares) == 5
    viewer.shot(f"{name}_asked", artifacts)
    viewer.page.keyboard.press("Escape")
    viewer.drawn()
    viewer.until("viewer.state.ask === null")
    viewer.page.mouse.move(*NOWHERE)
    alike(viewer.levels("reference"), maps(attribution, "g2r").values[0])


def test_hovering_asks_for_as_long_as_one_stays(viewer: Viewer, attribution: Any) -> None:
    viewer.page.mouse.move(*viewer.place("generated", *centre_of_mask(attribution)))
    viewer.until("viewer.hovered")
    viewer.drawn()
    assert viewer.part(".pane.reference strong").inner_text() == "Which parts made the marked part"
    viewer.page.mouse.move(*NOWHERE)
    viewer.until("!viewer.hovered")
    alike(viewer.levels("reference"), maps(attribution, "g2r").values[0])


def test_a_box_on_the_reference_asks_where_it_went(
    viewer: Viewer, attribution: Any, artifacts: Path, name: str
) -> None:
    viewer("viewer.change({layer: 2})")
    viewer.drag("reference", (0.25, 0.25), (0.75, 0.5))
    viewer.until("viewer.state.ask")
    region = torch.zeros(160, 160)
    left, top, right, bottom = (round(side * 160) for side in viewer("viewer.state.ask.box"))
    region[top:bottom, left:right] = 1
    alike(viewer.levels("generated"), specific(attribution, region, "r2g", layers="2").values, tolerance=4)
    assert viewer.part(".pane.generated strong").inner_text() == "Where the marked part went"
    viewer.shot(f"{name}_box", artifacts)


def test_asking_outside_the_mask_says_what_to_do(viewer: Viewer, attribution: Any, artifacts: Path, name: str) -> None:
    free = (attribution.denoise_mask[0] == 0).nonzero()[0].tolist()
    rows, columns = attribution.denoise_mask.shape[1:]
    viewer.click("generated", (free[1] + 0.5) / columns, (free[0] + 0.5) / rows)
    message = viewer.part(".pane.reference .message").inner_text()
    assert "outside the inpainting mask" in message and "pair_maps" in message
    viewer.shot(f"{name}_outside", artifacts)


def centre_of_mask(attribution: Any) -> tuple[float, float]:
    rows, columns = attribution.denoise_mask.shape[1:]
    inside = (attribution.denoise_mask[0] > 0.5).nonzero().float().mean(0)
    return (inside[1].item() + 0.5) / columns, (inside[0].item() + 0.5) / rows


@pytest.mark.in_every_pair
def test_the_wheel_enlarges_where_the_pointer_is(viewer: Viewer) -> None:
    scale = viewer.page.evaluate("() => app.canvas.ds.scale")
    viewer.part(".numbers").click()  # Nodes 2.0 gives the wheel to what has the focus
    before = viewer.place("generated", 0.3, 0.6)
    viewer.page.mouse.move(*before)
    viewer.page.mouse.wheel(0, -600)
    viewer.until("viewer.state.views.generated.zoom > 2")
    viewer.drawn()
    after = viewer.place("generated", 0.3, 0.6)
    assert np.hypot(after[0] - before[0], after[1] - before[1]) < 2  # a wheel's event has whole pixels
    assert viewer("viewer.state.views.reference.zoom") == 1
    assert viewer.page.evaluate("() => app.canvas.ds.scale") == scale
    viewer.part("button[aria-label='Move both panes together']").click()
    viewer.until("viewer.state.views.reference.zoom > 2")
    viewer("viewer.x = viewer.state.views.reference.x")
    viewer.page.keyboard.down("Shift")
    viewer.drag("reference", (0.5, 0.5), (0.45, 0.5))
    viewer.page.keyboard.up("Shift")
    viewer.until("viewer.state.views.reference.x !== viewer.x")
    views = viewer("viewer.state.views")
    assert views["generated"] == views["reference"] and views["generated"]["x"] > 0.3
    assert viewer("viewer.state.ask") is None
    viewer.part("button[aria-label='Whole pictures']").click()
    viewer.until("viewer.state.views.generated.zoom === 1")


def test_a_double_click_shows_the_whole_and_asks_nothing(viewer: Viewer) -> None:
    viewer.click("reference", 0.3, 0.3)
    question = viewer("viewer.state.ask")
    viewer("viewer.change({views: {...viewer.state.views, reference: {zoom: 3, x: .5, y: .5}}})")
    viewer.drawn()
    viewer.page.mouse.dblclick(*viewer.place("reference", 0.55, 0.45))
    viewer.until("viewer.state.views.reference.zoom === 1")
    assert viewer("viewer.state.ask") == question


def test_the_wheel_over_notes_scrolls_them(viewer: Viewer) -> None:
    scale = viewer.page.evaluate("() => app.canvas.ds.scale")
    viewer.part("details.notes summary").click()
    notes = viewer.part("details.notes pre")
    notes.evaluate("pre => { pre.textContent = 'words\\n'.repeat(200); pre.closest('.controls').scrollTop = 9999; }")
    notes.hover()
    viewer.page.mouse.wheel(0, 240)
    viewer.page.wait_for_function(
        "() => document.querySelector('.i2am-viewer').shadowRoot.querySelector('.notes pre').scrollTop > 0"
    )
    assert viewer.page.evaluate("() => app.canvas.ds.scale") == scale
    viewer.part("details.notes summary").click()
    viewer("viewer.body.scrollTop = 0")


@pytest.mark.in_every_pair
def test_the_menu_of_saving_closes_by_itself(viewer: Viewer) -> None:
    save = viewer.part("details.save")
    press = "document.body.dispatchEvent(new PointerEvent('pointerdown', {bubbles: true}))"
    assert not save.evaluate(f"menu => {{ menu.querySelector('summary').click(); {press}; return menu.open; }}")
    for leave in (
        lambda: viewer.part(".numbers").click(),
        lambda: viewer.page.mouse.click(*NOWHERE),
        lambda: viewer.page.keyboard.press("Escape"),
    ):
        save.locator("summary").click()
        assert save.get_attribute("open") is not None
        leave()
        viewer.page.wait_for_function(
            "() => !document.querySelector('.i2am-viewer').shadowRoot.querySelector('details.save').open"
        )


def test_a_pane_by_the_keyboard(viewer: Viewer, attribution: Any, artifacts: Path, name: str) -> None:
    """Arrows move a cursor, with Shift they span a box, Enter asks; the axes stay as they are."""
    pane = viewer.part(".pane.reference .box")
    pane.focus()
    viewer.page.keyboard.press("ArrowRight")
    viewer.until("viewer.hovered?.side === 'reference'")
    x, y = viewer("viewer.panes.reference.cursor.at")
    viewer.page.keyboard.press("ArrowRight")
    viewer.page.keyboard.press("ArrowDown")
    viewer.page.keyboard.press("Enter")
    viewer.until("viewer.state.ask")
    left, top, right, bottom = viewer("viewer.state.ask.box")
    assert left == right == pytest.approx(x + 1 / 24) and top == bottom == pytest.approx(y + 1 / 24)
    viewer.shot(f"{name}_keyboard", artifacts)
    for key in ("Shift+ArrowRight", "Shift+ArrowDown", "Enter"):
        viewer.page.keyboard.press(key)
    viewer.until(
        "viewer.state.ask.box[0] < viewer.state.ask.box[2] && viewer.state.ask.box[1] < viewer.state.ask.box[3]"
    )
    viewer.page.keyboard.press("+")
    viewer.until("viewer.state.views.reference.zoom === 1.25")
    assert viewer("[viewer.state.step, viewer.state.layer]") == [None, None]
    viewer.page.keyboard.press("End")
    viewer.until("viewer.state.step === arg", STEPS - 1)
    viewer.page.keyboard.press("Home")
    viewer.until("viewer.state.step === 0")
    assert viewer.comfy.count(NODE) == 1


def test_a_table_by_the_keyboard(viewer: Viewer) -> None:
    viewer("viewer.change({matrix: true, step: 2, layer: 1})")
    viewer.drawn()
    viewer.part(".table canvas").first.focus()
    viewer.page.keyboard.press("ArrowRight")
    viewer.until("viewer.state.step === 3 && viewer.state.layer === 1")
    viewer.page.keyboard.press("ArrowDown")
    viewer.until("viewer.state.step === 3 && viewer.state.layer === 2")
    viewer.page.keyboard.press("Home")
    viewer.until("viewer.state.step === 0 && viewer.state.layer === 2")


@pytest.mark.in_every_pair
def test_two_fingers_pinch_the_picture_and_nothing_else(viewer: Viewer) -> None:
    scale = viewer.page.evaluate("() => app.canvas.ds.scale")
    x, y = viewer.place("generated", 0.5, 0.5)
    devtools = viewer.page.context.new_cdp_session(viewer.page)

    def touch(kind: str, *apart: float) -> None:
        points = [{"x": x + side * one, "y": y, "id": number} for one in apart for number, side in enumerate((-1, 1))]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 20)
    for apart in (30, 40, 50):
        touch("touchMove", apart)
    touch("touchEnd")
    viewer.until("viewer.state.views.generated.zoom > 2")
    assert viewer("viewer.state.ask") is None and viewer("viewer.state.views.generated.zoom") < 3
    assert viewer.page.evaluate("() => app.canvas.ds.scale") == scale


def test_what_is_pressed_is_large_enough(viewer: Viewer) -> None:
    viewer("viewer.change({matrix: true})")
    viewer.drawn()
    boxes = viewer(
        "[...viewer.root.shadowRoot.querySelectorAll('button, select, summary, input')]"
        ".filter(one => one.checkVisibility()).map(one => [one.outerHTML, one.getBoundingClientRect()])"
        ".map(([html, {width, height}]) => [html, width, height])"
    )
    assert len(boxes) > 10
    assert [html for html, *sides in boxes if min(sides) < 23.9] == []


def test_a_cell_of_a_table_is_a_place_to_go(viewer: Viewer, artifacts: Path, name: str) -> None:
    viewer.part(".tables summary").click()
    viewer.until("viewer.state.matrix")
    viewer.drawn()
    canvas = viewer.part(".table canvas").first
    box = canvas.bounding_box()
    rows = viewer("viewer.file.header.layers.length")
    canvas.click(position={"x": box["width"] * 4.5 / STEPS, "y": box["height"] * 1.5 / rows})
    viewer.until("viewer.state.step === 4 && viewer.state.layer === 1")
    viewer.shot(f"{name}_tables", artifacts)
    viewer.part(".tables summary").click()
    viewer.until("!viewer.state.matrix")


def test_imacs_is_that_of_the_core(viewer: Viewer, attribution: Any) -> None:
    mask = torch.tensor(np.array(viewer("Array.from(viewer.file.tensors.get('mask/0').data)")).reshape(SIZE))
    for layers in ("all", "3"):
        viewer("viewer.change({layer: arg})", None if layers == "all" else int(layers))
        viewer.drawn()
        score = float(re.search(r"IMACS (-?\d+\.\d+)", viewer.part(".numbers").inner_text())[1])
        assert score == pytest.approx(imacs(maps(attribution, "r2g", layers=layers).values[0], mask), abs=0.02)


def test_the_score_does_not_move_with_the_display(viewer: Viewer) -> None:
    def score() -> str:
        viewer.drawn()
        return re.search(r"IMACS -?\d+\.\d+", viewer.part(".numbers").inner_text())[0]

    first = score()
    for label, value in (
        ("What a value says", "share"),
        ("What the colours span", "over time"),
        ("How maps are drawn", "off"),
        ("Colours", "jet"),
    ):
        viewer.part(f"select[aria-label='{label}']").select_option(value)
        assert score() == first


def test_a_bar_under_the_pointer_says_its_value(viewer: Viewer, attribution: Any, artifacts: Path, name: str) -> None:
    """The value first: which bar it is of, the pointer says too, and the end may be cut off."""
    scrubber = viewer.part(".scrubber[data-axis=step]")
    track = scrubber.locator(".track").bounding_box()
    viewer.page.mouse.move(track["x"] + track["width"] * 2.5 / STEPS, track["y"] + track["height"] / 2)
    inside = viewer("viewer.screen.axes.step.heights[2]")
    label = scrubber.locator("output")
    expected = f"inside the mask {inside * 100:.3g} % \u00b7 step 3 of 6, number 2 \u00b7 noise left "
    assert label.inner_text().startswith(expected)
    viewer.shot(f"{name}_bar", artifacts)
    viewer.page.mouse.move(*NOWHERE)
    assert label.inner_text() == "mean of 6 steps"


def test_playing_goes_through_the_steps(viewer: Viewer) -> None:
    viewer.part("button[aria-label=play]").click()
    viewer.until("viewer.state.step === 1")
    viewer.until("viewer.state.step === 3")
    viewer.part("button[aria-label=pause]").click()
    viewer.until("viewer.playing === null")


def test_taking_away(viewer: Viewer, attribution: Any, artifacts: Path, name: str) -> None:
    viewer("viewer.change({step: 2})")
    save = viewer.part("details.save")
    save.locator("summary").click()
    save.get_by_role("button", name="Copy as JSON").click()
    viewer.page.wait_for_function(
        "() => document.querySelector('.i2am-viewer').shadowRoot.textContent.includes('copied')"
    )
    report = json.loads(viewer.page.evaluate("() => navigator.clipboard.readText()"))
    assert report["steps"] == [2, 3] and report["layer"] == "all" and report["normalization"] == "paper"
    for entry, end in (("Save view as PNG", "png"), ("Save all steps as animated WebP", "webp")):
        save.locator("summary").click()
        with viewer.page.expect_download() as download:
            save.get_by_role("button", name=entry).click()
        path = artifacts / f"viewer_{name}_saved.{end}"
        download.value.save_as(path)
        picture = Image.open(path)
        assert picture.width > 1000 and getattr(picture, "n_frames", 1) == (STEPS if end == "webp" else 1)
        picture.seek(picture.n_frames - 1 if end == "webp" else 0)
        assert np.asarray(picture.convert("RGB")).std() > 20
    assert viewer("viewer.state.step") == 2


@pytest.mark.in_every_pair
def test_full_screen(viewer: Viewer, artifacts: Path, name: str) -> None:
    small = viewer("viewer.panes.generated.size[0]")
    viewer.part("button[aria-label='Full screen']").click()
    viewer.until("document.fullscreenElement === viewer.root")
    viewer.until(f"viewer.panes.generated.size[0] > {small} * 1.3")
    viewer.shot(f"{name}_full_screen", artifacts)
    viewer.part("button[aria-label='Full screen']").click()
    viewer.until("!document.fullscreenElement")
    viewer.until(f"Math.abs(viewer.panes.generated.size[0] - {small}) < 2")


@pytest.mark.in_every_pair
@pytest.mark.parametrize("size", [(300, 500), (420, 420)])
def test_pictures_stay_large_enough_to_see(viewer: Viewer, artifacts: Path, name: str, size: tuple[int, int]) -> None:
    """In a small node: what does not fit is scrolled to."""
    viewer("viewer.body.parentElement.style.cssText = `width: ${arg[0]}px; height: ${arg[1]}px`", size)
    viewer.until("viewer.panes.generated.boxSize[0] < arg", size[0])
    shot = artifacts / f"viewer_{name}_small_{size[0]}.png"
    viewer.part(".viewer").screenshot(path=shot)
    sizes = viewer("[viewer.panes.generated.size, viewer.panes.reference.size]")
    viewer("viewer.body.parentElement.style.cssText = ''")
    viewer.until("viewer.panes.generated.boxSize[0] > 300")
    assert min(side for pane in sizes for side in pane) >= 100


@pytest.mark.in_every_pair
def test_pictures_are_there_where_nothing_gives_a_height(viewer: Viewer) -> None:
    viewer("viewer.root.style.height = 'auto'")
    viewer.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    sizes = viewer("[viewer.panes.generated, viewer.panes.reference].map(pane => pane.box.clientHeight)")
    viewer("viewer.root.style.height = '100%'")
    assert min(sizes) >= 100


@pytest.mark.in_every_pair
def test_from_afar_the_pictures_are_still_there(viewer: Viewer, artifacts: Path, name: str) -> None:
    viewer.page.evaluate(
        "() => { app.canvas.ds.scale = 0.4; app.canvas.ds.offset = [1000, 700]; app.canvas.setDirty(true, true); }"
    )
    pane = viewer.part(".pane.generated .box")
    viewer.page.wait_for_function(
        "() => { const box = document.querySelector('.i2am-viewer').shadowRoot.querySelector('.box')"
        ".getBoundingClientRect(); return box.width > 60 && box.width < 250; }"
    )
    assert pane.is_visible()
    shot = np.asarray(Image.open(io.BytesIO(pane.screenshot())).convert("RGB")).astype(float)
    viewer.shot(f"{name}_afar", artifacts)
    assert shot.std() > 15
    viewer.comfy.show(NODE)


@pytest.mark.in_every_pair
def test_resizing_follows_and_ends(viewer: Viewer, name: str) -> None:
    """The first Nodes 2.0 did not follow a size that a script gave: there, it only must not grow by itself."""
    size = viewer("[...node.size]")
    before = viewer("viewer.panes.generated.size[0]")
    viewer("node.setSize([arg[0] + 300, arg[1] + 200])", size)
    viewer("app.canvas.setDirty(true, true)")
    if name != "pinned-vue":
        viewer.until(f"viewer.panes.generated.size[0] > {before} + 50")
    settled = viewer("[...node.size]")
    viewer("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done))))")
    assert viewer("[...node.size]") == settled
    viewer("node.setSize(arg)", size)
    viewer("app.canvas.setDirty(true, true)")
    viewer.until(f"Math.abs(viewer.panes.generated.size[0] - {before}) < 2")


@pytest.mark.in_every_pair
def test_a_side_panel_does_not_make_it_narrow(viewer: Viewer) -> None:
    """The newest frontend's panel of a selected node sets the width of its widgets to its own."""
    before = viewer("viewer.panes.generated.size[0]")
    viewer("node.widgets.find(widget => widget.name === 'viewer').width = 260")
    viewer("app.canvas.setDirty(true, true)")
    viewer("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => requestAnimationFrame(done))))")
    assert viewer("viewer.panes.generated.size[0]") == before


def test_looking_changes_nothing_that_is_queued(viewer: Viewer) -> None:
    before = viewer.comfy.prompt()
    viewer("viewer.change({step: 3, opacity: 0.2})")
    viewer.click("reference", 0.5, 0.5)
    after = viewer.comfy.prompt()
    assert after == before
    (node,) = [node for node in after.values() if node["class_type"] == NODE]
    assert set(node["inputs"]) == {"attribution", "image", "reference", "mask"}


def test_a_saved_workflow_keeps_what_one_looks_at(viewer: Viewer, attribution: Any) -> None:
    viewer("viewer.change({step: 3, layer: 2, opacity: 0.3})")
    viewer.click("generated", *centre_of_mask(attribution))
    question = viewer("viewer.state.ask")
    workflow = viewer.comfy.saved()
    (node,) = [node for node in workflow["nodes"] if node["type"] == NODE]
    assert node.get("widgets_values", []) in ([], {}) and node["properties"]["i2am_view"]["step"] == 3
    viewer.comfy.load(workflow)
    viewer.page.wait_for_function(SHOWS, arg=[0, None])
    state = viewer("viewer.state")
    assert (state["step"], state["layer"], state["opacity"], state["ask"]) == (3, 2, 0.3, question)
    viewer.reset()
    viewer.comfy.show(NODE)


@pytest.mark.in_every_pair
def test_a_tab_may_be_left_and_opened_again(viewer: Viewer, attribution: Any) -> None:
    viewer("viewer.change({step: 1})")
    tab = viewer.page.evaluate("() => app.extensionManager.workflow.activeWorkflow.filename")
    noticed = "app.extensionManager.workflow.activeWorkflow.changeTracker.activeState"
    viewer.until(f"""JSON.stringify({noticed}).includes('"step":1')""")
    viewer.comfy.command("Comfy.NewBlankWorkflow")
    viewer.page.wait_for_function("() => app.graph.nodes.length === 0")
    viewer.comfy.to_tab(tab)
    viewer.page.wait_for_function(SHOWS, arg=[0, None])
    viewer.until("viewer.state.step === 1")
    viewer.comfy.show(NODE)
    alike(viewer.levels("generated"), maps(attribution, "r2g", steps="1").values[0])


TRACKER = "app.extensionManager.workflow.activeWorkflow.changeTracker"


@pytest.mark.in_every_pair
def test_looking_is_no_edit(viewer: Viewer) -> None:
    """Nothing of it can be undone, and undoing an edit leaves what one looks at."""
    viewer.page.mouse.click(*NOWHERE)
    viewer.page.evaluate("() => new Promise(done => setTimeout(done, 400))")
    before = viewer(f"[{TRACKER}.undoQueue.length, {TRACKER}.redoQueue.length]")
    track = viewer.part(".scrubber[data-axis=step] .track").bounding_box()
    for number in range(8):
        viewer.page.mouse.click(track["x"] + track["width"] * (number % STEPS + 0.5) / STEPS, track["y"] + 12)
        viewer.page.keyboard.press("ArrowDown")
    viewer.page.mouse.click(*NOWHERE)
    viewer.page.evaluate("() => new Promise(done => setTimeout(done, 400))")
    assert viewer(f"[{TRACKER}.undoQueue.length, {TRACKER}.redoQueue.length]") == before
    viewer.comfy.select(NODE)
    viewer.page.keyboard.press("Control+c")
    viewer.page.keyboard.press("Control+v")
    viewer.comfy.wait_count(NODE, 2)
    viewer.page.wait_for_function(RECORDED)
    viewer("viewer.change({step: 2, layer: 1})")
    viewer.comfy.undo()
    assert viewer.comfy.count(NODE) == 1
    viewer.page.wait_for_function(SHOWS, arg=[0, None])
    assert viewer("[viewer.state.step, viewer.state.layer]") == [2, 1]
    viewer.page.evaluate("() => new Promise(done => setTimeout(done, 400))")
    assert viewer(f"{TRACKER}.redoQueue.length") > 0  # still there: looking has not ended it
    viewer.comfy.show(NODE)


@pytest.mark.in_every_pair
def test_deleting_is_undone(viewer: Viewer) -> None:
    viewer.comfy.select(NODE)
    viewer.page.keyboard.press("Delete")
    viewer.comfy.wait_count(NODE, 0)
    viewer.page.wait_for_function(RECORDED)
    viewer.comfy.undo()
    assert viewer.comfy.count(NODE) == 1
    viewer.page.wait_for_function(SHOWS, arg=[0, None])
    viewer.comfy.show(NODE)


@pytest.mark.in_every_pair
def test_a_copy_looks_on_its_own(viewer: Viewer) -> None:
    viewer("viewer.change({step: 2})")
    viewer.comfy.select(NODE)
    viewer.page.keyboard.press("Control+c")
    viewer.page.keyboard.press("Control+v")
    viewer.comfy.wait_count(NODE, 2)
    viewer.page.wait_for_function(SHOWS, arg=[1, None])
    copy = Viewer(viewer.comfy, 1)
    assert copy("viewer.state.step") == 2
    copy("viewer.change({step: 4})")
    assert viewer("viewer.state.step") == 2
    assert viewer("node.properties.i2am_id") != copy("node.properties.i2am_id")
    copy("node.graph.remove(node)")
    viewer.comfy.wait_count(NODE, 1)


def test_a_new_run_replaces_the_old_when_it_is_there(viewer: Viewer, attribution: Any, artifacts: Path) -> None:
    viewer("viewer.change({step: 5})")
    viewer("window.i2amTestFile = viewer.file")
    before = viewer.levels("generated")
    viewer.page.evaluate("() => { app.graph.nodes.find(n => n.type === 'KSampler').widgets[0].value += 1; }")
    viewer.comfy.run()
    viewer.until("viewer.file !== window.i2amTestFile")
    assert viewer("viewer.state.step") == 5
    assert np.abs(viewer.levels("generated") - before).max() > 5
    viewer.until("viewer.status.hidden")


def test_maps_of_another_run_say_so(viewer: Viewer, attribution: Any, artifacts: Path, name: str) -> None:
    """A seed that ComfyUI draws anew for the next run is none; one that a workflow brings is."""
    viewer.comfy.run()
    viewer.page.evaluate("() => new Promise(done => setTimeout(done, 900))")
    made = viewer("Object.values(viewer.file.header.made_by.nodes).find(n => n.class_type === 'KSampler').inputs.seed")
    sampler = "app.graph.nodes.find(n => n.type === 'KSampler').widgets.find(w => w.name === 'seed')"
    drawn = viewer(f"{sampler}.value")
    assert drawn != made  # it was drawn anew
    assert viewer("viewer.origin.hidden")
    viewer(f"{sampler}.value = 33")
    viewer.page.mouse.click(*NOWHERE)
    viewer.until("!viewer.origin.hidden")
    words = viewer.part(".origin").inner_text()
    assert words.startswith("These maps are of another run.") and words.endswith(f"was {made}, and is 33 now.")
    viewer.shot(f"{name}_of_another_run", artifacts)
    for seed in (made, drawn):
        viewer(f"{sampler}.value = 33")
        viewer.page.mouse.click(*NOWHERE)
        viewer.until("!viewer.origin.hidden")
        viewer(f"{sampler}.value = arg", seed)
        viewer.page.mouse.click(*NOWHERE)
        viewer.until("viewer.origin.hidden")
    workflow = viewer.comfy.saved()
    for node in workflow["nodes"]:
        if node["type"] == "KSampler":
            node["widgets_values"][0] = 34
    viewer.comfy.load(workflow)
    viewer.page.wait_for_function(SHOWS, arg=[0, None])
    viewer.until("viewer.origin.textContent.includes('is 34 now')")
    viewer.comfy.run()
    viewer.until("viewer.origin.hidden")
    viewer.comfy.show(NODE)


def test_a_failed_run_leaves_the_last_result(viewer: Viewer, artifacts: Path, name: str) -> None:
    mechanism = "app.graph.nodes.find(n => n.type === 'I2AM_Capture').widgets.find(w => w.name === 'mechanism').value"
    viewer(f"{mechanism} = 'style tokens'")
    with pytest.raises(PromptFailed, match="captured nothing of what was given"):
        viewer.comfy.run()
    viewer.until("viewer.status.textContent.startsWith('The last run failed')")
    assert viewer("Boolean(viewer.file)")
    viewer.page.keyboard.press("Escape")  # ComfyUI's own dialog
    viewer.shot(f"{name}_failed", artifacts)
    viewer(f"{mechanism} = 'auto'")
    viewer.comfy.run()
    viewer.until("viewer.status.hidden")


@pytest.mark.parametrize(
    ("bypassed", "says"),
    [(["I2AM_Capture"], "There is no capture"), (["I2AM_Capture", "I2AM_Collect"], "This run has no maps")],
)
def test_without_a_capture_the_run_goes_on_and_says_so(
    viewer: Viewer, bypassed: list[str], says: str, artifacts: Path, name: str
) -> None:
    mode = "for (const node of app.graph.nodes) if (arg[0].includes(node.type)) node.mode = arg[1]"
    viewer.page.evaluate(f"arg => {{ {mode} }}", [bypassed, 4])
    viewer.comfy.run()
    viewer.until(f"viewer.status.textContent.startsWith('{says}')")
    viewer.page.keyboard.press("Escape")  # ComfyUI's own dialog
    viewer.shot(f"{name}_{len(bypassed)}_bypassed", artifacts)
    viewer.page.evaluate(f"arg => {{ {mode} }}", [bypassed, 0])
    viewer.comfy.run()
    viewer.until("viewer.status.hidden")
    viewer.comfy.show(NODE)


@pytest.mark.in_every_pair
def test_removing_lets_go(viewer: Viewer) -> None:
    saved = viewer.comfy.saved()
    viewer("window.i2amTestViewer = viewer")
    assert viewer.page.evaluate("() => window.i2amTestViewer.file !== null")
    viewer.page.evaluate("() => app.graph.clear()")
    left = viewer.page.evaluate("() => [window.i2amTestViewer.file, window.i2amTestViewer.pictures.urls.size]")
    assert left == [None, 0]
    viewer.comfy.load(saved)
    viewer.page.wait_for_function(SHOWS, arg=[0, None])


@pytest.mark.in_every_pair
def test_in_a_subgraph(viewer: Viewer, name: str) -> None:
    viewer.comfy.select(NODE)
    viewer.comfy.command("Comfy.Graph.ConvertToSubgraph")
    viewer.page.wait_for_function("() => app.graph.nodes.some(node => node.subgraph)")
    viewer.page.wait_for_function(SHOWS, arg=[0, None])
    viewer("window.i2amTestFile = viewer.file")
    viewer.page.evaluate("() => { app.graph.nodes.find(n => n.type === 'KSampler').widgets[0].value += 1; }")
    viewer.comfy.run()
    viewer.until("viewer.file !== window.i2amTestFile")


def test_a_reload_brings_the_last_result_back(viewer: Viewer, artifacts: Path, name: str) -> None:
    before = viewer("viewer.result.filename")
    nodes = viewer.page.evaluate("() => app.graph.nodes.length")
    viewer.comfy.reload(nodes)
    viewer.page.wait_for_function(SHOWS, arg=[0, None])
    assert viewer("viewer.result.filename") == before


def test_a_result_that_is_gone_says_so(viewer: Viewer, artifacts: Path, name: str) -> None:
    for path in (viewer.comfy.server.work / "temp").rglob("i2am_*.safetensors"):
        path.unlink()
    viewer.comfy.reload(viewer.page.evaluate("() => app.graph.nodes.length"))
    viewer.until("viewer.status.textContent.includes('queue again to explore')")
    assert viewer.comfy.watch.page_errors == []


@pytest.mark.in_every_pair
def test_nothing_went_wrong_in_the_page(comfy: ComfyPage) -> None:
    assert comfy.watch.page_errors == []
    gone = re.compile("404 .*view\\?filename=i2am_")  # asked for on purpose
    expected = ("404 (Not Found)", "ExecutableNodeDTO.resolveOutput", "Execution Blocked")  # a Capture was bypassed
    ours = [text for text in comfy.watch.ours() if not gone.search(text)]
    assert [text for text in ours if not any(words in text for words in expected)] == []
