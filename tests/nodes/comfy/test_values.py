"""A strength or weight that multiplies a reference outside the softmax is said: its share does not count it."""

import comfy_extras.nodes_wan as nodes_wan
import pytest
import tiny_graphs
import torch
from comfy.ldm.modules.attention import attention_pytorch
from effect_runs import captured, measured
from mechanisms import capture
from steered_graphs import kontext, tagged

from i2am_pack.i2am_core.tokens import TokenGroup
from i2am_pack.nodes.comfy.mechanisms.frames_inside import GENERATED_ANEW, WITHOUT_STRENGTH
from i2am_pack.nodes.comfy.values import notes_on


def vace(strength, reference=2, **shape):
    graph = tiny_graphs.wan_vace(reference=reference, **shape)
    for conditioning in (graph.positive, graph.negative):
        conditioning[0][1]["vace_strength"] = [strength]
    return graph


def several_vaces(*strengths):
    """A control video for each, all with the same reference."""
    graph = tiny_graphs.with_pixels(tiny_graphs.wan_text(), 2)
    graph.model = tiny_graphs.wan_vace().model
    for strength in strengths:
        graph = tiny_graphs.through(
            nodes_wan.WanVaceToVideo, graph, strength=strength, reference_image=graph.references[0]
        )
    return graph


def test_vace_with_strength_0():
    """The video is the same for any reference: the effect is 0, and attention is to a frame that the model makes."""
    assert torch.equal(vace(0.0, 2).sample()["samples"], vace(0.0, 3).sample()["samples"])
    assert not torch.equal(vace(1.0, 2).sample()["samples"], vace(1.0, 3).sample()["samples"])
    graph = vace(0.0)
    model, handle = captured(graph.model)
    latent = graph.sample(measured(model, regions=0))["samples"]
    assert torch.equal(latent, graph.sample()["samples"])
    attribution = handle.find(latent)
    assert WITHOUT_STRENGTH in attribution.notes and attribution.layer_maps(0, 0).maps["r2g_share"].any()
    effects = attribution.effects
    of_reference = [values for removal, values in effects.maps.items() if removal.owner == 0]
    assert of_reference and not any(values.any() for values in of_reference) and not effects.unmeasured


def test_vace_with_a_strength_says_nothing_of_it():
    attribution = capture(vace(0.5))
    assert GENERATED_ANEW in attribution.notes and "strength" not in attribution.summary()


@pytest.mark.parametrize(
    ("strengths", "said"),
    [
        ((1.0, 0.0), "control video 2 of 2 of VACE has strength 0"),
        ((0.0, 1.0, 0.0), "control video 1 and 3 of 3 of VACE has strength 0"),
        ((0.0, 0.0), WITHOUT_STRENGTH),
    ],
)
def test_several_controls_of_vace(strengths, said):
    attribution = capture(several_vaces(*strengths), mechanism="reference frames")
    assert any(said in note for note in attribution.notes)


@pytest.mark.parametrize("kind", ["flux", "u-net"])
@pytest.mark.parametrize("strength", [0.0, 0.7])
def test_tokens_of_0(kind, strength):
    redux = kind == "flux"
    attribution = capture(tagged(tiny_graphs.flux_redux(strength=strength)) if redux else scaled_tokens(strength))
    assert any("tokens of 'style tokens' are all 0" in note for note in attribution.notes) == (strength == 0)


def unet():
    """The tiny U-Net, with the last 4 of 9 tokens tagged."""
    graph = tiny_graphs.sd15_text()
    text = graph.positive
    graph.text_tokens = text[0][0].shape[1]
    longer = torch.cat([text[0][0], tiny_graphs.noise(8, 1, 4, text[0][0].shape[2])], 1)
    graph.positive = [[longer, text[0][1]]]
    return tagged(graph)


def scaled_tokens(strength):
    graph = unet()
    tokens, about = graph.positive[0]
    tokens = tokens.clone()
    tokens[:, graph.text_tokens :] *= strength
    graph.positive = [[tokens, about]]
    return graph


def scaling_patch(first, by):
    """As a node that strengthens a reference: it changes the values, and not what is attended to."""

    def patch(n, context, value, options):
        value = context.clone()
        value[:, first:] *= by
        return n, context, value

    return patch


@pytest.mark.parametrize("by", [0.0, 1.0, 3.0])
def test_values_that_a_patch_of_a_unet_scales(by):
    graph = unet()
    without = capture(graph)
    graph.model = graph.model.clone()
    graph.model.set_model_attn2_patch(scaling_patch(graph.text_tokens, by))
    attribution = capture(graph)
    said = f"another node multiplies the values of 'style tokens' by {by:g}"
    assert any(said in note for note in attribution.notes) == (by != 1)
    assert any("another node" in note for note in attribution.notes) == (by != 1)
    first, expected = (x.layer_maps(0, 0).maps["r2g_share"][:, 0] for x in (attribution, without))
    torch.testing.assert_close(first, expected)  # the softmax of the first step and layer is the same


def test_values_that_a_patch_changes_otherwise():
    graph = unet()
    graph.model = graph.model.clone()
    graph.model.set_model_attn2_patch(lambda n, context, value, options: (n, context, context.flip(1)))
    assert any("another node changes the values of 'style tokens'" in note for note in capture(graph).notes)


def test_tokens_that_a_patch_changes_are_still_skipped():
    graph = unet()
    graph.model = graph.model.clone()
    graph.model.set_model_attn2_patch(lambda n, context, value, options: (n, context * 2, value * 2))
    model, handle = captured(graph.model)
    attribution = handle.find(graph.sample(model)["samples"])
    assert not attribution.entries and any("has changed: whether" in reason for reason in attribution.skipped)


@pytest.mark.parametrize("by", [0.0, 1.0, 3.0])
def test_values_that_an_override_scales(by):
    """Of joint attention: another node's override gives PyTorch's kernel other values than the model has."""
    graph = kontext(sizes=((4, 8),), cfg=1.0)

    def override(attention, q, k, v, heads, *args, **kwargs):
        v = v.clone()
        v[..., -8:, :] *= by
        return attention_pytorch(q, k, v, heads, *args, **kwargs)

    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["optimized_attention_override"] = override
    attribution = capture(graph)
    said = f"another node multiplies the values of 'reference latent 1' by {by:g}"
    assert any(said in note for note in attribution.notes) == (by != 1)
    assert any("another node" in note for note in attribution.notes) == (by != 1)


COARSER = [torch.bfloat16, torch.float16]


def cast(x, kind, back):
    return x.to(kind).to(x.dtype) if back else x.to(kind)


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("kind", COARSER, ids=str)
@pytest.mark.parametrize("by", [0.0, -1.0, 0.5, 0.99, 1.0, 1.01, 3.0])
def test_rounding_to_a_coarser_type_is_no_change(by, kind, back):
    before = torch.cat([tiny_graphs.noise(3, 2, 5, 64), 1e-6 * tiny_graphs.noise(4, 2, 1, 64)], 1)
    groups = [TokenGroup("a", slice(0, 6), 6)]
    ways = [
        cast(cast(before, kind, back) * by, kind, back),  # in that type
        cast(before, kind, True) * by,
        cast(before * by, kind, back),
        (before.to(kind) * by).float(),
    ]
    for after in ways:
        said = [note.partition(":")[0] for note in notes_on(before, after, groups)]
        assert said == ([] if by == 1 else [f"another node multiplies the values of 'a' by {by:g}"])
    from_coarse = before.to(kind)
    for after in (from_coarse.float(), from_coarse.clone(), cast(from_coarse, torch.bfloat16, True)):
        assert notes_on(from_coarse, after, groups) == []


def test_what_is_nearly_the_same_is_not_said_to_be_multiplied_by_1():
    before = tiny_graphs.noise(3, 1, 4, 64)
    groups = [TokenGroup("a", slice(0, 4), 4)]
    noisy = (before + 0.01 * tiny_graphs.noise(4, 1, 4, 64)).bfloat16()
    for after in (before * 1.003, noisy, noisy.float()):
        assert [x.partition(":")[0] for x in notes_on(before, after, groups)] == [
            "another node changes the values of 'a'"
        ]


@pytest.mark.parametrize("back", [False, True])
@pytest.mark.parametrize("kind", COARSER, ids=str)
@pytest.mark.parametrize("by", [1.0, 0.99])
def test_an_override_that_attends_in_a_coarser_type(by, kind, back):
    graph = kontext(sizes=((4, 8),), cfg=1.0)

    def override(attention, q, k, v, heads, *args, **kwargs):
        v = v.to(kind)
        v[..., -8:, :] *= by
        v = v.to(q.dtype) if back else v
        q, k = (x.to(v.dtype) for x in (q, k))
        return attention_pytorch(q, k, v, heads, *args, **kwargs).to(torch.float32)

    graph.model = graph.model.clone()
    graph.model.model_options["transformer_options"]["optimized_attention_override"] = override
    notes = capture(graph).notes
    assert any("another node" in note for note in notes) == (by != 1)
    assert any("multiplies the values of 'reference latent 1' by 0.99" in note for note in notes) == (by != 1)


def test_a_factor_that_is_not_one_number():
    before = tiny_graphs.noise(3, 2, 6, 8)
    groups = [TokenGroup("a", slice(0, 3), 3), TokenGroup("b", slice(3, 6), 3)]
    after = before.clone()
    after[:, :3] *= torch.tensor([1.0, 2.0, 3.0])[:, None]
    assert [note.partition(":")[0] for note in notes_on(before, after, groups)] == [
        "another node changes the values of 'a'"
    ]
    after[:, :3] = before[:, :3] * -2
    after[:, 3:] = 0
    said = [note.partition(":")[0] for note in notes_on(before, after, groups)]
    assert said == ["another node multiplies the values of 'a' by -2", "another node multiplies the values of 'b' by 0"]
    assert notes_on(before, before.clone(), groups) == []
