"""The shared fixture is what the Python writer writes: the JavaScript tests read the same file."""

import json

import numpy as np
import pytest
import view_fixture
from safetensors.numpy import load


@pytest.fixture(scope="module")
def built():
    return view_fixture.build()


def test_the_file_is_what_the_writer_writes(built):
    saved, now = load((view_fixture.FOLDER / "view.safetensors").read_bytes()), load(built[0])
    assert saved.keys() == now.keys()
    for name in saved:
        near = 1 if saved[name].dtype == np.uint8 else 1e-6  # the last digit of an exponential is the machine's
        np.testing.assert_allclose(saved[name].astype(float), now[name].astype(float), rtol=0, atol=near, err_msg=name)


def test_the_files_of_effects_are_too():
    *files, text = view_fixture.build_effects()
    for name, file in zip(("effects", "effects_alone"), files, strict=True):
        saved, now = load((view_fixture.FOLDER / f"{name}.safetensors").read_bytes()), load(file)
        assert saved.keys() == now.keys()
        for key in saved:
            near = 1 if saved[key].dtype == np.uint8 else 1e-6
            np.testing.assert_allclose(saved[key].astype(float), now[key].astype(float), atol=near, err_msg=key)
    saved, now = json.loads((view_fixture.FOLDER / "effects.json").read_text()), json.loads(text)
    assert saved.keys() == now.keys() and len(saved["asked"]) == len(now["asked"])
    for name in ("unified", "steps", "directly", "strength", "everywhere", "regions"):
        np.testing.assert_allclose(saved[name], now[name], atol=1e-6, err_msg=name)
    for before, after in zip(saved["asked"], now["asked"], strict=True):
        np.testing.assert_allclose(before["values"], after["values"], atol=1e-6)


def test_the_file_of_a_video_is_too():
    file, text = view_fixture.build_video()
    saved, now = load((view_fixture.FOLDER / "video.safetensors").read_bytes()), load(file)
    assert saved.keys() == now.keys()
    for key in saved:
        near = 1 if saved[key].dtype == np.uint8 else 1e-6
        np.testing.assert_allclose(saved[key].astype(float), now[key].astype(float), atol=near, err_msg=key)
    for before, after in zip(
        json.loads((view_fixture.FOLDER / "video.json").read_text()), json.loads(text), strict=True
    ):
        np.testing.assert_allclose(before["frames"], after["frames"], atol=1e-6)


def test_expectations_are_what_the_core_says(built):
    saved = json.loads((view_fixture.FOLDER / "view.json").read_text())
    now = json.loads(built[1])
    assert saved.keys() == now.keys()
    assert saved["imacs"] == pytest.approx(now["imacs"], abs=1e-5)
    for before, after in zip(saved["maps"] + saved["asked"], now["maps"] + now["asked"], strict=True):
        np.testing.assert_allclose(before["values"], after["values"], atol=1e-6)
    for values in ("values", "resampled"):
        np.testing.assert_allclose(saved["steep"][values], now["steep"][values], atol=1e-6)
