"""What is inside a mask, on any grid: of hard masks what always was, of soft ones the same whatever their strength."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from i2am_core import TokenGrid, cells_of, inside_of, is_soft
from i2am_core.regions import cover_of

GRID = TokenGrid(8, 8)


def blob(size=64, low=13, high=45):
    mask = torch.zeros(size, size)
    mask[low:high, low + 7 : high + 7] = 1
    return mask


def blurred(mask, by=9):
    return F.avg_pool2d(mask[None, None], by, 1, by // 2)[0, 0]


def as_before(region, grid):
    """The rule that hard masks had before soft ones had one."""
    cover = F.adaptive_avg_pool2d(region.reshape(-1, 1, *region.shape[-2:]).float(), (grid.height, grid.width))
    cover = cover.flatten(1)
    inside = cover > 0.5
    touched = (cover > 0) & ~inside.any(1, keepdim=True)
    return (inside | touched).repeat(1, grid.frames).reshape(*region.shape[:-2], grid.cells)


@pytest.mark.parametrize("grid", [GRID, TokenGrid(5, 7), TokenGrid(64, 64), TokenGrid(4, 6, 3)])
def test_hard_masks_are_cut_as_before(grid):
    thin = torch.zeros(64, 64)
    thin[20:22, 3:60] = 1
    masks = torch.stack([blob(), thin, torch.zeros(64, 64), torch.ones(64, 64), (torch.rand(64, 64) > 0.6).float()])
    assert torch.equal(cells_of(masks, grid), as_before(masks, grid))
    assert torch.equal(cells_of(masks[0], grid), as_before(masks[0], grid))
    assert torch.equal(cells_of(masks.bool(), grid), as_before(masks, grid))
    assert torch.equal(inside_of(masks), masks > 0.5)


@pytest.mark.parametrize("strength", [0.15, 0.45, 0.55, 0.9])
@pytest.mark.parametrize("mask", [blob(), blurred(blob()), blurred(blob(), 31)])
def test_the_strength_of_a_mask_does_not_matter(mask, strength):
    """As of Differential Diffusion, whose masks say how long a place is painted."""
    assert torch.equal(inside_of(mask * strength), inside_of(mask))
    assert torch.equal(cells_of(mask * strength, GRID), cells_of(mask, GRID))
    torch.testing.assert_close(cover_of(mask * strength, GRID), cover_of(mask, GRID))


def test_each_mask_of_a_batch_has_its_own_largest_value():
    masks = torch.stack([blob(), 0.3 * blob(low=5, high=29)])
    assert torch.equal(cells_of(masks, GRID), torch.stack([cells_of(x, GRID) for x in masks]))
    assert cells_of(masks, GRID)[1].any() and not cells_of(masks, GRID)[1].all()


def test_a_halo_does_not_count():
    halo = torch.full((64, 64), 0.02)
    assert torch.equal(cells_of(torch.maximum(halo, blob()), GRID), cells_of(blob(), GRID))
    dot = torch.zeros(64, 64)
    dot[20, 20] = 1
    assert torch.equal(cells_of(torch.maximum(halo, dot), GRID), cells_of(dot, GRID))
    assert cells_of(dot, GRID).sum() == 1


def test_the_sampler_s_mask_and_the_same_one_connected_are_one_region():
    """ComfyUI resizes masks to the latent bilinearly (``prepare_mask``)."""
    for mask in (blurred(blob()), 0.45 * blurred(blob(), 17), 0.55 * blob()):
        latent = F.interpolate(mask[None, None], (16, 16), mode="bilinear")[0, 0]
        own, given = cells_of(latent, TokenGrid(16, 16)), cells_of(mask, TokenGrid(16, 16))
        assert (own & given).sum() / (own | given).sum() > 0.9 and 0.1 < given.float().mean() < 0.4


def jpeg(mask, quality=75):
    """What Load Image makes of a mask that was saved as a JPEG, with the grain of a scan."""
    grain = torch.randint(0, 6, mask.shape, generator=torch.Generator().manual_seed(1))
    pixels = (mask * 255 + grain).clamp(0, 255).to(torch.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).float() / 255


def test_the_noise_of_a_black_jpeg_is_no_mask():
    black = jpeg(torch.zeros(64, 64))
    assert 0.004 < black.max() < 0.04 and (black > 0).any()
    for mask in (black, black.clamp(max=1 / 255), torch.full((64, 64), 0.03)):
        assert not inside_of(mask).any() and not cells_of(mask, GRID).any()
    assert torch.equal(inside_of(jpeg(blob())), blob() > 0)
    assert torch.equal(cells_of(jpeg(0.45 * blob()), GRID), cells_of(blob(), GRID))
    inverted = 1 - jpeg(1 - blob())  # as of a picture of the mask in black on white
    assert torch.equal(inside_of(inverted), blob() > 0)


@pytest.mark.parametrize("strength", [0.2, 0.45, 1.0])
def test_a_speck_does_not_make_the_rest_faint(strength):
    for mask in (blob(), blurred(blob()), blurred(blob(), 31)):
        specked = strength * mask
        specked[30, 30] = specked[31, 25] = specked[2, 60] = 1.0
        given, expected = cells_of(specked, GRID), cells_of(mask, GRID)
        assert (given & expected).sum() / (given | expected).sum() > 0.9


def test_masks_of_one_value():
    for value in (0.06, 0.45, 1.0):
        assert inside_of(torch.full((9, 7), value)).all() and inside_of(torch.full((1, 1), value)).all()
    assert not inside_of(torch.full((9, 7), 0.05)).any()


def test_a_gradient_is_cut_in_the_middle():
    gradient = torch.linspace(0, 0.45, 100).expand(20, 100)
    assert inside_of(gradient).float().mean() == pytest.approx(0.5, abs=0.02)
    assert inside_of(0.45 - gradient).float().mean() == pytest.approx(0.5, abs=0.02)


def test_a_soft_brush_and_its_inverse():
    """Of a feathered circle, what is left out inside of the one is not inside of the other."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    brush = (1.5 - ((y - 30) ** 2 + (x - 34) ** 2).sqrt() / 16).clamp(0, 1)  # 1 up to 8, 0 from 24 on
    radius = (inside_of(brush).sum() / torch.pi).sqrt()
    assert radius == pytest.approx(16, abs=0.5)
    assert torch.equal(inside_of(0.3 * brush), inside_of(brush))
    assert (inside_of(1 - brush) == ~inside_of(brush)).float().mean() > 0.98


def test_values_beyond_one_count_wholly():
    mask = blob() * 3
    assert torch.equal(cells_of(mask, GRID), cells_of(mask.clamp(0, 1), GRID))


def test_what_is_soft():
    assert not is_soft(blob()) and is_soft(0.5 * blob()) and is_soft(blurred(blob()))
