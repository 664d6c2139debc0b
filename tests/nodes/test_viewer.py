"""The file that the page reads: pictures, masks and maps, whole and under its size."""

import io
import json
from dataclasses import replace
from pathlib import Path

import folder_paths
import numpy as np
import pytest
import torch
import workflow
from PIL import Image
from safetensors import safe_open
from selected import maps
from with_effects import with_effects

from i2am_pack.i2am_core import SENTENCES, examine
from i2am_pack.i2am_core.effect import Effects, Removal
from i2am_pack.i2am_core.showing.render import COLORMAPS, color_table
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.made_by import depends_on, made_by
from i2am_pack.nodes.viewer import FILE_BYTES, I2AMViewer


@pytest.fixture(scope="module")
def attribution():
    return workflow.make(batch=2).attribution(steps=3)


def look(attribution, **given):
    """The header and tensors of the file that the node names, and what it says of it."""
    (entry,) = I2AMViewer.execute(attribution, **given).ui["i2am_view"]
    path = Path(folder_paths.get_temp_directory()) / entry["filename"]
    assert entry["type"] == "temp" and entry["bytes"] == path.stat().st_size <= FILE_BYTES + 2**20
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["i2am_view"])
        return header, {name: file.get_tensor(name) for name in file.keys()}, entry  # noqa: SIM118


def picture(tensors, place):
    return np.asarray(Image.open(io.BytesIO(tensors[place["name"]].numpy().tobytes())))


def test_the_file_holds_the_maps_and_what_they_lie_on(attribution):
    image, reference = torch.rand(2, 96, 96, 3), torch.rand(1, 64, 64, 3)
    header, tensors, _ = look(attribution, image=image, reference=reference)
    for item in range(2):
        place = header["pictures"]["generated"][item]
        assert place["canvas"] == [512, 512]
        assert np.abs(picture(tensors, place) / 255 - image[item].numpy()).max() <= 0.5 / 255 + 1e-6
    first, second = header["pictures"]["reference"][0]
    assert first["name"] == second["name"] and picture(tensors, first).shape == (64, 64, 3)
    assert len([name for name in tensors if name.startswith("picture/")]) == 3
    low, high = tensors["range/1/0/all/r2g_paper"][0]
    restored = low + tensors["maps/1/0/all/r2g_paper"][0] / 255 * (high - low)
    torch.testing.assert_close(restored, maps(attribution, "r2g", item=1).values[0], rtol=0, atol=high / 500)


def test_without_maps_there_is_no_file():
    assert I2AMViewer.execute().ui["i2am_view"] == []


def test_without_a_capture_the_latent_goes_on_and_the_maps_do_not():
    """ComfyUI says the sentence of a blocked output where a node would take it."""
    latent = {"samples": torch.rand(1, 4, 8, 8)}
    attribution, samples, summary = I2AMCollect.execute(None, latent).args
    assert samples is latent and summary == attribution.message
    assert summary.startswith("There is no capture") and "Bypass I2AM Collect too" in summary


def test_the_settings_that_made_it_are_all_before_it():
    prompt = {
        "1": {"class_type": "Loader", "inputs": {"name": "x", "picture": "a" * 30_000}},
        "2": {"class_type": "Sampler", "inputs": {"seed": 3, "model": ["1", 0]}, "_meta": {"title": "mine"}},
        "3": {"class_type": "I2AM_Viewer", "inputs": {"attribution": ["2", 1]}},
        "4": {"class_type": "Other", "inputs": {"model": ["1", 0]}},
    }
    by = depends_on(prompt, "3")
    assert by["last"] == "3" and by["nodes"].keys() == {"1", "2", "3"}
    assert by["nodes"]["2"] == {"class_type": "Sampler", "inputs": {"seed": 3, "model": ["1", 0]}}
    assert by["nodes"]["1"]["inputs"] == {"name": "x", "picture": None}  # too long to be a setting
    assert made_by(None, "3") is None


def test_every_result_has_a_file_of_its_own(attribution):
    names = [look(attribution, image=torch.full((1, 64, 64, 3), value))[2]["filename"] for value in (0.1, 0.9, 0.1)]
    assert names[0] == names[2] != names[1] and all(len(name) > 32 for name in names)


def test_the_node_runs_again_where_a_file_is_gone(attribution):
    """A cached node names its old file, and the page says to queue again: that must help."""
    before = I2AMViewer.fingerprint_inputs(attribution=None)
    entry = look(attribution)[2]
    assert I2AMViewer.fingerprint_inputs(attribution=None) == before
    (Path(folder_paths.get_temp_directory()) / entry["filename"]).unlink()
    assert I2AMViewer.fingerprint_inputs(attribution=None) > before
    assert look(attribution)[2] == entry


def test_the_mask_is_the_one_given_or_the_samplers(attribution):
    header, tensors, _ = look(attribution)
    assert header["masked"] == ["mask/0", "mask/1"]
    expected = attribution.denoise_mask[0].mean().item()
    assert tensors["mask/0"].float().mean().item() == pytest.approx(expected, abs=0.02)
    mask = torch.zeros(1, 32, 32)
    mask[:, :16] = 1
    _, tensors, _ = look(attribution, mask=mask)
    assert tensors["mask/1"].shape == (512, 512) and tensors["mask/1"][:256].all() and not tensors["mask/1"][256:].any()
    assert tensors["measures/1/0/all"].isfinite().all()


def caused(attribution, owner):
    """The run with an effect at one step."""
    values = torch.rand(attribution.items, attribution.grid.cells)
    return replace(attribution, effects=Effects({Removal(1, owner): values}, torch.zeros_like(values)))


def test_effects_are_in_the_file(attribution):
    header, tensors, _ = look(caused(attribution, 0))
    (effect,) = header["effects"]["maps"]
    assert effect["steps"] == [1] and effect["certainty"] == [["measured"] * 2] * 2
    assert tensors["effects/1/0/everything"].shape == (2, attribution.grid.height, attribution.grid.width)
    assert tensors["effect_measures/0/0/everything"].isfinite().all()
    assert "maps/0/0/all/r2g_paper" in tensors


def test_effects_without_attention_have_a_file_with_one_picture(attribution):
    alone = replace(attribution, references=(), layers=(), entries={}, pictures={})
    header, tensors, _ = look(caused(alone, "conditioning"), image=torch.rand(2, 96, 96, 3))
    assert header["references"] == [] and header["pictures"]["reference"] == []
    assert len([name for name in tensors if name.startswith("picture/")]) == 2
    assert not any(name.startswith("maps/") for name in tensors)


def test_colours_are_matplotlibs(attribution):
    header, tensors, _ = look(attribution)
    assert header["colormaps"] == list(COLORMAPS)
    jet = color_table("jet")
    torch.testing.assert_close(tensors["colormaps"][0].float() / 255, jet, rtol=0, atol=0.5 / 255 + 1e-6)


def test_large_pictures_are_made_smaller(attribution):
    header, tensors, _ = look(attribution, image=torch.rand(1, 1500, 1500, 3))
    assert picture(tensors, header["pictures"]["generated"][0]).shape == (1024, 1024, 3)


def test_a_reference_of_another_shape_is_left_out_with_the_reason(attribution):
    header, _, _ = look(attribution, reference=torch.rand(1, 64, 128, 3))
    place = header["pictures"]["reference"][0][0]
    assert place["name"] is None and "which has another shape" in place["note"]


def test_a_picture_of_another_shape_is_refused(attribution):
    with pytest.raises(ValueError, match="the generated picture's image is 128x64"):
        look(attribution, image=torch.rand(1, 64, 128, 3))


def test_interrupting_ends_it(attribution):
    from comfy.model_management import InterruptProcessingException, interrupt_current_processing

    interrupt_current_processing(True)
    with pytest.raises(InterruptProcessingException):
        look(attribution)


def weak(attribution):
    """The same run with an effect of its reference that is too small, and no rounding."""
    run = with_effects(attribution, owners=(0,), cuts=())
    made = {key: values * 0.01 for key, values in run.effects.maps.items()}
    return replace(run, effects=replace(run.effects, maps=made, floor=torch.zeros_like(run.effects.floor)))


def test_findings_are_in_the_file(attribution):
    """Those that the report has, of each picture; what to try beside the finding that it is for."""
    run = weak(attribution)
    findings = look(run)[0]["findings"]
    for item in range(run.items):
        expected = examine(run, item).findings
        got = [x for x in findings if x["item"] == item]
        assert [x["key"] for x in got] == [x.key for x in expected]
        assert [x["sentence"] for x in got] == [x.worded(SENTENCES) for x in expected]
    fault = next(x for x in findings if x["key"] == "strength: weak")
    assert fault["weight"] == "fault" and fault["evidence"]["owner"] == 0 and fault["evidence"]["shows"] == "effect"
    assert fault["tries"] == [{"sentence": "strength 2 on I2AM Steer", "measures": False}]
    assert fault["evidence"]["steps"] == [0, 2]


def test_a_mask_that_is_connected_counts_for_findings(attribution):
    run = with_effects(attribution, owners=(0,), cuts=())
    mask = torch.zeros(64, 64)
    mask[:8] = 1
    whole, marked = ({x["key"] for x in look(run, **given)[0]["findings"]} for given in ({}, {"mask": mask}))
    assert "place: not there" in marked | whole and whole != marked


def test_what_cannot_be_worked_out_costs_no_file(attribution, monkeypatch):
    def broken(*args):
        raise RuntimeError("a rule of a kind that nobody has")

    monkeypatch.setattr("i2am_pack.nodes.view_findings.examine", broken)
    assert look(attribution)[0]["findings"] == []


def with_predictions(attribution):
    """Effects of the reference, with predictions as the demo's VAE takes them."""
    run = with_effects(attribution, owners=(0,))
    shape = workflow.make(batch=2).latent["samples"].shape
    latents = {key: torch.randn(shape) / 4 for key in run.effects.predictions}
    return replace(run, effects=replace(run.effects, predictions=latents))


def decoded(attribution, vae, step, owner, item):
    """What the file must hold of a prediction."""
    latent = attribution.effects.predictions[step, owner][item : item + 1]
    return (vae.decode(latent)[0].clamp(0, 1) * 255).round().int().numpy()


def test_the_pictures_with_and_without_are_decoded(attribution):
    vae = workflow.make().vae
    run = with_predictions(attribution)
    header, tensors, _ = look(run, vae=vae)
    assert [(x["item"], x["owner"]) for x in header["predictions"]] == [(0, 0), (1, 0)]
    for one in header["predictions"]:
        item = one["item"]
        inside = run.scope_on_latent(item)
        alone = {s: Effects({Removal(s, 0): run.effects.maps[Removal(s, 0)]}, run.effects.floor) for s in (0, 2)}
        assert one["step"] == max(alone, key=lambda s: alone[s].strength(0, "everything", inside))
        for name, owner in (("picture_with", None), ("picture_without", 0)):
            expected = decoded(run, vae, one["step"], owner, item)
            assert np.abs(picture(tensors, {"name": one[name]}).astype(int) - expected).max() <= 1
    assert "predictions" not in look(run)[0]


def test_no_more_than_eight_pairs_are_decoded_and_that_is_said(attribution, monkeypatch):
    monkeypatch.setattr("i2am_pack.nodes.view_predictions.MOST_PAIRS", 1)
    header, _, _ = look(with_predictions(attribution), vae=workflow.make().vae)
    assert len(header["predictions"]) == 1
    assert "vae: of 2 pairs of pictures with and without, 1 were decoded" in header["notes"]


def test_why_there_are_no_pictures_with_and_without(attribution):
    vae = workflow.make().vae
    header, _, _ = look(attribution, vae=vae)
    assert "vae: there are no pictures with and without, since no effect was measured" in header["notes"]
    run = with_effects(attribution, owners=(0,))
    header, _, _ = look(replace(run, effects=replace(run.effects, predictions={})), vae=vae)
    assert "predictions" not in header
    assert any("were not kept within budget_mb" in note for note in header["notes"])
    header, _, _ = look(run, vae=vae)
    assert "predictions" not in header and header["layers"]
    assert any(note.startswith("vae: it does not decode latents of 4 channels") for note in header["notes"])
