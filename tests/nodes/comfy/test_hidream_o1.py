"""HiDream-O1: its references as patches, and as its eyes see them among the text: captured, steered and measured."""

import pytest
import torch
from attention_packs import transformers
from by_hand import ByHand
from effect_oracle import Counterfactuals
from effects_of import close, measured
from mechanisms import assert_maps_equal, capture, measure, sampled, steered
from steered_oracle import Run
from this_core import of_model
from tiny_graphs import run
from tiny_hidream_o1 import hidream_o1_edit, hidream_o1_text

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

pytestmark = of_model("HiDreamO1")

PATCHES = (TokenGrid(2, 1), TokenGrid(1, 3))  # of the two images, which the model makes smaller
SEEN = (TokenGrid(16, 8), TokenGrid(6, 20))  # by the eyes


class Places:
    """Columns, by hand: three tokens, the images between two marks each, the words, a token of time, the picture."""

    def __init__(self, words=5, cells=6, patches=PATCHES, seen=SEEN):
        start, self.seen, self.patches = 3, [], []
        for grid in seen:
            self.seen.append(range(start + 1, start + 1 + grid.cells))
            start += grid.cells + 2
        self.time = start + words + 6
        self.text = [n for n in range(self.time) if not any(n in columns for columns in self.seen)]
        start = self.time + 1 + cells
        for grid in patches:
            self.patches.append(range(start, start + grid.cells))
            start += grid.cells
        self.keys, self.queries, self.rows = start, start - self.time, range(1, 1 + cells)

    @property
    def references(self):
        """As they are numbered."""
        return [*self.patches, *self.seen]


THREE = {"sizes": ((2, 2),) * 3, "size": (4, 4)}
SHAPES = {
    "two images": ({}, Places(), (*PATCHES, *SEEN)),
    "one image": ({"sizes": ((3, 2),)}, Places(patches=[TokenGrid(3, 2)], seen=[TokenGrid(14, 9)]), None),
    "three images": (THREE, Places(cells=16, patches=[TokenGrid(2, 2)] * 3, seen=[TokenGrid(12, 12)] * 3), None),
    "guidance in two calls": ({"cfg": 3.0}, Places(), None),
    "a batch, guidance in one call": ({"cfg": 3.0, "batch": 2, "lengths": (8, 8)}, Places(words=8), None),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_maps_equal_the_oracle(shape):
    """In three steps: after the first, the text's keys come from memory."""
    about, places, grids = SHAPES[shape]
    graph = hidream_o1_edit(**about)
    attribution = capture(graph, steps=3)
    height, width = about.get("size", (2, 3))
    assert {layer.name: layer.grid for layer in attribution.layers} == dict.fromkeys(
        ("double 0", "double 1"), TokenGrid(height, width)
    )
    assert grids in (None, tuple(r.grid for r in attribution.references))
    images = range(1, len(places.patches) + 1)
    expected = [f"reference image {n}{where}" for where in ("", ", as seen in the text") for n in images]
    assert [r.name for r in attribution.references] == expected
    assert not attribution.skipped
    steps = measure(graph, places.rows, lambda call: call.k.shape[2] == places.keys, steps=3)
    for number, columns in enumerate(places.references):
        assert_maps_equal(attribution, steps, number, columns)


def test_both_ways_of_an_image_are_said_to_be_captured():
    model, handle = I2AMCapture.execute((graph := hidream_o1_edit()).model, "auto", "positive", "off", 512).args
    summary = I2AMCollect.execute(handle, graph.sample(model)).args[2]
    assert "captured (by reference latents)" in summary and "captured (by vision tokens)" in summary
    assert "the words behind an image in the text have read it" in summary


def test_references_of_combined_conditionings_are_told_apart():
    graph, other = hidream_o1_edit(), hidream_o1_edit(reference=9)
    graph.positive = graph.positive + other.positive
    assert len(capture(graph).references) == 8
    same = hidream_o1_edit()
    same.positive = same.positive + hidream_o1_edit(text=5).positive
    assert len(capture(same).references) == 4


def top(height, width):
    mask = torch.zeros(1, height, width)
    mask[:, : height // 2] = 1
    return mask


STEERED = {
    "all taken away": ({"strength": 0.0}, lambda p: ByHand(0.0, [c for x in p.references for c in x])),
    "patches, read directly": (
        {"strength": 3.0, "reference": 0, "through": "directly"},
        lambda p: ByHand(3.0, p.patches[0], rows=p.rows),
    ),
    "half of what is seen, in one head": (
        {"strength": 0.0, "reference": 2, "reference_region": top(16, 8), "heads": "1"},
        lambda p: ByHand(0.0, p.seen[0][:64], heads=[1]),
    ),
    "output": ({"strength": 0.5, "reference": 1, "by": "output"}, lambda p: ByHand(0.5, p.patches[1], "output")),
}


@pytest.mark.parametrize("case", STEERED)
def test_steering_is_that_by_hand(case):
    node, hand = STEERED[case]
    graph = hidream_o1_edit(cfg=3.0)
    by_keys = {p.keys: [hand(p)] for p in (Places(words=5), Places(words=6))}
    by_hand = Run(lambda queries, keys: by_keys.get(keys, ()))
    expected = graph.sample(by_hand.on(graph.model))["samples"]
    plain, latent = graph.sample()["samples"], graph.sample(steered(graph.model, **node))["samples"]
    assert by_hand.made
    assert (latent - plain).abs().max() > 20 * (latent - expected).abs().max()
    torch.testing.assert_close(latent, expected, rtol=2e-4, atol=2e-5 * max(10, float(expected.abs().max())))


OWNERS = {
    0: lambda p: p.patches[0],
    3: lambda p: p.seen[1],
    "all references": lambda p: [c for x in p.references for c in x],
    "text": lambda p: p.text,
}


@pytest.mark.parametrize("owner", OWNERS)
def test_effects_are_those_by_hand(owner):
    graph, places = hidream_o1_edit(cfg=3.0), Places()

    def steers(strength, rows=None):
        hand = ByHand(strength, OWNERS[owner](places), rows=rows)
        return lambda queries, keys: [hand] if keys == places.keys else ()

    removals = {"everything": steers(0.0), "directly": steers(0.0, places.rows)}
    by_hand = Counterfactuals(steers(1.0), removals)
    plain = graph.sample(by_hand.on(graph.model))["samples"]
    effects = measured(graph, plain=plain, probe_steps=2, text=True, routes=tuple(removals)).effects
    assert not effects.unmeasured
    for step in range(2):
        for route in removals:
            close(effects.maps[Removal(step, owner, route)], by_hand.effect(step, route), by_hand.with_[step])


def test_the_text_is_known_without_references():
    graph = hidream_o1_text()
    assert measured(graph, probe_steps=1, text=True).effects.owners == ["text"]


def test_a_block_of_another_pack_is_lost_alone_and_named():
    graph = hidream_o1_edit()
    graph.model = graph.model.clone()
    graph.model.set_model_patch_replace(without_attention, "dit", "double_block", 1)
    _, attribution = sampled(graph)
    assert [layer.name for layer in attribution.layers] == ["double 0"]
    assert [n for reason, n in attribution.skipped.items() if "without_attention" in reason] == [2]
    with pytest.raises(ValueError, match="attention that was not observed"):
        graph.sample(steered(graph.model, 0.0))


def without_attention(args, extra):
    """A block that hands on what it was given."""
    return {"x": args["x"]}


def test_blocks_that_are_wrapped_are_the_same():
    graph = hidream_o1_edit()
    plain = capture(graph)
    graph.model = transformers.wraps_blocks(graph.model, [("double_block", 0), ("double_block", 1)])
    wrapped = capture(graph)
    assert [layer.name for layer in wrapped.layers] == ["double 0", "double 1"] and not wrapped.skipped
    for key, entry in plain.entries.items():
        torch.testing.assert_close(wrapped.entries[key].maps["r2g_share"], entry.maps["r2g_share"])


def test_smoothed_seams_run_each_block_several_times_and_are_refused():
    """HiDreamO1PatchSeamSmoothing denoises the picture at several places of the grid, and takes the mean."""
    from comfy_extras.nodes_hidream_o1 import HiDreamO1PatchSeamSmoothing

    graph, settings = hidream_o1_edit(), ("single_shift", "2", "average", 1.0)
    names = ("start_percent", "end_percent", "pattern", "passes", "blend", "strength")
    inputs = dict(zip(names, (0.0, 1.0, *settings), strict=True))
    graph.model = run(HiDreamO1PatchSeamSmoothing, model=graph.model, **inputs)[0]
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    latent = graph.sample(model)
    assert torch.equal(latent["samples"], graph.sample()["samples"])
    reason = "smoothing_wrapper of comfy_extras.nodes_hidream_o1 runs more than once in one call"
    with pytest.raises(ValueError, match=f"{reason}.*Measure it with I2AM Effect"):
        I2AMCollect.execute(handle, latent)
    with pytest.raises(ValueError, match=reason):
        graph.sample(steered(graph.model, 0.0))
    effects = measured(graph, probe_steps=2, without=hidream_o1_text().positive).effects
    assert effects.certainty("conditioning") == "measured"
