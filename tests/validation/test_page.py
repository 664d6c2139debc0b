"""The page is put together from sections in their finished form."""

import re

import pytest
from matplotlib.figure import Figure

from i2am_pack.validation import page
from i2am_pack.validation.lab import Lab
from i2am_pack.validation.section import Section

COMMAND = "scripts/validate --steps 2"


def section(title, *text, names=("curve",), verdicts=None):
    return Section(title, text, {name: (Figure(), f"what {name} shows") for name in names}, verdicts or {})


@pytest.fixture
def short(tmp_path):
    return Lab(2, 2, tmp_path / "cache")


def test_verdicts_come_first_then_the_sections_in_order_with_their_figures(short, tmp_path):
    page.keep(short, "second", section("Two", "B", "{curve}", "C", "{map}", names=("curve", "map")))
    page.keep(short, "first", section("One", "A {curve} in a sentence", "{curve}", verdicts={"is it?": "It is, 0.9."}))
    path = page.write(tmp_path / "docs", short, ["first", "second"], COMMAND)
    blocks = path.read_text().split("\n\n")
    assert [x for x in blocks if x.startswith("#")] == ["# Validation", "## In short", "## One", "## Two"]
    after = blocks[blocks.index("## One") - 1 :]
    assert after == [
        "* **Is it?**: It is, 0.9.",
        "## One",
        "A {curve} in a sentence",
        "![what curve shows](images/validation_first_curve.png)",
        "## Two",
        "B",
        "![what curve shows](images/validation_second_curve.png)",
        "C",
        "![what map shows](images/validation_second_map.png)\n",
    ]
    for name in re.findall(r"\((images/.*?)\)", path.read_text()):
        assert (path.parent / name).read_bytes().startswith(b"\x89PNG")


def test_the_page_says_how_it_was_made(short, tmp_path):
    page.keep(short, "first", section("One", "{curve}"))
    head = page.write(tmp_path, short, ["first"], COMMAND).read_text()
    assert f"`{COMMAND}` made this page" in head
    for name in ("weights", "joint_weights"):
        assert re.search(rf"\b{name}\.safetensors [0-9a-f]{{12}}\b", head)
    assert f"Written by {page.written_by()}." in head and re.search(r"PyTorch \d.*, ComfyUI \d", head)


def test_sections_that_other_code_wrote_are_named(short, tmp_path, monkeypatch):
    page.keep(short, "first", section("One", "{curve}"))
    monkeypatch.setattr(page, "written_by", lambda: "commit abc")
    for part in ("second", "third"):
        page.keep(short, part, section(part, "{curve}"))
    monkeypatch.undo()
    head = page.write(tmp_path, short, ["first", "second", "third"], COMMAND).read_text()
    assert f"Written by {page.written_by()} (first); commit abc (second, third)." in head


def test_without_git_the_commit_is_unknown(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert page.written_by().startswith("commit unknown, PyTorch ")


def test_a_part_that_is_run_alone_takes_no_other_from_the_page(short, tmp_path):
    for part in ("first", "second"):
        page.keep(short, part, section(part, "as it was", "{curve}"))
    page.keep(short, "second", section("second", "anew", "{chart}", names=("chart",)))
    text = page.write(tmp_path, short, ["first", "second", "third"], COMMAND).read_text()
    assert "## first\n\nas it was" in text and "## second\n\nanew" in text
    assert text.endswith("Not run with these settings: third.\n")
    assert {path.name for path in (tmp_path / "images").iterdir()} == {
        "validation_first_curve.png", "validation_second_chart.png",
    }  # fmt: skip


def test_sections_of_other_settings_are_not_mixed_in(short, tmp_path):
    page.keep(short, "first", section("One", "{curve}"))
    other = Lab(3, 2, short.cache)
    text = page.write(tmp_path, other, ["first"], COMMAND).read_text()
    assert "## One" not in text and "Not run with these settings: first." in text


@pytest.mark.parametrize("text", [("{other}", "{curve}"), ("nothing",), ("{curve}", "{curve}")])
def test_figures_and_their_places_match_or_nothing_is_written(short, text):
    with pytest.raises(ValueError, match=r"curve|other"):
        page.keep(short, "first", section("One", *text))
    assert not (short.folder / "sections" / "first").exists()


def test_an_interrupt_leaves_the_earlier_section(short, tmp_path, monkeypatch):
    page.keep(short, "first", section("One", "as it was", "{curve}"))

    def stopped(*_, **__):
        raise KeyboardInterrupt

    figure = Figure()
    figure.savefig = stopped
    with pytest.raises(KeyboardInterrupt):
        page.keep(short, "first", Section("One", ["anew", "{curve}"], {"curve": (figure, "")}))
    assert "as it was" in page.write(tmp_path, short, ["first"], COMMAND).read_text()


def test_an_interrupt_leaves_the_earlier_page(short, tmp_path, monkeypatch):
    page.keep(short, "first", section("One", "as it was", "{curve}"))
    before = page.write(tmp_path, short, ["first"], COMMAND).read_text()
    page.keep(short, "first", section("One", "anew", "{curve}"))

    def stopped(path, *_, **__):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(page.Path, "write_text", stopped)
        page.write(tmp_path, short, ["first"], COMMAND)
    assert (tmp_path / "validation.md").read_text() == before


def test_the_same_section_is_the_same_file(short, tmp_path):
    folder = short.folder / "sections" / "first"
    written = []
    for _ in range(2):
        page.keep(short, "first", section("One", "{curve}"))
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert written[0] == written[1]
