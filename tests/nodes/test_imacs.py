"""I2AM IMACS: the scores are the core's, the report says how they were taken, bad masks are refused."""

import json
import math

import pytest
import torch
import workflow

from i2am_pack.i2am_core import imacs, levels
from i2am_pack.nodes.imacs import I2AMIMACS

DEFAULTS = dict(scope="auto", penalty=3.0, threshold=0.4, steps="all", layers="all", heads="all", reference=0, item=0)


@pytest.fixture(scope="module")
def graph():
    return workflow.make(batch=2)


@pytest.fixture(scope="module")
def attribution(graph):
    return graph.attribution(steps=4)


def score(attribution, **changes):
    r2g, g2r, report = I2AMIMACS.execute(attribution, **DEFAULTS | changes).args
    return r2g, g2r, json.loads(report)


def test_scores_are_those_of_the_core(graph, attribution):
    mask, reference_mask = graph.scene["mask"], graph.scene["reference_mask"]
    r2g, g2r, report = score(attribution, inpainting_mask=mask, reference_mask=reference_mask, item=1)
    assert r2g == imacs(levels.maps(attribution, "r2g", item=1).values[0], mask[1])
    assert g2r == imacs(levels.maps(attribution, "g2r", item=1).values[0], reference_mask[1])
    assert report["r2g"]["score"] == r2g and report["g2r"]["score"] == g2r
    assert report["g2r"]["scope"] == "inpainting mask"
    assert report["r2g"]["mask_area"] == pytest.approx(mask[1].mean().item())


def test_without_a_mask_the_run_s_own_is_used(graph, attribution):
    given = score(attribution, inpainting_mask=graph.scene["mask"])[0]
    assert score(attribution)[0] == pytest.approx(given, abs=0.05)


def test_without_a_reference_mask_there_is_no_g2r_score(attribution):
    _, g2r, report = score(attribution)
    assert math.isnan(g2r)
    assert report["g2r"] == {"score": None, "reason": "no reference_mask is connected"}


def test_a_larger_mask_of_the_same_shape_is_fine(graph, attribution):
    mask = graph.scene["mask"]
    large = torch.nn.functional.interpolate(mask[:, None], scale_factor=4)[:, 0]
    assert score(attribution, inpainting_mask=large)[0] == pytest.approx(
        score(attribution, inpainting_mask=mask)[0], abs=0.05
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(inpainting_mask=torch.zeros(1, 64, 64)), "the mask is empty"),
        (dict(inpainting_mask=torch.ones(1, 64, 64)), "the mask is full"),
        (dict(inpainting_mask=torch.ones(1, 64, 96)), r"the generated picture's mask is 96x64.*another shape"),
        (dict(inpainting_mask=torch.ones(5, 64, 64)), r"a batch of 5 masks for 2 generated picture\(s\)"),
        (dict(reference_mask=torch.zeros(1, 64, 64)), "the mask is empty"),
        (dict(steps="4"), "there are 4 steps"),
        (dict(scope="inpainting"), "scope 'inpainting' does not exist"),
    ],
)
def test_bad_input_is_one_clear_sentence(graph, attribution, changes, message):
    with pytest.raises(ValueError, match=message):
        score(attribution, **dict(reference_mask=graph.scene["reference_mask"]) | changes)


def test_a_run_without_a_mask_needs_one():
    graph = workflow.make()
    graph.latent.pop("noise_mask")
    attribution = graph.attribution()
    with pytest.raises(ValueError, match=r"this run had no inpainting mask.*connect inpainting_mask"):
        score(attribution)
    assert isinstance(score(attribution, inpainting_mask=graph.scene["mask"])[0], float)
