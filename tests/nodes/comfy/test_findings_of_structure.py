"""Faults of structure, made on the tiny true classes: the finding is there, and is not where the fault is absent.

Each is a real run of ComfyUI's sampler. The weights are random, so that no threshold of a rule is tested here, and no
rate is known: docs/findings.md lists what is tested.
"""

from collections.abc import Callable
from dataclasses import dataclass

import comfy_extras.nodes_wan as nodes_wan
import given_graphs
import ip_adapter_runs
import pytest
import tiny_graphs
import tiny_models
import torch
from attention_packs import transformers, unet
from comfy.ldm.modules.attention import attention_pytorch
from effect_runs import measured
from ip_adapter_standin import StandIn
from mechanisms import measure
from oracle import Oracle
from steered_graphs import tagged
from tiny_graphs import Graph

import nodes as comfyui_nodes
from i2am_pack.i2am_core import Attribution, examine
from i2am_pack.i2am_core.selection import numbers_text
from i2am_pack.nodes.capture import I2AMCapture

STEPS = 4
CLIP_TOKENS = 257


def run(graph: Graph, effect: bool = False) -> Attribution:
    """What was captured of a run, and measured in its first two steps."""
    model, handle = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    model = measured(model, regions=0) if effect else model
    return handle.find(graph.sample(model, steps=STEPS)["samples"])


def keys(attribution: Attribution) -> set[str]:
    return {finding.key for finding in examine(attribution).findings}


def values_of(attribution: Attribution, rule: str) -> dict:
    """Those of a rule's first finding."""
    return next(dict(finding.values) for finding in examine(attribution).findings if finding.rule == rule)


# The graphs


def adapter(tokens: int = 16, **settings) -> Graph:
    return ip_adapter_runs.graph_with(StandIn(), tokens=tokens, settings=settings, cfg=1.0)[0]


def vace(strength: float) -> Graph:
    graph = tiny_graphs.with_pixels(tiny_graphs._video(tiny_models.wan_vace(), 1, cfg=1.0), 2)
    image = graph.references[0]
    return tiny_graphs.through(nodes_wan.WanVaceToVideo, graph, strength=strength, reference_image=image)


def start_image(channels: bool) -> Graph:
    """By CLIP vision, and as channels of the latent beside it, or by CLIP vision alone."""
    graph = tiny_graphs.with_pixels(tiny_graphs._video(tiny_models.wan_i2v(), 1, cfg=1.0), 2)
    image = {"start_image": graph.references[0]} if channels else {}
    seen = tiny_graphs.vision(2, CLIP_TOKENS, 1280)
    return tiny_graphs.through(nodes_wan.WanImageToVideo, graph, clip_vision_output=seen, **image)


def frame_of_hunyuan(given: bool) -> Graph:
    """Kontext, with a reference frame as HunyuanVideo alone reads it."""
    graph = tiny_graphs.flux_kontext()
    return given_graphs.with_values(graph, ref_latent=tiny_graphs.noise(2, 1, 16, 8, 6)) if given else graph


def in_range(end: float) -> Graph:
    """Kontext up to this part of the run, and from there on the text alone, as with two prompts that take turns."""
    graph, text = tiny_graphs.flux_kontext(), tiny_graphs.flux_text()
    set_range = comfyui_nodes.ConditioningSetTimestepRange().set_range
    graph.positive = [*set_range(graph.positive, 0.0, end)[0], *set_range(text.positive, end, 1.0)[0]]
    return graph


def beside_another(start: float) -> Graph:
    """Two conditionings, each with a reference of its own, of which the second starts here."""
    graph, other = (tiny_graphs.flux_kontext(sizes=(size,)) for size in tiny_graphs.TWO)
    second = comfyui_nodes.ConditioningSetTimestepRange().set_range(other.positive, start, 1.0)[0]
    graph.positive = [*graph.positive, *second]
    return graph


def patched(graph: Graph, patch: Callable, *args) -> Graph:
    graph.model = patch(graph.model, *args)
    return graph


def values_times(graph: Graph, by: float, columns: slice, of_keys: int) -> Graph:
    """Another node's override, which multiplies what is read from these columns of calls of so many keys."""

    def override(attention, q, k, v, heads, *args, **kwargs):
        if v.shape[-2] == of_keys:
            v = v.clone()
            v[..., columns, :] *= by
        return attention_pytorch(q, k, v, heads, *args, **kwargs)

    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["optimized_attention_override"] = override
    return graph


def clip_values_times(by: float) -> Graph:
    return values_times(start_image(channels=False), by, slice(None), CLIP_TOKENS)


def style_tokens(side: int) -> Graph:
    """Redux, its tokens made fewer as packs do it; I2AM Tag Reference after it."""
    graph = tiny_graphs.flux_redux()
    ((tokens, about),) = graph.positive
    graph.positive = [[tokens[:, : graph.text_tokens + side**2], about]]
    return tagged(graph)


def tokens_of_strength(strength: float) -> Graph:
    """Tagged tokens behind the text of a U-Net, times a strength."""
    graph = tiny_graphs.sd15_text(lengths=(11, 7), cfg=1.0)
    ((tokens, about),) = graph.positive
    graph.text_tokens = 7
    graph.positive = [[torch.cat([tokens[:, :7], strength * tokens[:, 7:]], 1), about]]
    return tagged(graph)


def key_of_a_pack(given: bool) -> Graph:
    """Beside tagged tokens, what ComfyUI hands to nobody, and a function of a pack in the run that may read it."""
    graph = tokens_of_strength(1.0)
    graph.model = graph.model.clone()
    graph.model.set_model_unet_function_wrapper(lambda model, call: model(call["input"], call["timestep"], **call["c"]))
    return given_graphs.with_values(graph, of_a_pack=tiny_graphs.noise(2, 1, 4, 4)) if given else graph


# A fault, and the same run without it


@dataclass(frozen=True)
class Pair:
    """The graphs with a fault and without it; ``expected`` are the keys of findings that the fault alone has."""

    expected: set[str]
    with_fault: Callable[[], Graph]
    without: Callable[[], Graph]
    effect: bool = False


IN_VAIN = {"strength: none", "looked: in vain"}
DOUBLE, SINGLE = (("double_block", 1),), (("single_block", 1),)
PAIRS = {
    "IP-Adapter, weight 0": Pair({"steps: never on"}, lambda: adapter(weight=0.0), adapter),
    "IP-Adapter, weight 0, measured": Pair({"strength: none"}, lambda: adapter(weight=0.0), adapter, effect=True),
    "IP-Adapter, end_at 0.5": Pair({"steps: partly on"}, lambda: adapter(end_at=0.5), adapter),
    "IP-Adapter, start_at 0.5": Pair({"steps: partly on"}, lambda: adapter(start_at=0.5), adapter),
    "IP-Adapter, start_at after end_at": Pair({"steps: never on"}, lambda: adapter(start_at=0.9, end_at=0.1), adapter),
    "VACE, strength 0": Pair({"unseen: ignored"}, lambda: vace(0.0), lambda: vace(1.0)),
    "VACE, strength 0, measured": Pair(
        {"unseen: ignored", *IN_VAIN}, lambda: vace(0.0), lambda: vace(1.0), effect=True
    ),
    "a start image by channels": Pair({"unseen: elsewhere"}, lambda: start_image(True), lambda: start_image(False)),
    "a reference of another model": Pair(
        {"unseen: ignored"}, lambda: frame_of_hunyuan(True), lambda: frame_of_hunyuan(False)
    ),
    "a key that only a pack may read": Pair(
        {"unseen: unknown"}, lambda: key_of_a_pack(True), lambda: key_of_a_pack(False)
    ),
    "a conditioning in half of the steps": Pair({"steps: partly on"}, lambda: in_range(0.5), lambda: in_range(1.0)),
    "a conditioning in no step": Pair(
        {"unseen: ignored", "unseen: not read"}, lambda: beside_another(0.99), lambda: beside_another(0.0)
    ),
    "a replaced attention of a U-Net": Pair(
        {"unseen: calls"},
        lambda: patched(tokens_of_strength(1.0), unet.replaces, unet.without_options, "attn2", (("input", 3),)),
        lambda: tokens_of_strength(1.0),
    ),
    "a replaced block of Flux": Pair(
        {"unseen: calls"},
        lambda: patched(tiny_graphs.flux_kontext(), transformers.replaces_blocks, SINGLE),
        lambda: patched(tiny_graphs.flux_kontext(), transformers.wraps_blocks, SINGLE),
    ),
    "a replaced block of Wan": Pair(
        {"unseen: calls"},
        lambda: patched(tiny_graphs.wan_phantom(cfg=1.0), transformers.replaces_blocks, DOUBLE),
        lambda: patched(tiny_graphs.wan_phantom(cfg=1.0), transformers.wraps_blocks, DOUBLE),
    ),
    "values times 0": Pair(IN_VAIN, lambda: clip_values_times(0.0), lambda: clip_values_times(1.0), effect=True),
    "one token": Pair({"display: alone"}, lambda: adapter(tokens=1), adapter),
    "a layout that is a guess": Pair({"display: approximate"}, lambda: style_tokens(9), lambda: style_tokens(27)),
    "tokens of zeros": Pair({"display: flat"}, lambda: tokens_of_strength(0.0), lambda: tokens_of_strength(1.0)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_finding_is_there_with_the_fault_alone(name):
    pair = PAIRS[name]
    assert pair.expected <= keys(run(pair.with_fault(), pair.effect))
    assert not pair.expected & keys(run(pair.without(), pair.effect))


# What findings say of it


@pytest.mark.parametrize(
    ("name", "suggestion"), [("IP-Adapter, weight 0", "switch on"), ("VACE, strength 0", "stronger")]
)
def test_nothing_is_made_stronger_that_is_off(name, suggestion):
    """Twice of what nothing looks at is nothing; to VACE's frame attention is, whatever its strength."""
    result = examine(run(PAIRS[f"{name}, measured"].with_fault(), effect=True))
    assert [one.suggestion for one in result.findings if one.key == "strength: none"] == [suggestion]


def test_a_replaced_block_is_named_by_the_function():
    for name in ("of Flux", "of Wan"):
        attribution = run(PAIRS[f"a replaced block {name}"].with_fault())
        (finding,) = [one for one in examine(attribution).findings if one.key == "unseen: calls"]
        assert "replaces_blocks.<locals>.block" in finding.values["reasons"]
        assert finding.values["missed"] == sum(attribution.skipped[reason] for reason in attribution.missed)


def test_the_steps_are_those_in_which_calls_hold_the_reference():
    """By the lengths of the model's own calls: 33 keys with the references, 19 without them."""
    graph, oracle = in_range(0.5), Oracle()
    graph.sample(oracle.on(graph.model), steps=STEPS)
    sigmas = sorted({forward.sigma for forward in oracle.forwards}, reverse=True)
    on = {sigmas.index(oracle.forwards[call.forward].sigma) for call in oracle.calls if call.k.shape[2] == 33}
    said = values_of(run(graph), "steps")
    assert 0 < len(on) < STEPS and said["on"] == numbers_text(sorted(on))
    assert (said["count"], said["total"]) == (len(on), STEPS)


def test_layers_that_a_weight_type_leaves_out_are_no_fault():
    """It is what that type is for; the summary has a note."""
    attribution = run(adapter(weight_type="style transfer"))
    assert not {"steps: never on", "steps: partly on", "display: flat"} & keys(attribution)
    assert any("is off in" in note for note in attribution.notes)


def test_a_picture_of_which_nothing_is_painted_is_not_judged():
    """Of reference-only the first of the batch is the reference itself, which the sampler's mask keeps."""
    attribution = run(tiny_graphs.sd15_reference_only(cfg=1.0), effect=True)
    reference, picture = (examine(attribution, item) for item in range(2))
    assert not reference.findings and "nothing of this picture is painted" in reference.lacking["strength"]
    assert "strength" in {finding.rule for finding in picture.findings}


def test_steps_without_any_conditioning_are_noted_and_no_finding():
    """The model is not evaluated then, as it is not where a cache answers."""
    graph = tiny_graphs.flux_kontext()
    graph.positive = comfyui_nodes.ConditioningSetTimestepRange().set_range(graph.positive, 0.0, 0.5)[0]
    attribution = run(graph)
    assert attribution.not_evaluated and "steps: partly on" not in keys(attribution)
    assert any("no conditioning of the branch is active then" in note for note in attribution.notes)


def test_values_times_0_are_not_told_where_the_text_shares_the_attention():
    """Without the reference, the text and the picture get its part of the softmax: an effect. A note says it."""
    attribution = run(values_times(tiny_graphs.flux_kontext(sizes=((4, 8),)), 0.0, slice(-8, None), 27), effect=True)
    assert not IN_VAIN & keys(attribution)
    assert any("another node multiplies the values of 'reference latent 1' by 0" in note for note in attribution.notes)


# Whose part of the attention is how large


def parts_by_hand(graph: Graph) -> dict[str, float]:
    """Means over steps, layers, heads and positions of the model's own weights: text, 12 of the picture, the rest."""
    text = graph.text_tokens
    steps = measure(graph, range(text, text + 12), steps=STEPS)
    weights = torch.stack([call.weights for calls in steps for call in calls])
    parts = {
        "text": weights[..., :text],
        "rest": weights[..., text : text + 12],
        "references": weights[..., text + 12 :],
    }
    return {name: float(part.sum(-1).mean()) for name, part in parts.items()}


def test_a_long_text_has_more_of_the_attention():
    short, long = (tiny_graphs.flux_kontext(lengths=(length, 7)) for length in (7, 200))
    said = [values_of(run(graph), "rest") for graph in (short, long)]
    for graph, values in zip((short, long), said, strict=True):
        expected = parts_by_hand(graph)
        assert {name: values[name] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert said[1]["text"] > said[0]["text"] and said[1]["references"] < said[0]["references"]


def test_of_style_tokens_the_text_is_the_rest_of_the_conditioning():
    said = values_of(run(style_tokens(27)), "rest")
    assert said["references"] > said["text"] > 0


def test_the_text_is_not_said_where_the_reference_has_a_softmax_of_its_own():
    result = examine(run(start_image(False)))
    assert "rest" not in {finding.rule for finding in result.findings}
    assert "do not compete in one softmax" in result.lacking["rest"]
