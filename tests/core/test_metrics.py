import pytest
import torch

from i2am_core import errors, has_competitors, imacs, is_flat, min_max, share_inside
from i2am_core.half import Half
from i2am_core.showing.render import COLORMAPS, colorize, heat, overlay, stretch


def square(size=16, low=4, high=12):
    mask = torch.zeros(size, size)
    mask[low:high, low:high] = 1
    return mask


def test_imacs_of_a_perfect_map_is_one_and_of_its_opposite_minus_the_penalty():
    mask = square()
    assert imacs(mask, mask) == pytest.approx(1)
    assert imacs(1 - mask, mask) == pytest.approx(-3)
    assert imacs(1 - mask, mask, penalty=0.5) == pytest.approx(-0.5)


def test_imacs_by_hand():
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    values = torch.tensor([[10.0, 5.0], [4.0, 0.0]])  # stretched: 1, 0.5, 0.4 (not above the threshold), 0
    assert imacs(values, mask) == pytest.approx(0.75)
    assert imacs(values, mask, threshold=0.3) == pytest.approx(0.75 - 3 * 0.2)


def test_imacs_resizes_the_map_to_the_mask():
    coarse = square(8, 2, 6)
    assert imacs(coarse, square(32, 8, 24)) > 0.6


@pytest.mark.parametrize(("mask", "word"), [(torch.zeros(4, 4), "empty"), (torch.ones(4, 4), "full")])
def test_a_mask_without_two_sides_has_no_score(mask, word):
    with pytest.raises(ValueError, match=f"the mask is {word}"):
        imacs(torch.rand(4, 4), mask)


def test_share_inside():
    values = torch.tensor([[3.0, 1.0], [0.0, 0.0]])
    assert share_inside(values, torch.tensor([[1.0, 0.0], [0.0, 0.0]])) == pytest.approx(0.75)
    assert share_inside(torch.zeros(2, 2), torch.ones(2, 2)) == 0


def test_a_flat_map_is_dark():
    assert torch.equal(min_max(torch.full((1, 3, 3), 0.2)), torch.zeros(1, 3, 3))


def planted(noise, size=16):
    """A flat map with rounding: of float32, as the sums of another order have; of half precision; as maps are kept."""
    flat = torch.full((size, size), 1 / size**2)
    drawn = torch.rand(size, size, generator=torch.Generator().manual_seed(4)) * 2 - 1
    if noise == "kept":
        return Half.of((flat * (1 + 2**-12 * drawn)).flatten()).float().view(size, size)
    return flat * (1 + noise * drawn)


@pytest.mark.parametrize("noise", [2**-24, 1e-6, 1e-4, 2**-11, "kept"])
def test_rounding_is_not_stretched(noise):
    values = planted(noise)
    assert values.std() > 0 and is_flat(values)
    assert torch.equal(min_max(values), torch.zeros(16, 16))
    for blocks in (False, True):
        assert torch.equal(heat(values[None], (64, 64), blocks=blocks), torch.zeros(1, 64, 64))
    with pytest.raises(errors.FlatMap, match="the map is flat"):
        imacs(values, square(64, 16, 48))


@pytest.mark.parametrize("contrast", [2e-3, 0.02, 1.0])
def test_a_faint_map_is_no_flat_one(contrast):
    values = planted(1e-6) * (1 + contrast * square())
    assert imacs(values, square()) == pytest.approx(1, abs=0.02)
    assert heat(values[None], (64, 64)).amax() == 1


def test_flat_maps_on_a_shared_scale_keep_their_place():
    shared = heat(torch.stack([planted(1e-6), 2 * planted(1e-6), 3 * planted(1e-6)]), (32, 32), "shared")
    torch.testing.assert_close(
        shared, torch.tensor([0.0, 0.5, 1.0])[:, None, None].expand(3, 32, 32), atol=1e-3, rtol=0
    )


def test_a_soft_mask_has_the_score_of_what_is_above_half_of_it():
    values = torch.rand(16, 16, generator=torch.Generator().manual_seed(1))
    soft = 0.45 * (0.9 * square() + 0.1)
    assert imacs(values, soft) == imacs(values, square())


def test_scales():
    values = torch.tensor([[[0.0, 1.0]], [[0.0, 4.0]]])
    assert stretch(values, "each map").amax((1, 2)).tolist() == [1, 1]
    assert stretch(values, "shared").amax((1, 2)).tolist() == [0.25, 1]


def test_overlay_at_half_is_the_papers_mixture():
    image, colors = torch.rand(1, 4, 4, 3), torch.rand(1, 4, 4, 3)
    torch.testing.assert_close(overlay(image, colors, 0.5), (0.7 * image + 0.5 * colors).clamp(0, 1))
    torch.testing.assert_close(overlay(image, colors, 0), image)


@pytest.mark.parametrize("name", COLORMAPS)
def test_colormaps_are_matplotlibs(name):
    import matplotlib

    got = colorize(torch.tensor([[[0.0, 0.5, 1.0]]]), name)
    expected = torch.tensor(matplotlib.colormaps[name]([0, 128, 255]), dtype=torch.float32)[:, :3]
    torch.testing.assert_close(got[0, 0], expected)


def test_an_unknown_colormap_is_refused():
    with pytest.raises(ValueError, match="no colormap 'rainbows'"):
        colorize(torch.zeros(1, 2, 2), "rainbows")


def test_heat_fills_the_range_at_image_size():
    got = heat(torch.rand(2, 4, 4), (32, 48))
    assert got.shape == (2, 32, 48)
    assert got.amin((1, 2)).tolist() == [0, 0] and got.amax((1, 2)).tolist() == [1, 1]


def test_a_reference_that_is_alone_has_no_competitors():
    alone = torch.ones(4, 4) - 2e-5  # rounding
    assert not has_competitors(alone)
    alone[0, 0] = 0.999
    assert has_competitors(alone)
