"""Which columns feed which inputs, and which numbers are scores."""

import json
import math

import pytest

from devenv import HostError
from evaluation.__main__ import _about
from evaluation.table import Row
from evaluation.workflow import Feed, Wanted, flat, read_workflow

NODES = {
    "LoadImage": {"input": {"required": {"image": [["a.png"], {"image_upload": True}]}}},
    "KSampler": {
        "input": {"required": {"seed": ["INT", {}], "cfg": ["FLOAT", {"min": 0, "max": 100}], "model": ["MODEL"]}}
    },
    "Choice": {"input": {"required": {"old": [["a", "b"]]}, "optional": {"new": ["COMBO", {"options": ["c"]}]}}},
    "I2AM_IMACS": {"input": {"required": {}}},
    "I2AM_Report": {"input": {"required": {}}},
    "I2AM_Collect": {"input": {"required": {}}},
    "PreviewImage": {"input": {"required": {}}},
    "PreviewAny": {"input": {"required": {}}},
    "I2AM_Save": {"input": {"required": {}}},
}


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def graph(**more):
    return {"1": node("LoadImage", image=""), "2": node("KSampler", seed=0, cfg=1.0, model=["9", 0]),
            "3": node("I2AM_IMACS"), "5": node("Choice", old="a", new="c"), **more}  # fmt: skip


def read(folder, content, columns=("1.image", "2.seed"), feeds=(), picture=None, maps=False):
    path = folder / "workflow.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_workflow(path, columns, dict(feeds), NODES, picture, maps)


def test_a_row_is_put_into_the_graph(tmp_path):
    workflow = read(tmp_path, graph(), ("1.image", "2.seed", "weight", "note"), {"weight": "2.cfg"})
    row = Row("x", {"1.image": "/a/b.png", "2.seed": "7", "weight": "2", "note": "nothing"})
    assert workflow.pictures_of(row) == ["/a/b.png"]
    made = workflow.graph_of(row, {"/a/b.png": "folder/123.png"})
    assert made["1"]["inputs"]["image"] == "folder/123.png"
    assert made["2"]["inputs"] == {"seed": 7, "cfg": 2.0, "model": ["9", 0]}
    assert workflow.graph["2"]["inputs"]["seed"] == 0, "the next row begins with the graph as it was"


def test_each_score_node_gets_one_that_hands_it_out(tmp_path):
    workflow = read(tmp_path, graph(**{"4": node("I2AM_Report")}))
    assert workflow.readers == {"evaluation:3": "imacs", "evaluation:4": "report"}
    assert workflow.graph["evaluation:4"] == node("PreviewAny", source=["4", 2])
    several = read(tmp_path, graph(**{"4": node("I2AM_IMACS")}))
    assert several.readers == {"evaluation:3": "imacs@3", "evaluation:4": "imacs@4"}


def test_scores_are_all_numbers_by_name():
    said = {"r2g": {"score": 0.5, "mask": "full"}, "g2r": {"score": None, "reason": "why"}, "penalty": 3, "x": math.nan}
    assert dict(flat(said, "imacs")) == {
        "imacs.r2g.score": 0.5,
        "imacs.g2r.score": None,
        "imacs.g2r.reason": "why",
        "imacs.penalty": 3,
        "imacs.x": None,
    }


def test_findings_are_named(tmp_path):
    workflow = read(tmp_path, graph(**{"4": node("I2AM_Report")}))
    finding = {"rule": "form", "case": "weak", "weight": "fault", "sentence": "It is weak."}
    said = {"evaluation:3": {"text": ["{}"]}, "evaluation:4": {"text": [json.dumps({"findings": [finding]})]}}
    assert workflow.scores_of(said) == {
        "report.findings": ["form: weak"],
        "report.faults": 1,
        "report.sentences": ["It is weak."],
    }


@pytest.mark.parametrize(
    ("content", "columns", "feeds", "sentence"),
    [
        ("not json", ["2.seed"], {}, "is no JSON"),
        ({"nodes": []}, ["2.seed"], {}, "not in API format"),
        ({"1": node("KSampler", seed=1)}, ["1.seed"], {}, "has no I2AM nodes"),
        ({"1": node("I2AM_Collect", seed=1), "2": node("KSampler", seed=1)}, ["2.seed"], {}, "no node that scores"),
        (graph(**{"6": node("Strange")}), ["2.seed"], {}, "The server has no node Strange"),
        (graph(), ["seed"], {}, "No column of the table feeds an input"),
        (graph(), ["seed"], {"weight": "2.seed"}, "no column 'weight': it has seed"),
        (graph(), ["seed"], {"seed": "8.seed"}, "no node '8', which column 'seed' is to feed"),
        (graph(), ["seed"], {"seed": "2.steps"}, "no input 'steps'"),
        (graph(), ["seed"], {"seed": "2.model"}, "takes MODEL, which is no value of a table"),
        (graph(a=node("PreviewImage"), b=node("PreviewImage")), ["2.seed"], {}, "shows pictures in nodes a, b"),
    ],
)
def test_what_cannot_be_evaluated_is_said(tmp_path, content, columns, feeds, sentence):
    with pytest.raises(HostError, match=sentence):
        read(tmp_path, content, columns, feeds)


def test_a_workflow_that_is_not_there(tmp_path):
    with pytest.raises(HostError, match="cannot be opened"):
        read_workflow(tmp_path / "none.json", ["2.seed"], {}, NODES)


def test_the_picture_that_is_judged(tmp_path):
    two = graph(a=node("PreviewImage"), b=node("PreviewImage"))
    assert read(tmp_path, two, picture="b").picture == "b"
    assert read(tmp_path, graph(a=node("PreviewImage"))).picture == "a"
    assert read(tmp_path, graph()).picture is None
    with pytest.raises(HostError, match="no node 'c': --picture"):
        read(tmp_path, two, picture="c")


def test_files_of_maps_are_wanted(tmp_path):
    saving = graph(s=node("I2AM_Save"))
    assert read(tmp_path, saving).saved == {}
    workflow = read(tmp_path, saving, maps=True)
    assert workflow.graph["evaluation:s"]["inputs"] == {"source": ["s", 0]}
    said = {"evaluation:s": {"text": ["i2am/attribution_00001_.safetensors"]}}
    entry = {"filename": "attribution_00001_.safetensors", "subfolder": "i2am", "type": "output"}
    assert workflow.files_of(said) == {"s": entry}
    wanted = Wanted()
    assert _about(workflow, wanted, NODES) == _about(read(tmp_path, saving), wanted, NODES), "--maps may be added later"
    with pytest.raises(HostError, match="saves no maps: put in I2AM Save"):
        read(tmp_path, graph(), maps=True)


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("INT", "18446744073709551615", 2**64 - 1),  # which is no float
        ("INT", 7.0, 7),
        ("INT", "7", 7),
        ("FLOAT", "0.5", 0.5),
        ("BOOLEAN", "No", False),
        ("BOOLEAN", True, True),
        ("STRING", 5, "5"),
        ("COMBO", "x", "x"),
    ],
)
def test_values_are_what_the_input_takes(kind, given, value):
    assert Feed("column", "1", "name", kind).value(given) == value


@pytest.mark.parametrize(
    ("kind", "given"), [("INT", "7.5"), ("INT", "x"), ("FLOAT", ""), ("BOOLEAN", "2"), ("INT", None)]
)
def test_other_values_are_refused(kind, given):
    with pytest.raises(ValueError, match="column 'column' is"):
        Feed("column", "1", "name", kind).value(given)


def test_a_number_is_in_the_range_of_its_input(tmp_path):
    (cfg,) = read(tmp_path, graph(), ("2.cfg",)).feeds
    assert cfg.value("100") == 100
    for given in ("-1", "100.5", "nan"):
        with pytest.raises(ValueError, match=f"is '{given}', expected 0 to 100"):
            cfg.value(given)


@pytest.mark.parametrize("given", ["nan", "inf", "-inf"])
def test_a_number_is_finite_where_an_input_has_no_range(given):
    with pytest.raises(ValueError, match=f"is '{given}', expected a finite number"):
        Feed("column", "1", "name", "FLOAT").value(given)


def test_a_range_is_said_to_the_digit():
    with pytest.raises(ValueError, match="expected 0 to 18446744073709551615"):
        Feed("seed", "1", "seed", "INT", least=0, most=2**64 - 1).value("-1")


def test_a_choice_is_one_of_those_there_are(tmp_path):
    old, new = read(tmp_path, graph(), ("5.old", "5.new")).feeds
    assert old.value("b") == "b" and new.value("c") == "c"
    with pytest.raises(ValueError, match=r"is 'z', expected one of a, b"):
        old.value("z")
