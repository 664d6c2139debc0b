"""The examples of docs/adding.md, run as they are printed there."""

import re
import sys
import types
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import tiny_graphs
import torch
import workflow
from mechanisms import sampled
from with_effects import with_effects

from i2am_pack.i2am_core import MapKind
from i2am_pack.i2am_core.findings.facts import Facts
from i2am_pack.i2am_core.reading import levels
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS

PAGE = (Path(__file__).resolve().parents[2] / "docs/adding.md").read_text()


def blocks(heading):
    """The Python blocks below a heading of the page."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    printed = re.findall(r"^( *)```python\n(.*?)^ *```", section, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in printed]


@pytest.fixture
def run(monkeypatch):
    """A function that runs printed code as a module of this name, and returns the module."""

    def run(code, name="recipe", **known):
        module = types.ModuleType(name)
        vars(module).update(known)
        module.__package__ = name.rpartition(".")[0]
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, f"docs/adding.md: {name}", "exec"), vars(module))  # noqa: S102 (the page is ours)
        return module

    return run


def call_tests(module):
    """Call every test of a printed module, with all its parameters; how many calls that were."""
    calls = 0
    for name, test in vars(module).items():
        if name.startswith("test_"):
            marks = [mark.args for mark in getattr(test, "pytestmark", ())]
            for values in product(*(values for _, values in marks)):
                test(**dict(zip((names for names, _ in marks), values, strict=True)))
                calls += 1
    return calls


def test_a_mechanism(run, monkeypatch):
    code, test = blocks("Add a mechanism")
    postcard = run(code, "i2am_pack.nodes.comfy.mechanisms.postcard").Postcard()
    assert postcard.priority not in {mechanism.priority for mechanism in MECHANISMS.values()}
    monkeypatch.setitem(MECHANISMS, postcard.name, postcard)
    assert call_tests(run(test)) == 1


def test_consumers(run):
    reads, halve, test = blocks("Add a consumer")
    consumer = run(reads, "i2am_pack.nodes.comfy.consumers.reads").Reads()
    sampled(tiny_graphs.flux_kontext(), consumer)
    assert consumer.by_step == {0: 8, 1: 8}  # two references in four layers
    run(halve, "i2am_pack.nodes.comfy.consumers.halve")
    assert call_tests(run(test)) == 3


def test_a_measurement(run):
    _, halve, _ = blocks("Add a consumer")
    code, test = blocks("Add a measurement")
    run(halve, "i2am_pack.nodes.comfy.consumers.halve")
    run(code, "i2am_pack.nodes.comfy.halved")
    assert call_tests(run(test)) == 1


def test_a_finding(run):
    (code,) = blocks("Add a finding")
    rule = run(code, "i2am_pack.i2am_core.findings.rules.spot").RULE
    even = with_effects(workflow.make().attribution(), owners=(0,))
    assert list(rule.find(Facts(even))) == []
    spot = torch.zeros(even.grid.cells)
    spot[even.mask_on_latent()[0].nonzero()[0]] = 1
    maps = {key: values * spot for key, values in even.effects.maps.items()}
    (finding,) = rule.find(Facts(replace(even, effects=replace(even.effects, maps=maps))))
    assert finding.values["part"] == 1 and finding.worded({"spot: small": rule.sentences["small"]})


def test_a_level(run, monkeypatch):
    (code,) = blocks("Add a level")
    half = run(code, **vars(levels))._half
    monkeypatch.setattr(levels, "LEVELS", (*levels.LEVELS, "half"))
    monkeypatch.setitem(levels.MAPS_OF, "half", half)
    attribution = workflow.make().attribution()
    halves, layer = (levels.unclamped(attribution, MapKind("r2g"), level) for level in ("half", "layer"))
    assert len(halves.values) == 2 and halves.labels == ["layers 0-2", "layers 3-5"]
    assert (halves.values - layer.values.unflatten(0, (2, 3)).mean(1)).abs().max() < 1e-7


def test_a_node(run):
    code, test = blocks("Add a node")
    node = run(code, "i2am_pack.nodes.concentration").I2AMConcentration
    assert node.define_schema().node_id == "I2AM_Concentration"
    assert call_tests(run(test)) == 2


def test_a_look_at_skipped_calls(run, caplog, capsys):
    (code,) = blocks("Find out why a call was skipped")
    run(code).test_look(caplog)
    assert "skipped in step 0: " in capsys.readouterr().out
