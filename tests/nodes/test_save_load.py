"""I2AM Save and Load: only within ComfyUI's folders, nothing overwritten, pictures of a small size."""

import concurrent.futures
import datetime
import os
import re
import stat
import time
from pathlib import Path

import folder_paths
import pytest
import torch
import workflow
from selected import maps

from i2am_pack.nodes import saved_files as places
from i2am_pack.nodes.save_load import I2AMLoad, I2AMSave
from i2am_pack.nodes.saved_files import expanded, saved_files


@pytest.fixture(scope="module")
def graph():
    return workflow.make(batch=2)


@pytest.fixture(scope="module")
def attribution(graph):
    return graph.attribution()


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    for name in ("output", "input"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(tmp_path / name))
    return tmp_path


def test_save_and_load(graph, attribution, folders):
    image = torch.rand(2, 1000, 1000, 3)
    (name,) = I2AMSave.execute(attribution, "study/run", image, graph.scene["reference"]).args
    assert name.startswith("study/run_00001") and (folders / "output" / name).is_file()
    assert saved_files() == [f"output/{name}"]
    again, summary = I2AMLoad.execute(f"output/{name}").args
    assert summary.endswith(attribution.summary())
    assert torch.equal(maps(again, "r2g", item=1).values, maps(attribution, "r2g", item=1).values)
    assert again.pictures["generated 1"].shape == (512, 512, 3)
    assert again.pictures["reference 0"].shape == (64, 64, 3)


def test_nothing_is_overwritten(attribution):
    names = {I2AMSave.execute(attribution, "run").args[0] for _ in range(3)}
    assert len(names) == 3 and len(saved_files()) == 3


def test_a_changed_file_is_read_again(attribution, folders):
    (name,) = I2AMSave.execute(attribution, "run").args
    before = I2AMLoad.fingerprint_inputs(f"output/{name}")
    (folders / "output" / name).write_bytes(b"changed")
    assert I2AMLoad.fingerprint_inputs(f"output/{name}") != before


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("output/../secret.i2am.safetensors", "no attribution in ComfyUI's output folder"),
        ("output//etc/passwd", "no attribution in ComfyUI's output folder"),
        ("temp/run.i2am.safetensors", "not in ComfyUI's output or input folder"),
        ("input/model.safetensors", "no attribution in ComfyUI's input folder"),
        ("input/run.i2am.safetensors", "there is no file 'run.i2am.safetensors' in ComfyUI's input folder"),
    ],
)
def test_only_files_of_comfyui_s_folders(folders, file, message):
    (folders / "secret.i2am.safetensors").write_bytes(b"secret")
    assert message in I2AMLoad.validate_inputs(file)
    with pytest.raises(ValueError, match=message):
        I2AMLoad.execute(file)


def test_a_prefix_cannot_leave_the_output_folder(attribution):
    with pytest.raises(Exception, match="outside the output folder"):
        I2AMSave.execute(attribution, "../../elsewhere")


@pytest.mark.parametrize("prefix", ["../../elsewhere", "/etc/elsewhere", "..", "study/../../elsewhere", "a/../.."])
def test_a_prefix_that_leads_out_makes_nothing(attribution, folders, prefix):
    before = sorted(folders.rglob("*"))
    with pytest.raises(ValueError, match="outside the output folder: choose one within it"):
        I2AMSave.execute(attribution, prefix)
    assert sorted(folders.rglob("*")) == before


def test_a_link_that_leads_out_is_outside_for_all_three(attribution, folders):
    """Save followed it, Load refused it, and the list had it."""
    elsewhere = folders / "elsewhere"
    elsewhere.mkdir()
    (folders / "output" / "linked").symlink_to(elsewhere)
    with pytest.raises(ValueError, match="outside the output folder"):
        I2AMSave.execute(attribution, "linked/run")
    with pytest.raises(ValueError, match="outside the output folder"):
        I2AMSave.execute(attribution, "linked/new/run")
    assert not list(elsewhere.iterdir())
    (name,) = I2AMSave.execute(attribution, "run").args
    (folders / "output" / name).rename(elsewhere / name)
    (folders / "output" / name).symlink_to(elsewhere / name)
    for file in (f"output/linked/{name}", f"output/{name}"):
        assert file not in saved_files()
        assert "is no attribution in ComfyUI's output folder" in I2AMLoad.validate_inputs(file)


def test_a_link_within_is_within(attribution, folders):
    (folders / "output" / "real").mkdir()
    (folders / "output" / "linked").symlink_to("real")
    (name,) = I2AMSave.execute(attribution, "linked/run").args
    assert name.startswith("linked/run_00001") and (folders / "output" / "real" / Path(name).name).is_file()
    assert I2AMLoad.validate_inputs(f"output/{name}") is True
    assert saved_files() == [f"output/real/{Path(name).name}"]
    (folders / "output" / "one.i2am.safetensors").symlink_to(name)
    assert "output/one.i2am.safetensors" in saved_files()


def test_a_folder_that_is_a_link_itself_is_a_folder(attribution, folders, monkeypatch):
    (folders / "link").symlink_to("output")
    monkeypatch.setattr(folder_paths, "output_directory", str(folders / "link"))
    (name,) = I2AMSave.execute(attribution, "study/run").args
    assert saved_files() == [f"output/{name}"] and I2AMLoad.validate_inputs(f"output/{name}") is True


def test_one_bad_file_hides_no_other(attribution, folders):
    output = folders / "output"
    names = [f"output/{I2AMSave.execute(attribution, 'study/run').args[0]}" for _ in range(2)]
    (output / "dangling.i2am.safetensors").symlink_to("nowhere")
    (output / "loop.i2am.safetensors").symlink_to("loop.i2am.safetensors")
    (output / "around").symlink_to(".")
    (output / "folder.i2am.safetensors").mkdir()
    os.mkfifo(output / "pipe.i2am.safetensors")
    (output / "a\nb\x1b.i2am.safetensors").write_bytes(b"")
    Path(os.fsdecode(os.fsencode(output) + b"/\xff.i2am.safetensors")).write_bytes(b"")
    (output / ".i2am-0.tmp").write_bytes(b"")
    closed = output / "closed"
    closed.mkdir(mode=0)
    assert sorted(saved_files()) == sorted(names)


def test_a_file_that_goes_away_meanwhile_hides_no_other(attribution, folders, monkeypatch):
    names = [f"output/{I2AMSave.execute(attribution, 'run').args[0]}" for _ in range(3)]
    listed = places._is_listed

    def gone(root, entry, within):
        if within == names[1].removeprefix("output/"):
            Path(entry.path).unlink()
            raise FileNotFoundError(entry.path)
        return listed(root, entry, within)

    monkeypatch.setattr(places, "_is_listed", gone)
    assert sorted(saved_files()) == [names[0], names[2]]


class Looks:
    """How often anybody looks into a folder."""

    def __init__(self, monkeypatch):
        self.count = 0
        for module, name in ((os, "scandir"), (os, "listdir"), (os, "walk")):
            monkeypatch.setattr(module, name, self.counted(getattr(module, name)))

    def counted(self, look):
        def counting(*args, **kwargs):
            self.count += 1
            return look(*args, **kwargs)

        return counting


def test_files_are_looked_for_when_the_page_asks_and_else_never(attribution, monkeypatch):
    """ComfyUI makes the schema when it starts, and several times for each prompt."""
    (name,) = I2AMSave.execute(attribution, "run").args
    looks = Looks(monkeypatch)
    I2AMLoad.GET_SCHEMA()
    I2AMLoad.INPUT_TYPES()
    assert I2AMLoad.validate_inputs(f"output/{name}") is True
    I2AMLoad.fingerprint_inputs(f"output/{name}")
    assert looks.count == 0
    info = I2AMLoad.GET_NODE_INFO_V1()
    assert looks.count == 2  # output and input
    assert f"output/{name}" in str(info["input"]["required"]["file"])
    I2AMLoad.INPUT_TYPES()
    assert looks.count == 2


def test_looking_takes_no_longer_than_it_may(folders, monkeypatch, caplog):
    for n in range(50):
        (folders / "output" / f"{n}.i2am.safetensors").write_bytes(b"")
    monkeypatch.setattr(places, "ENTRIES", 20)
    assert len(saved_files()) == 20
    assert "lists only some of the files in ComfyUI's output folder" in caplog.text
    monkeypatch.setattr(places, "SECONDS", 0)
    assert saved_files() == []


def test_many_pictures_cost_little(folders):
    for n in range(5000):
        (folders / "output" / f"{n}.png").write_bytes(b"")
    start = time.process_time()
    assert saved_files() == []
    assert time.process_time() - start < 0.5


def test_two_that_save_at_once_get_two_files(attribution, folders):
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda _: I2AMSave.execute(attribution, "run").args[0], range(12)))
    assert sorted(names) == [f"run_{n:05}.i2am.safetensors" for n in range(1, 13)]
    assert sorted(path.name for path in (folders / "output").iterdir()) == sorted(names)


def test_a_saved_file_is_as_readable_as_any(attribution, folders):
    (name,) = I2AMSave.execute(attribution, "run").args
    other = folders / "other"
    other.write_bytes(b"")
    assert stat.S_IMODE((folders / "output" / name).stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_file_that_cannot_be_written_is_said_in_a_sentence(attribution, folders, monkeypatch):
    (folders / "output" / "taken").write_bytes(b"")
    with pytest.raises(ValueError, match=r"was not saved as 'taken/run' \(.*\): see to that"):
        I2AMSave.execute(attribution, "taken/run")
    with pytest.raises(ValueError, match=r"\(File name too long\)"):
        I2AMSave.execute(attribution, "a" * 300)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(ValueError, match="No space left on device"):
        I2AMSave.execute(attribution, "run")
    assert [path.name for path in (folders / "output").iterdir()] == ["taken"]


def test_names_are_made_of_dates_and_sizes_as_in_save_image(attribution):
    image = torch.rand(2, 40, 41, 3)
    (name,) = I2AMSave.execute(attribution, "%date:yyyy-MM-dd%/%width%x%height%", image).args
    assert re.fullmatch(rf"{datetime.date.today().isoformat()}/41x40_00001\.i2am\.safetensors", name)


class At(datetime.datetime):
    @classmethod
    def now(cls):
        return cls(2026, 3, 4, 5, 6, 7)


PROMPT = {
    "1": {"class_type": "KSampler", "inputs": {"seed": 8, "model": ["2", 0]}, "_meta": {"title": "Sampler"}},
    "2": {"class_type": "Loader", "inputs": {"name": 'sd/x<>:"|?*.bin'}},
}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("%date:yyyy-MM-dd%", "2026-03-04"),
        ("%date:yy-M-d_h-m-s%", "26-3-4_5-6-7"),
        ("%date:yyyyMMdd-hhmmss%", "20260304-050607"),
        ("%date:dddd yyy%", "0404 yyy"),
        ("%year%-%month%-%day% %hour%.%minute%.%second%", "2026-03-04 05.06.07"),
        ("%width%x%height%", "24x40"),
        ("%KSampler.seed%/%Sampler.seed%", "8/8"),
        ("%Loader.name%", "sd_x_______.bin"),
        ("%KSampler.model%%KSampler.none%%None.seed%", "%KSampler.model%%KSampler.none%%None.seed%"),
        ("100%", "100%"),
        ("%something%", "%something%"),
    ],
)
def test_what_stands_between_percent_signs(monkeypatch, prefix, expected):
    monkeypatch.setattr(places.datetime, "datetime", At)
    assert expanded(prefix, 24, 40, PROMPT) == expected


@pytest.mark.parametrize("other", [{"_meta": "title"}, {"_meta": ["title"]}, {"inputs": "text"}, {"inputs": None}, {}])
def test_other_nodes_of_the_graph_may_be_anything(other):
    """Only those that lead to an output were looked at by ComfyUI."""
    assert expanded("%Other.seed%", 24, 40, {"1": {"class_type": "Other"} | other}) == "%Other.seed%"
    assert expanded("%title.seed%", 24, 40, {"1": {"class_type": "Other"} | other}) == "%title.seed%"


def test_folders_without_end_are_refused_and_none_is_made(attribution, folders):
    with pytest.raises(ValueError, match="has 1200 folders, one within the other: choose a shorter one"):
        I2AMSave.execute(attribution, "a/" * 1200 + "a")
    assert not list((folders / "output").iterdir())


@pytest.mark.parametrize("prefix", ["a\x1b[2J\nb", "a\0b"])
def test_a_name_has_no_character_that_a_terminal_obeys(attribution, prefix):
    (name,) = I2AMSave.execute(attribution, prefix).args
    assert name.isprintable() and saved_files() == [f"output/{name}"]


@pytest.mark.parametrize("file", [3, ["a"], "", "output", "output/", "output/\0.i2am.safetensors", "output/..", "\x1b"])
def test_what_is_no_name_of_a_file_is_refused_in_a_sentence(file):
    assert I2AMLoad.validate_inputs(file).isprintable()
    with pytest.raises(ValueError, match="choose a file from the list"):
        I2AMLoad.execute(file)


def test_a_long_name_is_refused_in_a_sentence():
    assert len(I2AMLoad.validate_inputs(f"output/{'a' * 5000}.i2am.safetensors")) < 500


def test_a_name_that_is_too_long_is_cut_in_the_sentence(attribution):
    with pytest.raises(ValueError, match="the attribution was not saved as") as caught:
        I2AMSave.execute(attribution, "9" * 5000)
    assert len(str(caught.value)) < 400 and str(caught.value).endswith("queue again.")
