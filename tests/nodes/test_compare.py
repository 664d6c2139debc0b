"""I2AM Compare: whatever two runs have, one page, one scale, and every reason why something was not compared."""

import dataclasses
import re
from pathlib import Path

import pytest
import saved_runs
import torch
import workflow
from with_effects import with_effects, without_attention

from i2am_pack.i2am_core import LEVELS, NORMALIZATIONS, ComparedPage, Layer, TokenGrid, load, maps_of_both, of_items
from i2am_pack.i2am_core import compare as core_compare
from i2am_pack.i2am_core.findings.compare import COMPARISONS
from i2am_pack.i2am_core.showing.compared_page import _curves
from i2am_pack.nodes.compare import I2AMCompare
from i2am_pack.nodes.effect import I2AMEffect
from nodes import RepeatLatentBatch

FILES = sorted(saved_runs.FOLDER.glob("*.safetensors"))
USUAL = dict(
    direction="reference to generated", level="unified", normalization="effect", scope="auto", steps="all",
    layers="all", heads="all", time_groups=2, reference=0, item=0,
)  # fmt: skip


def compare(a, b, **widgets):
    difference, page, findings = I2AMCompare.execute(a, b, **USUAL | widgets).args
    assert page.shape[0] == 1 and page.shape[2] == 1600 and 300 < page.shape[1] < 8000
    for picture in (page, difference):
        assert picture.ndim == 4 and picture.min() >= 0 and picture.max() <= 1
    assert page.std() > 0.02  # something is drawn
    return difference, page[0], findings


def steered(run, factor):
    maps = {key: values * factor for key, values in run.effects.maps.items()}
    return dataclasses.replace(run, effects=dataclasses.replace(run.effects, maps=maps))


@pytest.fixture(scope="module")
def graph():
    return workflow.make(batch=2)


@pytest.fixture(scope="module")
def sampled(graph):
    """Two seeds, each of a batch of one picture with two noises."""
    graph = workflow.make()
    (graph.latent,) = RepeatLatentBatch().repeat(graph.latent, 2)
    model, handle = graph.capture()
    model = I2AMEffect.execute(model, 2, 2, "taken away", "everything", "references").args[0]
    return [
        (handle.find(out["samples"]), graph.vae.decode(out["samples"]))
        for out in map(lambda seed: graph.sample(model, steps=4, seed=seed), (7, 8))
    ]


@pytest.fixture(scope="module")
def runs(sampled):
    return [run for run, _ in sampled]


def test_two_seeds_differ_as_two_pictures_of_a_batch_do(sampled):
    (a, image_a), (b, image_b) = sampled
    difference, _, findings = compare(a, b, image_a=image_a, image_b=image_b)
    assert difference.shape == (1, *image_b.shape[1:3], 3)
    assert "two seeds differ by up to" in findings and "95 of 100 times" in findings
    assert "two pictures of one batch" in findings and "not known" not in findings


def test_a_run_against_itself_is_white(runs):
    difference, _, findings = compare(runs[0], runs[0])
    white = difference[0, 0, 0]
    assert (difference == white).all() and white.min() > 0.95
    assert "changes as much in B as in A" in findings and "All settings" in findings


def test_one_scale_with_zero_in_the_middle(runs):
    """More is red, less is blue, and the other way round where A and B are exchanged."""
    a, b = runs[0], steered(runs[0], 0.25)
    less, _, findings = compare(a, b, level="time", time_groups=0)
    more, _, _ = compare(b, a, level="time", time_groups=0)
    assert len(less) == len(more) == 2
    assert (less[..., 2] >= less[..., 0] - 0.02).all() and (more[..., 0] >= more[..., 2] - 0.02).all()
    assert less[..., 0].min() < 0.2 and more[..., 2].min() < 0.2  # the end of the scale is reached
    assert "changes less in B" in findings or "as much in B as in A, but" in findings


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("normalization", ["effect", *NORMALIZATIONS])
@pytest.mark.parametrize("direction", ["reference to generated", "generated to reference"])
def test_every_level_is_compared_or_refused_in_a_sentence(runs, level, normalization, direction):
    try:
        difference, _, findings = compare(
            *runs, level=level, normalization=normalization, direction=direction, heads="all"
        )
    except ValueError as error:
        assert str(error)[0].isalpha() and str(error).endswith(".")
        assert level in ("head", "layer", "time", "frame", "reference")
    else:
        assert "Maps of" in findings or "no maps were compared, since" in findings
        assert len(difference) >= 1


def test_what_one_run_lacks_is_said_and_drawn(runs):
    a, b = runs
    for pair, said in (
        ((a, dataclasses.replace(b, effects=None)), "in B, no effect was measured in this run"),
        ((dataclasses.replace(a, effects=None), dataclasses.replace(b, effects=None)), "in A, no effect was measured"),
    ):
        difference, _, findings = compare(*pair)
        assert said in findings and difference.std() > 0.02 and difference.shape[2] == 1600
        assert "Not compared: strength" in findings
        assert "Not compared: attention" in findings  # of the demo, each reference has all of it
    _, _, findings = compare(without_attention(a), b, normalization="share")
    assert "in A, no attention to a reference was captured" in findings


def test_a_widget_that_cannot_be_is_refused(runs):
    for wrong, said in (
        ({"steps": "99"}, "steps"),
        ({"reference": 7}, "reference 7 does not exist"),
        ({"item": 5}, "in A, item 5 does not exist"),
        ({"level": "head"}, "effects have no heads"),
    ):
        with pytest.raises(ValueError, match=said):
            compare(*runs, **wrong)
    with pytest.raises(ValueError, match="in B, item 1 does not exist"):
        compare(runs[0], of_items(runs[1], [0]), item=1)
    with pytest.raises(ValueError, match="another shape"):
        compare(*runs, image_a=torch.zeros(1, 20, 80, 3))


def test_grids_of_other_sizes_and_forms(runs):
    finer = TokenGrid(2 * runs[0].grid.height, 2 * runs[0].grid.width)
    b = with_effects(
        dataclasses.replace(without_attention(runs[0]), grid=finer, denoise_mask=None), cuts=(), owners=(0,)
    )
    _, _, findings = compare(runs[0], b)
    assert "maps of unlike grids" in findings and "Other settings: latent grid" in findings
    tall = TokenGrid(finer.height, runs[0].grid.width)
    b = with_effects(
        dataclasses.replace(without_attention(runs[0]), grid=tall, denoise_mask=None), cuts=(), owners=(0,)
    )
    difference, _, findings = compare(runs[0], b)
    assert "another form" in findings and difference.shape[2] == 1600
    assert "latent units in B" in findings  # which needs no place


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.partition(".")[0])
def test_every_saved_run_is_compared(file, runs):
    saved = load(file)
    for pair in ((saved, saved), (runs[0], saved), (saved, runs[0])):
        _, _, findings = compare(*pair, normalization="share")
        assert "Not compared: strength, since " in findings


def test_seventy_layers_and_long_names(runs):
    layers = tuple(Layer(f"double block {n} of many", runs[0].layers[0].grid, 4) for n in range(70))
    many = dataclasses.replace(runs[0], layers=layers, entries={(0, n): runs[0].entries[0, 0] for n in range(70)})
    named = dataclasses.replace(
        many,
        references=tuple(
            dataclasses.replace(x, name="a reference with a very long name $x_y^z$ " * 20) for x in many.references
        ),
    )
    difference, _, _ = compare(many, many, level="layer", normalization="share")
    assert len(difference) == 70
    compare(named, many, level="layer", normalization="share")


def test_nothing_and_effects_alone(runs):
    nothing = dataclasses.replace(
        runs[0], entries={}, layers=(), references=(), effects=None, captured_calls=0, denoise_mask=None
    )
    for pair in ((nothing, nothing), (nothing, runs[0]), (runs[0], nothing)):
        _, _, findings = compare(*pair)
        assert "no maps were compared" in findings
    compare(without_attention(runs[0]), without_attention(runs[1]))


def test_pairs_are_those_of_the_core(runs):
    """The page and the pictures are of what ``maps_of_both`` gives: its largest value is what the findings name."""
    from i2am_pack.i2am_core import Selection, effect_maps

    pairs = maps_of_both(lambda run, selection: effect_maps(run, "r2g", "unified", selection), tuple(runs), Selection())
    assert f"end at {float(pairs.difference.abs().max()):.3g} more in B" in compare(*runs)[2]


def test_help_says_all_that_is_compared():
    page = (Path(__file__).resolve().parents[2] / "web/docs/I2AM_Compare.md").read_text()
    listed = re.findall(r"^\| (\w+) \|", page.partition("## What it says")[2].partition("##")[0], re.MULTILINE)
    assert listed[1:] == [rule.name for rule in COMPARISONS]


def test_the_curves_are_of_the_reference_that_is_named(runs):
    """Also where the other run has it under another number."""
    twice = with_effects(
        dataclasses.replace(
            runs[0],
            references=(
                dataclasses.replace(runs[0].references[0], name="x"),
                dataclasses.replace(runs[0].references[0], name="y"),
            ),
        ),
        owners=(0, 1),
        cuts=(),
    )
    swap = {0: 1, 1: 0}
    turned = dataclasses.replace(
        twice,
        references=twice.references[::-1],
        effects=dataclasses.replace(twice.effects, maps={
            x._replace(owner=swap[x.owner]): values for x, values in twice.effects.maps.items()}),
    )  # fmt: skip
    page = ComparedPage((twice, turned), core_compare(twice, turned), None, "", owner=1)
    (plot, *_) = _curves(page)
    assert "'y'" in plot.title
    of_a, of_b = plot.curves.values()
    assert of_a == of_b


def test_effects_are_compared_in_the_steps_of_both(runs):
    a = with_effects(runs[0], steps=(0, 2), owners=(0,), cuts=())
    fewer = {x: values for x, values in a.effects.maps.items() if x.step == 2}
    b = dataclasses.replace(a, effects=dataclasses.replace(a.effects, maps=fewer))
    difference, _, findings = compare(a, b)
    assert "steps 2:" in findings and (difference == difference[0, 0, 0]).all()
    _, _, findings = compare(a, b, level="time")
    assert "Not compared: step 0" in findings and "Map 0: step 2" in findings


def test_what_the_maps_are_of_is_said(runs):
    together = with_effects(runs[0], owners=(0, 1), cuts=())
    together = dataclasses.replace(together, references=together.references * 2)
    maps = {x._replace(owner="all references") if x.owner == 1 else x: y for x, y in together.effects.maps.items()}
    together = dataclasses.replace(together, effects=dataclasses.replace(together.effects, maps=maps))
    assert "effect of all references together" in compare(together, together, effect_of="all references")[2]
    assert "effect of reference 0" in compare(together, together)[2]


def test_a_picture_that_is_no_number_is_black(runs):
    """As VAEs in half precision make, and ComfyUI shows."""
    broken = torch.full((2, 64, 64, 3), torch.nan)
    broken[1] = torch.inf
    compare(*runs, image_a=broken, image_b=broken)


def test_a_refusal_names_the_input(runs):
    with pytest.raises(ValueError, match="image_b: got a batch of 3 images"):
        compare(*runs, image_b=torch.zeros(3, 64, 64, 3))


def test_all_frames_of_a_video_are_compared(runs):
    """Two videos that begin alike, as from one start image."""
    grid = TokenGrid(runs[0].grid.height, runs[0].grid.width, 2)
    video = with_effects(
        dataclasses.replace(without_attention(of_items(runs[0], [0])), grid=grid, denoise_mask=None, effects=None),
        owners=(0,), cuts=(),
    )  # fmt: skip
    a = torch.rand(5, 64, 64, 3)
    b = torch.cat([a[:1], torch.rand(4, 64, 64, 3)])
    _, _, findings = compare(video, video, image_a=a, image_b=b)
    assert "The pictures of A and B differ by" in findings and "the same in every pixel" not in findings
    _, _, findings = compare(video, video, image_a=a, image_b=a)
    assert "the same in every pixel" in findings
