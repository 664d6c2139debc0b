"""Runs with IP-Adapters on the tiny U-Nets, captured by the pack, and measured by hand."""

import contextlib
from dataclasses import dataclass

import ip_adapter_standin
import tiny_graphs
import torch
from ip_adapter_standin import SETTINGS
from mechanisms import Measured
from oracle import Oracle

from i2am_pack.nodes.capture import I2AMCapture


def graph_with(
    pack,
    tokens=16,
    images=1,
    xl=False,
    adapters=1,
    settings=None,
    capture_first=False,
    pair_maps="off",
    mask=None,
    **shape,
):
    """A graph, its model with adapters, and the model that is also captured, with its handle.

    ``settings`` are those of all adapters, or a list of those of each.
    """
    graph = tiny_graphs.sdxl_text(**shape) if xl else tiny_graphs.sd15_text(**shape)
    if mask is not None:
        graph.latent = dict(graph.latent, noise_mask=mask)
    watched, handle = None, None
    if capture_first:
        watched, handle = I2AMCapture.execute(graph.model, "IP-Adapter", "positive", pair_maps, 512).args
    each = settings if isinstance(settings, list) else [settings or {}] * adapters
    for seed, own in enumerate(each):
        adapter = ip_adapter_standin.weights(xl, seed)
        seen = (images, 8) if xl else (images, tokens, 8)
        given = (adapter, tiny_graphs.noise(40 + seed, *seen), tiny_graphs.noise(60 + seed, *seen), xl)
        graph.model = pack.apply(graph.model, *given, **SETTINGS | own)
        if watched is not None:
            watched = pack.apply(watched, *given, **SETTINGS | own)
    if watched is None:
        watched, handle = I2AMCapture.execute(graph.model, "IP-Adapter", "positive", pair_maps, 512).args
    return graph, watched, handle


def capture(graph, watched, handle, **sampling):
    plain, latent = graph.sample(**sampling), graph.sample(watched, **sampling)
    assert torch.equal(plain["samples"], latent["samples"])
    attribution = handle.find(latent["samples"])
    assert all(reason and "could not read" not in reason for reason in attribution.skipped)
    return attribution


@dataclass
class Spied:
    """One call of the module's attention: q ``[B, N, C]``, k ``[B * images, T, C]``."""

    q: torch.Tensor
    k: torch.Tensor
    heads: int
    forward: int


@contextlib.contextmanager
def spied(pack, oracle, calls):
    """The plain way to intercept: another function in the module. The pack does not do it so."""
    original = pack.module.optimized_attention

    def spy(q, k, v, heads, *args, **kwargs):
        calls.append(Spied(q.clone(), k.clone(), heads, len(oracle.forwards) - 1))
        return original(q, k, v, heads, *args, **kwargs)

    pack.module.optimized_attention = spy
    try:
        yield
    finally:
        pack.module.optimized_attention = original


def measure(pack, graph, tokens, **sampling):
    """Weights ``[items, heads, N, K]`` and logits of the positive rows, by forward and call."""
    oracle, calls, steps = Oracle(), [], []
    with spied(pack, oracle, calls):
        graph.sample(oracle.on(graph.model), **sampling)
    for number, forward in enumerate(oracle.forwards):
        if 0 not in forward.cond_or_uncond:
            continue
        items = forward.x[0] // len(forward.cond_or_uncond)
        first = forward.cond_or_uncond.index(0) * items
        mine = [c for c in calls if c.forward == number and c.k.shape[1] == tokens]
        steps.append([softmax(call, first, items) for call in mine])
    return steps


def softmax(call, first, items):
    images = call.k.shape[0] // call.q.shape[0]
    weights, logits = [], []
    for row in range(first, first + items):
        q = call.q[row].double().unflatten(-1, (call.heads, -1))
        k = call.k[row * images : (row + 1) * images].double().flatten(0, 1).unflatten(-1, (call.heads, -1))
        logits.append(torch.einsum("nhd,khd->hnk", q, k) * q.shape[-1] ** -0.5)
        weights.append(logits[-1].softmax(-1))
    return Measured(torch.stack(weights), torch.stack(logits))
