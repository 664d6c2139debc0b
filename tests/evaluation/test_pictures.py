"""How good pictures are: against formulas by hand, and sets against what is known of drawn ones."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from evaluation.pictures import compared, opened
from evaluation.sets import set_distances


def picture(seed, size=(16, 24)):
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_differences_are_those_by_hand():
    one, other = picture(1), picture(2)
    mask = torch.zeros(1, 1, 16, 24)
    mask[..., 4:12, 6:18] = 1
    measured = compared(one, other, mask)
    square = (one - other).double().square()
    assert measured["psnr"] == pytest.approx(-10 * math.log10(square.mean()), rel=1e-5)
    assert measured["psnr.mask"] == pytest.approx(-10 * math.log10(square[..., 4:12, 6:18].mean()), rel=1e-5)
    assert measured["l1.mask"] == pytest.approx((one - other).abs()[..., 4:12, 6:18].mean().item(), rel=1e-5)
    assert -1 <= measured["ssim"] < 0.5


def test_equal_pictures_and_an_empty_mask():
    one = picture(1)
    measured = compared(one, one, torch.zeros(1, 1, 16, 24))
    assert measured["psnr"] is None and measured["l1"] == 0 and measured["ssim"] == pytest.approx(1)
    assert measured["psnr.mask"] is None and measured["l1.mask"] is None


def test_a_truth_of_another_size_is_brought_to_that_of_the_picture():
    large = picture(1, (64, 96))
    small = torch.nn.functional.interpolate(large, (16, 24), mode="bicubic", antialias=True).clamp(0, 1)
    assert compared(small, large)["psnr"] is None


def test_pictures_are_opened_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = opened(tmp_path / "a.png")
    assert read.shape == (1, 3, 5, 7) and ((read[0].movedim(0, -1) * 255).round().numpy() == pixels).all()
    assert torch.equal(read, opened((tmp_path / "a.png").read_bytes()))
    assert opened(tmp_path / "a.png", "L").shape == (1, 1, 5, 7)


class Means(nn.Module):
    """Stands for Inception: the mean of each channel, and of its square."""

    def forward(self, pixels):
        values = pixels.double()
        return torch.cat([values.mean((2, 3)), values.square().mean((2, 3))], 1)


@pytest.fixture
def pairs(tmp_path):
    """Twelve right pictures, what a good model made of them, and a bad one."""
    made = {"good": [], "bad": []}
    for number in range(12):
        right = picture(number)
        for name, added in (("right", 0), ("good", 0.01), ("bad", 0.5)):
            pixels = ((right + added).clamp(0, 1) * 255).byte()[0].movedim(0, -1)
            Image.fromarray(pixels.numpy()).save(tmp_path / f"{number}_{name}.png")
        for name, of_model in made.items():
            of_model.append((tmp_path / f"{number}_{name}.png", tmp_path / f"{number}_right.png"))
    return made


def test_a_worse_model_is_further_away(pairs):
    distances = set_distances(pairs, Means())
    assert not isinstance(distances, str), distances
    assert 0 <= distances["good"]["fid"] < 0.01 < distances["bad"]["fid"]
    assert distances["good"]["kid"] < distances["bad"]["kid"]


def test_a_network_that_cannot_be_had_is_said(pairs):
    """Its weights would be downloaded: without network or package that is a reason, and no error."""
    answer = set_distances({"good": pairs["good"][:2]})
    assert isinstance(answer, str) and answer.startswith("not computed (ModuleNotFoundError"), answer
