"""Files: what is read back is what was written, and nothing else is taken for an attribution."""

import concurrent.futures
import dataclasses
import errno
import itertools
import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from selected import maps
from taken_apart import small

from i2am_core import Layer, TokenGrid, errors
from i2am_core.files import SUFFIX, load, save, save_new
from i2am_core.half import Half
from i2am_core.showing.report import attribution_sheet

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("maps", "head_maps", "pairs")


@pytest.fixture
def attribution():
    return small()


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
                for x, y in (
                    (a[key].maps, b[key].maps),
                    (a[key].head_maps, b[key].head_maps),
                    (a[key].pairs, b[key].pairs),
                ):
                    assert x.keys() == y.keys() and all(type(x[k]) is type(y[k]) for k in x)
                    assert all(torch.equal(x[k].float(), y[k].float()) for k in x)
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


def in_detail(attribution, heads, half):
    """As the recorder keeps it: heads in this detail, maps in half precision or not."""
    precise = Half.of if half else torch.clone

    def entry(layer, maps):
        grids = {"r2g": layer.grid, "g2r": maps.reference_grid}

        def means(key, values):
            if heads == "over steps and frames" and (grid := grids[key[:3]]) is not None:
                values = values.unflatten(-1, (grid.frames, grid.plane)).mean(-2)
            return precise(values.mean(1, keepdim=True))

        own = {key: precise(x.float().mean(2, keepdim=True)) for key, x in maps.maps.items()}
        of_heads = {key: means(key, x.float()) for key, x in maps.maps.items()}
        return dataclasses.replace(maps, maps=own, head_maps=of_heads if heads != "merged" else {})

    entries = {(r, n): entry(attribution.layers[n], maps) for (r, n), maps in attribution.entries.items()}
    return dataclasses.replace(attribution, heads=heads, entries=entries)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("heads", ["over steps", "over steps and frames", "merged"])
@pytest.mark.parametrize("frames", [1, 3])
def test_every_detail_is_read_as_it_was_written(attribution, tmp_path, heads, half, frames):
    grid = TokenGrid(12 // frames, 1, frames)
    layers = tuple(dataclasses.replace(x, grid=grid) for x in attribution.layers)
    made = in_detail(dataclasses.replace(attribution, layers=layers), heads, half)
    path = tmp_path / "run.i2am.safetensors"
    save(made, path)
    again = load(path)
    assert_equal(made, again)
    assert again.summary() == made.summary()
    rows = {x.shape[1:] for entry in again.entries.values() for key, x in entry.head_maps.items() if key == "r2g_share"}
    assert rows == ({(1, 3, grid.plane if "frames" in heads else 12)} if heads != "merged" else set())


def test_half_precision_in_each_step(attribution, tmp_path):
    entries = {
        place: dataclasses.replace(entry, maps={key: Half.of(x) for key, x in entry.maps.items()})
        for place, entry in attribution.entries.items()
    }
    made = dataclasses.replace(attribution, entries=entries)
    path = tmp_path / "run.i2am.safetensors"
    save(made, path)
    assert_equal(made, load(path))


def test_what_nobody_could_load_is_not_saved(attribution, tmp_path):
    path = tmp_path / "run.i2am.safetensors"
    broken = {place: dataclasses.replace(entry, seen=entry.seen + 9) for place, entry in attribution.entries.items()}
    for change, message in (
        ({"entries": {}}, "no maps at all"),
        ({"entries": broken}, "no number of steps"),
        ({"pictures": {"a picture": torch.zeros(2, 2, 3, dtype=torch.uint8)}}, "a picture"),
        ({"notes": ("x" * 17 * 2**20,)}, "bytes, where 16777216 are the most"),
    ):
        with pytest.raises(errors.BadFile, match=message):
            save(dataclasses.replace(attribution, **change), path)
    assert not list(tmp_path.iterdir())


def test_odd_names_are_kept(attribution, tmp_path):
    """Whatever a person has typed as a reference's tag: it is printed otherwise, not stored otherwise."""
    names = ("\x1b[2J\u202e\ud800 \U0001f600 $x^$", "\n" * 99_999)
    references = tuple(dataclasses.replace(r, name=x) for r, x in zip(attribution.references, names, strict=True))
    path = tmp_path / "run.i2am.safetensors"
    save(dataclasses.replace(attribution, references=references, notes=("\x07",)), path)
    assert load(path).references == references and load(path).notes == ("\x07",)


def test_a_mask_that_counts_more_than_wholly_counts_wholly(attribution, tmp_path):
    path = tmp_path / "run.i2am.safetensors"
    save(dataclasses.replace(attribution, denoise_mask=torch.full((2, 3, 4), 1.5)), path)
    assert torch.equal(load(path).denoise_mask, torch.ones(2, 3, 4))


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_umask_says_who_may_read_a_file(attribution, tmp_path, umask):
    code = f"""
import os, pathlib, i2am_core
os.umask({umask})
i2am_core.save(i2am_core.load(pathlib.Path("run.i2am.safetensors")), pathlib.Path("again.i2am.safetensors"))
"""
    save(attribution, tmp_path / "run.i2am.safetensors")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    mode = (tmp_path / "again.i2am.safetensors").stat().st_mode
    assert stat.S_IMODE(mode) == 0o666 & ~umask


@pytest.mark.parametrize("links", [True, False])
def test_two_that_save_at_once_get_two_names(attribution, tmp_path, links, monkeypatch):
    if not links:  # as on a disk that gives a file one name

        def refuse(*paths):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    start = threading.Barrier(4)

    def one(_):
        start.wait()
        return [save_new(attribution, (tmp_path / f"run_{n}{SUFFIX}" for n in itertools.count())) for _ in range(5)]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        paths = [path for done in pool.map(one, range(4)) for path in done]
    assert len(set(paths)) == 20 and set(paths) == set(tmp_path.iterdir())
    assert all(load(path).items == 2 for path in paths)


def test_a_name_that_a_dangling_link_has_is_taken(attribution, tmp_path):
    (tmp_path / "a.i2am.safetensors").symlink_to("nowhere")
    saved = save_new(attribution, [tmp_path / "a.i2am.safetensors", tmp_path / "b.i2am.safetensors"])
    assert saved.name == "b.i2am.safetensors" and not (tmp_path / "nowhere").exists()
    with pytest.raises(FileExistsError):
        save_new(attribution, [saved])


def test_a_full_disk_is_an_error_of_the_system(attribution, tmp_path, monkeypatch):
    def fail(tensors, target, metadata):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save(attribution, tmp_path / "run.i2am.safetensors")
    assert not list(tmp_path.iterdir())


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


ODD = "\x1b]0;owned\x07\x1b[2J\u202e\ud800$\\frac{$" + "long" * 25_000


def odd(attribution):
    """Names as nobody would choose them, but for one who would like a terminal to obey them."""
    return dataclasses.replace(
        attribution,
        references=tuple(dataclasses.replace(r, name=ODD) for r in attribution.references),
        layers=tuple(dataclasses.replace(x, name=ODD) for x in attribution.layers),
        notes=(ODD,),
        skipped={ODD: 1},
        mechanism=ODD,
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_command_line_obeys_no_name(attribution, tmp_path, encoding):
    path = tmp_path / "run\x1b[2J.i2am.safetensors"
    save(odd(attribution), path)
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "i2am_core", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert all(line.isprintable() for line in text.splitlines())
    assert "\\x1b]0;owned\\x07\\x1b[2J" in text and "contact sheet: " in text and r"run\x1b[2J.png" in text
    assert (tmp_path / "run\x1b[2J.png").stat().st_size > 10_000
    path.write_bytes(b"nothing")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().isprintable() and r"run\x1b[2J.i2am" in done.stderr


def test_a_sheet_of_large_things_is_as_large_as_any(attribution, tmp_path):
    """A picture of many pixels, more heads than a page has places for, a grid that is one cell high."""
    grid, heads = TokenGrid(1, 500), 80
    maps = {key: torch.rand(2, 4, heads, 500 if key[:3] == "r2g" else 6) for key in attribution.entries[0, 0].maps}
    entry = dataclasses.replace(attribution.entries[0, 0], maps=maps, pairs={}, pair_rows=None)
    made = dataclasses.replace(
        attribution, layers=(Layer("wide", grid, heads),), entries={(0, 0): entry}, grid=grid, denoise_mask=None
    )
    attribution_sheet(made, tmp_path / "wide.png")
    picture = torch.zeros(2000, 2000, 3, dtype=torch.uint8)
    attribution_sheet(dataclasses.replace(made, pictures={"generated 0": picture}), tmp_path / "picture.png")
    assert all(0 < (tmp_path / name).stat().st_size < 2 * 2**20 for name in ("wide.png", "picture.png"))
