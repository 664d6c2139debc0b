"""MiniMax H3: guides and references before a video and its sound, in one sequence: captured, steered and measured."""

import pytest
import torch
from by_hand import ByHand
from mechanisms import assert_maps_equal, measure, steered
from oracle import Oracle
from steered_oracle import Run
from this_core import of_model
from tiny_minimax_h3 import minimax_h3_references

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal, effect_of
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect
from i2am_pack.nodes.comfy.captured import capture_with
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.comfy.measured import effect_with
from i2am_pack.nodes.comfy.removals import Settings as Removals

pytestmark = of_model("MiniMaxH3")

TEXT, GUIDE, IMAGE, VIDEO = range(7), range(7, 11), range(11, 17), range(23, 27)  # behind 6 tokens of its sound
PICTURE = range(47, 55)  # behind 4 tokens of a sound, and 16 of its own
PLACES = {"guide 1": GUIDE, "reference image 1": IMAGE, "reference video 1": VIDEO}
GRIDS = [TokenGrid(2, 2), TokenGrid(2, 3), TokenGrid(1, 2, 2)]


def of_all(call):
    return call.k.shape[2] == 55


def captured(graph):
    """The attribution; video and sound are the same without us."""
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    plain, latent = (graph.sample(x)["samples"] for x in (None, model))
    assert all(map(torch.equal, plain.unbind(), latent.unbind()))
    return I2AMCollect.execute(handle, {"samples": latent}).args[0]


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_maps_equal_the_oracle(cfg):
    graph = minimax_h3_references(cfg=cfg)
    attribution = captured(graph)
    assert {layer.name: layer.grid for layer in attribution.layers} == dict.fromkeys(
        ("block 0", "block 1"), TokenGrid(2, 2, 2)
    )
    assert [(r.name, r.grid) for r in attribution.references] == list(zip(PLACES, GRIDS, strict=True))
    assert {(x.key, x.fate) for x in attribution.given} == {
        ("minimax_keyframes", "captured"),
        ("minimax_refs", "captured"),
    }
    assert not attribution.skipped
    steps = measure(graph, PICTURE, of_all)
    for number, columns in enumerate(PLACES.values()):
        assert_maps_equal(attribution, steps, number, columns)


CHANGES = {"minimax_keyframes": (0, GUIDE[2]), "image": (0, IMAGE[3]), "video": (1, VIDEO[0])}


@pytest.mark.parametrize("name", CHANGES)
def test_a_cell_of_a_reference_changes_its_own_column(name):
    """Of row 2 and column 1: of patches of 2 x 2, in the second row, or of the video's in the first."""
    graph, other = minimax_h3_references(), minimax_h3_references()
    number, column = CHANGES[name]
    key = name if name == "minimax_keyframes" else "minimax_refs"
    given = other.positive[0][1][key][number]
    given["latent"] = given["latent"].clone()
    given["latent"][:, :, 0, 2 if given["latent"].shape[-2] > 2 else 1, 1] *= -2
    before, after = (first_keys(x) for x in (graph, other))
    assert (before != after).any(-1).any(0).nonzero().flatten().tolist() == [column]


def first_keys(graph):
    oracle = Oracle()
    graph.sample(oracle.on(graph.model), steps=1)
    return next(call.k[-1] for call in oracle.calls if of_all(call))


OWNERS = {0: GUIDE, 2: VIDEO, "all references": [*GUIDE, *IMAGE, *VIDEO], "text": TEXT}


@pytest.mark.parametrize("through", ["everything", "directly"])
@pytest.mark.parametrize("owner", OWNERS)
def test_taking_away_is_that_by_hand(owner, through):
    """Of one step, without guidance, the latent is the prediction."""
    graph, rows = minimax_h3_references(), None if through == "everything" else PICTURE
    by_hand = Run(lambda queries, keys: [ByHand(0.0, OWNERS[owner], rows=rows)] if keys == 55 else ())
    plain, expected = (graph.sample(x, steps=1)["samples"].unbind() for x in (None, by_hand.on(graph.model)))
    assert by_hand.made == 2
    if owner != "text":
        node = {"reference": -1 if owner == "all references" else owner, "through": through}
        latent = graph.sample(steered(graph.model, 0.0, **node), steps=1)["samples"].unbind()
        for one, other in zip(latent, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-4, atol=1e-5)
        assert (latent[0] - plain[0]).abs().max() > 20 * (latent[0] - expected[0]).abs().max()
    handle = Capture(Settings("auto", "positive", "off", 2**29))
    model = effect_with(capture_with(graph.model, handle), Removals(probe_steps=1, text=True, routes=(through,)))
    measured = graph.sample(model, steps=1)["samples"]
    assert all(map(torch.equal, measured.unbind(), plain))
    effect = handle.find(measured).effects.maps[Removal(0, owner, through)]
    torch.testing.assert_close(effect, effect_of(plain[0], expected[0]).float(), rtol=1e-3, atol=2e-5)


def test_without_references_the_text_alone_is_known():
    graph = minimax_h3_references(bare=True)
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    with pytest.raises(ValueError, match="4 x attention in which I2AM knows no reference"):
        I2AMCollect.execute(handle, graph.sample(model))
