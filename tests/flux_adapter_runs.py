"""Runs with IP-Adapters on the tiny Flux, captured by the pack, and measured by hand; and what must hold of them."""

import contextlib

import pytest
import tiny_graphs
import tiny_models
import torch
from effect_oracle import Counterfactuals, rms
from effects_of import close, measured
from mechanisms import Measured, assert_maps_equal, steered
from oracle import Oracle

from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

TOKENS, WIDTH, WEIGHT = 5, 9, 0.7
LAYERS = ["double 0", "double 1", "single 0", "single 1"]


def blocks_of(model):
    """The names of the blocks, as the packs have them."""
    denoiser = model.model.diffusion_model
    return [f"{kind}.{n}" for kind in ("double_blocks", "single_blocks") for n in range(len(getattr(denoiser, kind)))]


def with_adapter(pack, model, seed=0, weight=WEIGHT, start=1.0, end=0.0):
    """The model with one more adapter, on between two sigmas."""
    processors = {}
    for number, name in enumerate(blocks_of(model)):
        processors[name] = pack.processor(32, WIDTH, weight, (start, end))
        tiny_models.fill(processors[name], 100 * seed + number)
    return pack.patch(model, processors, 2 * tiny_graphs.noise(40 + seed, 1, TOKENS, WIDTH))


def graph_with(pack, graph, adapters=1, **about):
    for seed in range(adapters):
        graph.model = with_adapter(pack, graph.model, seed, **about)
    return graph


def capture(graph, mechanism="auto", branch="positive", **sampling):
    """The attribution, and the summary, of a run which must leave the latent exactly as it is without capture."""
    model, handle = I2AMCapture.execute(graph.model, mechanism, branch, "off", 512).args
    plain, latent = graph.sample(**sampling), graph.sample(model, **sampling)
    assert torch.equal(plain["samples"], latent["samples"])
    attribution, _, summary = I2AMCollect.execute(handle, latent).args
    assert all(reason and "could not read" not in reason for reason in attribution.skipped)
    return attribution, summary


@contextlib.contextmanager
def spied(model, oracle, calls):
    """Recorders in the place of the processors: ``calls`` get the number of the forward, query and keys."""
    blocks = [block for block in model.object_patches.values() if hasattr(block, "ip_adapter")]
    originals = [block.ip_adapter for block in blocks]

    def recorder(processor, number):
        def call(heads, query, tokens, t):
            made = processor(heads, query, tokens, t)
            if made is not None:
                k = processor.to_k_ip(tokens).unflatten(-1, (heads, -1)).transpose(1, 2)
                k = processor.norm_added_k(k)
                calls.append((len(oracle.forwards) - 1, number, query.clone(), k.expand(len(query), -1, -1, -1)))
            return made

        return call

    try:
        for block, own in zip(blocks, originals, strict=True):
            block.ip_adapter = [recorder(processor, number) for number, processor in enumerate(own)]
        yield
    finally:
        for block, own in zip(blocks, originals, strict=True):
            block.ip_adapter = own


def measure(graph, adapter=0, branch=0, **sampling):
    """Weights ``[items, heads, N, K]`` of the picture's rows, by forward and block."""
    oracle, calls, steps = Oracle(), [], []
    with spied(graph.model, oracle, calls):
        graph.sample(oracle.on(graph.model), **sampling)
    for number, forward in enumerate(oracle.forwards):
        if branch not in forward.cond_or_uncond:
            continue
        items = forward.x[0] // len(forward.cond_or_uncond)
        first = forward.cond_or_uncond.index(branch) * items
        mine = [(q, k) for n, one, q, k in calls if n == number and one == adapter]
        cells = -(-forward.x[2] // 2) * -(-forward.x[3] // 2)
        beside = min(q.shape[2] for q, _ in mine) if mine else 0  # of a double block: picture and references
        steps.append([softmax(q, k, slice(first, first + items), cells, beside) for q, k in mine])
    return steps


def softmax(q, k, rows, cells, beside):
    start = q.shape[2] - beside
    q, k = q[rows, :, start : start + cells].double(), k[rows].double()
    logits = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return Measured(logits.softmax(-1), logits)


def check_maps(pack, graph, gain=WEIGHT, branch="positive", adapters=1, **sampling):
    """The maps of adapters are the weights times the gain. The attribution, and the summary."""
    graph_with(pack, graph, adapters=adapters)
    attribution, summary = capture(graph, branch=branch, **sampling)
    names = ["IP-Adapter"] if adapters == 1 else [f"IP-Adapter {n + 1}" for n in range(adapters)]
    by_name = {reference.name: number for number, reference in enumerate(attribution.references)}
    for number, name in enumerate(names):
        steps = measure(graph, number, ("positive", "negative").index(branch), **sampling)
        assert_maps_equal(attribution, steps, by_name[name], range(TOKENS), torch.tensor(gain))
        assert attribution.references[by_name[name]].grid is None
    assert [layer.name for layer in attribution.layers] == LAYERS
    assert "do not show" not in summary
    return attribution, summary


def check_joint_attention(pack, make):
    """The model's attention beside an adapter of weight 0 is that of the model without the pack."""
    plain, _ = capture(make())
    attribution, _ = capture(graph_with(pack, make(), weight=0.0))
    assert [r.name for r in attribution.references] == [*(r.name for r in plain.references), "IP-Adapter"]
    for (reference, layer), entry in plain.entries.items():
        for name, values in entry.maps.items():
            torch.testing.assert_close(attribution.layer_maps(reference, layer).maps[name], values, atol=2e-5, rtol=1e-3)
    ours = attribution.layer_maps(len(plain.references), 0).maps["r2g_share"]
    assert not ours.any()


def check_off(pack):
    """Of 4 steps it is on in those before the sigma 0.8: the others count as 0, and are said."""
    graph = graph_with(pack, tiny_graphs.flux_text(), end=0.8)
    attribution, summary = capture(graph, steps=4)
    on = (attribution.layer_maps(0, 0).maps["r2g_share"] > 0).flatten(2).all(-1).all(0).tolist()
    assert any(on) and not all(on) and on == sorted(on, reverse=True)
    assert [bool(calls) for calls in measure(graph, steps=4)] == on
    assert "see its start and end" in summary


def check_steered(pack, make=tiny_graphs.flux_text):
    """Counted half as much, or not at all, it is as with another weight in the pack."""
    for strength in (0.5, 0.0):
        graph = graph_with(pack, make(batch=2))
        number = len(graph.references)  # behind reference latents
        latent = graph.sample(steered(graph.model, strength, "output", number))["samples"]
        expected = graph_with(pack, make(batch=2), weight=strength * WEIGHT).sample()["samples"]
        torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-4)
        assert (latent - graph.sample()["samples"]).abs().max() > 0.01


def check_effect(pack, make=tiny_graphs.flux_text):
    """What it causes at the second step is what the host predicts without it, for the same latent."""
    graph, without = graph_with(pack, make()), graph_with(pack, make(), weight=0.0)
    own = predicted(graph)
    other = predicted(without, own.noisy)
    effects = measured(graph, probe_steps=2).effects
    number = len(graph.references)
    close(effects.maps[Removal(1, number)], rms(own.with_[1], other.with_[1]), own.with_[1])


def predicted(graph, at=()):
    by_hand = Counterfactuals(lambda queries, keys: (), at=at)
    graph.sample(by_hand.on(graph.model))
    return by_hand


def check_nothing_stays(pack, error):
    """After a failure in the model, all objects of the pack are as before."""
    graph = graph_with(pack, tiny_graphs.flux_text())
    model, _ = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    model = steered(model, 0.5)
    blocks = [block for block in graph.model.object_patches.values() if hasattr(block, "ip_adapter")]

    def state():
        return [(list(map(id, vars(block)["ip_adapter"])), sorted(vars(block))) for block in blocks]

    before, last = state(), blocks[-1].ip_adapter[0]

    def failing(module, inputs):
        raise error()

    graph.sample(model)
    assert state() == before
    with last.to_v_ip.register_forward_pre_hook(failing), pytest.raises(error):
        graph.sample(model)
    assert state() == before
