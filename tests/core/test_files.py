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
from with_effects import with_effects, without_attention

from i2am_core import Effects, Layer, RegionEffects, Removal, TokenGrid, effect_maps, errors, specific_effect
from i2am_core.files import SUFFIX, load, save, save_new
from i2am_core.files.effects import tensors_of, written
from i2am_core.half import Half
from i2am_core.showing import report
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
        elif field.name == "effects":
            assert_equal_effects(a, b)
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


def assert_equal_effects(first, second):
    assert (first is None) == (second is None)
    if first is None:
        return
    named, again = tensors_of(first), tensors_of(second)
    assert named.keys() == again.keys()
    assert all(named[name].dtype == again[name].dtype and torch.equal(named[name], again[name]) for name in named)
    assert written(first) == written(second)
    assert first.maps.keys() == second.maps.keys() and first.predictions.keys() == second.predictions.keys()


def written_as(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["i2am"])


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


@pytest.fixture
def caused(attribution):
    return with_effects(attribution, routes=("everything", "directly"))


def test_effects_are_read_as_they_were_written(caused, tmp_path):
    path = tmp_path / "run.i2am.safetensors"
    save(caused, path)
    again = load(path)
    assert_equal(caused, again)
    assert again.summary() == caused.summary() and again.nbytes == caused.nbytes
    for level in ("unified", "time", "reference"):
        first, second = effect_maps(caused, "r2g", level), effect_maps(again, "r2g", level)
        assert torch.equal(first.values, second.values) and first.labels == second.labels
    region = torch.ones(2, 2)
    assert torch.equal(specific_effect(again, region, "r2g").values, specific_effect(caused, region, "r2g").values)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("references", [True, False])
def test_effects_alone_are_an_attribution(caused, tmp_path, references):
    if not references:
        caused = with_effects(caused, owners=("conditioning",), cuts=())
    made = without_attention(caused, references)
    path = tmp_path / "run.i2am.safetensors"
    save(made, path)
    again = load(path)
    assert_equal(made, again)
    assert not again.entries and not again.layers and again.nbytes == made.effects.nbytes > 0
    lines = again.summary().split("\n")
    named = "reference 0 ('a'), reference 1 ('global'), the text"
    named = named if references else "what the conditioning 'without' lacks"
    assert lines[0] == f"Effects of {named} on 2 picture(s) were measured in 2 of 4 steps, on a latent grid of 4x3."
    assert lines[1] == "no attention was captured: no mechanism reads a reference in this model"
    assert ("reference 0: a, 6 tokens, grid 3x2" in lines) == references
    assert "attention calls" not in again.summary() and "layers" not in again.summary()
    skipped = dataclasses.replace(made, skipped={"its block is not known": 3}, mechanism="canvas regions")
    assert skipped.summary().split("\n")[1:3] == [
        "no attention was captured: 3 x its block is not known",
        "mechanism: canvas regions; branch: positive",
    ]
    assert skipped.summary().endswith("no mechanism reads a reference in this model")
    attribution_sheet(again, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 5_000


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("latent", ["of pictures", "of a video"])
@pytest.mark.parametrize("precision", [torch.float32, torch.float16])
def test_predictions_are_kept_in_their_form(attribution, tmp_path, frames, latent, precision):
    grid = TokenGrid(3, 4, frames)
    made = with_effects(without_attention(dataclasses.replace(attribution, grid=grid)), cuts=())
    shape = (2, 16, 3, 4) if (frames, latent) == (1, "of pictures") else (2, 16, frames, 3, 4)
    predictions = {key: torch.randn(shape).to(precision) for key in made.effects.predictions}
    made = dataclasses.replace(made, effects=dataclasses.replace(made.effects, predictions=predictions))
    path = tmp_path / "run.i2am.safetensors"
    save(made, path)
    assert_equal(made, load(path))


def test_effects_that_share_memory_are_kept(attribution, tmp_path):
    """As where several owners changed nothing, or predictions are parts of one tensor."""
    nothing, both = torch.zeros(2, 12), torch.randn(2, 2, 4, 3, 4)
    regions = {
        (0, "taken away"): RegionEffects(1, "everything", TokenGrid(1, 2), torch.rand(1, 1, 12).expand(2, 2, 12))
    }
    maps = {Removal(1, owner): nothing for owner in (0, 1, "all references")}
    made = Effects(maps, nothing, regions, {(1, None): both[0], (1, 0): both[1], (1, 1): both[1]})
    made = dataclasses.replace(attribution, effects=made)
    path = tmp_path / "run.i2am.safetensors"
    save(made, path)
    assert_equal(made, load(path))


def test_what_has_no_effects_is_written_as_ever(attribution, caused, tmp_path):
    """So that older versions read it; and they say of one with effects that it is newer."""
    path = tmp_path / "run.i2am.safetensors"
    save(attribution, path)
    header = written_as(path)
    assert list(header) == [
        *("version", "references", "layers", "entries", "reference_grids", "bins", "sigmas", "items", "heads", "grid"),
        *("mechanism", "branch", "captured_calls", "skipped", "row_sums", "notes"),
    ]
    assert header["version"] == 2
    save(dataclasses.replace(attribution, arithmetic={"in float32": 9}), path)
    assert list(written_as(path).keys() - header.keys()) == ["arithmetic"]
    assert load(path).arithmetic == {"in float32": 9}
    save(caused, path)
    header = written_as(path)
    assert header["version"] == 3 and header["effects"]["evaluations"] == 17


@pytest.mark.parametrize("guidance", [None, 1.0, 7.5])
def test_guidance_is_read_as_it_was_written(attribution, tmp_path, guidance):
    path = tmp_path / "run.i2am.safetensors"
    save(dataclasses.replace(attribution, guidance=guidance), path)
    again = load(path)
    assert again.guidance == guidance and ("guidance" in written_as(path)) == (guidance is not None)
    assert ("branch: positive, cfg 7.5" in again.summary()) == (guidance == 7.5)


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
        ({"entries": {}, "effects": Effects({}, torch.zeros(2, 12))}, "no maps at all"),
        ({"effects": Effects({Removal(0, 0): torch.full((2, 12), torch.nan)}, torch.zeros(2, 12))}, "not numbers"),
        ({"effects": Effects({Removal(9, 0): torch.zeros(2, 12)}, torch.zeros(2, 12))}, "a step of an effect is 9"),
        ({"effects": Effects({}, torch.zeros(2, 12).double())}, "has type torch.float64 where F32 is expected"),
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


def test_umask_says_who_may_read_a_file(attribution, tmp_path):
    """In a process of its own, since it is one setting for all threads."""
    umasks = (0o022, 0o077, 0o002)
    code = f"""
import os, pathlib, i2am_core
run = i2am_core.load(pathlib.Path("run.i2am.safetensors"))
for umask in {umasks}:
    os.umask(umask)
    i2am_core.save(run, pathlib.Path(f"{{umask}}.i2am.safetensors"))
"""
    save(attribution, tmp_path / "run.i2am.safetensors")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
    modes = {umask: stat.S_IMODE((tmp_path / f"{umask}.i2am.safetensors").stat().st_mode) for umask in umasks}
    assert modes == {umask: 0o666 & ~umask for umask in umasks}


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


def test_the_sheet_begins_with_effects(caused, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "contact_sheet", lambda rows, path, title: drawn.append((rows, title)))
    maps = dict(caused.effects.maps)
    maps[Removal(0, "text")] = maps[Removal(2, "text")] = caused.effects.floor * 2
    maps[Removal(0, 0)] = maps[Removal(2, 0)] = torch.full((2, 12), 2.0)
    maps[Removal(2, 0)] = torch.zeros(2, 12)
    caused = dataclasses.replace(caused, effects=dataclasses.replace(caused.effects, maps=maps))
    attribution_sheet(caused, tmp_path / "sheet.png", item=1)
    rows, title = drawn.pop()
    headings = [row.heading for row in rows]
    assert title == "a" and headings[0] == "What it changed, 1: reference 0 ('a')"
    assert rows[0].captions == ["unified", "step 0, sigma 4", "step 2, sigma 2, no effect"]
    assert rows[5].captions == ["too small to measure"] and headings[5].endswith(": the text")
    assert "What it changed, " in headings[1] and "by the picture's own positions alone" in "".join(headings[1:5])
    assert headings[6] == "What its regions changed: a"
    assert rows[6].captions == ["taken away, step 0", "only this left, step 0"]
    assert headings[7] == "Where the reference acts in the picture: unified"
    first, nothing = rows[0].pictures[1:]
    assert not torch.equal(first, nothing)  # with one scale for all, or both flat maps would have one colour
    attribution_sheet(without_attention(caused), tmp_path / "sheet.png")
    rows, title = drawn.pop()
    assert title == "a" and [row.heading for row in rows] == headings[:7]
    with pytest.raises(errors.UnknownReference):
        attribution_sheet(without_attention(caused), tmp_path / "sheet.png", reference=2)
    with pytest.raises(errors.UnknownItem):
        attribution_sheet(without_attention(caused), tmp_path / "sheet.png", item=2)


def test_a_sheet_of_many_owners_has_the_strongest(attribution, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "contact_sheet", lambda rows, path, title: drawn.append(rows))
    references = attribution.references[:1] * 20
    made = dataclasses.replace(without_attention(attribution), references=references, denoise_mask=None)
    maps = {Removal(step, n): torch.full((2, 12), 1.0 + n) for n in range(20) for step in range(4)}
    effects = Effects(maps, torch.zeros(2, 12))
    attribution_sheet(dataclasses.replace(made, effects=effects), tmp_path / "sheet.png")
    (rows,) = drawn
    assert [row.heading.split(",")[1].split(":")[0].strip() for row in rows] == [str(n) for n in range(20, 12, -1)]
    assert rows[-1].heading.endswith("the last of 8 drawn of 20")


def test_the_command_line_prints_and_draws_effects(caused, tmp_path):
    path = tmp_path / "run.i2am.safetensors"
    save(without_attention(caused), path)
    command = [sys.executable, "-m", "i2am_core", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert load(path).summary() in done.stdout
    assert (tmp_path / "run.png").stat().st_size > 10_000


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


def test_the_command_line_refuses_what_is_no_file_of_ours(tmp_path):
    path = tmp_path / "run\x1b[2J.i2am.safetensors"
    path.write_bytes(b"nothing")
    done = subprocess.run([sys.executable, "-m", "i2am_core", str(path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().isprintable()
    assert done.stderr.startswith(r"run\x1b[2J.i2am.safetensors is damaged")


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
    attribution_sheet(dataclasses.replace(attribution, pictures={"generated 0": picture}), tmp_path / "picture.png")
    assert all(0 < (tmp_path / name).stat().st_size < 2 * 2**20 for name in ("wide.png", "picture.png"))
