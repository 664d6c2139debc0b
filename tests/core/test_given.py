"""What a run was given, as data: in the summary, in files, on the command line."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from taken_apart import rewrite, small
from with_effects import without_attention

from i2am_core import FATES, GivenReference, errors, load, save

ROOT = Path(__file__).resolve().parents[2]
GIVEN = (
    GivenReference("2 reference latents", "captured", "by reference latents", key="reference_latents"),
    GivenReference("a ControlNet", "elsewhere", "through its own network", "Measure it", "control"),
    GivenReference("a reference frame", "ignored", key="ref_latent"),
    GivenReference("tokens of a style model", "unknown", "the text is long", "Tag it", "cross_attn", certain=False),
)


@pytest.fixture
def attribution():
    return dataclasses.replace(small(), given=GIVEN)


def header_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["i2am"])


def test_each_has_a_line_in_the_summary(attribution):
    lines = attribution.summary().splitlines()
    first = lines.index("given: 2 reference latents: captured (by reference latents)")
    assert lines[first + 1 : first + 4] == [
        "given: a ControlNet: it reaches the model by a route that attention does not show (through its own network). "
        "Measure it",
        "given: a reference frame: this model ignores it",
        "perhaps given: tokens of a style model (the text is long). Tag it",
    ]


def test_also_where_effects_alone_were_measured():
    attribution = dataclasses.replace(without_attention(small()), given=GIVEN)
    assert all(x.line in attribution.summary() for x in GIVEN)


def test_nothing_is_said_where_nothing_was_given():
    assert small().given == () and "given: " not in small().summary()


def test_a_file_keeps_them(attribution, tmp_path):
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    assert load(path).given == GIVEN
    assert load(path).summary() == attribution.summary()
    assert [set(x) for x in header_of(path)["given"]] == [{"what", "fate", "how", "advice", "key", "certain"}] * 4


def test_a_file_of_a_run_that_was_given_nothing_is_what_it_was(tmp_path):
    path = tmp_path / "run.i2am.safetensors"
    save(small(), path)
    assert "given" not in header_of(path)
    assert load(path).given == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given[0].update(fate="lost"),
        lambda given: given[0].update(fate=[]),
        lambda given: given[0].pop("how"),
        lambda given: given[0].update(what=3),
        lambda given: given[0].update(certain="yes"),
        lambda given: given.append("a reference"),
        lambda given: given.extend(given[0] for _ in range(2000)),
    ],
)
def test_others_are_refused(attribution, tmp_path, change):
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    rewrite(path, lambda header, tensors: change(header["given"]))
    with pytest.raises(errors.BadFile):
        load(path)


def test_the_command_line_shows_them(attribution, tmp_path):
    hidden = GivenReference("what the conditioning holds as '\x1b[2J'", "unknown")
    path = tmp_path / "run.i2am.safetensors"
    save(dataclasses.replace(attribution, given=(*GIVEN, hidden)), path)
    command = [sys.executable, "-m", "i2am_core", str(path), "--out", str(tmp_path / "sheet.png")]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert all(x.line in output for x in GIVEN)
    assert "\x1b" not in output and r"\x1b[2J" in output


def test_there_are_four_fates():
    assert FATES == ("captured", "ignored", "elsewhere", "unknown")
