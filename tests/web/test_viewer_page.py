"""A viewer saved as one HTML file: it opens from disk, without ComfyUI, in Chromium and in Firefox."""

from __future__ import annotations

import asyncio
import base64
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comfy_page import NOWHERE, ComfyPage, Watch
from firefox_page import opened
from PIL import Image
from viewer_page import NODE, Viewer

import demo_graph
from demo_graph import Graph, node

pytestmark = pytest.mark.timeout(300)

PIXELS = "pane => pane.querySelector('canvas.heat').toDataURL('image/png')"


def graph() -> Graph:
    """The demo with its effects, and a viewer with all its pictures."""
    whole = demo_graph.build(steps=4)
    names = ("scene", "loader", "positive", "negative", "inpaint", "capture", "effect", "sampler", "collect", "decode")
    nodes = {name: whole[name] for name in names}
    given = {"image": ["decode", 0], "reference": ["scene", 2], "mask": ["scene", 1], "vae": ["loader", 1]}
    nodes["viewer"] = node(NODE, attribution=["collect", 0], **given)
    return demo_graph.numbered(nodes)


@pytest.fixture(scope="module", params=["canvas", "vue"])
def viewer(request: pytest.FixtureRequest, servers: Any, browser: Any) -> Any:
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    comfy = ComfyPage(context.new_page(), servers("newest"), vue=request.param == "vue")
    comfy.name = request.param
    comfy.load_api(graph())
    comfy.show(NODE)
    comfy.run()
    viewer = Viewer(comfy)
    viewer.until("viewer.file && viewer.status.hidden")
    viewer.page.mouse.move(*NOWHERE)
    yield viewer
    assert comfy.watch.page_errors == [] and comfy.watch.ours() == []
    context.close()


@pytest.fixture(scope="module")
def saved(viewer: Viewer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, in a folder of its own: nothing is beside it. It was saved while a step and a question were chosen."""
    viewer("viewer.change({normalization: 'paper', step: 1, ask: {side: 'generated', box: [0.4, 0.4, 0.6, 0.6]}})")
    viewer.drawn()
    save = viewer.part("details.save")
    save.locator("summary").click()
    with viewer.page.expect_download() as download:
        save.get_by_role("button", name="Save as HTML").click()
    assert download.value.suggested_filename == "i2am.html"
    path = tmp_path_factory.mktemp("saved") / "i2am.html"
    download.value.save_as(path)
    return path


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, saved: Path, browser: Any) -> Any:
    """The file, opened from disk in a browser that reaches nothing else."""
    context = browser.new_context(
        viewport={"width": 1300, "height": 1000}, color_scheme=request.param, offline=True, accept_downloads=True
    )
    page = context.new_page()
    watch = Watch(page)
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(saved.as_uri())
    page.locator(".i2am-viewer .findings li").first.wait_for()
    page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
    page.scheme = request.param
    yield page
    assert watch.page_errors == [] and watch.console == []
    assert [url for url in requested if not url.startswith(("blob:", "data:"))] == [saved.as_uri()]
    context.close()


def pane_pixels(page: Any, side: str) -> np.ndarray:
    url = page.locator(f".i2am-viewer .pane.{side}").evaluate(PIXELS)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB"))


def test_it_shows_what_was_looked_at(viewer: Viewer, page: Any, artifacts: Path) -> None:
    page.screenshot(path=artifacts / f"saved_page_{viewer.comfy.name}_{page.scheme}.png")
    for side in ("generated", "reference"):
        assert np.array_equal(pane_pixels(page, side), viewer.pixels(side))
        title = page.locator(f".i2am-viewer .pane.{side} strong").inner_text()
        assert title == viewer.part(f".pane.{side} strong").inner_text()
        width = "img => img.complete && img.naturalWidth"
        picture = page.locator(f".i2am-viewer .pane.{side} .stage > img").evaluate(width)
        assert picture == viewer(f"viewer.panes.{side}.picture.naturalWidth") > 0
    said = page.locator(".i2am-viewer .findings li").all_inner_texts()
    assert said == viewer.part(".findings li").all_inner_texts()
    assert page.title().startswith("I2AM: ") and "seed" in page.locator("header p").inner_text()


def test_it_can_be_looked_around_in(viewer: Viewer, page: Any, artifacts: Path) -> None:
    before = pane_pixels(page, "generated")
    page.locator(".i2am-viewer .scrubber[data-axis=step] .all").click()
    page.locator(".i2am-viewer select[aria-label='What a value says']").select_option("effect")
    page.locator(".i2am-viewer .pane.generated strong", has_text="What the reference changed").wait_for()
    assert not np.array_equal(pane_pixels(page, "generated"), before)
    page.locator(".i2am-viewer button", has_text="with | without").click()
    wiped = page.locator(".i2am-viewer .pane.generated .wipe img[src]")
    wiped.nth(1).wait_for()
    assert wiped.evaluate_all("both => Promise.all(both.map(one => one.decode())).then(() => both.length)") == 2
    page.screenshot(path=artifacts / f"saved_page_{page.scheme}_wipe.png")
    page.locator(".i2am-viewer .findings li > button").first.click()
    page.locator(".i2am-viewer details.save summary").click()
    names = page.locator(".i2am-viewer details.save button").all_inner_texts()
    assert names == ["Copy as JSON", "Save view as PNG", "Save all steps as animated WebP"]
    with page.expect_download() as download:
        page.locator(".i2am-viewer details.save button", has_text="Save view as PNG").click()
    assert Image.open(download.value.path()).width > 1000


def test_it_can_be_read_in_both_schemes(page: Any) -> None:
    """Words stand out from what they stand on: a contrast of 4.5 at least (WCAG 2, AA)."""
    colors = page.evaluate(
        "() => [...document.querySelectorAll('h1, header p')]"
        ".concat([...document.querySelector('.i2am-viewer').shadowRoot.querySelectorAll('.numbers, .detail, select')])"
        ".map(one => getComputedStyle(one).color)"
    )
    behind = page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor")
    assert (luminance(behind) > 0.5) == (page.scheme == "light")
    for color in colors:
        low, high = sorted((luminance(color), luminance(behind)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, color


def luminance(color: str) -> float:
    """Of a colour such as 'rgb(1, 2, 3)', as WCAG 2 defines it."""
    parts = np.array([float(part) for part in color[color.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_it_opens_in_firefox(viewer: Viewer, saved: Path, firefox: Path, tmp_path: Path, artifacts: Path) -> None:
    shot = artifacts / f"saved_page_{viewer.comfy.name}_firefox.png"
    with ThreadPoolExecutor() as other:  # in this thread, Playwright's loop of events is running
        drawn = other.submit(asyncio.run, in_firefox(firefox, saved, tmp_path, shot)).result()
    assert drawn["errors"] == []
    for side in ("generated", "reference"):
        heat = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn[side]))).convert("RGB"))
        assert np.array_equal(heat, viewer.pixels(side))
        assert drawn[f"{side} picture"] == viewer(f"viewer.panes.{side}.picture.naturalWidth")
    assert drawn["finding"] == viewer.part(".findings li").first.inner_text().replace("\n", "")


async def in_firefox(firefox: Path, saved: Path, folder: Path, shot: Path) -> dict[str, Any]:
    """The heat of both panes as PNG, the widths of their pictures and the first finding; and what went wrong."""
    (folder / "profile").mkdir()
    async with opened(firefox, saved.as_uri(), folder / "profile") as page:
        root = "document.querySelector('.i2am-viewer').shadowRoot"
        await page.evaluate(f"Promise.all([...{root}.querySelectorAll('img[src]')].map(picture => picture.decode()))")
        drawn: dict[str, Any] = {"finding": await page.evaluate(f"{root}.querySelector('.findings li').textContent")}
        for side in ("generated", "reference"):
            pane = f"{root}.querySelector('.pane.{side}')"
            drawn[f"{side} picture"] = await page.evaluate(f"{pane}.querySelector('.stage > img').naturalWidth")
            drawn[side] = (await page.evaluate(f"({PIXELS})({pane})")).partition(",")[2]
        await page.screenshot(shot)
        return drawn | {"errors": page.errors}
