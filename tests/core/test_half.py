"""Half precision with a scale a map: how far values may be from what they were."""

import pytest
import torch

from i2am_core.half import LARGEST, ROUNDING, Half, full


@pytest.mark.parametrize("size", [1.0, 1e-7, 1e-30, 1e30])
def test_values_are_right_to_what_is_said(size):
    maps = size * 10 ** (-8 * torch.rand(3, 5, 400, generator=torch.Generator().manual_seed(0)))
    half = Half.of(maps)
    assert half.values.dtype == torch.float16 and half.values.max() == LARGEST
    assert ((half.float() - maps).abs() / maps).max() <= 1.01 * ROUNDING
    assert half.nbytes < 0.51 * maps.nbytes and half.shape == maps.shape


def test_a_map_of_zeros_stays_one():
    maps = torch.stack([torch.zeros(7), torch.ones(7)])
    assert torch.equal(Half.of(maps).float(), maps)


@pytest.mark.parametrize("size", [1e-33, 1e-36, 1e-38, 1e-40, 6e-41, 2.5e-41, 1e-44])
def test_maps_near_the_end_of_float32_are_not_above_the_largest(size):
    """What a head that looks past a reference leaves to it: a file with larger values would be refused."""
    maps = size * torch.tensor([[1.0, 0.5, 0.0]])
    half = Half.of(maps)
    assert half.values.max() <= LARGEST
    torch.testing.assert_close(half.float(), maps, rtol=ROUNDING, atol=2.0**-126 * 2.0**-24)


def test_parts_are_read_and_replaced():
    maps = torch.rand(2, 3, 4, 5)
    half = Half.of(maps)
    torch.testing.assert_close(full(half[1][:, [0, 2]]), maps[1][:, [0, 2]], rtol=ROUNDING, atol=0)
    other = torch.rand(2, 4, 5)
    half[:, 1] = other
    torch.testing.assert_close(full(half[:, 1]), other, rtol=ROUNDING, atol=0)
    torch.testing.assert_close(full(half[:, 2]), maps[:, 2], rtol=ROUNDING, atol=0)
    torch.testing.assert_close(full(half.div_(torch.tensor(2.0)))[:, 1], other / 2, rtol=ROUNDING, atol=0)
    assert full(maps) is maps
