"""The oracle's own pieces against what is known: torch's bicubic, softmax by hand, a planted correspondence."""

import ast
import inspect

import numpy as np
import pytest
import torch

SIDE = 4


@pytest.fixture(scope="module")
def oracle():
    from i2am_pack.validation import oracle

    return oracle


@pytest.fixture
def call(oracle):
    drawn = np.random.default_rng(0)
    q, k = drawn.normal(size=(2, SIDE**2, 8)), drawn.normal(size=(2, 2 * SIDE**2, 8))
    return oracle.Call(q, k, slice(SIDE**2, None))


def everywhere():
    return np.ones((SIDE, SIDE), bool)


@pytest.mark.parametrize(("size", "wanted"), [(8, 16), (16, 64), (16, 8), (5, 12)])
def test_resizing_is_torchs_bicubic(oracle, size, wanted):
    values = np.random.default_rng(1).normal(size=(3, size, size))
    expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None], (wanted, wanted), mode="bicubic")[0]
    np.testing.assert_allclose(oracle.resized(values, wanted), expected, atol=1e-12)


def test_maps_sum_to_one_and_share_to_what_the_others_leave(oracle, call):
    maps = call.maps(everywhere())
    for name in ("r2g_paper", "g2r_paper, mask", "g2r_paper, whole"):
        np.testing.assert_allclose(maps[name].sum((1, 2)), 1)
    others = oracle.softmax(call.logits, 2)[:, :, : SIDE**2].sum(2)
    np.testing.assert_allclose(maps["r2g_share"].reshape(2, -1), 1 - others)


def test_a_region_of_everything_is_the_map_itself(oracle, call):
    maps = call.maps(everywhere())
    np.testing.assert_allclose(call.of_region(everywhere()), maps["g2r_paper, whole"].mean(0))
    np.testing.assert_allclose(call.to_picture(everywhere()), maps["r2g_paper"].mean(0))


def test_a_planted_correspondence_is_read_back(oracle):
    own = 40 * np.eye(SIDE**2)[None]
    region = np.zeros((SIDE, SIDE), bool)
    region[1, 2] = True
    call = oracle.Call(own, own, slice(None))
    np.testing.assert_allclose(call.of_region(region), region, atol=1e-9)
    np.testing.assert_allclose(call.to_picture(region), region, atol=1e-9)


def test_levels_are_means_of_each_other(oracle):
    layers = [np.random.default_rng(n).random((6, 3, side, side)) for n, side in enumerate((4, 8))]
    levels = oracle.levels(layers, groups=3)
    for level in ("TLAM", "HLAM", "LLAM"):
        np.testing.assert_allclose(levels[level].mean(0), levels["ULAM"][0], atol=1e-12)
    assert [len(levels[name]) for name in ("TLAM", "HLAM", "LLAM")] == [3, 3, 2]


def test_imacs_by_hand(oracle):
    mask = np.array([[True, True], [False, False]])
    assert oracle.imacs(np.array([[1.0, 0.5], [0.45, 0.0]]), mask) == pytest.approx(0.75 - 3 * 0.225)
    assert oracle.imacs(np.array([[1.0, 0.4], [0.4, 0.0]]), mask) == pytest.approx(0.5)  # up to 0.4 counts 0


def test_it_imports_nothing_of_ours(oracle):
    tree = ast.parse(inspect.getsource(oracle))
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules == {"__future__", "collections.abc", "dataclasses", "functools", "numpy", "numpy.typing"}
