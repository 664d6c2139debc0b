"""Steering in the circumstances of real graphs: what it must equal, and what stands beside it."""

import copy

import comfy.samplers
import comfy_extras.nodes_pag as nodes_pag
import pytest
import tiny_graphs
import torch
from by_hand import ByHand
from comfy_extras.nodes_custom_sampler import Guider_DualCFG
from mechanisms import steered, with_strength_of
from steered_graphs import close, differ, in_windows, ip_adapter, kontext, region, skip_layers, tagged
from steered_oracle import Run

from i2am_pack.nodes.comfy.consumer_watch import ConsumerWatch
from i2am_pack.nodes.comfy.consumers import Consumer
from i2am_pack.nodes.comfy.run import watched

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
            if q.shape[-2] > 1:  # with one row it is tried whether masks count
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


@pytest.mark.parametrize("name", WITHOUT)
def test_a_muted_reference_is_the_hosts_own_run_without_it(name):
    """Where positions and lengths do not otherwise matter: OmniGen2 moves the picture's, HiDream-E1 its rows."""
    make, without = WITHOUT[name]
    graph = make()
    plain, bare = graph.sample()["samples"], without().sample()["samples"]
    for by in ("attention", "output"):
        muted = graph.sample(steered(graph.model, 0.0, by, branch="both"))["samples"]
        differ(muted, plain)
        close(muted, bare)


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
    graph = in_windows(tiny_graphs.wan_phantom(cfg=cfg))
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
