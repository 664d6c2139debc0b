"""I2AM Save and Load: only within ComfyUI's folders, nothing overwritten, pictures of a small size."""

import folder_paths
import pytest
import torch
import workflow
from asked import maps

from i2am_pack.nodes.save_load import I2AMLoad, I2AMSave, saved_files


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
    assert summary == attribution.summary()
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
