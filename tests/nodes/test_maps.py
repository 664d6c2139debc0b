"""I2AM Maps over a real attribution: sizes, batches, what it draws, and what it says to bad input."""

import mechanisms
import pytest
import tiny_graphs
import torch
import workflow
from selected import maps

from i2am_pack.i2am_core.showing import render
from i2am_pack.nodes import wanted_maps
from i2am_pack.nodes.maps import I2AMMaps

DEFAULTS = dict(
    direction="reference to generated",
    level="unified",
    normalization="paper",
    scope="auto",
    steps="all",
    layers="all",
    heads="all",
    time_groups=5,
    reference=0,
    item=0,
    colormap="jet",
    scale="each map",
    opacity=0.5,
)


@pytest.fixture(scope="module")
def attribution():
    return workflow.make(batch=2).attribution(steps=5)


def show(attribution, **changes):
    return I2AMMaps.execute(attribution, **DEFAULTS | changes).args


@pytest.mark.parametrize(("level", "count"), [("unified", 1), ("time", 5), ("head", 4), ("layer", 6)])
@pytest.mark.parametrize("direction", ["reference to generated", "generated to reference"])
def test_one_entry_for_each_map(attribution, level, count, direction):
    image = torch.rand(1, 96, 96, 3)
    overlay, heatmap, mask, labels = show(attribution, direction=direction, level=level, image=image)
    assert overlay.shape == heatmap.shape == (count, 96, 96, 3)
    assert mask.shape == (count, 96, 96)
    assert len(labels.splitlines()) == count
    scope = ", scope inpainting mask" if direction == "generated to reference" else ""
    assert all(f" | {direction}, paper{scope} | " in line for line in labels.splitlines())
    for picture in (overlay, heatmap, mask):
        assert picture.dtype == torch.float32 and picture.min() >= 0 and picture.max() <= 1
    assert mask.amax((1, 2)).eq(1).all() and mask.amin((1, 2)).eq(0).all()


def test_what_is_drawn_is_the_map(attribution):
    image = torch.rand(2, 64, 64, 3)
    overlay, heatmap, mask, _ = show(attribution, item=1, image=image, colormap="viridis", opacity=0.3)
    values = maps(attribution, "r2g", item=1).values
    torch.testing.assert_close(mask, render.heat(values, (64, 64)))
    torch.testing.assert_close(heatmap, render.colorize(mask, "viridis"))
    torch.testing.assert_close(overlay, render.overlay(image[1:], heatmap, 0.3))


def test_shared_scale_compares(attribution):
    separate, shared = show(attribution, level="layer")[2], show(attribution, level="layer", scale="shared")[2]
    assert separate.amax((1, 2)).eq(1).all()
    assert shared.max() == 1 and shared.amax((1, 2)).min() < 1


def test_without_an_image_the_map_has_a_size_of_its_own(attribution):
    overlay, heatmap, _, _ = show(attribution)
    assert heatmap.shape == (1, 512, 512, 3)
    assert torch.equal(overlay, heatmap)


def test_share_says_how_much(attribution):
    share = maps(attribution, "r2g", normalization="share").values
    torch.testing.assert_close(share, torch.ones_like(share), atol=1e-3, rtol=0)  # nothing else to look at
    assert show(attribution, normalization="share")[2].shape == (1, 512, 512)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(steps="9"), "there are 5 steps, numbered 0 to 4: '9' is out of range"),
        (dict(layers="middle"), "cannot read 'middle' in the selection of layers.*such as 'input 1.0'"),
        (dict(heads="x"), "cannot read 'x' in the selection of heads"),
        (dict(reference=3), "reference 3 does not exist"),
        (dict(item=2), "item 2 does not exist: this run made 2 picture"),
        (dict(image=torch.rand(3, 64, 64, 3)), r"a batch of 3 images for 2 generated picture\(s\)"),
        (dict(image=torch.rand(1, 64, 128, 3)), "the generated picture's image is 128x64.*grid of 16x16"),
        (
            dict(image=torch.rand(1, 64, 128, 3), direction="generated to reference"),
            "the reference's image is 128x64.*cropped as the model saw it",
        ),
    ],
)
def test_bad_input_is_one_clear_sentence(attribution, changes, message):
    with pytest.raises(ValueError, match=message):
        show(attribution, **changes)


@pytest.fixture(scope="module")
def videos():
    """Two videos of 3 frames of the latent, which is 9 pictures each."""
    graph = tiny_graphs.wan_phantom(batch=2, cfg=1.0)
    graph.latent = {"samples": torch.zeros(2, 16, 3, 4, 6)}
    return mechanisms.capture(graph)


@pytest.mark.parametrize("item", [0, 1])
def test_each_frame_of_the_latent_lies_over_its_picture(videos, item):
    batch = (torch.arange(18.0) / 18).view(18, 1, 1, 1).expand(18, 32, 48, 3)
    overlay, _, _, labels = show(videos, level="frame", item=item, image=batch, opacity=0.0)
    assert overlay.shape == (3, 32, 48, 3) and [line[:8] for line in labels.splitlines()] == [
        "frame 0 ", "frame 1 ", "frame 2 ",
    ]  # fmt: skip
    for frame, picture in enumerate((0, 4, 8)):
        torch.testing.assert_close(overlay[frame], batch[9 * item + picture])
    unified, *_ = show(videos, item=item, image=batch, opacity=0.0)
    torch.testing.assert_close(unified[0], batch[9 * item])
    single, *_ = show(videos, level="frame", item=item, image=batch[5:6], opacity=0.0)
    torch.testing.assert_close(single, batch[5:6].expand(3, 32, 48, 3))
    assert show(videos, level="frame")[1].shape[0] == 3
    with pytest.raises(ValueError, match=r"a batch of 9 pictures for 2 generated picture\(s\) of several frames"):
        show(videos, level="frame", image=batch[:9])


def test_a_picture_has_no_frames(attribution):
    with pytest.raises(ValueError, match="level 'frame' is for videos: the picture has a single frame"):
        show(attribution, level="frame")


def test_more_maps_than_the_machine_has_memory_for_are_refused(attribution, monkeypatch):
    """Of a large picture, each of 57 layers of Flux; here what there is, on a machine with less."""
    image = torch.rand(1, 96, 96, 3)
    needed = 6 * 96 * 96 * 7 * 4
    monkeypatch.setattr(wanted_maps, "get_total_memory", lambda device: needed)
    assert len(show(attribution, level="layer", image=image)[0]) == 6
    monkeypatch.setattr(wanted_maps, "get_total_memory", lambda device: needed - 1)
    with pytest.raises(ValueError, match=r"6 maps of 96x96 would take 0 GB, .* select fewer steps, layers or heads"):
        show(attribution, level="layer", image=image)
    assert len(show(attribution, image=image)[0]) == 1
