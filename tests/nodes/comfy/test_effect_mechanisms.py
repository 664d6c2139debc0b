"""Effects by what the host itself does without a reference, and mechanisms that share no columns with the others."""

import comfy_extras.nodes_wan as nodes_wan
import pytest
import tiny_graphs
import tiny_models
import torch
from by_hand import ByHand
from effect_oracle import Counterfactuals, rms
from effects_of import close, measured
from ip_adapter_standin import SETTINGS, Replacement, StandIn, weights
from steered_graphs import tagged
from tiny_graphs import TWO

from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.comfy.captured import capture_with
from i2am_pack.nodes.comfy.handle import Capture
from i2am_pack.nodes.comfy.handle import Settings as CaptureSettings
from i2am_pack.nodes.comfy.located import Regions
from i2am_pack.nodes.comfy.measured import effect_with
from i2am_pack.nodes.comfy.removals import Settings
from i2am_pack.nodes.comfy.tags import KEY
from i2am_pack.nodes.comfy.tags import tag as make_tag


def evaluated(graph, at=(), removals=None, everything=lambda queries, keys: (), branch=0, **sampling):
    """The predictions of a run without anything of ours, and its latent."""
    by_hand = Counterfactuals(everything, removals or {}, branch, at)
    return by_hand, graph.sample(by_hand.on(graph.model), **sampling)["samples"]


# Joint attention: the host's own run without the reference


def without_vision(graph):
    graph.positive[0][1].pop("clip_vision_output")
    return graph


def wan_fun_without():
    graph = tiny_graphs.with_pixels(tiny_graphs._video(tiny_models.wan_fun_reference(), 1), 2)
    return tiny_graphs.through(nodes_wan.Wan22FunControlToVideo, graph)


def kontext(method=None, sizes=TWO, reference=2):
    return tiny_graphs.flux_kontext(method=method, sizes=sizes, reference=reference, cfg=3.0)


def first(make, **settings):
    return lambda: make(sizes=TWO[:1], **settings)


def last(make, **settings):
    return lambda: make(sizes=TWO[1:], reference=3, **settings)


EQUAL = {  # the graph, the host's without it, and what is taken away
    "kontext, the last": (kontext, first(kontext), 1),
    "kontext, all": (kontext, lambda: tiny_graphs.flux_text(cfg=3.0), "all references"),
    "kontext by index, the last": (lambda: kontext("index"), first(kontext, method="index"), 1),
    "flux2, the last": (tiny_graphs.flux2_edit, lambda: tiny_graphs.flux2_edit(sizes=((2, 4),)), 1),
    "qwen, the last": (tiny_graphs.qwen_edit, first(tiny_graphs.qwen_edit), 1),
    "qwen, all": (tiny_graphs.qwen_edit, lambda: tiny_graphs.qwen_edit(sizes=()), "all references"),
    "hidream-e1": (tiny_graphs.hidream_e1, tiny_graphs.hidream_text, 0),
    "redux": (lambda: tagged(tiny_graphs.flux_redux()), tiny_graphs.flux_text, 0),
    "uso, the style": (
        tiny_graphs.flux_uso,
        lambda: tiny_graphs.flux_kontext(sizes=((4, 8),), reference=12, method="uxo/uno"),
        1,
    ),
    "phantom, the last": (tiny_graphs.wan_phantom, lambda: tiny_graphs.wan_phantom(images=1), 1),
    "phantom, all": (tiny_graphs.wan_phantom, tiny_graphs.wan_text, "all references"),
    "wan fun": (tiny_graphs.wan_fun_reference, wan_fun_without, 0),
    "hunyuan custom": (tiny_graphs.hunyuan_video_custom, tiny_graphs.hunyuan_video_text, 0),
    "hunyuan 1.5": (tiny_graphs.hunyuan_video_15, lambda: without_vision(tiny_graphs.hunyuan_video_15()), 0),
}
OTHERWISE = {  # where it is another run, and why
    "kontext, the first: the last moves to its place": (kontext, last(kontext), 0),
    "qwen, the first: the last gets its number": (tiny_graphs.qwen_edit, last(tiny_graphs.qwen_edit), 0),
    "phantom, the first: the last gets its frame": (
        tiny_graphs.wan_phantom,
        lambda: tiny_graphs.wan_phantom(images=1, reference=3),
        0,
    ),
    "omnigen2, all: the picture's place is after theirs": (
        tiny_graphs.omnigen2_edit,
        lambda: tiny_graphs.omnigen2_edit(sizes=()),
        "all references",
    ),
    "wan i2v: without CLIP, the host attends to the text in the image's place": (
        tiny_graphs.wan_i2v,
        lambda: without_vision(tiny_graphs.wan_i2v()),
        0,
    ),
}


def effect_and_the_hosts(make, make_without, owner):
    """At the second step, which has a latent that no other run has, and another batch where guidance is on."""
    graph, other = make(), make_without()
    own, plain = evaluated(graph)
    without, _ = evaluated(other, at=own.noisy)
    effects = measured(graph, plain=plain, probe_steps=2).effects
    return effects.maps[Removal(1, owner)], rms(own.with_[1], without.with_[1]), own.with_[1]


@pytest.mark.parametrize("case", EQUAL)
def test_taking_away_is_what_the_host_does_without_the_reference(case):
    close(*effect_and_the_hosts(*EQUAL[case]))


@pytest.mark.parametrize("case", OTHERWISE)
def test_where_places_or_lengths_matter_the_hosts_own_run_is_another(case):
    effect, expected, _ = effect_and_the_hosts(*OTHERWISE[case])
    assert (effect - expected).abs().max() > 0.05 * expected.max()


# The noise floor


def test_there_is_no_noise_where_the_branch_was_evaluated_alone():
    effects = measured(tiny_graphs.flux_kontext(cfg=1.0), probe_steps=2).effects
    assert not effects.floor.any()


def test_the_noise_of_a_batch_is_small():
    effects = measured(tiny_graphs.flux_kontext(cfg=3.0), probe_steps=2).effects
    assert effects.floor.shape == effects.maps[Removal(0, 0)].shape
    assert effects.floor.max() < 2e-6  # float32 of predictions of about 4
    assert effects.certainty(0) == "measured"


# References that do nothing


def test_a_reference_that_the_host_drops_has_no_effect():
    """Given to a model with no place for it, in Chroma; and where an adapter begins after the measured steps."""
    graph = adapted(tiny_graphs.sd15_text(cfg=1.0), start_at=0.4)
    attribution = measured(graph, sampling={"steps": 4}, probe_steps=1, routes=("everything", "directly"))
    effects = attribution.effects
    assert [r.name for r in attribution.references] == ["IP-Adapter"]
    assert len(effects.maps) == 2 and not any(x.any() for x in effects.maps.values())
    assert effects.certainty(0) == "none"
    late = measured(graph, sampling={"steps": 4}, probe_steps=4).effects
    assert [bool(late.maps[Removal(step, 0)].any()) for step in range(4)] == [False, False, True, True]


def test_of_a_reference_that_begins_late_it_is_said_that_it_acts_in_other_steps():
    """The model reads it in steps 2 and 3 of 4: of the first two, no effect is no answer."""
    graph = adapted(tiny_graphs.sd15_text(cfg=1.0), start_at=0.4)
    first = measured(graph, sampling={"steps": 4}, probe_steps=2)
    why = "the model reads it in none of the steps that were measured: raise probe_steps of I2AM Effect"
    assert first.effects.unmeasured == {"reference 0 ('IP-Adapter') in other steps": why}
    assert f"effect of reference 0 ('IP-Adapter') in other steps: not measured, {why}" in first.summary()
    assert measured(graph, sampling={"steps": 4}, probe_steps=4).effects.unmeasured == {}


def begins_late():
    """Kontext, of whose two references the first half of the run knows nothing."""
    graph = tiny_graphs.flux_kontext()
    ((tokens, settings),) = graph.positive
    bare = {name: value for name, value in settings.items() if name != "reference_latents"}
    early, late = {"start_percent": 0.0, "end_percent": 0.5}, {"start_percent": 0.5, "end_percent": 1.0}
    graph.positive = [[tokens, bare | early], [tokens, settings | late]]
    return graph


def test_regions_are_measured_in_the_first_measured_step_that_reads_their_reference():
    settings = {"sampling": {"steps": 4}, "probe_steps": 4, "cuts": ("taken away",)}
    effects = measured(begins_late(), regions=2, **settings).effects
    first = next(step for step in range(4) if effects.maps[Removal(step, 0)].any())
    assert first > 0
    for reference in range(2):
        regions = effects.regions[reference, "taken away"]
        assert regions.step == first and regions.values.any(-1).all()
    whole = measured(begins_late(), regions=1, **settings).effects
    assert torch.equal(whole.regions[1, "taken away"].values[:, 0], whole.maps[Removal(first, 1)])


def test_regions_of_a_reference_that_no_measured_step_reads_change_nothing():
    effects = measured(begins_late(), sampling={"steps": 4}, probe_steps=1, regions=2, cuts=("taken away",)).effects
    assert not effects.regions[0, "taken away"].values.any()
    assert {f"reference {n} ('reference latent {n + 1}') in other steps" for n in range(2)} == set(effects.unmeasured)


def test_an_adapter_without_weight_has_no_effect():
    graph = adapted(tiny_graphs.sd15_text(cfg=3.0), weight=0.0)
    effects = measured(graph, probe_steps=2).effects
    assert effects.strength(0) <= 2 * float(effects.floor.max())
    assert effects.certainty(0) in ("none", "too small to measure")
    alone = measured(adapted(tiny_graphs.sd15_text(cfg=1.0), weight=0.0), probe_steps=2).effects
    assert alone.certainty(0) == "none"


def tagged_context(others, batch=1, cfg=1.0, values=None):
    """A U-Net whose context is two references of 4 and 9 tokens on grids, after so many other tokens."""
    graph = tiny_graphs.sd15_text(lengths=(others + 13, others + 13), batch=batch, cfg=cfg)
    for conditioning in (graph.positive, graph.negative):
        tokens = conditioning[0][0]
        if values is not None:
            tokens[:, others:] = values
        parts = ((others, (2, 2)), (others + 4, (3, 3)))
        conditioning[0][1][KEY] = [
            make_tag(f"reference {n}", start, tokens[:, start : start + h * w], (h, w))
            for n, (start, (h, w)) in enumerate(parts)
        ]
    return graph


def in_calls_of(keys, columns, strength=0.0):
    hands = [ByHand(strength, list(columns))]
    return lambda queries, seen: hands if seen == keys else ()


def test_values_of_zero_are_no_effect_in_a_softmax_of_its_own():
    graph = tagged_context(0, values=0.0)  # a U-Net's keys and values have no bias
    effects = measured(graph, probe_steps=1).effects
    assert {effects.certainty(owner) for owner in (0, 1, "all references")} == {"none"}


def test_values_of_zero_dilute_the_rest_in_joint_attention():
    """They take attention from other columns: an effect that is exactly what columns that are not there give."""
    graph = tagged_context(4, values=0.0)
    by_hand, plain = evaluated(
        graph, removals={"all references": in_calls_of(17, range(4, 17))}, everything=in_calls_of(17, [0], 1.0)
    )
    effects = measured(graph, plain=plain, probe_steps=1).effects
    close(effects.maps[Removal(0, "all references")], by_hand.effect(0, "all references"), by_hand.with_[0])


# Cross-attention


@pytest.mark.parametrize(("others", "batch", "cfg"), [(4, 2, 3.0), (0, 1, 3.0), (4, 1, 1.0)])
def test_references_in_the_context_of_a_unet(others, batch, cfg):
    graph, keys = tagged_context(others, batch, cfg), others + 13
    columns = {0: range(others, others + 4), 1: range(others + 4, keys), "all references": range(others, keys)}
    removals = {owner: in_calls_of(keys, chosen) for owner, chosen in columns.items()}
    regions = [[others + 4 + 3 * y + x for y in ys for x in xs] for ys in ((0, 1), (2,)) for xs in ((0, 1), (2,))]
    removals |= {("region", n): in_calls_of(keys, chosen) for n, chosen in enumerate(regions)}
    by_hand, plain = evaluated(graph, removals=removals, everything=in_calls_of(keys, [0], 1.0))
    effects = measured(graph, plain=plain, probe_steps=2, regions=2).effects
    for step in range(2):
        for owner in columns:
            close(effects.maps[Removal(step, owner)], by_hand.effect(step, owner), by_hand.with_[step])
    for n in range(4):
        effect = effects.regions[1, "taken away"].values[:, n]
        close(effect, by_hand.effect(0, ("region", n)), by_hand.with_[0])


def adapted(graph, weight=0.6, images=1, tokens=16, make=StandIn, **settings):
    seen = [tiny_graphs.noise(base, images, tokens, 8) for base in (40, 60)]
    graph.model = make.apply(graph.model, weights(False, 0), *seen, False, **{**SETTINGS, "weight": weight} | settings)
    return graph


@pytest.mark.parametrize("shape", [{"cfg": 1.0}, {"cfg": 3.0, "batch": 2}])
def test_an_adapter_is_taken_away_as_the_graph_without_it(shape):
    graph = adapted(tiny_graphs.sd15_text(**shape), images=2)
    own, plain = evaluated(graph)
    without = {
        "all references": evaluated(tiny_graphs.sd15_text(**shape), at=own.noisy)[0],
        1: evaluated(adapted(tiny_graphs.sd15_text(**shape)), at=own.noisy)[0],
    }
    effects = measured(graph, plain=plain, probe_steps=2).effects
    for step in range(2):
        for owner, other in without.items():
            close(effects.maps[Removal(step, owner)], rms(own.with_[step], other.with_[step]), own.with_[step])


def test_the_class_token_of_an_adapter_goes_with_its_image():
    graph = adapted(tiny_graphs.sd15_text(cfg=1.0), tokens=257)
    own, plain = evaluated(graph)
    without, _ = evaluated(tiny_graphs.sd15_text(cfg=1.0), at=own.noisy)
    effects = measured(graph, plain=plain, probe_steps=1, regions=1, cuts=("taken away", "only this left")).effects
    assert effects.owners == [0]
    close(effects.maps[Removal(0, 0)], rms(own.with_[0], without.with_[0]), own.with_[0])
    taken, left = (effects.regions[0, cut].values[:, 0] for cut in ("taken away", "only this left"))
    for part in (taken, left):  # without the class token in the one, and with nothing else in the other
        assert not torch.allclose(part, effects.maps[Removal(0, 0)], rtol=1e-3)


def test_one_region_is_the_whole_reference_by_both_cuts():
    effects = measured(
        tiny_graphs.flux_kontext(cfg=3.0), probe_steps=1, regions=1, cuts=("taken away", "only this left")
    ).effects
    for owner in (0, 1):
        whole = effects.maps[Removal(0, owner)]
        for cut in ("taken away", "only this left"):
            assert torch.equal(effects.regions[owner, cut].values[:, 0], whole)


# References in the picture's own rows


LEFT = torch.zeros(1, 64, 64)
LEFT[:, :, :32] = 1


@pytest.mark.parametrize(("name", "shape"), [("flux_fill_canvas", {}), ("sd15_canvas", {"batch": 2, "cfg": 3.0})])
def test_a_canvas(name, shape):
    """On every grid of the model; what convolutions hand on from the reference stays."""
    graph = tiny_graphs.GRAPHS[name](size=(8, 8), **shape)
    first, sides = (7, (4,)) if name.startswith("flux") else (0, (8, 4))

    def steers(strength, directly):
        def by_hand(queries, keys):
            side = next((side for side in sides if queries == keys == first + side * side), None)
            if side is None:
                return ()
            cells = [(first + y * side + x, x < side // 2) for y in range(side) for x in range(side)]
            columns = [cell for cell, of_reference in cells if of_reference]
            rows = [cell for cell, of_reference in cells if not of_reference]
            return [ByHand(strength, columns, rows=rows if directly else None)]

        return by_hand

    removals = {route: steers(0.0, route == "directly") for route in ("everything", "directly")}
    by_hand, plain = evaluated(graph, removals=removals, everything=steers(1.0, False), steps=1)
    effects = measured(
        graph,
        "canvas regions",
        sampling={"steps": 1},
        plain=plain,
        marked=Regions(reference=LEFT),
        probe_steps=1,
        routes=("everything", "directly"),
    ).effects
    for route in removals:
        close(effects.maps[Removal(0, 0, route)], by_hand.effect(0, route), by_hand.with_[0])


def test_the_latents_of_a_canvas_keep_what_is_not_painted():
    """As the sampler's own: what the model predicts there is thrown away."""
    graph = tiny_graphs.sd15_canvas(cfg=1.0)
    effects = measured(graph, "canvas regions", marked=Regions(reference=LEFT), probe_steps=1).effects
    unpainted = graph.latent["samples"][..., :4]
    for latent in effects.predictions.values():
        torch.testing.assert_close(latent[..., :4], unpainted, rtol=1e-4, atol=1e-4)
    with_, without = effects.predictions[0, None], effects.predictions[0, 0]
    assert not torch.allclose(with_[..., 4:], without[..., 4:], rtol=1e-2)


def test_reference_only():
    graph = tiny_graphs.sd15_reference_only()

    def steers(strength):
        def by_hand(queries, keys):
            return [ByHand(strength, range(queries, keys))] if keys == 2 * queries else ()

        return by_hand

    by_hand, plain = evaluated(graph, removals={0: steers(0.0)}, everything=steers(1.0), steps=1)
    effects = measured(graph, sampling={"steps": 1}, plain=plain, probe_steps=1).effects
    close(effects.maps[Removal(0, 0)], by_hand.effect(0, 0), by_hand.with_[0])


# Branches, areas and masks


def test_the_negative_branch():
    graph = tagged_context(4, cfg=3.0)
    columns = in_calls_of(17, range(4, 17))
    by_hand, plain = evaluated(graph, removals={"all": columns}, everything=in_calls_of(17, [0], 1.0), branch=1)
    effects = measured(graph, plain=plain, branch="negative", probe_steps=2).effects
    for step in range(2):
        close(effects.maps[Removal(step, "all references")], by_hand.effect(step, "all"), by_hand.with_[step])


def with_entries(graph, *changes):
    ((tokens, about),) = graph.positive
    graph.positive = [[tokens, about | change] for change in changes]
    return graph


MASK = torch.zeros(1, 8, 6)
MASK[:, :, :3] = 0.7
ENTRIES = {
    "two": ({}, {"strength": 0.5}),
    "a mask and a default": ({"mask": MASK, "mask_strength": 1.0, "set_area_to_bounds": False}, {"default": True}),
    "an area beside all": ({}, {"area": (4, 4, 2, 2), "strength": 2.0}),
    "one that ends": ({}, {"start_percent": 0.5, "end_percent": 1.0}),
}


@pytest.mark.parametrize("case", ENTRIES)
def test_conditionings_that_are_put_together(case):
    """The effect is of what ComfyUI makes of all of them: of an area, the call is for fewer tokens of the picture."""
    graph = with_entries(tiny_graphs.flux_kontext(sizes=TWO[:1]), *ENTRIES[case])

    def steers(strength, directly=False):
        def by_hand(queries, keys):  # 7 of the text, the picture's 12, or 4 of an area, and 8 of the reference
            rows = range(7, keys - 8) if directly else None
            return [ByHand(strength, range(keys - 8, keys), rows=rows)] if keys in (27, 19) else ()

        return by_hand

    removals = {route: steers(0.0, route == "directly") for route in ("everything", "directly")}
    by_hand, plain = evaluated(graph, removals=removals, everything=steers(1.0))
    effects = measured(graph, plain=plain, probe_steps=2, routes=("everything", "directly")).effects
    assert not effects.unmeasured
    for step in range(2):
        for route in removals:
            close(effects.maps[Removal(step, 0, route)], by_hand.effect(step, route), by_hand.with_[step])


def test_of_many_references_each_is_taken_away_in_the_first_step_alone():
    effects = measured(tiny_graphs.flux_kontext(sizes=((2, 2),) * 5, cfg=1.0), probe_steps=2).effects
    assert [effects.steps(owner) for owner in range(5)] == [[0]] * 5
    assert effects.steps("all references") == [0, 1]


def test_each_capture_on_the_line_has_the_effects_of_its_branch():
    graph = tagged_context(4, cfg=3.0)
    without = tiny_graphs.sd15_text(text=5).positive
    handles = [Capture(CaptureSettings("auto", branch, "off", 2**29)) for branch in ("positive", "negative")]
    model = graph.model
    for handle in handles:
        model = capture_with(model, handle)
    latent = graph.sample(effect_with(model, Settings(2, without=without)))["samples"]
    for handle in handles:
        got = handle.find(latent).effects
        alone = measured(graph, branch=handle.settings.branch, plain=latent, probe_steps=2, without=without).effects
        assert got.maps.keys() == alone.maps.keys() and len(got.maps) == 8
        assert all(torch.equal(got.maps[removal], alone.maps[removal]) for removal in got.maps)


# The text

TEXT = {  # the graph, the keys of its calls, the columns of the text, and rows of the picture where there are others
    "flux": (tiny_graphs.flux_text, 19, range(7), range(7, 19)),
    "kontext": (lambda: tiny_graphs.flux_kontext(cfg=3.0), 33, range(7), range(7, 19)),
    "redux": (lambda: tagged(tiny_graphs.flux_redux()), 748, range(7), range(736, 748)),
    "uso": (tiny_graphs.flux_uso, 219, range(192, 199), range(199, 211)),
    "flux2": (tiny_graphs.flux2_edit, 538, range(512), range(512, 524)),
    "chroma": (tiny_graphs.chroma_text, 19, range(7), range(7, 19)),
    "qwen": (lambda: tiny_graphs.qwen_edit(batch=2), 33, range(7), range(7, 19)),
    "sd3": (tiny_graphs.sd3_text, 19, range(7), range(7, 19)),
    "hidream": (tiny_graphs.hidream_text, 33, range(12, 33), range(12)),
    "lumina": (tiny_graphs.lumina2_text, 19, range(7), range(7, 19)),
    "z-image": (tiny_graphs.z_image_text, 64, range(32), range(32, 44)),
    "omnigen2": (tiny_graphs.omnigen2_edit, 33, range(7), range(21, 33)),
    "sd15": (lambda: tiny_graphs.sd15_text(batch=2), 7, range(7), None),
    "sdxl": (tiny_graphs.sdxl_text, 7, range(7), None),
    "tagged": (lambda: tagged_context(4, cfg=3.0), 17, range(4), None),
    "wan": (tiny_graphs.wan_text, 9, range(9), None),
    "wan i2v": (tiny_graphs.wan_i2v, 9, range(9), None),
    "wan phantom": (tiny_graphs.wan_phantom, 9, range(9), None),
    "hunyuan": (tiny_graphs.hunyuan_video_text, 21, None, None),
    "hunyuan 1.5": (tiny_graphs.hunyuan_video_15, 791, None, None),
}


def places_in_hunyuan(name, graph):
    """Newer ComfyUI cores have all texts before the video; SigLIP's 729 tokens are before both texts."""
    texts, vision, video = (9, 0, 12) if name == "hunyuan" else (743, 729, 48)
    start = tiny_graphs.hunyuan_start(graph, texts)
    first_text = (0 if start else video) + vision
    return range(first_text, first_text + texts - vision), range(start, start + video)


@pytest.mark.parametrize("name", TEXT)
def test_the_text(name):
    """All its tokens by whichever encoder, and none of references among them. Pooled text is in no attention."""
    make, keys, columns, picture = TEXT[name]
    graph = make()
    if columns is None:
        columns, picture = places_in_hunyuan(name, graph)

    def steers(strength, rows=None):
        hands = [ByHand(strength, list(columns), rows=rows)]
        return lambda queries, seen: hands if seen == keys else ()

    removals = {"everything": steers(0.0), "directly": steers(0.0, picture and list(picture))}
    by_hand, plain = evaluated(graph, removals=removals, everything=steers(1.0), steps=1)
    effects = measured(
        graph, sampling={"steps": 1}, plain=plain, probe_steps=1, text=True, routes=("everything", "directly")
    ).effects
    assert "text" in effects.owners and effects.unmeasured.keys() <= {"references"}  # some graphs have none
    for route in removals:
        close(effects.maps[Removal(0, "text", route)], by_hand.effect(0, route), by_hand.with_[0])


def test_a_shorter_text_that_comfyui_repeats_is_taken_away_in_all_its_copies():
    """Two conditionings of 17 and 34 tokens, in one batch of 34. By hand, each alone: their mean is the prediction."""
    graph = tagged_context(4)
    ((tokens, about),) = graph.positive
    entries = [[tokens, about], [tiny_graphs.noise(9, 1, 34, tokens.shape[2]), about]]
    graph.positive = entries
    own, plain = evaluated(graph, steps=1)
    effects = measured(graph, sampling={"steps": 1}, plain=plain, probe_steps=1, text=True).effects
    columns = {"text": ([*range(4)], [*range(4), *range(17, 34)]), "all references": (range(4, 17), range(4, 17))}
    for owner, of_each in columns.items():
        without = []
        for entry, keys, chosen in zip(entries, (17, 34), of_each, strict=True):
            graph.positive = [entry]
            alone, _ = evaluated(graph, own.noisy, {owner: in_calls_of(keys, chosen)}, steps=1)
            without.append(alone.without[0][owner])
        close(effects.maps[Removal(0, owner)], rms(own.with_[0], sum(without) / 2), own.with_[0])


class WithoutText(Replacement):
    """The pack's replacement, whose attention to the text counts 0."""

    def __call__(self, q, k, v, extra_options):
        return super().__call__(q, k, 0 * v, extra_options)


def test_the_text_beside_an_adapter():
    graph, other = (adapted(tiny_graphs.sd15_text(cfg=1.0)) for _ in range(2))
    blocks = other.model.model_options["transformer_options"]["patches_replace"]["attn2"]
    for block, patch in blocks.items():
        blocks[block] = WithoutText(patch.callback[0], **patch.kwargs[0])
    own, plain = evaluated(graph)
    without, _ = evaluated(other, at=own.noisy, everything=in_calls_of(7, range(7)))
    effects = measured(graph, plain=plain, probe_steps=2, text=True).effects
    for step in range(2):
        close(effects.maps[Removal(step, "text")], rms(own.with_[step], without.with_[step]), own.with_[step])


def test_the_text_beside_an_adapter_is_without_references_that_are_tagged_in_it():
    """In the adapter's layers only the tags say where references are in the text."""
    graph, other = (adapted(tagged_context(4)) for _ in range(2))
    blocks = other.model.model_options["transformer_options"]["patches_replace"]["attn2"]
    for block, patch in blocks.items():
        blocks[block] = WithoutFirstFour(patch.callback[0], **patch.kwargs[0])
    own, plain = evaluated(graph)
    without, _ = evaluated(other, at=own.noisy, everything=in_calls_of(17, range(4)))
    effects = measured(graph, plain=plain, probe_steps=1, text=True).effects
    close(effects.maps[Removal(0, "text")], rms(own.with_[0], without.with_[0]), own.with_[0])


class WithoutFirstFour(Replacement):
    """The pack's replacement, whose attention to the text is to the columns behind the fourth."""

    def __call__(self, q, k, v, extra_options):
        return super().__call__(q, k[:, 4:], v[:, 4:], extra_options)
