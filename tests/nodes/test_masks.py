"""Masks that are connected: Load Image's empty one, soft ones, and those of another picture than the sampler's."""

import json
from dataclasses import replace
from pathlib import Path

import folder_paths
import pytest
import torch
import torch.nn.functional as F
import workflow
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from comfy_extras.nodes_mask import InvertMask
from PIL import Image
from safetensors import safe_open
from this_core import PINNED, leave_out

import nodes as comfyui_nodes
from i2am_pack.i2am_core import TokenGrid, cells_of, level_of
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.imacs import I2AMIMACS
from i2am_pack.nodes.load_image import is_placeholder
from i2am_pack.nodes.specific_reference import I2AMSpecificReference
from i2am_pack.nodes.steer import I2AMSteer
from i2am_pack.nodes.viewer import I2AMViewer

SCORE = dict(scope="auto", penalty=3.0, threshold=0.4, steps="all", layers="all", heads="all", reference=0, item=0)
LOOK = dict(steps="all", layers="all", heads="all", reference=0, item=0, colormap="jet", opacity=0.5)
CAPTURE = ("auto", "positive", "off", 512)
STEER = (0.5, "attention", -1, "everything", "both", "all", "all", "all", "auto")
EMPTY = r"is Load Image's empty mask \(64 x 64, all zeros\).*disconnect it, or paint a mask"


@pytest.fixture(scope="module")
def graph():
    return workflow.make()


@pytest.fixture(scope="module")
def attribution(graph):
    return graph.attribution()


@pytest.fixture(params=["RGB", "P"])
def placeholder(request, tmp_path, monkeypatch):
    """What the real Load Image gives as the mask of a picture without transparency, whatever its size."""
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    Image.new(request.param, (96, 40)).save(tmp_path / "opaque.png")
    _, mask = comfyui_nodes.LoadImage().load_image("opaque.png")
    if request.param == "P" and not PINNED and not is_placeholder(mask):
        leave_out("a mask of 64 x 64 for pictures with a palette")
    assert is_placeholder(mask) and not is_placeholder(mask[:, :63]) and not is_placeholder(mask + 1e-3)
    return mask


def report_of(attribution, **changes):
    return json.loads(I2AMIMACS.execute(attribution, **SCORE | changes).args[2])


def header_of(attribution, **given):
    """The header and tensors of the viewer's file."""
    (entry,) = I2AMViewer.execute(attribution, **given).ui["i2am_view"]
    with safe_open(Path(folder_paths.get_temp_directory()) / entry["filename"], "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return json.loads(file.metadata()["i2am_view"]), tensors


@pytest.mark.parametrize("name", ["inpainting_mask", "reference_mask"])
def test_load_image_s_empty_mask_is_named_by_imacs(attribution, placeholder, name):
    with pytest.raises(ValueError, match=f"the mask is empty: {name} {EMPTY}"):
        I2AMIMACS.execute(attribution, **SCORE, **{name: placeholder})


def test_load_image_s_empty_mask_is_named_by_the_viewer(attribution, placeholder):
    with pytest.raises(ValueError, match=f"the mask is empty: mask {EMPTY}"):
        I2AMViewer.execute(attribution, mask=placeholder)


@pytest.mark.parametrize("direction", ["generated to reference", "reference to generated"])
def test_a_region_that_must_be_there_is_to_be_painted(attribution, placeholder, direction):
    with pytest.raises(ValueError, match=r"the region is empty: region is Load Image's.*: paint a mask \(right"):
        I2AMSpecificReference.execute(attribution, placeholder, direction, **LOOK)


@pytest.mark.parametrize("name", ["generated_region", "reference_region"])
def test_load_image_s_empty_mask_is_named_on_the_model_line(graph, placeholder, name):
    with pytest.raises(ValueError, match=f"{name} marks nothing: it {EMPTY}"):
        I2AMCapture.execute(graph.model, *CAPTURE, **{name: placeholder})
    with pytest.raises(ValueError, match=f"{name} marks nothing: it {EMPTY}"):
        I2AMSteer.execute(graph.model, *STEER, **{name: placeholder})


@pytest.mark.parametrize("name", ["inpainting_mask", "reference_mask"])
def test_an_inverted_empty_mask_is_named_where_it_fits_no_picture(attribution, placeholder, name):
    """Of a square picture it is a full mask, as any other."""
    wide = TokenGrid(8, 16)
    other = replace(attribution, grid=wide, references=(replace(attribution.references[0], grid=wide, tokens=128),))
    inverted = InvertMask.execute(placeholder).args[0] if hasattr(InvertMask, "execute") else 1 - placeholder
    mask = torch.zeros(1, 8, 16)
    mask[:, :4] = 1
    given = dict(inpainting_mask=mask) | {name: inverted}
    with pytest.raises(ValueError, match=r"Load Image's empty mask \(64 x 64, all ones, after Invert Mask\)"):
        I2AMIMACS.execute(replace(other, denoise_mask=None), **SCORE, **given)


def test_other_empty_masks_are_empty(attribution):
    with pytest.raises(ValueError, match="the mask is empty: IMACS compares"):
        I2AMIMACS.execute(attribution, **SCORE, inpainting_mask=torch.zeros(1, 96, 96))


def soft_edges(mask):
    """A hill: highest in the middle, 0.2 of that at the edge of the mask, and a faint halo beyond."""
    return (0.98 * F.avg_pool2d(mask[:, None], 15, 1, 7)[:, 0] + 0.02).clamp(0, 1)


@pytest.mark.parametrize("strength", [0.3, 0.45, 0.55, 1.0])
def test_the_sampler_s_soft_mask_and_the_same_one_connected_agree(strength):
    """Differential Diffusion paints a place in the part of the steps that its mask says."""
    graph = workflow.make()
    mask = strength * soft_edges(graph.scene["mask"])
    graph.latent["noise_mask"] = mask
    graph.model = DifferentialDiffusion.execute(graph.model).args[0]
    attribution = graph.attribution(steps=4)
    own, given = report_of(attribution)["r2g"], report_of(attribution, inpainting_mask=mask)["r2g"]
    assert own["mask"] == "the sampler's" and given["mask"] == "inpainting_mask"
    assert given["mass_inside"] == pytest.approx(own["mass_inside"], abs=0.03)
    assert given["mask_area"] == pytest.approx(own["mask_area"], abs=0.02) and 0.05 < given["mask_area"] < 0.5
    (said,) = given["mask_notes"]
    largest = mask.max().item()
    assert said.startswith(f"inpainting_mask is soft, up to {largest:.3g}: inside is what is above {largest / 2:.3g}")
    assert own["mask_notes"][0].startswith("the sampler's mask is soft")
    hard = report_of(attribution, inpainting_mask=(mask > largest / 2).float())["r2g"]
    assert "mask_notes" not in hard
    assert {k: v for k, v in given.items() if k != "mask_notes"} == hard


def test_the_report_says_how_much_was_left_out(attribution, graph):
    soft = 0.45 * soft_edges(graph.scene["mask"][:1])
    speck = soft.clone()
    speck[..., 0, 0] = 1
    (said,) = report_of(attribution, inpainting_mask=soft)["r2g"]["mask_notes"]
    (of_speck,) = report_of(attribution, inpainting_mask=speck)["r2g"]["mask_notes"]
    level = level_of(soft)
    left_out = ((soft > 0) & (soft <= level)).float().mean().item()
    assert left_out > 0.3 and said.endswith(f"what is fainter, {left_out:.1%} of the picture, is left out")
    assert of_speck == said.replace(f"up to {soft.max():.3g}:", "up to 1:")


def test_a_black_jpeg_is_an_empty_mask(attribution, graph):
    noise = torch.randint(0, 8, (1, 96, 96), generator=torch.Generator().manual_seed(1)) / 255
    with pytest.raises(ValueError, match="the mask is empty: IMACS compares"):
        report_of(attribution, inpainting_mask=noise)
    header, tensors = header_of(attribution, mask=noise)
    assert any(
        "mask is empty: it is nowhere above 0.027, and what is not above 0.05 is no mask" in note
        for note in header["notes"]
    )
    assert not tensors["mask/0"].any()
    with pytest.raises(ValueError, match="generated_region marks nothing"):
        I2AMCapture.execute(graph.model, *CAPTURE, generated_region=noise)
    with pytest.raises(ValueError, match="the region is empty"):
        I2AMSpecificReference.execute(attribution, noise, "generated to reference", **LOOK)


def test_a_soft_mask_is_cut_alike_by_all(attribution, graph):
    """The viewer's outline, the scope's cells and a region of Specific Reference."""
    soft = 0.4 * soft_edges(graph.scene["mask"])
    hard = (soft > soft.max() / 2).float()
    (header, tensors), (_, expected) = (header_of(attribution, mask=mask) for mask in (soft, hard))
    assert torch.equal(tensors["mask/0"], expected["mask/0"])
    torch.testing.assert_close(tensors["measures/0/0/all"], expected["measures/0/0/all"], equal_nan=True)
    assert any("mask is soft" in note for note in header["notes"]) and "mask is soft" in header["summary"]
    answers = [
        I2AMSpecificReference.execute(attribution, x, "generated to reference", **LOOK).args for x in (soft, hard)
    ]
    assert torch.equal(answers[0][2], answers[1][2])
    assert torch.equal(cells_of(soft, attribution.grid), cells_of(hard, attribution.grid))


def test_a_soft_region_marks_something(graph):
    model, _ = I2AMCapture.execute(graph.model, *CAPTURE, generated_region=0.3 * graph.scene["mask"]).args
    assert model is not graph.model
    assert I2AMSteer.execute(graph.model, *STEER, reference_region=0.3 * graph.scene["mask"]).args


def of_the_whole_picture(mask):
    """The mask on a picture of which the sampler got the lower right quarter, as Inpaint Crop hands it on."""
    whole = torch.zeros(1, 128, 128)
    whole[:, 64:, 64:] = mask
    return whole


def test_the_mask_of_a_picture_that_was_cropped_is_noted(attribution, graph):
    whole = of_the_whole_picture(graph.scene["mask"][:1])
    report = report_of(attribution, inpainting_mask=whole)["r2g"]
    (note,) = report["mask_notes"]
    assert "inpainting_mask hardly overlaps the mask that the sampler worked with" in note
    assert "connect the cropped image and the cropped mask that went into the sampler" in note
    right = report_of(attribution, inpainting_mask=graph.scene["mask"][:1])["r2g"]
    assert "mask_notes" not in right and right["mass_inside"] > report["mass_inside"] + 0.2
    header, _ = header_of(attribution, mask=whole)
    assert any("mask hardly overlaps" in note for note in header["notes"])
    assert header["summary"].startswith("mask hardly overlaps")


def test_a_region_of_a_picture_that_was_cropped_is_noted(attribution, graph):
    whole = of_the_whole_picture(graph.scene["mask"][:1])
    whole[:, :40] = 0
    answer = I2AMSpecificReference.execute(attribution, whole, "generated to reference", **LOOK)
    assert "of region lies outside of the mask that the sampler worked with" in answer.ui.as_dict()["text"][0]
    inside = I2AMSpecificReference.execute(attribution, graph.scene["mask"][:1], "generated to reference", **LOOK)
    other = I2AMSpecificReference.execute(attribution, whole, "reference to generated", **LOOK)
    assert inside.ui is None and other.ui is None and len(answer.args) == 3


@pytest.mark.parametrize("grown", [1, 3, 4])
def test_a_mask_that_was_grown_for_the_sampler_is_no_other_one(attribution, graph, grown):
    mask = graph.scene["mask"][:1]
    smaller = 1 - F.max_pool2d(1 - mask, 2 * grown + 1, 1, grown)
    larger = F.max_pool2d(mask, 2 * grown + 1, 1, grown)
    assert 0 < smaller.sum() < mask.sum() < larger.sum()
    for other in (smaller, larger):
        assert "mask_notes" not in report_of(attribution, inpainting_mask=other)["r2g"]


def test_a_run_that_painted_everything_has_nothing_to_compare_with(graph):
    other = workflow.make()
    other.latent["noise_mask"] = torch.ones_like(other.latent["noise_mask"])
    report = report_of(other.attribution(), inpainting_mask=graph.scene["mask"][:1])
    assert "mask_notes" not in report["r2g"]
