"""Where the tokens of an IP-Adapter Plus come from in the image: an approximation, by attention rollout.

Its Resampler (image_proj_models.py of cubiq/ComfyUI_IPAdapter_plus) makes T tokens of the features of CLIP, a class
token and P patches: in each layer, T latents attend to the features and to one another. How much each feature
contributed to a token is rolled out over the layers (Abnar & Zuidema, ACL 2020, arXiv 2005.00928). It is approximate,
since features are already mixed where they enter, and what the layers do to values is left out.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..attribution import Attribution, LayerMaps
from ..errors import BadAdapter
from ..half import Half, Precise, full
from ..kinds import PAIR_KEY, MapKind
from ..tokens import TokenGrid
from .precision import full_float32

HEAD_DIM = 64  # of a Resampler: all that exist have it
OTHER_ADAPTERS = {  # by a weight that only this kind of adapter has
    "proj.3.weight": "a 'full face' adapter, whose maps lie on 16x16 patches by themselves",
    "perceiver_resampler.proj_in.weight": "a FaceID Plus adapter, whose tokens are of a face that was cut out and "
    "aligned: their maps show where it acts in the picture, not which part of the image acts",
    "proj.2.weight": "a FaceID adapter, whose tokens are of a face's identity and have no place in the image",
    "proj.weight": "a plain adapter, whose tokens are of the image as a whole and have no place in it",
}


@dataclass(frozen=True)
class Resampled:
    """The tokens that a Resampler makes of B images, and the attention of its layers: means over heads."""

    tokens: Tensor  # [B, T, C]
    attentions: tuple[Tensor, ...]  # [B, T, 1 + P + T] of each layer: class token, patches, latents; rows sum to 1


@torch.no_grad()
def resample(weights: Mapping[str, Tensor], features: Tensor) -> Resampled:
    """Run a Resampler on ``features [B, 1 + P, E]``, in float32 or as these are in float64.

    ``weights`` is its state dict, the ``image_proj`` of an adapter. Raises BadAdapter for an adapter of another kind,
    which it names, for weights that are missing, and for features of another size.
    """
    if "latents" not in weights:
        kinds = (kind for name, kind in OTHER_ADAPTERS.items() if name in weights)
        kind = next(kinds, "no IP-Adapter that I2AM knows")
        raise BadAdapter(f"this is {kind}: only an IP-Adapter Plus has tokens to be rolled out on to patches.", kind)
    try:
        with full_float32(features.device):
            features = features.double() if features.dtype == torch.float64 else features.float()
            return _Resampler(weights, features).run()
    except KeyError as error:
        raise BadAdapter(f"this IP-Adapter Plus lacks the weights {error}: load a complete file.", error) from None
    except (RuntimeError, AttributeError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise BadAdapter(
            f"this IP-Adapter does not take features of shape {tuple(features.shape)} ({reason}): connect the CLIP "
            "vision model that it was made for.",
            tuple(features.shape),
        ) from None


class _Resampler:
    """The forward pass of that Resampler, with the attention weights kept."""

    def __init__(self, weights: Mapping[str, Tensor], features: Tensor) -> None:
        self.weights, self.features = weights, features

    def run(self) -> Resampled:
        x = self._linear("proj_in", self.features)
        latents = self._weight("latents").expand(len(x), -1, -1)
        attentions = []
        depth = len({name.split(".")[1] for name in self.weights if name.startswith("layers.")})
        for layer in range(max(1, depth)):
            change, attention = self._attend(f"layers.{layer}.0", x, latents)
            attentions.append(attention)
            latents = latents + change
            hidden = self._linear(f"layers.{layer}.1.1", self._norm(f"layers.{layer}.1.0", latents))
            latents = latents + self._linear(f"layers.{layer}.1.3", F.gelu(hidden))
        return Resampled(self._norm("norm_out", self._linear("proj_out", latents)), tuple(attentions))

    def _attend(self, name: str, x: Tensor, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The change of the latents, and the attention ``[B, T, 1 + P + T]`` (``PerceiverAttention`` there)."""
        x, latents = self._norm(f"{name}.norm1", x), self._norm(f"{name}.norm2", latents)
        k, v = self._linear(f"{name}.to_kv", torch.cat([x, latents], 1)).chunk(2, -1)
        q = self._linear(f"{name}.to_q", latents)
        q, k, v = (x.unflatten(-1, (-1, HEAD_DIM)).transpose(1, 2) for x in (q, k, v))
        weights = (q @ k.mT * HEAD_DIM**-0.5).softmax(-1)  # [B, heads, T, 1 + P + T]
        return self._linear(f"{name}.to_out", (weights @ v).transpose(1, 2).flatten(2)), weights.mean(1)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        bias = self._weight(f"{name}.bias") if f"{name}.bias" in self.weights else None
        return F.linear(x, self._weight(f"{name}.weight"), bias)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self._weight(f"{name}.weight"), self._weight(f"{name}.bias"))

    def _weight(self, name: str) -> Tensor:
        return self.weights[name].to(self.features)


def rollout(attentions: Sequence[Tensor]) -> Tensor:
    """How much the class token and each patch contributed to each token, ``S [..., T, 1 + P]``. Rows sum to 1.

    ``attentions`` are those of ``Resampled``. From layer to layer, starting with 0, ``S`` becomes
    ``S + A_latents @ S + A_features``, with its rows scaled to sum to 1: what a latent had before, what it took from
    the other latents, and what it took from the features, each in the proportion of the attention.
    """
    count = attentions[0].shape[-2]
    contributions = torch.zeros_like(attentions[0][..., :-count])
    with full_float32(contributions.device):
        for attention in attentions:
            contributions = contributions + attention[..., -count:] @ contributions + attention[..., :-count]
            contributions = contributions / contributions.sum(-1, keepdim=True)
    return contributions


def patch_grid(features: int) -> TokenGrid:
    """The grid of the patches among so many features: a class token and a square of patches.

    Raises BadAdapter where the patches fill no square.
    """
    side = math.isqrt(features - 1)
    if side**2 != features - 1 or side == 0:
        raise BadAdapter(
            f"this CLIP vision model gives {features} features, which are not a class token and a square of patches: "
            "connect the one that the IP-Adapter was made for.",
            features,
        )
    return TokenGrid(side, side)


def spread(attribution: Attribution, reference: int, contributions: Tensor, pair_bytes: float) -> Attribution:
    """The attribution with the maps of a reference moved from its T tokens to P patches, which have places.

    ``contributions [T, 1 + P]`` is what ``rollout`` gives. Shares of the tokens are divided among patches, and what the
    class token contributed is lost. Maps that sum to 1, and pair maps, are scaled to that sum again. Maps on the
    picture stay as they are. Pair maps grow with the number of patches, so that only those of layers are kept that
    still fit ``pair_bytes``. The reference becomes approximate. Raises BadAdapter where patches fill no square.
    """
    before, patches = attribution.references[reference], contributions[:, 1:].float().cpu()
    grid = patch_grid(contributions.shape[-1])
    entries, left_out = dict(attribution.entries), []
    for (number, layer), entry in attribution.entries.items():
        if number != reference:
            continue
        size = sum(x.nbytes // before.tokens * grid.cells for x in entry.pairs.values())
        pair_bytes -= size
        if pair_bytes < 0 < size:
            pair_bytes += size
            left_out.append(attribution.layers[layer].name)
            entry = dataclasses.replace(entry, pairs={}, pair_rows=None)
        with full_float32(patches.device):
            entries[number, layer] = _spread(entry, patches, grid)
    notes = [
        f"reference {reference} ('{before.name}'): where its {before.tokens} tokens lie is approximate, rolled out "
        f"through the IP-Adapter's layers; {contributions[:, 0].mean():.0%} of what they hold is of no patch, but of "
        "the image as a whole (class token), and left out"
    ]
    if left_out:
        notes.append(f"pair maps of {', '.join(left_out)}, rolled out on to patches, did not fit the memory budget")
    references = list(attribution.references)
    references[reference] = dataclasses.replace(before, tokens=grid.cells, grid=grid, approximate=True, embeds=None)
    return dataclasses.replace(
        attribution, references=tuple(references), entries=entries, notes=(*attribution.notes, *notes)
    )


def _spread(entry: LayerMaps, patches: Tensor, grid: TokenGrid) -> LayerMaps:
    """The maps of one layer on patches; ``patches [T, P]`` is what each contributed to each token."""
    pairs = {}
    if entry.pairs:
        g2r, r2g = PAIR_KEY["g2r"], PAIR_KEY["r2g"]
        pairs[g2r] = _to_one(entry.pairs[g2r] @ patches)
        pairs[r2g] = entry.pairs[r2g] @ _to_one(patches.mT).mT  # of each patch, the mean of the tokens it is in
    maps, head_maps = _on_patches(entry.maps, patches), _on_patches(entry.head_maps, patches)
    return dataclasses.replace(entry, maps=maps, head_maps=head_maps, pairs=pairs, reference_grid=grid)


def _on_patches(maps: Mapping[str, Precise], patches: Tensor) -> dict[str, Precise]:
    moved = dict(maps)
    for name, values in maps.items():
        kind = MapKind.parse(name)
        if kind.on_reference:
            by_patch = full(values) @ patches
            by_patch = by_patch if kind.normalization == "share" else _to_one(by_patch)
            moved[name] = Half.of(by_patch) if isinstance(values, Half) else by_patch
    return moved


def _to_one(values: Tensor) -> Tensor:
    return values / values.sum(-1, keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)
