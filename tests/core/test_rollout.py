"""Rollout through a Resampler: against explicit loops in float64, and a patch that must be found."""

import math

import pytest
import torch

from i2am_core import Layer, Place, Positions, Recorder, Reference, TokenGrid, attribute, span
from i2am_core.attention.rollout import HEAD_DIM, resample, rollout, spread

TOKENS, SIDE, WIDTH, SEEN, OUT, HEADS, DEPTH = 5, 3, 12, 8, 6, 2, 3
PATCHES = SIDE**2


def weights(seed=0):
    """The state dict of a small Resampler, with the names that the real one has."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64) / shape[-1] ** 0.5

    def norm(name, width):
        return {f"{name}.weight": 1 + 0.1 * random(width), f"{name}.bias": 0.1 * random(width)}

    inner = HEADS * HEAD_DIM
    made = {"latents": random(1, TOKENS, WIDTH)}
    made |= {"proj_in.weight": random(WIDTH, SEEN), "proj_in.bias": random(WIDTH)}
    made |= {"proj_out.weight": random(OUT, WIDTH), "proj_out.bias": random(OUT), **norm("norm_out", OUT)}
    for layer in range(DEPTH):
        attend, forward = f"layers.{layer}.0", f"layers.{layer}.1"
        made |= norm(f"{attend}.norm1", WIDTH) | norm(f"{attend}.norm2", WIDTH) | norm(f"{forward}.0", WIDTH)
        made |= {f"{attend}.to_q.weight": random(inner, WIDTH), f"{attend}.to_kv.weight": random(2 * inner, WIDTH)}
        made |= {f"{attend}.to_out.weight": random(WIDTH, inner)}
        made |= {f"{forward}.1.weight": random(4 * WIDTH, WIDTH), f"{forward}.3.weight": random(WIDTH, 4 * WIDTH)}
    return made


def features(images=1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, 1 + PATCHES, SEEN, generator=generator, dtype=torch.float64)


def normed(x, w, name):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def by_hand(w, image):
    """Tokens and attention of one image, head by head and row by row."""
    x = image @ w["proj_in.weight"].T + w["proj_in.bias"]
    latents, attentions = w["latents"][0], []
    for n in range(DEPTH):
        a, f = f"layers.{n}.0", f"layers.{n}.1"
        y = normed(latents, w, f"{a}.norm2")
        read = torch.cat([normed(x, w, f"{a}.norm1"), y])
        q, kv = y @ w[f"{a}.to_q.weight"].T, read @ w[f"{a}.to_kv.weight"].T
        k, v = kv[:, : HEADS * HEAD_DIM], kv[:, HEADS * HEAD_DIM :]
        rows, of_heads = [], torch.zeros(HEADS, TOKENS, 1 + PATCHES + TOKENS, dtype=torch.float64)
        for t in range(TOKENS):
            outs = []
            for h in range(HEADS):
                part = slice(h * HEAD_DIM, (h + 1) * HEAD_DIM)
                scores = torch.stack([q[t, part] @ k[s, part] / math.sqrt(HEAD_DIM) for s in range(len(read))])
                of_heads[h, t] = scores.exp() / scores.exp().sum()
                outs.append(of_heads[h, t] @ v[:, part])
            rows.append(torch.cat(outs) @ w[f"{a}.to_out.weight"].T)
        attentions.append(of_heads.mean(0))
        latents = latents + torch.stack(rows)
        hidden = normed(latents, w, f"{f}.0") @ w[f"{f}.1.weight"].T
        latents = latents + hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2))) @ w[f"{f}.3.weight"].T
    return normed(latents @ w["proj_out.weight"].T + w["proj_out.bias"], w, "norm_out"), attentions


def test_the_forward_is_that_of_a_resampler():
    w, images = weights(), features(2)
    made = resample(w, images)
    for number, image in enumerate(images):
        tokens, attentions = by_hand(w, image)
        torch.testing.assert_close(made.tokens[number], tokens)
        assert len(made.attentions) == DEPTH
        for attention, expected in zip(made.attentions, attentions, strict=True):
            torch.testing.assert_close(attention[number], expected)


def test_rollout_is_the_loop():
    attentions = resample(weights(), features()).attentions
    contributions = torch.zeros(TOKENS, 1 + PATCHES, dtype=torch.float64)
    for attention in attentions:
        after = torch.zeros_like(contributions)
        for t in range(TOKENS):
            for s in range(1 + PATCHES):
                through = sum(attention[0, t, 1 + PATCHES + u] * contributions[u, s] for u in range(TOKENS))
                after[t, s] = contributions[t, s] + through + attention[0, t, s]
            after[t] /= after[t].sum()
        contributions = after
    result = rollout(attentions)
    torch.testing.assert_close(result[0], contributions)
    torch.testing.assert_close(result.sum(-1), torch.ones(1, TOKENS, dtype=torch.float64))


@pytest.mark.parametrize("patch", [0, 7])
def test_a_planted_patch_is_found(patch):
    """Its features are what every query looks for: the key that the mean query has most of."""
    w, images = weights(), features()
    for n in range(DEPTH):  # queries and keys are all of one direction, that of a mark in the features
        for name in ("to_q", "to_kv"):
            weight = w[f"layers.{n}.0.{name}.weight"]
            weight[: HEADS * HEAD_DIM] = 0
        w[f"layers.{n}.0.norm2.bias"][0] = 3.0
        w[f"layers.{n}.0.norm2.weight"][0] = 0.0
        w[f"layers.{n}.0.to_q.weight"][::HEAD_DIM, 0] = 8.0
        w[f"layers.{n}.0.to_kv.weight"][: HEADS * HEAD_DIM : HEAD_DIM, 1] = 1.0
    w["proj_in.weight"][1] = 0
    w["proj_in.weight"][1, 3] = 4.0
    images[0, :, 3] = 0
    images[0, 1 + patch, 3] = 5.0
    contributions = rollout(resample(w, images).attentions)[0]
    assert set(contributions.argmax(-1).tolist()) == {1 + patch}
    assert contributions[:, 1 + patch].min() > 0.5


KINDS = {
    "full face": {"proj.0.weight": 1, "proj.2.weight": 1, "proj.3.weight": 1},
    "FaceID Plus": {"proj.0.weight": 1, "proj.2.weight": 1, "perceiver_resampler.proj_in.weight": 1},
    "FaceID adapter": {"proj.0.weight": 1, "proj.2.weight": 1, "norm.weight": 1},
    "plain adapter": {"proj.weight": 1, "norm.weight": 1},
    "no IP-Adapter": {"something": 1},
}


@pytest.mark.parametrize(("kind", "state"), KINDS.items())
def test_other_adapters_are_told_apart(kind, state):
    with pytest.raises(ValueError, match=f"{kind}.*only an IP-Adapter Plus"):
        resample(state, features())


@pytest.mark.parametrize("name", ["layers.1.0.to_q.weight", "norm_out.bias", "proj_in.weight"])
def test_missing_weights_are_named(name):
    w = weights()
    del w[name]
    with pytest.raises(ValueError, match=f"lacks the weights '{name}'"):
        resample(w, features())


def test_no_layers_are_missing_weights():
    w = {name: x for name, x in weights().items() if not name.startswith("layers")}
    with pytest.raises(ValueError, match=r"lacks the weights 'layers\.0"):
        resample(w, features())


@pytest.mark.parametrize("shape", [(1, 10, SEEN + 1), (10, SEEN), (1, 2, 10, SEEN)])
def test_features_of_another_vision_model(shape):
    with pytest.raises(ValueError, match="connect the CLIP vision model that it was made for"):
        resample(weights(), torch.zeros(shape))


GRID = TokenGrid(4, 3)


@pytest.fixture
def recorded():
    """Two references of which the first has no places, with all the maps that there are."""
    recorder = Recorder(torch.linspace(4, 0, 3), 2, 2**30)
    groups = [span("tokens", 0, None, TOKENS), span("placed", TOKENS, TokenGrid(2, 3))]
    numbers = [recorder.reference(Reference(g.name, g.count, g.grid)) for g in groups]
    rows, scope = torch.tensor([1, 5, 6]), torch.arange(12).expand(2, 12) > 4
    for step in range(2):
        q, k = torch.randn(2, 3, 12, 8), torch.randn(2, 3, 11, 8)
        for number, maps in zip(
            numbers, attribute(q, k, groups, positions=Positions(scope=scope, pair_rows=rows)), strict=True
        ):
            for name in ("first", "second"):
                recorder.add(Place(Layer(name, GRID, 3), step, number), maps, rows)
    return recorder.freeze(grid=GRID, denoise_mask=torch.ones(2, 4, 3))


def test_maps_are_spread(recorded):
    contributions = rollout(resample(weights(), features()).attentions)[0]
    made = spread(recorded, 0, contributions, 2**20)
    assert made.references[0] == Reference("tokens", PATCHES, TokenGrid(SIDE, SIDE), approximate=True)
    assert made.references[1] == recorded.references[1]
    assert "approximate" in made.summary() and f"{contributions[:, 0].mean():.0%} of what" in made.summary()
    for layer in range(2):
        assert made.layer_maps(1, layer) is recorded.layer_maps(1, layer)
        before, after = recorded.layer_maps(0, layer), made.layer_maps(0, layer)
        assert after.reference_grid == TokenGrid(SIDE, SIDE) and after.maps.keys() == before.maps.keys()
        for name, values in after.maps.items():
            if name.startswith("r2g"):
                assert values is before.maps[name]
                continue
            by_hand = before.maps[name].double() @ contributions[:, 1:]
            by_hand = by_hand / by_hand.sum(-1, keepdim=True) if "paper" in name else by_hand
            torch.testing.assert_close(values.double(), by_hand, rtol=1e-5, atol=1e-8)
        pairs = before.pairs["g2r_pairs"].double() @ contributions[:, 1:]
        pairs = pairs / pairs.sum(-1, keepdim=True)
        torch.testing.assert_close(after.pairs["g2r_pairs"].double(), pairs, rtol=1e-5, atol=1e-8)
        for m in range(PATCHES):
            mean = sum(before.pairs["r2g_pairs"][..., t].double() * contributions[t, 1 + m] for t in range(TOKENS))
            mean = mean / contributions[:, 1 + m].sum()
            torch.testing.assert_close(after.pairs["r2g_pairs"][..., m].double(), mean, rtol=1e-5, atol=1e-8)


def test_pair_maps_stay_within_their_budget(recorded):
    contributions = rollout(resample(weights(), features()).attentions)[0]
    one = 2 * 2 * 3 * PATCHES * 4  # fields, items, rows
    for budget, fit in ((2 * one, [True, True]), (2 * one - 1, [True, False]), (one - 1, [False, False])):
        made = spread(recorded, 0, contributions, budget)
        assert [bool(made.layer_maps(0, layer).pairs) for layer in range(2)] == fit
        assert any("did not fit" in note for note in made.notes) != all(fit)
        assert all(made.layer_maps(1, layer).pairs for layer in range(2))


def test_features_must_be_a_square_of_patches(recorded):
    with pytest.raises(ValueError, match="7 features, which are not a class token and a square"):
        spread(recorded, 0, torch.ones(TOKENS, 7) / 7, 2**20)
