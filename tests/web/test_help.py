"""Help pages and languages: what the server has of them for every node of ours, and what the page shows."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_page import ComfyPage
from PIL import Image

from comfy_server import ComfyServer
from locales import node_defs

BASE = "/extensions/i2am/docs/"  # from here the frontend counts relative links, on pages of every language
PICTURES = Path(__file__).resolve().parents[2] / "web" / "docs" / "images"
HEADINGS = {
    "en": ("Inputs", "Outputs", "Mechanisms"),
    "zh": ("\u8f93\u5165", "\u8f93\u51fa", "\u673a\u5236"),
}
PLAIN = {"vae", "ipadapter", "Latent"}  # names that are the same in every language
CHINESE = re.compile("[\u4e00-\u9fff]")
SHOWS = """() => {
    const pictures = [...document.querySelectorAll(".node-help-content img")];
    return pictures.length && pictures.every(picture => picture.complete && picture.naturalWidth > 0);
}"""
ALONE = """() => {
    app.graph.nodes[0].pos = [0, 0];
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [500, 300];
    app.canvas.setDirty(true, true);
    return new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)));
}"""
TITLE = (650, 286)  # of that node


@pytest.fixture(scope="module")
def ours(object_info: dict[str, Any]) -> dict[str, Any]:
    return {name: about for name, about in object_info.items() if name.startswith("I2AM_")}


@pytest.fixture(scope="module")
def pages(server: ComfyServer, ours: dict[str, Any]) -> dict[tuple[str, str], str]:
    """The text of each page by node and language, from where the frontend looks for it."""
    names = {(node, "en"): f"{node}.md" for node in ours} | {(node, "zh"): f"{node}/zh.md" for node in ours}
    return {key: server.get(BASE + name).decode() for key, name in names.items()}


@pytest.fixture(scope="module")
def languages(server: ComfyServer) -> dict[str, Any]:
    return json.loads(server.get("/i18n"))


def inputs(about: dict[str, Any]) -> dict[str, Any]:
    return about["input"].get("required", {}) | about["input"].get("optional", {})


def listed(page: str, heading: str) -> list[str]:
    """The names in the first column of the table under a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\| `([^`]+)`", section[1], re.MULTILINE) if section else []


def leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def title_of(page: str) -> str:
    return page.partition("\n")[0].removeprefix("# ")


def test_every_page_lists_the_inputs_and_outputs_of_its_node(
    ours: dict[str, Any], pages: dict[Any, str], languages: dict[str, Any]
) -> None:
    for (node, language), page in pages.items():
        ins, outs, _ = HEADINGS[language]
        assert sorted(listed(page, ins)) == sorted(inputs(ours[node])), (node, language)
        assert listed(page, outs) == ours[node]["output_name"], (node, language)
        assert title_of(page) == languages[language]["nodeDefs"][node]["display_name"]
        assert bool(CHINESE.search(page)) == (language == "zh"), (node, language)


def test_every_mechanism_is_explained(ours: dict[str, Any], pages: dict[Any, str]) -> None:
    known = inputs(ours["I2AM_Capture"])["mechanism"]
    options = known[0] if isinstance(known[0], list) else known[1]["options"]
    for language, (*_, heading) in HEADINGS.items():
        assert sorted(listed(pages["I2AM_Capture", language], heading)) == sorted(set(options) - {"auto"})


def test_every_level_is_explained(ours: dict[str, Any], pages: dict[Any, str]) -> None:
    known = inputs(ours["I2AM_Maps"])["level"]
    options = known[0] if isinstance(known[0], list) else known[1]["options"]
    for language in HEADINGS:
        (row,) = re.findall(r"^\| `level`.*", pages["I2AM_Maps", language], re.MULTILINE)
        assert [option for option in options if f"`{option}`" not in row] == [], language


def test_every_picture_is_served_and_decodes(server: ComfyServer, pages: dict[Any, str]) -> None:
    links = {key: re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page) for key, page in pages.items()}
    assert {node for (node, _), targets in links.items() if not targets} == set()
    for node, _ in links:
        assert links[node, "en"] == links[node, "zh"], node
    for link in sorted({link for targets in links.values() for link in targets}):
        assert re.fullmatch(r"images/\w+\.(webp|png)", link)
        Image.open(io.BytesIO(server.get(BASE + link))).load()


def test_pictures_are_small() -> None:
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 400_000


def test_everything_has_a_tooltip(ours: dict[str, Any]) -> None:
    for node, about in ours.items():
        assert about["description"], node
        assert [name for name, field in inputs(about).items() if not field[1].get("tooltip")] == [], node
        tips = about.get("output_tooltips") or []
        assert len(tips) == len(about["output"]) and all(tips), node


def test_english_is_what_the_nodes_say(languages: dict[str, Any], object_info: dict[str, Any]) -> None:
    """``python scripts/locales.py`` writes it anew."""
    assert languages["en"]["nodeDefs"] == node_defs(object_info), "run .host/venv/bin/python scripts/locales.py"


def test_chinese_says_it_all(languages: dict[str, Any]) -> None:
    english, chinese = (dict(leaves(languages[language]["nodeDefs"])) for language in ("en", "zh"))
    assert chinese.keys() == english.keys()
    same = [path for path, text in chinese.items() if not CHINESE.search(text) and text not in PLAIN]
    assert same == []


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("frontend", ["pinned", "newest"])
def test_the_help_panel_shows_the_page(
    servers: Any, browser: Any, pages: dict[Any, str], artifacts: Path, frontend: str, language: str
) -> None:
    """Opened from the toolbox of a selected node, in the language of the page."""
    with browser.new_context(locale={"en": "en-US", "zh": "zh-CN"}[language]) as context:
        page = context.new_page()
        page.set_viewport_size({"width": 1600, "height": 1000})
        comfy = ComfyPage(page, servers(frontend), vue=False, settings={"Comfy.Locale": language})
        comfy.load_api({"1": {"class_type": "I2AM_Maps", "inputs": {}}})
        if frontend == "newest":  # 1.32.9 forgets the words of packs when it loads its own of another language
            title = page.evaluate("() => app.graph.nodes[0].title")
            assert title == title_of(pages["I2AM_Maps", language])
        page.evaluate(ALONE)
        page.mouse.click(*TITLE)
        page.get_by_test_id("info-button").click()
        page.wait_for_function(SHOWS)
        page.screenshot(path=artifacts / f"help_{frontend}_{language}.png")
        content = page.locator(".node-help-content")
        assert content.locator("h1").inner_text() == title_of(pages["I2AM_Maps", language])
        assert content.locator("img").count() == pages["I2AM_Maps", language].count("](images/")
        assert comfy.watch.page_errors == []
