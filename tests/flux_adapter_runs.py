"""Runs with adapters on the tiny Flux, captured by the pack, and measured by hand; and what must hold of them.

A *kind* is one way of adapting: it puts an adapter on a model by a pack of its contract, and records its attention.
"""

import contextlib

import pytest
import tiny_graphs
import tiny_models
import torch
from effect_oracle import Counterfactuals, rms
from effects_of import close, measured
from mechanisms import Measured, assert_maps_equal, steered
from mechanisms import capture_beside as capture
from oracle import Oracle

from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture

TOKENS, WIDTH, WEIGHT = 5, 9, 0.7
CHANNELS = 32  # of the tiny Flux


class IPAdapters:
    """A processor in each block: ``pack.processor`` makes one, ``pack.patch`` puts them into a clone of the model."""

    name = "IP-Adapter"
    layers = ("double 0", "double 1", "single 0", "single 1")

    def __init__(self, pack):
        self.pack = pack

    def adapted(self, model, seed, weight, start, end):
        processors = {}
        for number, layer in enumerate(self.layers):
            name = layer.replace(" ", "_blocks.")
            processors[name] = self.pack.processor(CHANNELS, WIDTH, weight, (start, end))
            tiny_models.fill(processors[name], 100 * seed + number)
        return self.pack.patch(model, processors, 2 * tiny_graphs.noise(40 + seed, 1, TOKENS, WIDTH))

    def objects(self, model):
        """What belongs to the user, and must stay as it is."""
        return [block for block in model.object_patches.values() if hasattr(block, "ip_adapter")]

    def last_part(self, model):
        return self.objects(model)[-1].ip_adapter[0].to_v_ip

    @contextlib.contextmanager
    def spied(self, model, oracle, calls):
        """``calls`` get the number of the forward and of the adapter, queries and keys ``[B, H, N, D]``."""
        blocks = self.objects(model)
        originals = [block.ip_adapter for block in blocks]

        def recorder(processor, number):
            def call(heads, query, tokens, t):
                made = processor(heads, query, tokens, t)
                if made is not None:
                    k = processor.norm_added_k(processor.to_k_ip(tokens).unflatten(-1, (heads, -1)).transpose(1, 2))
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


class XLabs:
    """An adapter in each double block: ``pack.adapter`` makes one, ``pack.patch`` puts them on a clone of the model."""

    name = "XLabs IP-Adapter"
    layers = ("double 0", "double 1")

    def __init__(self, pack):
        self.pack = pack

    def adapted(self, model, seed, weight, start, end):
        tokens, adapters = 2 * tiny_graphs.noise(40 + seed, 1, TOKENS, WIDTH), []
        for number in range(len(self.layers)):
            adapters.append(self.pack.adapter(CHANNELS, WIDTH, tokens, weight))
            tiny_models.fill(adapters[-1], 100 * seed + number)
        return self.pack.patch(model, adapters)

    def objects(self, model):
        return [adapter for processor in self.processors(model) for adapter in processor.ip_adapters]

    def processors(self, model):
        return [getattr(patch, "processor", patch) for patch in model.object_patches.values()]

    def last_part(self, model):
        return self.objects(model)[-1].ip_adapter_double_stream_v_proj

    @contextlib.contextmanager
    def spied(self, model, oracle, calls):
        handles = []

        def hook(number, adapter):
            def called(module, inputs):
                q = inputs[0]
                k = module.ip_adapter_double_stream_k_proj(module.ip_hidden_states)
                k = k.unflatten(-1, (q.shape[1], -1)).transpose(1, 2)
                calls.append((len(oracle.forwards) - 1, number, q.clone(), k))

            handles.append(adapter.register_forward_pre_hook(called))

        for processor in self.processors(model):
            for number, adapter in enumerate(processor.ip_adapters):
                hook(number, adapter)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class PuLIDs:
    """A perceiver behind some blocks: ``pack.perceiver`` makes one, ``pack.patch`` puts them on a clone of the model.

    Of 3 heads of 8 channels, where the model's own are 2 of 16.
    """

    name = "PuLID"
    layers = ("double 0", "double 1", "single 0")
    heads, size = 3, 8

    def __init__(self, pack):
        self.pack = pack

    def adapted(self, model, seed, weight, start, end, mask=None):
        perceivers = {}
        for number, layer in enumerate(self.layers):
            kind, block = layer.split()
            perceiver = self.pack.perceiver(CHANNELS, self.size, self.heads, WIDTH)
            tiny_models.fill(perceiver, 100 * seed + number)
            perceivers[f"{kind}_block", int(block)] = perceiver
        tokens = 2 * tiny_graphs.noise(40 + seed, 1, TOKENS, WIDTH)
        return self.pack.patch(model, perceivers, tokens, weight, (start, end), mask)

    def objects(self, model):
        blocks = model.model_options["transformer_options"]["patches_replace"]["dit"].values()
        return [*blocks, *(perceiver for block in blocks for perceiver in perceivers_of(block))]

    def last_part(self, model):
        return self.objects(model)[-1].to_out

    @contextlib.contextmanager
    def spied(self, model, oracle, calls):
        blocks = model.model_options["transformer_options"]["patches_replace"]["dit"].values()
        queries, handles = {}, []

        def split(x):
            return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        def hook(number, perceiver):
            def query(module, inputs, output):
                queries[number] = split(output)

            def keys(module, inputs, output):
                q, k = queries[number], split(output.chunk(2, dim=-1)[0])
                calls.append((len(oracle.forwards) - 1, number, q, k.expand(len(q), -1, -1, -1)))

            handles.append(perceiver.to_q.register_forward_hook(query))
            handles.append(perceiver.to_kv.register_forward_hook(keys))

        for block in blocks:
            for number, perceiver in enumerate(perceivers_of(block)):
                hook(number, perceiver)
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def perceivers_of(block):
    return [own["pulid_model"].model.pulid_ca[own["ca_idx"]] for own in block.kwargs]


def graph_with(kind, graph, adapters=1, weight=WEIGHT, start=1.0, end=0.0, **about):
    """The graph with so many adapters more, each on between two sigmas."""
    for seed in range(adapters):
        graph.model = kind.adapted(graph.model, seed, weight, start, end, **about)
    return graph


def measure(kind, graph, adapter=0, branch=0, **sampling):
    """Weights ``[items, heads, N, K]`` of the picture's rows, by forward and block."""
    oracle, calls, steps = Oracle(), [], []
    with kind.spied(graph.model, oracle, calls):
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


def check_maps(kind, graph, gain=WEIGHT, branch="positive", adapters=1, sampling=None, **about):
    """The maps of adapters are the weights times the gain. The attribution, and the summary."""
    graph_with(kind, graph, adapters, **about)
    sampling = sampling or {}
    attribution, summary = capture(graph, branch=branch, **sampling)
    names = [kind.name] if adapters == 1 else [f"{kind.name} {n + 1}" for n in range(adapters)]
    by_name = {reference.name: number for number, reference in enumerate(attribution.references)}
    assert list(by_name)[-adapters:] == names
    for number, name in enumerate(names):
        steps = measure(kind, graph, number, ("positive", "negative").index(branch), **sampling)
        assert_maps_equal(attribution, steps, by_name[name], range(TOKENS), torch.as_tensor(gain))
        assert attribution.references[by_name[name]].grid is None
        layers = [n for reference, n in attribution.entries if reference == by_name[name]]
        assert [attribution.layers[n].name for n in sorted(layers)] == [*kind.layers]
    assert "do not show" not in summary and "not observed" not in summary
    return attribution, summary


def check_joint_attention(kind, make):
    """The model's attention beside an adapter of weight 0 is that of the model without the pack."""
    plain, _ = capture(make())
    attribution, _ = capture(graph_with(kind, make(), weight=0.0))
    assert [r.name for r in attribution.references] == [*(r.name for r in plain.references), kind.name]
    for (reference, layer), entry in plain.entries.items():
        for name, values in entry.maps.items():
            number = attribution.layers.index(plain.layers[layer])  # a perceiver has other heads: a layer of its own
            own = attribution.layer_maps(reference, number).maps[name]
            torch.testing.assert_close(own, values, atol=2e-5, rtol=1e-3)
    own = [entry for (reference, _), entry in attribution.entries.items() if reference == len(plain.references)]
    assert len(own) == len(kind.layers) and not any(entry.maps["r2g_share"].any() for entry in own)


def check_off(kind):
    """Of 4 steps it is on in those before the sigma 0.8: the others count as 0, and are said."""
    graph = graph_with(kind, tiny_graphs.flux_text(), end=0.8)
    attribution, summary = capture(graph, steps=4)
    on = (attribution.layer_maps(0, 0).maps["r2g_share"] > 0).flatten(2).all(-1).all(0).tolist()
    assert any(on) and not all(on) and on == sorted(on, reverse=True)
    assert [bool(calls) for calls in measure(kind, graph, steps=4)] == on
    assert "see its start and end" in summary


def check_steered(kind, make=tiny_graphs.flux_text, batch=2):
    """Counted half as much, or not at all, it is as with another weight in the pack."""
    for strength in (0.5, 0.0):
        graph = graph_with(kind, make(batch=batch))
        number = len(graph.references)  # behind reference latents
        latent = graph.sample(steered(graph.model, strength, "output", number))["samples"]
        expected = graph_with(kind, make(batch=batch), weight=strength * WEIGHT).sample()["samples"]
        torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-4)
        assert (latent - graph.sample()["samples"]).abs().max() > 0.01


def check_effect(kind, make=tiny_graphs.flux_text):
    """What it causes at the second step is what the host predicts without it, for the same latent."""
    graph, without = graph_with(kind, make()), graph_with(kind, make(), weight=0.0)
    own = predicted(graph)
    other = predicted(without, own.noisy)
    effects = measured(graph, probe_steps=2).effects
    number = len(graph.references)
    close(effects.maps[Removal(1, number)], rms(own.with_[1], other.with_[1]), own.with_[1])


def predicted(graph, at=()):
    by_hand = Counterfactuals(lambda queries, keys: (), at=at)
    graph.sample(by_hand.on(graph.model))
    return by_hand


def check_nothing_stays(kind, error):
    """After a run, and after a failure in one, all that is the user's is as before."""
    graph = graph_with(kind, tiny_graphs.flux_text())
    model, _ = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    model = steered(model, 0.5)
    part = kind.last_part(model)
    denoiser = graph.model.model.diffusion_model

    def state():
        return [contents(one) for one in (*kind.objects(model), denoiser, *denoiser.modules())]

    def failing(module, inputs):
        raise error()

    graph.sample(model)
    before = state()
    graph.sample(model)
    assert state() == before
    with part.register_forward_pre_hook(failing), pytest.raises(error):
        graph.sample(model)
    assert state() == before


def contents(thing):
    """The names of its attributes, and what is in lists and hooks of it, by identity."""
    collections = (list, dict)
    return [
        (name, [*map(id, x)] if isinstance(x, list) else [*x] if isinstance(x, dict) else None)
        for name, x in sorted(vars(thing).items())
        if isinstance(x, collections) or name == "forward"
    ]
