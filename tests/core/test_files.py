"""Files: what is read back is what was written, and nothing else is taken for an attribution."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from asked import maps
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.files import load, save
from i2am_core.showing.report import attribution_sheet

ROOT = Path(__file__).resolve().parents[2]
GRID = TokenGrid(3, 4)


@pytest.fixture
def attribution():
    recorder = Recorder(torch.linspace(4, 0, 5), 2, 2**30)
    for name, tokens, grid in (("a", 6, TokenGrid(2, 3)), ("global", 4, None)):
        number = recorder.reference(Reference(name, tokens, grid))
        for step in range(4):
            q, k = torch.randn(2, 3, 12, 8), torch.randn(2, 3, 9, 8)
            rows = torch.tensor([1, 2]) if number == 0 else None
            scope = torch.ones(2, 12, dtype=torch.bool)
            (m,) = attribute(q, k, [span(name, 2, grid, tokens)], positions=Positions(scope=scope, pair_rows=rows))
            recorder.add(Place(Layer("output 1.0", GRID, 3), step, number), m, rows)
    recorder.skip("self-attention", calls=7)
    made = recorder.freeze(grid=GRID, denoise_mask=torch.rand(2, 3, 4), mechanism="cross-attention", branch="positive")
    picture = torch.randint(256, (8, 9, 3), dtype=torch.uint8)
    return dataclasses.replace(made, notes=("a note",), pictures={"generated 0": picture})


def assert_equal(first, second):
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if field.name == "denoise_mask":
            assert torch.equal(a, b)
        elif field.name == "pictures":
            assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
        elif field.name == "entries":
            assert a.keys() == b.keys()
            for key in a:
                assert torch.equal(a[key].seen, b[key].seen)
                for x, y in ((a[key].maps, b[key].maps), (a[key].pairs, b[key].pairs)):
                    assert x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)
        else:
            assert a == b, field.name


def test_what_is_read_is_what_was_written(attribution, tmp_path):
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    again = load(path)
    assert_equal(attribution, again)
    assert again.summary() == attribution.summary()
    assert torch.equal(maps(again, "g2r").values, maps(attribution, "g2r").values)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_videos_keep_their_frames(attribution, tmp_path):
    """A picture's grid stays the pair that it has always been, so that older files are read as before."""
    video, clip = TokenGrid(1, 4, frames=3), TokenGrid(1, 3, frames=2)
    layers = tuple(dataclasses.replace(x, grid=video) for x in attribution.layers)
    references = (dataclasses.replace(attribution.references[0], grid=clip), attribution.references[1])
    entries = {
        (r, n): dataclasses.replace(e, reference_grid=references[r].grid) for (r, n), e in attribution.entries.items()
    }
    made = dataclasses.replace(
        attribution,
        layers=layers,
        references=references,
        entries=entries,
        grid=TokenGrid(2, 8, frames=3),
        denoise_mask=None,
    )
    path = tmp_path / "run.i2am.safetensors"
    save(made, path)
    again = load(path)
    assert again.layers == layers and again.references == references and again.grid == made.grid
    assert again.summary() == made.summary() and "8x2 in 3 frames" in again.summary()
    assert torch.equal(maps(again, "r2g", "frame").values, maps(made, "r2g", "frame").values)
    attribution_sheet(again, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    save(attribution, path)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["i2am"])["grid"] == [3, 4]


def test_a_failed_save_leaves_the_old_file(attribution, tmp_path, monkeypatch):
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="No space"):
        save(attribution, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_files_that_are_not_there_or_not_ours(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file missing\.safetensors"):
        load(tmp_path / "missing.safetensors")
    other = tmp_path / "lora.safetensors"
    save_file({"w": torch.zeros(2)}, other)
    with pytest.raises(ValueError, match="not an I2AM attribution"):
        load(other)
    other.write_bytes(b"PNG")
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        load(other)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(attribution, tmp_path, share):
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        load(path)


def rewrite(path, change):
    with safe_open(path, "pt") as file:
        tensors, header = {k: file.get_tensor(k) for k in file.keys()}, json.loads(file.metadata()["i2am"])  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, metadata={"i2am": json.dumps(header)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, t: h.update(version=2), r"written by a newer I2AM \(format 2, this one reads 1\)"),
        (lambda h, t: h.pop("layers"), "no valid I2AM attribution.*layers"),
        (lambda h, t: h.update(items=3), "shape .* where .* is expected"),
        (lambda h, t: h.update(items=-1), "-1 is not a count"),
        (lambda h, t: h["entries"].append([5, 0]), "no valid I2AM attribution"),
        (lambda h, t: h.update(bins=[[0, 2]]), "time bins do not hold its steps"),
        (lambda h, t: h["references"][0].update(grid=[9, 9]), "does not fill its grid"),
        (lambda h, t: h.update(grid=[3, 4, 0]), "0 is not a count"),
        (lambda h, t: h.update(grid=[3, 4, 1, 1]), "is not a grid"),
        (lambda h, t: t.pop("maps/0/0/r2g_paper"), "maps of layer 'output 1.0' are missing"),
        (lambda h, t: t["maps/0/0/r2g_paper"].fill_(float("nan")), "values that are not numbers"),
        (lambda h, t: t["pair_rows/0/0"].fill_(99), "pair_rows leaves the grid"),
        (lambda h, t: t.pop("seen/0/0"), "seen/0/0"),
    ],
)
def test_parts_that_do_not_fit_are_refused(attribution, tmp_path, change, message):
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=message):
        load(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_bytes_never_end_in_anything_but_a_sentence(attribution, tmp_path, data):
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, min(2500, len(content) - 1)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        load(path)
    except ValueError as error:
        assert path.name in str(error)


def test_the_command_line_prints_and_draws(attribution, tmp_path):
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    command = [sys.executable, "-m", "i2am_core", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert attribution.summary() in done.stdout
    assert (tmp_path / "run.png").stat().st_size > 10_000
    path.write_bytes(b"nothing")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("run.i2am.safetensors is damaged")
