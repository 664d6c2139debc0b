"""I2AM IMACS: the scores are the core's, the report says how they were taken, bad masks are refused."""

import json
import math

import pytest
import torch
import workflow
from selected import maps

from i2am_pack.i2am_core import imacs
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


def large(mask):
    return torch.nn.functional.interpolate(mask[None, None], size=(512, 512), mode="nearest-exact")[0, 0]


def test_scores_are_those_of_the_core(graph, attribution):
    mask, reference_mask = graph.scene["mask"], graph.scene["reference_mask"]
    r2g, g2r, report = score(attribution, inpainting_mask=mask, reference_mask=reference_mask, item=1)
    assert r2g == round(imacs(maps(attribution, "r2g", item=1).values[0], large(mask[1])), 4)
    assert g2r == round(imacs(maps(attribution, "g2r", item=1).values[0], large(reference_mask[1])), 4)
    assert report["r2g"]["score"] == r2g and report["g2r"]["score"] == g2r
    assert report["r2g"]["mask"] == "inpainting_mask"
    assert report["g2r"]["asked_by"] == "the sampler's inpainting mask"
    assert report["r2g"]["mask_area"] == pytest.approx(mask[1].mean().item(), abs=1e-4)


def test_the_scope_is_named_and_changes_the_score(graph, attribution):
    reference_mask = graph.scene["reference_mask"]
    whole, inside = (
        score(attribution, reference_mask=reference_mask, scope=scope) for scope in ("whole image", "inpainting mask")
    )
    assert whole[2]["g2r"]["asked_by"] == "the whole picture"
    assert whole[1] != inside[1] and whole[0] == inside[0]


def test_without_a_mask_the_run_s_own_is_used(graph, attribution):
    given = score(attribution, inpainting_mask=graph.scene["mask"])[0]
    own, _, report = score(attribution)
    assert own == pytest.approx(given, abs=1e-3)  # the square lies on whole cells
    assert report["r2g"]["mask"] == "the sampler's"


def test_without_a_reference_mask_there_is_no_g2r_score(attribution):
    _, g2r, report = score(attribution)
    assert math.isnan(g2r)
    assert report["g2r"] == {"score": None, "reason": "no reference_mask is connected"}


def test_the_size_of_the_mask_does_not_matter(graph, attribution):
    mask = graph.scene["mask"]
    scores = [
        score(
            attribution, inpainting_mask=torch.nn.functional.interpolate(mask[:, None], (n, n), mode="nearest")[:, 0]
        )[0]
        for n in (16, 64, 256, 512, 1024)
    ]
    assert max(scores) - min(scores) < 0.01


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
    for _, about in (graph.positive[0], graph.negative[0]):
        about.pop("concat_mask")
    attribution = graph.attribution()
    with pytest.raises(ValueError, match=r"this run had no inpainting mask.*connect inpainting_mask"):
        score(attribution)
    assert isinstance(score(attribution, inpainting_mask=graph.scene["mask"])[0], float)


def test_the_mask_of_an_inpainting_model_counts_without_a_noise_mask(graph, attribution):
    other = workflow.make(batch=2)
    other.latent.pop("noise_mask")
    assert torch.equal(other.attribution().denoise_mask, attribution.denoise_mask)


def test_an_empty_mask_of_the_sampler_is_no_scope(graph):
    other = workflow.make()
    other.latent["noise_mask"] = torch.zeros_like(other.latent["noise_mask"])
    attribution = other.attribution()
    _, _, report = score(
        attribution, inpainting_mask=graph.scene["mask"][:1], reference_mask=graph.scene["reference_mask"][:1]
    )
    assert report["g2r"]["asked_by"] == "the whole picture"
    with pytest.raises(ValueError, match="or an empty one"):
        maps(attribution, "g2r", scope="inpainting mask")
