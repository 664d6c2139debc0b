"""I2AM Report: one page whatever a run has, and the same findings on it, in the text and in the data."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import saved_runs
import torch
import workflow
from with_effects import with_effects, without_attention

from i2am_pack.i2am_core import Layer, TokenGrid, load, of_items
from i2am_pack.nodes.effect import I2AMEffect
from i2am_pack.nodes.report import I2AMReport
from i2am_pack.nodes.summary import summary_of

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "report.md").read_text()
FILES = sorted(saved_runs.FOLDER.glob("*.safetensors"))


def report(attribution, item=0, **images):
    page, findings, data = I2AMReport.execute(attribution, item, **images).args
    assert page.ndim == 4 and page.shape[0] == 1 and page.shape[2] == 1600 and 400 < page.shape[1] < 3000
    assert page.min() >= 0 and page.max() <= 1 and page.std() > 0.05  # something is drawn
    return page[0], findings, json.loads(data)


@pytest.fixture(scope="module")
def graph():
    return workflow.make(batch=2)


@pytest.fixture(scope="module")
def attribution(graph):
    model, handle = graph.capture()
    model = I2AMEffect.execute(model, 2, 2, "taken away", "everything", "references").args[0]
    return handle.find(graph.sample(model, steps=4)["samples"])


def test_text_and_data_say_what_was_found(graph, attribution):
    scene = graph.scene
    _, findings, data = report(
        attribution, 1, image=scene["truth"], reference=scene["reference"], mask=scene["mask"],
        reference_mask=scene["reference_mask"],
    )  # fmt: skip
    assert {"strength", "form", "place", "parts"} <= {x["rule"] for x in data["findings"]}
    for finding in data["findings"]:
        assert finding["sentence"] in findings
        assert finding["weight"] in ("fault", "fact", "fine")
    assert all(f"not examined: {rule}, since {reason}" in findings for rule, reason in data["not_examined"].items())
    assert "rule of thumb" in findings
    assert (
        data["run"]["guidance"] == 1
        and data["run"]["steps"] == 4
        and data["run"]["pictures"] == 2
        and data["item"] == 1
    )
    assert data["run"]["summary"] == attribution.summary().splitlines()


def test_a_summary_names_the_first_pictures_and_says_what_is_of_the_run_once(attribution):
    lines = summary_of(of_items(attribution, [0, 1, 0, 1, 0, 1])).splitlines()
    assert [line for line in lines if line.startswith("picture")] == [f"picture {n}:" for n in range(4)]
    assert "and 2 more pictures: I2AM Report has a page of each." in lines
    unmeasured = summary_of(dataclasses.replace(attribution, effects=None)).splitlines()
    assert unmeasured.count("Try: I2AM Effect on the MODEL line, before the sampler.") == 1
    assert not any(line.startswith("picture") for line in unmeasured)


def test_a_mask_that_is_connected_counts(graph, attribution):
    away = 1 - graph.scene["mask"]
    _, findings, data = report(attribution, mask=away)
    assert any(x["rule"] == "place" and x["case"] in ("not there", "bleeds") for x in data["findings"])
    assert "Try: strength 0 on I2AM Steer" in findings


def keys_of(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def test_what_is_in_the_data_is_documented(attribution):
    data = report(attribution)[2]
    open_ended = {"values", "not_examined", "skipped", "curves"}  # whose keys are names
    known = {key for key in data} | {key for x in data["findings"] for key in x if key not in open_ended}
    known |= {key for x in data["findings"] for key in x["evidence"]} | set(data["run"])
    known |= {key for x in data["run"]["references"] for key in x}
    assert not {key for key in known if not re.search(rf"`{key}`", DOCS)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_every_saved_run_has_a_page(file):
    attribution = load(file)
    for item in sorted({0, attribution.items - 1}):  # of reference-only, the first is the reference itself
        _, findings, data = report(attribution, item)
        assert data["not_examined"]
    assert "no effect was measured" in findings


def long_names(attribution):
    references = [
        dataclasses.replace(x, name="a reference with a very long name $x_y^z$ " * 20) for x in attribution.references
    ]
    return dataclasses.replace(attribution, references=tuple(references))


def seventy_layers(attribution):
    layers = tuple(Layer(f"double block {n} of many", attribution.layers[0].grid, 4) for n in range(70))
    entry = attribution.entries[0, 0]
    return dataclasses.replace(attribution, layers=layers, entries={(0, n): entry for n in range(70)})


def three_references(attribution):
    entries = {(r, layer): entry for r in range(3) for (_, layer), entry in attribution.entries.items()}
    one = dataclasses.replace(attribution, references=attribution.references * 3, entries=entries)
    return with_effects(one, steps=(0, 2), owners=(0, 1, 2, "all references", "text"), cuts=())


def no_layout(attribution):
    references = tuple(dataclasses.replace(x, grid=None) for x in attribution.references)
    return dataclasses.replace(attribution, references=references, effects=None)


def effect_only(attribution):
    return without_attention(attribution)


def nothing(attribution):
    return dataclasses.replace(attribution, entries={}, layers=(), references=(), effects=None, captured_calls=0)


KINDS = [long_names, seventy_layers, three_references, no_layout, effect_only, nothing]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_whatever_there_is(attribution, kind):
    report(kind(attribution))


def test_a_video_has_a_page(attribution):
    grid = TokenGrid(attribution.grid.height, attribution.grid.width, 3)
    of_video = dataclasses.replace(without_attention(attribution), grid=grid, denoise_mask=None, effects=None)
    report(with_effects(of_video, owners=(0,), cuts=()))


def test_what_does_not_fit_is_refused_in_a_sentence(attribution):
    with pytest.raises(ValueError, match="which has another shape"):
        I2AMReport.execute(attribution, 0, image=torch.zeros(1, 20, 80, 3))
    with pytest.raises(ValueError, match="item"):
        I2AMReport.execute(attribution, 2)


def test_a_mask_of_nothing_is_refused(attribution):
    """It would take the place of the sampler's, and mean everything."""
    for empty in (torch.zeros(1, 64, 64), torch.full((1, 64, 64), torch.nan)):
        with pytest.raises(ValueError, match=r"mask is black everywhere|is empty|nothing"):
            I2AMReport.execute(attribution, 0, mask=empty)
