"""Steering in the circumstances of real graphs: what it must equal, what stands beside it, and where it is refused."""

import copy

import comfy.ldm.modules.attention
import comfy.model_management
import comfy.samplers
import comfy_extras.nodes_easycache as nodes_easycache
import comfy_extras.nodes_pag as nodes_pag
import comfy_extras.nodes_slg as nodes_slg
import pytest
import tiny_graphs
import torch
from attention_packs import forwards, transformers
from by_hand import ByHand
from comfy import context_windows
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from ip_adapter_standin import SETTINGS, StandIn, weights
from mechanisms import steered, with_strength_of
from steered_oracle import Run

from i2am_pack.i2am_core import MapKind, Selection, maps
from i2am_pack.nodes.comfy.captured import capture_with
from i2am_pack.nodes.comfy.consumer_watch import ConsumerWatch
from i2am_pack.nodes.comfy.consumers import Consumer
from i2am_pack.nodes.comfy.consumers.steer import ROW_COUPLING
from i2am_pack.nodes.comfy.handle import Capture, Settings
from i2am_pack.nodes.comfy.run import watched
from i2am_pack.nodes.tag_reference import I2AMTagReference


def close(one, other, rtol=1e-4):
    torch.testing.assert_close(one, other, rtol=rtol, atol=1e-5 * max(10, float(other.abs().max())))


def differ(one, other):
    assert (one - other).abs().max() > 0.01 * float(other.abs().max())


def kontext(**shape):
    return tiny_graphs.flux_kontext(**{"cfg": 3.0} | shape)


def tagged(graph):
    tokens, about = graph.positive[0]
    before = [[tokens[:, : graph.text_tokens], about]]
    graph.positive = I2AMTagReference.execute(before, graph.positive).args[0]
    return graph


def region(height, width, *cells):
    mask = torch.zeros(1, height, width)
    for y, x in cells:
        mask[0, y, x] = 1
    return mask


# What it must equal


def test_at_strength_1_the_hosts_own_kernel_runs():
    graph = kontext()
    model = steered(graph.model, 1.0, reference=7, layers="of no model")
    assert torch.equal(graph.sample(model)["samples"], graph.sample()["samples"])


@pytest.mark.parametrize("selection", [{"steps": "1"}, {"layers": "single*"}, {"heads": "1", "layers": "double 0"}])
def test_a_call_that_is_not_chosen_reaches_the_kernel_as_it_is(selection):
    graph, seen, plain = kontext(), [], []

    def on(model, calls):
        def override(attention, q, k, v, heads, *args, **kwargs):
            options = kwargs["transformer_options"]
            calls.append((options["block_type"], float(options["sigmas"][0]), k.shape, kwargs.get("mask")))
            return attention(q, k, v, heads, *args, **kwargs)

        model = model.clone()
        model.model_options["transformer_options"]["optimized_attention_override"] = override
        return model

    graph.sample(on(graph.model, plain))
    first_sigma = plain[0][1]
    graph.sample(steered(on(graph.model, seen), 0.3, **selection))
    chosen = {
        "steps": lambda kind, sigma: sigma != first_sigma,
        "layers": lambda kind, sigma: kind == "single",
    }.get(next(iter(selection)), lambda kind, sigma: None)
    assert len(seen) == len(plain)
    for (kind, sigma, keys, mask), (_, _, expected, _) in zip(seen, plain, strict=True):
        assert keys == expected
        if chosen(kind, sigma) is not None:
            assert (mask is not None) == chosen(kind, sigma)
    if "heads" in selection:
        assert sum(mask is not None for *_, mask in seen) == 2


def without_images(make, **shape):
    return make(sizes=(), **shape)


def ip_adapter(with_it=True, **shape):
    graph = tiny_graphs.sd15_text(**{"cfg": 1.0} | shape)
    if with_it:
        seen = [tiny_graphs.noise(base, 1, 16, 8) for base in (40, 60)]
        graph.model = StandIn.apply(graph.model, weights(False, 0), *seen, False, **SETTINGS)
    return graph


WITHOUT = {
    # name: the graph, and the host's own without its references
    "kontext": (kontext, lambda: without_images(kontext)),
    "flux2": (
        lambda: tiny_graphs.flux2_edit(cfg=3.0),
        lambda: without_images(tiny_graphs.flux2_edit, cfg=3.0),
    ),
    "qwen": (lambda: tiny_graphs.qwen_edit(cfg=3.0), lambda: without_images(tiny_graphs.qwen_edit, cfg=3.0)),
    "wan phantom": (
        lambda: tiny_graphs.wan_phantom(cfg=1.0),
        lambda: tiny_graphs.wan_text(cfg=1.0),
    ),
    "redux": (lambda: tagged(tiny_graphs.flux_redux()), tiny_graphs.flux_text),
    "ip-adapter": (ip_adapter, lambda: ip_adapter(False)),
}


@pytest.mark.parametrize("by", ["attention", "output"])
@pytest.mark.parametrize("name", WITHOUT)
def test_a_muted_reference_is_the_hosts_own_run_without_it(name, by):
    """Where positions and lengths do not otherwise matter: OmniGen2 moves the picture's, HiDream-E1 its rows."""
    make, without = WITHOUT[name]
    graph, bare = make(), without()
    muted = graph.sample(steered(graph.model, 0.0, by, branch="both"))["samples"]
    differ(muted, graph.sample()["samples"])
    close(muted, bare.sample()["samples"])


def test_directly_leaves_the_roundabout_way():
    graph = kontext()
    everything, directly = (
        graph.sample(steered(graph.model, 0.0, through=through))["samples"] for through in ("everything", "directly")
    )
    differ(everything, directly)


REGIONS = {
    "of the reference": ({"reference": 0, "reference_region": region(2, 4, (0, 1), (1, 2), (1, 3))}, {"reference": 0}),
    "of the picture": (
        {"through": "directly", "generated_region": region(4, 3, (0, 1), (2, 2), (3, 0), (3, 1))},
        {"through": "directly"},
    ),
}


@pytest.mark.parametrize("strength", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("where", REGIONS)
def test_a_region_and_its_complement_are_all(where, strength):
    graph = kontext()
    part, whole = REGIONS[where]
    complement = {name: 1 - x if isinstance(x, torch.Tensor) else x for name, x in part.items()}
    both = steered(steered(graph.model, strength, **part), strength, **complement)
    close(graph.sample(both)["samples"], graph.sample(steered(graph.model, strength, **whole))["samples"])


@pytest.mark.parametrize("by", ["attention", "output"])
def test_strengths_multiply(by):
    graph = kontext()
    one_after_the_other = steered(steered(graph.model, 0.5, by), 4.0, by)
    close(graph.sample(one_after_the_other)["samples"], graph.sample(steered(graph.model, 2.0, by))["samples"])
    undone = steered(steered(graph.model, 0.5, by), 2.0, by)
    close(graph.sample(undone)["samples"], graph.sample()["samples"])


def test_in_a_softmax_of_its_own_too_a_region_and_its_complement_are_all():
    """But for the class token, which has no place: it is one of 257."""
    graph = tiny_graphs.wan_i2v(cfg=1.0)
    part = region(16, 16, *((y, x) for y in range(9) for x in range(16)))
    both = steered(steered(graph.model, 0.3, reference_region=part), 0.3, reference_region=1 - part)
    latent, whole = (graph.sample(model)["samples"] for model in (both, steered(graph.model, 0.3)))
    plain = graph.sample()["samples"]
    assert (latent - whole).abs().max() < 0.02 * (latent - plain).abs().max()


def test_references_that_are_muted_one_by_one_leave_nothing():
    graph = tiny_graphs.wan_flf2v(cfg=1.0)
    one_by_one = steered(steered(graph.model, 0.0, reference=0), 0.0, reference=1)
    close(graph.sample(one_by_one)["samples"], graph.sample(steered(graph.model, 0.0))["samples"])


def test_an_image_that_has_another_place_in_the_negative_is_the_same():
    """Reference 1 is the negative's only one, and has number 0 there."""
    graph = kontext(negative=False)
    second = {"samples": graph.references[1]}
    graph.negative = tiny_graphs.run(tiny_graphs.nodes_edit_model.ReferenceLatent, graph.negative, second)[0]

    def by_hand(queries, keys):
        columns = {33: range(27, 33), 25: range(19, 25)}.get(keys)
        return [ByHand(0.0, columns)] if columns else ()

    latent = graph.sample(steered(graph.model, 0.0, reference=1))["samples"]
    close(latent, graph.sample(Run(by_hand).on(graph.model))["samples"])
    first = graph.sample(steered(graph.model, 0.0, reference=0))["samples"]
    close(
        first,
        graph.sample(Run(lambda queries, keys: [ByHand(0.0, range(19, 27))] if keys == 33 else ()).on(graph.model))[
            "samples"
        ],
    )
    differ(first, latent)


# Circumstances


def test_guidance_in_two_calls():
    graph = kontext(lengths=(7, 12))

    def by_hand(queries, keys):
        return {33: [ByHand(0.3, range(19, 33))], 38: [ByHand(0.3, range(24, 38))]}.get(keys, ())

    close(graph.sample(steered(graph.model, 0.3))["samples"], graph.sample(Run(by_hand).on(graph.model))["samples"])


def test_a_region_for_each_picture_of_a_batch():
    graph = kontext(batch=2, cfg=1.0)
    masks = torch.cat([region(4, 3, (0, 0), (1, 1)), region(4, 3, (3, 2))])
    latent = graph.sample(steered(graph.model, 0.0, generated_region=masks))["samples"]
    for item, rows in enumerate(([7, 11], [18])):
        by_hand = [ByHand(0.0, range(19, 33), rows=rows)]
        run = Run(lambda queries, keys, steers=by_hand: steers if keys == 33 else ())
        close(latent[item], graph.sample(run.on(graph.model))["samples"][item])


def test_an_area_has_its_part_of_the_region():
    """Of a latent of 8 x 6 cells, an area of the lower 4 rows: a region of the last row of tokens is its last too."""
    graph = kontext(cfg=1.0)
    graph.positive[0][1]["area"] = (4, 6, 4, 0)
    mask = region(4, 3, (3, 0), (3, 1), (0, 2))
    by_hand = [ByHand(0.0, range(7 + 6, 7 + 6 + 14), rows=[7 + 3, 7 + 4])]
    run = Run(lambda queries, keys: by_hand if keys == 27 else ())
    latent = graph.sample(steered(graph.model, 0.0, generated_region=mask))["samples"]
    differ(latent, graph.sample()["samples"])
    close(latent, graph.sample(run.on(graph.model))["samples"])


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_context_windows(cfg):
    graph = tiny_graphs.wan_phantom(cfg=cfg)
    graph.latent = {"samples": torch.zeros(1, 16, 5, *graph.latent["samples"].shape[-2:])}
    handler = context_windows.IndexListContextHandler(
        context_windows.get_matching_context_schedule("standard_static"),
        context_windows.get_matching_fuse_method("pyramid"),
        context_length=3,
        context_overlap=1,
        dim=2,
    )
    graph.model = graph.model.clone()
    graph.model.model_options["context_handler"] = handler
    context_windows.create_prepare_sampling_wrapper(graph.model)
    mask = region(2, 3, (0, 1), (1, 2))

    def by_hand(queries, keys):
        """Newer cores put a further frame before those of a later window."""
        frames = {30: 3, 36: 4}.get(keys, 0)
        rows = [frame * 6 + cell for frame in range(frames) for cell in (1, 5)]
        return [ByHand(0.3, range(keys - 12, keys), rows=rows)] if frames else ()

    run = Run(by_hand)
    latent = graph.sample(steered(graph.model, 0.3, generated_region=mask))["samples"]
    differ(latent, graph.sample()["samples"])
    close(latent, graph.sample(run.on(graph.model))["samples"])


def test_every_conditioning_of_a_guider_is_steered():
    """DualCFGGuider has one in the middle: muted in the others alone, guidance would push away from it."""
    graph = kontext()
    latent = graph.latent["samples"]
    noise = tiny_graphs.noise(7, *latent.shape)

    def sample(model):
        guider = Guider_DualCFG(model)
        guider.set_conds(graph.positive, graph.negative, graph.negative)
        guider.set_cfg(3.0, 1.5)
        sampler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, latent, sampler, torch.tensor([1.0, 0.5, 0.0]), None, None, True, 0)

    run = Run(lambda queries, keys: [ByHand(0.3, range(19, 33), branches=(0, 1, 2))] if keys == 33 else ())
    expected = sample(run.on(graph.model))
    differ(expected, sample(graph.model))
    close(sample(steered(graph.model, 0.3)), expected)


class Alternates(Consumer):
    """In the positive branch, references count 8 times in one attention call and 0.1 times in the next."""

    acts = True

    def __init__(self):
        self.calls = 0

    def before(self, call, located):
        self.calls += 1
        return with_strength_of(call, located, (0.1, 8.0)[self.calls % 2])


def test_another_consumer_that_acts_may_change_each_layer_otherwise():
    graph, calls = kontext(), []
    other = ConsumerWatch(lambda: [Alternates()], acts=True)

    def by_hand(queries, keys):
        if keys != 33:
            return ()
        calls.append(keys)
        return [ByHand((0.1, 8.0)[len(calls) % 2], range(19, 33), branches=[0]), ByHand(0.5, range(19, 27))]

    latent = graph.sample(watched(steered(graph.model, 0.5, reference=0), other))["samples"]
    close(latent, graph.sample(Run(by_hand).on(graph.model))["samples"])


def on_a_canvas(queries, keys):
    side = {64: 8, 16: 4}.get(keys) if queries == keys else None
    cells = [y * side + x for y in range(side) for x in range(side // 2)] if side else []
    return [ByHand(0.3, cells)] if cells else ()


def skip_layers(model):
    scale = {"scale": 3.0, "start_percent": 0.0, "end_percent": 1.0}
    node = nodes_slg.SkipLayerGuidanceDiT
    return tiny_graphs.run(node, model, **scale, double_layers="0", single_layers="1")[0]


FURTHER = {
    "PAG of a U-Net": (
        tiny_graphs.sd15_canvas,
        lambda model: tiny_graphs.run(nodes_pag.PerturbedAttentionGuidance, model, 3.0)[0],
        on_a_canvas,
        {"mechanism": "canvas regions", "reference_region": region(2, 2, (0, 0), (1, 0))},
    ),
    "skipped layers": (
        kontext,
        skip_layers,
        lambda queries, keys: [ByHand(0.3, range(19, 33))] if keys == 33 else (),
        {},
    ),
}


@pytest.mark.parametrize("name", FURTHER)
def test_further_evaluations_for_guidance_are_steered_too(name):
    make, guided, by_hand, settings = FURTHER[name]
    graph = make()
    model, run = guided(graph.model), Run(by_hand)
    plain = Run(by_hand)
    graph.sample(plain.on(graph.model))
    latent = graph.sample(steered(model, 0.3, **settings))["samples"]
    expected = graph.sample(run.on(model))["samples"]
    assert run.made > plain.made  # there were further ones
    differ(latent, graph.sample(model)["samples"])
    close(latent, expected)


# Beside Capture


def captured(model, mechanism="auto"):
    handle = Capture(Settings(mechanism, "positive", "off", 2**29))
    return capture_with(model, handle), handle


BESIDE = {
    "muted": {"strength": 0.0},
    "directly": {"strength": 0.3, "through": "directly"},
    "a region of the reference": {"strength": 0.0, "reference": 0, "reference_region": region(2, 4, (0, 1), (1, 3))},
    "regions in a head": {
        "strength": 4.0,
        "reference": 0,
        "reference_region": region(2, 4, (0, 1), (1, 3)),
        "generated_region": region(4, 3, (0, 1), (2, 2)),
        "heads": "1",
    },
    "output": {"strength": -1.0, "by": "output", "reference": 0},
    "output in a region and a head": {
        "strength": 0.3,
        "by": "output",
        "generated_region": region(4, 3, (0, 1), (2, 2)),
        "heads": "0",
    },
}
FIRST, PICTURE = range(19, 27), range(7, 19)


def by_hand_of(settings):
    """The same settings for the tiny Kontext: its references are columns 19 to 26 and 27 to 32."""
    columns, rows = (FIRST if "reference" in settings else range(19, 33)), None
    if "reference_region" in settings:
        inside = settings["reference_region"].flatten() > 0
        columns = [column for column, chosen in zip(FIRST, inside, strict=True) if chosen]
    if "generated_region" in settings:
        inside = settings["generated_region"].flatten() > 0
        rows = [row for row, chosen in zip(PICTURE, inside, strict=True) if chosen]
    elif settings.get("through") == "directly":
        rows = PICTURE
    heads = [int(settings["heads"])] if "heads" in settings else None
    return ByHand(settings["strength"], list(columns), settings.get("by", "attention"), rows, heads)


@pytest.mark.parametrize("capture_first", [False, True])
@pytest.mark.parametrize("name", BESIDE)
def test_capture_beside_it_records_what_was_made(name, capture_first):
    graph, settings = kontext(), BESIDE[name]
    alone = graph.sample(steered(graph.model, **settings))["samples"]
    if capture_first:
        model, handle = captured(graph.model)
        model = steered(model, **settings)
    else:
        model, handle = captured(steered(graph.model, **settings))
    assert torch.equal(graph.sample(model)["samples"], alone)
    attribution = handle.find(alone)
    run = Run(lambda queries, keys: [by_hand_of(settings)] if keys == 33 else (), keep=True)
    graph.sample(run.on(graph.model))
    layers = len(attribution.layers)
    assert [note for note in attribution.notes if note.startswith("steered by I2AM Steer: ")]
    assert sum(attribution.skipped.values()) == 0 and attribution.captured_calls == len(run.counted) == 8
    for reference, columns in enumerate((FIRST, range(27, 33))):
        for layer in range(layers):
            entry = attribution.layer_maps(reference, layer)
            for step in range(2):
                made = run.counted[step * layers + layer][0][:, list(PICTURE)][..., list(columns)]  # [H, N, M]
                close(entry.maps["r2g_share"][0, step].double(), made.sum(-1))
                close(entry.maps["g2r_share"][0, step].double(), made.mean(-2))


@pytest.mark.parametrize("strength", [0.0, 0.3, -1.0])
def test_capture_beside_it_counts_an_ip_adapter_so_many_times(strength):
    graph = ip_adapter()
    plain, handle = captured(graph.model)
    before = handle.find(graph.sample(plain)["samples"])
    model, handle = captured(steered(graph.model, strength, "output" if strength < 0 else "attention"))
    after = handle.find(graph.sample(model)["samples"])
    selection = Selection(steps="0", layers="0")
    share, steered_share = (
        maps(x, MapKind("r2g", "share"), "unified", selection=selection).values for x in (before, after)
    )
    layer = before.layer_maps(0, 0).maps["r2g_share"][:, 0]
    close(after.layer_maps(0, 0).maps["r2g_share"][:, 0], layer * strength)
    if strength >= 0:
        close(steered_share, share * strength)


# Where it is refused, and what is left then


def untouched(graph, plain):
    """Nothing of ours is left: the model samples as before."""
    denoiser = graph.model.model.diffusion_model
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in denoiser.modules())
    assert torch.equal(graph.sample()["samples"], plain)


def sage_attention(attention, *args, **kwargs):
    """A stand-in for a pack's override, which is known by its name."""
    return attention(*args, **kwargs)


def with_override(model):
    model = model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = sage_attention
    return model


def remembers(model):
    """A pack that gives the denoiser's last answer again, and says so nowhere."""
    answers = {}

    def answer(executor, x, *args, **kwargs):
        if x.shape not in answers:
            answers[x.shape] = executor(x, *args, **kwargs)
            return answers[x.shape]
        return answers[x.shape]

    model = model.clone()
    model.add_wrapper_with_key("diffusion_model", "speed", answer)
    return model


def easy_cache(model):
    node = nodes_easycache.EasyCacheNode
    return tiny_graphs.run(node, model, 0.2, 0.0, 1.0, False)[0]


REFUSED = {
    "a block of another pack": (
        lambda model: transformers.replaces_blocks(model, [("double_block", 1)]),
        {},
        "attention that was not observed: it ran in ",
    ),
    "a forward of another pack": (
        lambda model: forwards.without(model, "double_blocks.1"),
        {},
        "cannot steer this run",
    ),
    "an override that mixes rows": (with_override, {}, "sage_attention of .*whose kernel mixes rows"),
    "a cache of ComfyUI": (easy_cache, {}, "the node behind 'easycache' answers some steps from memory"),
    "a cache by its name": (transformers.answers_from_a_cache, {}, "the node behind 'cache' answers some steps"),
    "a cache of a pack": (remembers, {}, "the model did not run 4 of its blocks in a later step"),
    "attention of a pack": (
        lambda model: transformers.adds_to_blocks(model, [("double_block", 1)]),
        {},
        "attention that .* makes, in place of the model's own or beside it",
    ),
    "a block that runs twice": (
        lambda model: transformers.runs_twice(model, [("double_block", 1)]),
        {},
        "a block that .* runs more than once",
    ),
    "no such reference": (
        None,
        {"reference": 5},
        r"reference 5 does not exist: I2AM Steer found 0 \('reference latent 1'\), 1 \('reference latent 2'\)",
    ),
    "another aspect": (
        None,
        {"reference": 0, "reference_region": torch.ones(1, 64, 64)},
        r"reference_region is 64 wide and 64 high, but reference 0 \('reference latent 1'\) .* has 4 by 2 tokens",
    ),
    "another aspect of the picture": (
        None,
        {"generated_region": torch.ones(1, 16, 64)},
        "generated_region is 64 wide and 16 high, but the latent has 6 by 8 cells",
    ),
    "three pictures": (None, {"generated_region": torch.ones(3, 8, 6)}, r"got 3 masks as generated_region for 1"),
    "steps": (None, {"steps": "0-9"}, "I2AM Steer: there are 2 steps, numbered 0 to 1: '0-9' is out of range"),
    "layers": (None, {"layers": "7"}, "I2AM Steer: there are 4 layers, numbered 0 to 3: '7' is out of range"),
    "layers by name": (None, {"layers": "output*"}, "output"),
    "heads": (
        None,
        {"heads": "4"},
        "I2AM Steer: there are 2 heads in layer 'double 0', numbered 0 to 1: '4' is out of range",
    ),
    "another mechanism": (None, {"mechanism": "IP-Adapter"}, "found no reference .*mechanism 'IP-Adapter'"),
    "a canvas without a region": (None, {"mechanism": "canvas regions"}, "on a canvas needs reference_region"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_run_that_cannot_be_steered_ends_with_a_sentence(name):
    patch, settings, message = REFUSED[name]
    graph = kontext()
    plain = graph.sample()["samples"]
    model = steered(patch(graph.model) if patch else graph.model, 0.5, **settings)
    with pytest.raises(ValueError, match=message):
        graph.sample(model, steps=4 if "cache" in name else 2)
    untouched(graph, plain)


def test_without_a_reference_there_is_nothing_to_steer():
    graph = tiny_graphs.flux_text(cfg=3.0)
    with pytest.raises(ValueError, match=r"found no reference .*positive and negative conditioning"):
        graph.sample(steered(graph.model, 0.0))


def test_the_negative_conditioning_is_not_run_without_guidance():
    graph = kontext(cfg=1.0)
    for steps in (1, 3):
        with pytest.raises(ValueError, match="set to the negative conditioning, but the model is not run with it"):
            graph.sample(steered(graph.model, 0.0, branch="negative"), steps=steps)


def test_a_guess_is_not_steered():
    graph = tiny_graphs.flux_redux(lengths=(256, 7))
    with pytest.raises(ValueError, match=r"cannot steer .* a guess: .*I2AM Tag Reference after the style node"):
        graph.sample(steered(graph.model, 0.0))


def test_tokens_without_places_have_no_region():
    graph = tiny_graphs.flux_uso()
    mask = torch.ones(1, 8, 8)
    with pytest.raises(ValueError, match=r"the tokens of reference 1 \('USO style 1'\) have no places"):
        graph.sample(steered(graph.model, 0.0, reference=1, reference_region=mask))


@pytest.mark.parametrize(
    ("strength", "by", "message"),
    [
        (-0.5, "attention", "strength -0.5 is outside the range of 'attention', 0 to 10: only 'output' goes below 0"),
        (7.0, "output", "strength 7 is outside the range of 'output', -2 to 5"),
        (float("nan"), "attention", "strength nan is outside the range"),
    ],
)
def test_a_strength_outside_its_range(strength, by, message):
    with pytest.raises(ValueError, match=message):
        steered(tiny_graphs.flux_text().model, strength, by)


def test_masks_and_models_that_are_none():
    model = tiny_graphs.flux_text().model
    with pytest.raises(ValueError, match="reference_region marks nothing"):
        steered(model, 0.0, reference_region=torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="got 2 masks as reference_region: give one"):
        steered(model, 0.0, reference_region=torch.ones(2, 8, 8))
    with pytest.raises(ValueError, match="I2AM Steer needs a diffusion model from one of ComfyUI's loaders, but got a"):
        steered(object(), 0.0)


@pytest.mark.parametrize(
    ("name", "mixes"),
    [("sage_attention", True), ("PatchSageAttention", True), ("block_sparse", True), ("message_of", False)],
)
def test_kernels_that_mix_rows_are_known_by_their_names(name, mixes):
    assert bool(ROW_COUPLING.search(name)) == mixes


def test_a_copy_of_the_options_is_still_of_the_run():
    """As ``ModelPatcher.clone()`` makes it, which packs call in the middle of a run."""
    graph = kontext()
    copied = []

    def copies(executor, *args, **kwargs):
        options = next(x for x in args if isinstance(x, dict) and "cond_or_uncond" in x)
        override = options["optimized_attention_override"]
        copied.append(copy.deepcopy(override) is override)
        return executor(*args, **kwargs)

    model = steered(graph.model, 0.0)
    model.add_wrapper_with_key("diffusion_model", "copies", copies)
    graph.sample(model)
    assert copied and all(copied)


def test_an_interrupt_leaves_nothing(monkeypatch):
    graph = kontext()
    plain = graph.sample()["samples"]

    def interrupt(step, *args):
        raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr("latent_preview.prepare_callback", lambda *args: interrupt)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        graph.sample(steered(graph.model, 0.0))
    monkeypatch.undo()
    untouched(graph, plain)


@pytest.mark.parametrize("name", BESIDE)
def test_row_sums_of_steered_rows_are_those_of_the_kernel(name, monkeypatch):
    """Where ComfyUI runs PyTorch's attention: as with every other, that is the same map without a second pass."""
    graph, settings = kontext(), BESIDE[name]
    attributions = []
    kernels = comfy.ldm.modules.attention
    for attention in (kernels.attention_sub_quad, kernels.attention_pytorch):
        monkeypatch.setattr("comfy.ldm.flux.math.optimized_attention", attention)
        model, handle = captured(steered(graph.model, **settings))
        attributions.append(handle.find(graph.sample(model)["samples"]))
    (computed,), (intercepted,) = (x.row_sums for x in attributions)
    assert computed.startswith("scaled_dot_product") and intercepted.startswith("intercepted") == ("by" not in settings)
    for key, entry in attributions[0].entries.items():
        for kind, values in entry.maps.items():
            close(attributions[1].entries[key].maps[kind], values, rtol=1e-3)
