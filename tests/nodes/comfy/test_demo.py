"""The demo model, which is also the ground truth: what it paints and what its attention says, held out."""

import dataclasses

import pytest
import torch
from this_core import JOINT_DEMO

from i2am_pack.demo import data, evaluate, sprites
from i2am_pack.demo.model import PixelVAE, load
from i2am_pack.demo.subject import JointAttention

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def measured():
    """Of fewer scenes than the 64 of the model's card, which take minutes: what is measured is far from its bounds."""
    return evaluate.measure(evaluate.sample(count=24))


def test_the_model_is_good_enough_on_scenes_it_was_not_trained_on(measured):
    assert measured["scenes"] == 24
    assert measured["psnr"] > 17
    assert measured["imacs_r2g"] > 0.3
    assert max(measured["correspondence"].values()) > 0.9
    assert measured["g2r_on_object_mask"] > measured["object_area"] * 1.5


@JOINT_DEMO
def test_so_is_the_model_with_two_references():
    measured = evaluate.measure(evaluate.sample(JointAttention(), count=6, steps=4))
    assert measured["psnr"] > 17
    assert measured["g2r_on_object_mask"] > measured["object_area"] * 1.3


def test_the_layers_differ(measured):
    """Some layers were trained on the correspondence, others were free: the layer level must show it."""
    accuracy = measured["correspondence"]
    assert min(accuracy[name] for name in ("output 2.0", "output 3.0")) > 0.9
    assert accuracy["input 1.0"] < 0.2


def test_a_layer_is_better_than_geometry(measured):
    """A guess from the place in the painted square alone is a good one, so that it is the baseline."""
    geometry = measured["correspondence by geometry alone"]
    assert 0.5 < geometry["16"] < measured["correspondence"]["output 3.0"] - 0.05


def test_the_truth_is_true():
    """Warping the reference by the stated correspondence gives the object in the scene."""
    scenes = data.draw_scenes(sprites.held_out_sprites()[:16], torch.Generator().manual_seed(0))
    pixel = torch.arange(data.IMAGE) + 0.5
    place = torch.stack(torch.meshgrid(pixel, pixel, indexing="xy"), -1)
    place = place * scenes.zoom[:, None, None, None] + scenes.shift[:, None, None]
    warped = torch.nn.functional.grid_sample(scenes.reference, place / (data.IMAGE / 2) - 1, align_corners=False)
    opaque = scenes.object_mask > 0.99
    assert ((warped - scenes.image).abs() * opaque).sum() / (3 * opaque.sum()) < 0.02


def test_scenes_repeat_with_their_seed_and_hide_what_is_masked():
    not_trained_on = sprites.held_out_sprites()[:4]
    first, again = (data.draw_scenes(not_trained_on, torch.Generator().manual_seed(5)) for _ in range(2))
    for field in dataclasses.fields(first):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name))
    inside = first.mask.expand_as(first.image) > 0.5
    assert first.masked_image[inside].eq(0.5).all()
    assert torch.equal(first.masked_image[~inside], first.image[~inside])
    assert ((first.object_mask > 0) <= (first.mask > 0)).all()


def test_an_object_that_is_not_displaced_is_where_its_reference_shows_it():
    """To half a cell, as the square has whole ones; where that is nothing, to the bit."""
    chosen = sprites.held_out_sprites()[:32]
    near, far = (data.draw_scenes(chosen, torch.Generator().manual_seed(5), displaced=d) for d in (0.0, 1.0))
    torch.testing.assert_close(near.zoom, torch.ones(32))
    assert near.shift.abs().max() <= data.PATCH / 2 < far.shift.abs().amax(1).median()
    same = near.shift.abs().amax(1) < 1e-4
    assert 0 < same.sum() < 32
    torch.testing.assert_close(near.object_mask[same], near.reference_object_mask[same])


def test_latents_lose_nothing():
    image = torch.rand(2, 3, data.IMAGE, data.IMAGE)
    torch.testing.assert_close(data.to_image(data.to_latent(image)), image)
    pixels = torch.rand(1, 66, 70, 3)  # cropped to whole cells
    torch.testing.assert_close(PixelVAE().decode(PixelVAE().encode(pixels)), pixels[:, :64, :68])


def test_the_weights_load_in_under_a_second():
    import time

    start = time.perf_counter()
    load()
    assert time.perf_counter() - start < 1


def test_other_reference_sizes_are_cropped_and_resized():
    from i2am_pack.demo.nodes import DemoReference

    _, _, encoder = load()
    for shape in ((1, 64, 64, 3), (2, 200, 300, 4)):
        ((tokens, about),) = DemoReference.execute(encoder, torch.rand(shape)).args[0]
        assert tokens.shape == (shape[0], 256, 128)
        (tag,) = about["i2am_references"]
        assert (tag["name"], tag["start"], tag["count"], tag["grid"]) == ("demo reference", 0, 256, (16, 16))
