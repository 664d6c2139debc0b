"""Runs with reference controls on a tiny U-Net, captured by the pack, and measured by hand; what must hold of them."""

import contextlib
import dataclasses

import pytest
import tiny_graphs
import tiny_reference_control
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock
from effects_of import measured
from mechanisms import Measured, assert_maps_equal, steered
from mechanisms import capture_beside as capture
from oracle import Oracle

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture

LAYERS = tiny_reference_control.LAYERS


def graph_with(pack, references=1, make=tiny_reference_control.sd15, shape=None, **about):
    graph = make(**shape or {})
    for seed in range(references):
        latent = 2 * tiny_graphs.noise(30 + seed, 1, 4, *graph.latent["samples"].shape[-2:])
        graph = pack.apply(graph, latent, **about)
    return graph


@contextlib.contextmanager
def spied(model, oracle, calls):
    """Of each self-attention to more than the picture: the number of the forward, queries and keys."""
    handles = []

    def hook(module, inputs, given):
        x, context = inputs[0], given["context"]
        if context is not None and context.shape[1] > x.shape[1]:
            q, k = (layer(y).unflatten(-1, (module.heads, -1)).transpose(1, 2)
                    for layer, y in ((module.to_q, x), (module.to_k, context)))  # fmt: skip
            calls.append((len(oracle.forwards) - 1, q.double(), k.double()))

    for block in model.model.modules():
        if isinstance(block, BasicTransformerBlock):
            handles.append(block.attn1.register_forward_pre_hook(hook, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def measure(graph, branch=0, **sampling):
    oracle, calls, steps = Oracle(), [], []
    with spied(graph.model, oracle, calls):
        graph.sample(oracle.on(graph.model), **sampling)
    for number, forward in enumerate(oracle.forwards):
        if branch in forward.cond_or_uncond:
            items = forward.x[0] // len(forward.cond_or_uncond)
            first = forward.cond_or_uncond.index(branch) * items
            rows = slice(first, first + items)
            logits = [q[rows] @ k[rows].mT * q.shape[-1] ** -0.5 for n, q, k in calls if n == number]
            steps.append([Measured(x.softmax(-1), x) for x in logits])
    return steps


def check_maps(pack, references=1, branch="positive", gain=1.0, **about):
    """The maps are the weights on the reference's tokens, behind those of the picture."""
    graph = graph_with(pack, references, **about)
    attribution, summary = capture(graph, branch=branch)
    names = ["reference"] if references == 1 else [f"reference {n + 1}" for n in range(references)]
    assert [r.name for r in attribution.references] == names
    assert [layer.name for layer in attribution.layers] == [*LAYERS]
    steps = measure(graph, ("positive", "negative").index(branch))
    for place, layer in enumerate(attribution.layers):
        cells = layer.grid.cells
        for number in range(references):
            assert attribution.layer_maps(number, place).reference_grid in (None, layer.grid)
            one = [[calls[place]] for calls in steps]
            columns = range((1 + number) * cells, (2 + number) * cells)
            assert_maps_equal(only(attribution, place), one, number, columns, torch.tensor(gain))
    assert attribution.references[0].grid == max((x.grid for x in attribution.layers), key=TokenGrid.cells.fget)
    return attribution, summary


def only(attribution, layer):
    """What was captured in one layer."""
    entries = {key: entry for key, entry in attribution.entries.items() if key[1] == layer}
    return dataclasses.replace(attribution, entries=entries)


def check_steered(pack):
    """At strength 0 the picture attends to itself alone, as with a reference that no block writes down."""
    graph = graph_with(pack)
    latent = graph.sample(steered(graph.model, 0.0))["samples"]
    expected = tiny_reference_control.sd15().sample()["samples"]
    torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-3)
    assert (latent - graph.sample()["samples"]).abs().max() > 0.01


def check_effect(pack):
    """Evaluated again, the model draws the run's own noise for the reference: it is told from what the noise does."""
    graph = graph_with(pack, shape={"cfg": 1.0})
    effects = measured(graph, probe_steps=2).effects
    assert not effects.unmeasured and not effects.floor.any()
    assert all(effects.maps[Removal(step, 0)].any() for step in range(2))


def check_effect_of_nothing(pack):
    """A reference whose tokens are wholly the picture's own causes nothing, whatever noise is drawn for it."""
    for shape in ({"cfg": 1.0}, {"cfg": 3.0}):
        graph = graph_with(pack, shape=shape, strength=1e-7)
        own = measured(graph, probe_steps=1).effects.maps[Removal(0, 0)]
        full = measured(graph_with(pack, shape=shape), probe_steps=1).effects.maps[Removal(0, 0)]
        assert full.max() > 1e3 * own.max()


def check_nothing_stays(pack, error):
    graph = graph_with(pack)
    model, _ = I2AMCapture.execute(graph.model, "auto", "positive", "off", 512).args
    model = steered(model, 0.5)
    modules = [*graph.model.model.diffusion_model.modules()]

    def state():
        hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in modules]
        return hooks, [getattr(m.forward, "__func__", m.forward) for m in modules]

    before = state()
    graph.sample(model)
    assert state() == before
    last = [m for m in modules if isinstance(m, BasicTransformerBlock)][-1]

    def failing(module, inputs):
        raise error()

    with last.norm3.register_forward_pre_hook(failing), pytest.raises(error):
        graph.sample(model)
    assert state() == before
