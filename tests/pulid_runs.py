"""Runs with PuLID on the tiny SDXL, captured by the pack, and measured by hand; and what must hold of them."""

import tiny_graphs
import torch
import torch.nn.functional as F
from effect_oracle import rms
from effects_of import close, measured
from flux_adapter_runs import predicted
from ip_adapter_runs import measure
from ip_adapter_standin import KEYS, SDXL
from mechanisms import assert_maps_equal, steered
from pulid_standin import TOKENS, WIDTH

from i2am_pack.i2am_core.effect import Removal
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.collect import I2AMCollect

WEIGHT = 0.8


def graph_with(pack, weight=WEIGHT, mask=None, ortho=False, zeros=0, end=0.0, **shape):
    """As ``ApplyPulid`` puts it on a model once it has the tokens of a face, with so many ``zeros`` behind them."""
    graph = tiny_graphs.sdxl_text(**shape)
    graph.model = graph.model.clone()
    tokens = [tiny_graphs.noise(seed, 1, TOKENS, WIDTH) for seed in (40, 60)]
    cond, uncond = (torch.cat([x, torch.zeros(1, zeros, WIDTH)], 1) for x in tokens)
    own = {"pulid": pack.network(3), "weight": weight, "cond": cond, "uncond": uncond, "mask": mask}
    own |= {"sigma_start": 1e9, "sigma_end": end, "ortho": ortho, "ortho_v2": False}
    for block in SDXL:
        pack.put(graph.model, own | {"module_key": KEYS[block]}, block)
    return graph


def capture(graph, branch="positive", **sampling):
    """The handle and the latent of a run, which must be the same to the bit as without capture."""
    model, handle = I2AMCapture.execute(graph.model, "auto", branch, "off", 512).args
    plain, latent = graph.sample(**sampling), graph.sample(model, **sampling)
    assert torch.equal(plain["samples"], latent["samples"])
    return handle, latent


def check_maps(pack, gain=WEIGHT, zeros=0, **about):
    """The maps are the weights times the gain."""
    graph = graph_with(pack, zeros=zeros, **about)
    attribution = I2AMCollect.execute(*capture(graph)).args[0]
    assert [(r.name, r.tokens, r.grid) for r in attribution.references] == [("PuLID", TOKENS + zeros, None)]
    steps = measure(pack, graph, TOKENS + zeros)
    assert_maps_equal(attribution, steps, 0, range(TOKENS + zeros), torch.as_tensor(gain))


def check_mask(pack):
    mask = torch.zeros(1, 16, 16)
    mask[:, 4:, 8:] = 1
    graph = graph_with(pack, mask=mask)
    attribution = I2AMCollect.execute(*capture(graph)).args[0]
    steps = measure(pack, graph, TOKENS)
    layers = {layer.grid for layer in attribution.layers}
    assert len(layers) == 1
    ((height, width),) = {(grid.height, grid.width) for grid in layers}
    gain = F.interpolate(mask[:, None], size=(height, width), mode="bilinear").flatten(1) * WEIGHT
    assert_maps_equal(attribution, steps, 0, range(TOKENS), gain)


def check_off(pack):
    graph = graph_with(pack, end=2.0)
    attribution = I2AMCollect.execute(*capture(graph, steps=4)).args[0]
    on = (attribution.layer_maps(0, 0).maps["r2g_share"] > 0).flatten(2).all(-1).all(0).tolist()
    assert any(on) and not all(on) and on == [bool(calls) for calls in measure(pack, graph, TOKENS, steps=4)]


def check_steered(pack):
    """Counted half as much, it is as with half the weight: the negative's own tokens, too."""
    for strength in (0.5, 0.0):
        graph = graph_with(pack)
        latent = graph.sample(steered(graph.model, strength))["samples"]
        expected = graph_with(pack, weight=strength * WEIGHT).sample()["samples"]
        torch.testing.assert_close(latent, expected, rtol=1e-4, atol=1e-3)
        assert (latent - graph.sample()["samples"]).abs().max() > 0.01


def check_effect(pack):
    graph, without = graph_with(pack, cfg=1.0), graph_with(pack, weight=0.0, cfg=1.0)
    own = predicted(graph)
    other = predicted(without, own.noisy)
    effects = measured(graph, probe_steps=2).effects
    close(effects.maps[Removal(1, 0)], rms(own.with_[1], other.with_[1]), own.with_[1])
