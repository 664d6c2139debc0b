"""Effects in the viewer: beside attention, and where there is no attention at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy_page import NOWHERE, ComfyPage
from PIL import Image
from selected import maps
from torch import Tensor
from viewer_page import NODE, Viewer

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.attribution import Attribution
from i2am_core.effect import Effects, RegionEffects, Removal
from i2am_core.reading.aggregate import resize
from i2am_core.reading.effect import effect_maps, specific_effect
from i2am_core.showing.render import heat

pytestmark = pytest.mark.timeout(300)

SIDE, STEPS, MEASURED = 32, 6, [0, 2, 4]
LATENT, TOKENS, REGIONS = TokenGrid(SIDE, SIDE), TokenGrid(16, 16), TokenGrid(4, 4)
PX = 384
CENTRE, RADIUS = (0.58, 0.52), 0.3  # of the object in the picture; in the reference it is in the middle
SELECT = "select[aria-label='{}']".format
NORMALIZATION, OWNERS = SELECT("What a value says"), SELECT("Reference")


def distance(side: int, centre: tuple[float, float]) -> Tensor:
    """From a place ``(x, y)``, at each cell of a square: ``[side, side]``."""
    at = (torch.arange(side) + 0.5) / side
    return ((at[None] - centre[0]) ** 2 + (at[:, None] - centre[1]) ** 2).sqrt()


def pictures() -> dict[str, np.ndarray]:
    """A ball in four colours, in a landscape and in front of a wall."""
    drawn = {}
    for name, centre in (("generated", CENTRE), ("reference", (0.5, 0.5))):
        at = (torch.arange(PX) + 0.5) / PX
        sky = torch.stack([at[:, None] * 90 + 60, at[:, None] * 60 + 110, 190 - at[:, None] * 120], -1).expand(
            PX, PX, 3
        )
        colors = torch.tensor([[220, 60, 50], [250, 200, 60], [60, 160, 90], [240, 240, 235]])
        ball = colors[(at[None] > centre[0]).long() + 2 * (at[:, None] > centre[1]).long()]
        wall = sky if name == "generated" else torch.full_like(sky, 150)
        inside = distance(PX, centre) < RADIUS
        drawn[name] = torch.where(inside[..., None], ball, wall).round().to(torch.uint8).numpy()
    return drawn


def mask() -> Tensor:
    return (distance(PX, CENTRE) < RADIUS * 1.25).float()


def effects() -> Effects:
    """Of a reference that made the ball, of a text that colours everything, and of what is too small or none at all."""
    ball = (1.2 - distance(SIDE, CENTRE) / RADIUS / 1.3).clamp(0, 1)
    everywhere = 0.1 + 0.1 * distance(SIDE, (0, 0))
    size = {0: ball * 0.35, "all references": ball * 0.4, "text": everywhere, "conditioning": ball * 0}
    by_removal = {
        Removal(step, owner, "everything"): (values * (1.5 - 0.2 * step)).view(1, -1)
        for owner, values in size.items()
        for step in MEASURED
    }
    by_removal |= {Removal(step, 0, "directly"): by_removal[Removal(step, 0, "everything")] * 0.6 for step in MEASURED}
    by_removal |= {Removal(step, 1, "everything"): torch.full((1, LATENT.cells), 5e-4) for step in MEASURED}
    by_removal[Removal(4, "text", "everything")] = torch.full((1, LATENT.cells), 1e-3)  # too small in one step alone
    taken, left = (torch.stack([part(row, column, spread) for row in range(4) for column in range(4)])
                   for spread in (0.1, 0.2))  # fmt: skip
    regions = {
        (0, cut): RegionEffects(0, "everything", REGIONS, values.flatten(1)[None])
        for cut, values in (("taken away", taken), ("only this left", left))
    }
    floor = torch.full((1, LATENT.cells), 4e-4)
    unmeasured = {"reference 2 ('third')": "out of memory in the extra call"}
    return Effects(by_removal, floor, regions, unmeasured=unmeasured, evaluations=40, seconds=12.0)


def part(row: int, column: int, spread: float) -> Tensor:
    """Where a region of the reference changed the picture: where the same part of the ball is."""
    centre = (CENTRE[0] - 0.375 + 0.25 * column, CENTRE[1] - 0.375 + 0.25 * row)
    near = (-((distance(SIDE, centre) / spread) ** 2)).exp()
    return 0.3 * near * (distance(SIDE, CENTRE) < RADIUS) + 1e-5


def on_latent() -> Tensor:
    return (distance(SIDE, CENTRE) < RADIUS * 1.25).float()[None]


def both() -> Attribution:
    """Attention and effects, of three references; nothing was measured of the third."""
    recorder = Recorder(torch.linspace(10, 0, STEPS + 1), 1, 2**30)
    names = ("ball", "second", "third")
    numbers = [recorder.reference(Reference(name, TOKENS.cells, TOKENS, key=name)) for name in names]
    layer, rows = Layer("layer", LATENT, 2), torch.arange(LATENT.cells)
    scope = on_latent().flatten(1) > 0
    for step in range(STEPS):
        for number in numbers:
            q, k = torch.randn(1, 2, LATENT.cells, 8), torch.randn(1, 2, TOKENS.cells, 8)
            (m,) = attribute(q, k, [span("x", 0, TOKENS)], positions=Positions(scope=scope, pair_rows=rows))
            recorder.pairs_fit(number, layer, LATENT.cells, TOKENS.cells)
            recorder.add(Place(layer, step, number), m, rows)
    attribution = recorder.freeze(grid=LATENT, denoise_mask=on_latent(), mechanism="test", branch="positive")
    return replace(attribution, effects=effects())


def alone() -> Attribution:
    """A model that I2AM cannot read: only what another conditioning lacks."""
    recorder = Recorder(torch.linspace(10, 0, STEPS + 1), 1, 2**30)
    measured = effects()
    by_removal = {Removal(step, "conditioning"): measured.maps[Removal(step, 0)] for step in MEASURED}
    attribution = recorder.freeze(grid=LATENT, mechanism="", branch="positive")
    return replace(attribution, effects=Effects(by_removal, measured.floor, evaluations=4, seconds=1.0))


@pytest.fixture(scope="module", params=["canvas", "vue"])
def comfy(request: pytest.FixtureRequest, servers: Any, browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    comfy = ComfyPage(context.new_page(), servers("newest"), vue=request.param == "vue")
    comfy.name = request.param
    comfy.add(NODE)
    yield comfy
    assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
    context.close()


@pytest.fixture
def viewer(comfy: ComfyPage) -> Viewer:
    viewer = Viewer(comfy)
    viewer("viewer.restore(null)")
    viewer.until("viewer.flashed == null")  # of the test before: "saved" stays where the numbers are
    return viewer


@pytest.fixture
def look(viewer: Viewer) -> Callable[[], Attribution]:
    """Show the run that has both, and of it the effect."""

    def look() -> Attribution:
        attribution = both()
        viewer.open(attribution, "effects", mask=mask(), pictures=pictures())
        viewer.part(NORMALIZATION).select_option("effect")
        viewer.page.mouse.move(*NOWHERE)
        viewer.drawn()
        return attribution

    return look


def alike(drawn: np.ndarray, values: Tensor, tolerance: int = 2) -> None:
    """A pane shows this map, from 0, which is no effect, to its largest value."""
    expected = (resize(values, PX, PX) / values.max() * 255).clamp(max=255)
    assert np.abs(drawn - expected.round().numpy()).max() <= tolerance


def text(viewer: Viewer, selector: str) -> str:
    viewer.drawn()
    return viewer.part(selector).inner_text()


def test_what_it_changed_is_first(viewer: Viewer) -> None:
    """A viewer in which nothing was chosen shows it as soon as a run has it; one that was told otherwise does not."""
    attribution = both()
    viewer.open(replace(attribution, effects=None), "attention", mask=mask(), pictures=pictures())
    assert viewer("viewer.state.kind") == "paper"  # nothing else was to be seen
    viewer("viewer.change({step: 1})")
    viewer.open(attribution, "both", mask=mask(), pictures=pictures())
    assert viewer.part(NORMALIZATION).input_value() == "effect" and viewer("viewer.state.step") is None
    assert text(viewer, ".pane.generated strong") == "What the reference changed"
    viewer.part(NORMALIZATION).select_option("share")
    viewer.open(both(), "again", mask=mask(), pictures=pictures())
    assert viewer.part(NORMALIZATION).input_value() == "share"


def test_attention_is_a_choice(viewer: Viewer) -> None:
    attribution = both()
    viewer.open(attribution, "both", mask=mask(), pictures=pictures())
    viewer.part(NORMALIZATION).select_option("paper")
    expected = (heat(maps(attribution, "r2g").values, (PX, PX))[0] * 255).round().numpy()
    assert np.abs(viewer.levels("generated") - expected).max() <= 2
    options = viewer.part(f"{NORMALIZATION} option").all_inner_texts()
    assert options == [
        "what it changed (effect)", "how much it was looked at (share)", "where queries match (paper)"
    ]  # fmt: skip


def test_what_the_reference_changed(
    viewer: Viewer, look: Callable[[], Attribution], artifacts: Path, comfy: ComfyPage
) -> None:
    attribution = look()
    viewer.shot(f"effect_{comfy.name}", artifacts)
    alike(viewer.levels("generated"), effect_maps(attribution, "r2g").values[0])
    assert text(viewer, ".pane.generated strong") == "What the reference changed"
    numbers = text(viewer, ".numbers")
    strength = attribution.effects.strength(0, "everything", attribution.mask_on_latent())
    assert numbers.startswith(f"effect {strength:.3g} in the mask")
    assert "noise floor 4.0e-4" in numbers and "% of the area)" in numbers
    values = effect_maps(attribution, "g2r").values[0]
    squares = viewer.levels("reference")
    expected = (values / values.max() * 255).round().numpy().repeat(PX // 4, 0).repeat(PX // 4, 1)
    assert np.abs(squares - expected).max() <= 1
    assert text(viewer, ".pane.reference strong") == "What each part of the reference changed"


def test_only_the_measured_steps_are_scrubbed(viewer: Viewer, look: Callable[[], Attribution]) -> None:
    attribution = look()
    track = viewer.part(".scrubber[data-axis=step] .track").bounding_box()
    by_step = effect_maps(attribution, "r2g", "time").values
    for number, step in enumerate(MEASURED):
        viewer.page.mouse.click(track["x"] + track["width"] * (number + 0.5) / 3, track["y"] + track["height"] / 2)
        viewer.until("viewer.state.step === arg", number)
        assert text(viewer, ".scrubber[data-axis=step] output").startswith(f"step {step + 1} of {STEPS}")
        alike(viewer.levels("generated"), by_step[number])
    viewer("viewer.change({normalization: 'paper'})")
    assert viewer("viewer.state.step") is None  # number 2 is another step there


def test_layers_and_heads_say_that_they_have_no_effect(viewer: Viewer, look: Callable[[], Attribution]) -> None:
    look()
    for axis, words in (("layer", "effect: no layers"), ("head", "effect: no heads")):
        scrubber = viewer.part(f".scrubber[data-axis={axis}]")
        assert scrubber.locator("input").is_disabled() and scrubber.locator(".all").is_disabled()
        assert scrubber.locator("output").inner_text() == words
        assert "of the whole model" in scrubber.locator("output").get_attribute("title")
    assert not viewer.part(".tables").is_visible()
    viewer.part(".numbers").click()
    viewer.page.keyboard.press("ArrowDown")
    viewer.until("viewer.flashed?.includes('of the whole model')")
    viewer("viewer.change({normalization: 'share'})")
    viewer.drawn()
    assert viewer.part(".scrubber[data-axis=layer] input").is_enabled() and viewer.part(".tables").is_visible()


def test_owners_are_chosen_where_references_are(
    viewer: Viewer, look: Callable[[], Attribution], artifacts: Path, comfy: ComfyPage
) -> None:
    attribution = look()
    assert viewer.part(f"{OWNERS} option").all_inner_texts() == [
        *("0: ball", "1: second", "2: third (not measured)"),
        *("all references", "the text", "compared with 'without'"),
    ]
    for owner, title in (
        ("all references", "What all references together changed"),
        ("text", "What the text changed"),
    ):
        viewer.part(OWNERS).select_option(owner)
        assert text(viewer, ".pane.generated strong") == title
        alike(viewer.levels("generated"), effect_maps(attribution, "r2g", owner=owner).values[0])
        assert "Only a single reference has parts" in text(viewer, ".pane.reference .message")
    viewer.shot(f"effect_text_{comfy.name}", artifacts)
    viewer("viewer.change({normalization: 'share'})")
    viewer.drawn()
    assert viewer.part(f"{OWNERS} option").all_inner_texts() == ["0: ball", "1: second", "2: third"]


def test_what_is_not_measured_is_said_and_not_drawn(
    viewer: Viewer, look: Callable[[], Attribution], artifacts: Path, comfy: ComfyPage
) -> None:
    look()
    viewer.part(OWNERS).select_option("1")
    assert text(viewer, ".pane.generated .message").startswith("Too small to measure: its effect of 5.0e-4 is less")
    assert viewer("viewer.panes.generated.heat.hidden")
    assert "set regions of I2AM Effect" in text(viewer, ".pane.reference .message")
    viewer.shot(f"effect_too_small_{comfy.name}", artifacts)
    viewer.part(OWNERS).select_option("conditioning")
    assert text(viewer, ".pane.generated .message") == "No effect at all: not a digit changes."
    assert viewer("viewer.panes.generated.heat.hidden")
    viewer("viewer.change({owner: 'text', step: 2})")
    assert text(viewer, ".pane.generated .message").startswith("Too small to measure")
    viewer("viewer.change({step: 1})")
    assert text(viewer, ".pane.generated .message") == "" and not viewer("viewer.panes.generated.heat.hidden")
    notes = viewer.part("details.notes")
    assert "not every effect was measured" in notes.locator("summary").inner_text()


WRITTEN = """() => {
    window.i2amWritten = [];
    const { prototype } = CanvasRenderingContext2D, write = prototype.fillText;
    prototype.fillText = function (text, ...place) { i2amWritten.push(text); return write.call(this, text, ...place); };
}"""


def test_a_saved_picture_says_why_there_is_no_map(viewer: Viewer, look: Callable[[], Attribution]) -> None:
    look()
    viewer.part(OWNERS).select_option("1")
    said = [text(viewer, f".pane.{side} .message") for side in ("generated", "reference")]
    viewer.page.evaluate(WRITTEN)
    save = viewer.part("details.save")
    save.locator("summary").click()
    with viewer.page.expect_download():
        save.get_by_role("button", name="Save view as PNG").click()
    assert said[0].startswith("Too small to measure") and set(said) <= set(viewer.page.evaluate("() => i2amWritten"))


def test_the_pictures_with_and_without_are_wiped(viewer: Viewer, artifacts: Path, comfy: ComfyPage) -> None:
    """One beside the other, with a border that a pointer draws and keys move; asking goes on as ever."""
    red, blue = (np.full((PX, PX, 3), color, np.uint8) for color in ((200, 0, 0), (0, 0, 200)))
    viewer.open(both(), "wipe", mask=mask(), pictures=pictures() | {"with": red, "without": blue})
    button = viewer.part("button", has_text="with | without")
    assert button.get_attribute("aria-pressed") == "false"
    button.click()
    viewer.page.mouse.move(*NOWHERE)
    viewer.shot(f"wipe_{comfy.name}", artifacts)
    assert viewer("viewer.panes.generated.heat.hidden") and not viewer("viewer.panes.reference.heat.hidden")
    assert text(viewer, ".pane.generated strong") == "With it, and without it"
    assert [colour(viewer, u) for u in (0.1, 0.9)] == [(200, 0, 0), (0, 0, 200)]
    viewer.drag("generated", (0.5, 0.5), (0.8, 0.3))
    assert viewer("viewer.state.wipe") == pytest.approx(0.8, abs=0.01) and viewer("viewer.state.ask") is None
    assert [colour(viewer, u) for u in (0.7, 0.9)] == [(200, 0, 0), (0, 0, 200)]
    for key in ("Home", "ArrowRight", "ArrowRight"):
        viewer.page.keyboard.press(key)
    viewer.until("Math.abs(viewer.state.wipe - 0.1) < 1e-9")
    viewer.drawn()
    border = viewer.part("[role=slider]")
    assert (border.get_attribute("aria-valuetext"), viewer("viewer.state.step")) == ("10 % with it", None)
    save = viewer.part("details.save")
    save.locator("summary").click()
    with viewer.page.expect_download() as download:
        save.get_by_role("button", name="Save view as PNG").click()
    saved = Image.open(download.value.path()).convert("RGB")
    assert [saved.getpixel((16 + round(512 * u), 200)) for u in (0.05, 0.2)] == [(200, 0, 0), (0, 0, 200)]
    viewer.click("generated", *CENTRE)
    assert text(viewer, ".pane.reference strong") == "Which parts changed the marked part"
    viewer.part(NORMALIZATION).select_option("paper")
    viewer.drawn()
    assert button.is_hidden() and viewer.part(".wipe").is_hidden()


def colour(viewer: Viewer, u: float) -> tuple[int, ...]:
    """Of the generated picture's pane on the screen, in its lower part."""
    viewer.drawn()
    viewer("viewer.ready()")
    x, y = viewer.place("generated", u, 0.8)
    shot = viewer.page.screenshot(clip={"x": x, "y": y, "width": 1, "height": 1})
    return Image.open(io.BytesIO(shot)).convert("RGB").getpixel((0, 0))


def test_routes_and_ways_to_measure_parts(viewer: Viewer, look: Callable[[], Attribution]) -> None:
    attribution = look()
    viewer.part(SELECT("How it reaches the picture")).select_option("directly")
    alike(viewer.levels("generated"), effect_maps(attribution, "r2g", route="directly").values[0])
    assert "directly" in text(viewer, ".pane.generated .detail")
    viewer.part(SELECT("How the effect of a part was measured")).select_option("only this left")
    assert "only this part left" in text(viewer, ".pane.reference .detail")
    viewer.click("reference", 0.4, 0.4)
    region = torch.zeros(64, 64)
    region[16:32, 16:32] = 1
    expected = specific_effect(attribution, region, "r2g", cut="only this left").values
    alike(viewer.levels("generated"), expected)


def test_the_pointer_reads_a_value(viewer: Viewer, look: Callable[[], Attribution]) -> None:
    attribution = look()
    viewer.page.mouse.move(*viewer.place("generated", *CENTRE))
    viewer.until("!viewer.panes.generated.value.hidden")
    value = effect_maps(attribution, "r2g").values[0][int(CENTRE[1] * SIDE), int(CENTRE[0] * SIDE)].item()
    assert float(text(viewer, ".pane.generated .value").removeprefix("effect ")) == pytest.approx(value, rel=0.01)
    viewer.page.mouse.move(*NOWHERE)
    viewer.until("viewer.panes.generated.value.hidden")


def test_a_click_on_the_picture_shows_which_parts_changed_it(
    viewer: Viewer, look: Callable[[], Attribution], artifacts: Path, comfy: ComfyPage
) -> None:
    attribution = look()
    u, v = CENTRE[0] - 0.1, CENTRE[1] - 0.1
    viewer.click("generated", u, v)
    viewer.shot(f"effect_spot_{comfy.name}", artifacts)
    region = torch.zeros(PX, PX)
    region[int(v * PX), int(u * PX)] = 1
    values = specific_effect(attribution, region, "g2r").values
    expected = (values / values.max() * 255).round().numpy().repeat(PX // 4, 0).repeat(PX // 4, 1)
    assert np.abs(viewer.levels("reference") - expected).max() <= 2
    assert text(viewer, ".pane.reference strong") == "Which parts changed the marked part"
    strongest, *others = (float(words) for words in viewer.part(".patches li").all_inner_texts())
    assert 1 <= len(others) < 4 and min(others) > 3 * 4e-4  # of the others, nothing is above the noise
    assert strongest == pytest.approx(values.max().item(), rel=0.01)


def test_a_click_on_a_part_shows_where_it_changed_the_picture(
    viewer: Viewer, look: Callable[[], Attribution], artifacts: Path, comfy: ComfyPage
) -> None:
    attribution = look()
    viewer.click("reference", 0.4, 0.4)
    viewer.shot(f"effect_part_{comfy.name}", artifacts)
    marked = viewer.part(".pane.reference rect.asked").first
    assert [marked.get_attribute(name) for name in ("x", "width")] == ["0.25", "0.25"]  # the whole region
    region = torch.zeros(64, 64)
    region[16:32, 16:32] = 1
    alike(viewer.levels("generated"), specific_effect(attribution, region, "r2g").values)
    assert text(viewer, ".pane.generated strong") == "What the marked part changed"
    viewer.page.keyboard.press("Escape")
    viewer.drag("reference", (0.25, 0.25), (0.75, 0.5))
    left, top, right, bottom = (round(side * 800) for side in viewer("viewer.state.ask.box"))
    region = torch.zeros(800, 800)
    region[top:bottom, left:right] = 1
    alike(viewer.levels("generated"), specific_effect(attribution, region, "r2g").values, tolerance=4)


def test_where_a_spot_has_no_effect_it_says_so(viewer: Viewer, look: Callable[[], Attribution]) -> None:
    look()
    viewer.click("generated", 0.02, 0.98)
    assert text(viewer, ".pane.reference .message").startswith("Too small to measure")
    assert viewer("viewer.panes.reference.heat.hidden")


def test_an_effect_is_taken_away(
    viewer: Viewer, look: Callable[[], Attribution], artifacts: Path, comfy: ComfyPage
) -> None:
    attribution = look()
    viewer("viewer.change({step: 1})")
    save = viewer.part("details.save")
    save.locator("summary").click()
    save.get_by_role("button", name="Copy as JSON").click()
    viewer.until("viewer.flashed === 'copied'")
    report = json.loads(viewer.page.evaluate("() => navigator.clipboard.readText()"))
    assert (report["normalization"], report["steps"], report["imacs"]) == ("effect", [2], None)
    inside = attribution.mask_on_latent()
    step = attribution.effects.maps[Removal(2, 0)][inside].square().mean().sqrt().item()
    assert report["effect"]["of"] == 0 and report["effect"]["strength"] == pytest.approx(step, rel=1e-4)
    for entry, end in (("Save view as PNG", "png"), ("Save all steps as animated WebP", "webp")):
        save.locator("summary").click()
        with viewer.page.expect_download() as download:
            save.get_by_role("button", name=entry).click()
        download.value.save_as(artifacts / f"viewer_effect_{comfy.name}_saved.{end}")
    assert Image.open(artifacts / f"viewer_effect_{comfy.name}_saved.webp").n_frames == len(MEASURED)


def test_playing_goes_through_the_measured_steps(viewer: Viewer, look: Callable[[], Attribution]) -> None:
    look()
    viewer.part("button[aria-label=play]").click()
    viewer.until("viewer.state.step === 2")
    viewer.until("viewer.state.step === 0")
    viewer.part("button[aria-label=pause]").click()


def test_without_attention_there_is_one_picture(
    viewer: Viewer, artifacts: Path, comfy: ComfyPage, look: Callable[[], Attribution]
) -> None:
    attribution = alone()
    viewer.open(attribution, "alone", pictures={"generated": pictures()["generated"]})
    viewer.page.mouse.move(*NOWHERE)
    viewer.shot(f"effect_alone_{comfy.name}", artifacts)
    assert viewer("viewer.state.kind") == "effect"
    assert not viewer.part(".pane.reference").is_visible() and viewer.part(".pane.generated").is_visible()
    alike(viewer.levels("generated"), effect_maps(attribution, "r2g").values[0])
    for selector in (NORMALIZATION, OWNERS):
        assert not viewer.part(selector).is_visible()
    assert text(viewer, ".numbers").startswith("effect 0.")
    for key in ("ArrowRight", "ArrowDown", "]", " ", " ", "Escape"):
        viewer.part(".numbers").click()
        viewer.page.keyboard.press(key)
    viewer.page.mouse.click(*viewer.place("generated", 0.5, 0.5))
    viewer.drawn()
    assert viewer("viewer.file.header.references.length") == 0 and viewer("viewer.state.step") is not None
    assert viewer("viewer.state.ask") is None  # there is nothing that could answer
    save = viewer.part("details.save")
    save.locator("summary").click()
    with viewer.page.expect_download() as download:
        save.get_by_role("button", name="Save view as PNG").click()
    download.value.save_as(artifacts / f"viewer_effect_alone_{comfy.name}_saved.png")
    look()  # and back
    viewer.until("!viewer.panes.reference.root.hidden")


def test_a_state_of_effects_opens_a_run_without_any(viewer: Viewer) -> None:
    """A workflow that looked at an effect opens a run in which none was measured."""
    viewer.open(replace(both(), effects=None), "attention")
    viewer("viewer.restore({normalization: 'effect', owner: 'text', route: 'directly', step: 2})")
    viewer.drawn()
    assert viewer("viewer.state.kind") == "paper"
    assert text(viewer, ".pane.generated strong") == "Where the reference acts"
    assert not viewer.part(SELECT("How it reaches the picture")).is_visible()
