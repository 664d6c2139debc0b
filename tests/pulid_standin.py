"""A pack with the contract of PuLID for SDXL (PuLID_ComfyUI by cubiq), at its smallest.

It replaces attn2 as IPAdapter_plus does: see ``ip_adapter_standin``. Attention is the ``optimized_attention`` of this
module. What the method "fidelity" and "style" have in common: they take from it what the text's attention has of it.
"""

import sys

import torch
from comfy.ldm.modules.attention import optimized_attention
from ip_adapter_standin import KEYS, SDXL, Weights

TOKENS = 10
WIDTH = 12


class Replacement:
    def __init__(self, callback, **kwargs):
        self.callback, self.kwargs = [callback], [kwargs]

    def add(self, callback, **kwargs):
        self.callback.append(callback)
        self.kwargs.append(kwargs)

    def __call__(self, q, k, v, extra_options):
        out = optimized_attention(q, k, v, extra_options["n_heads"])
        sigma = extra_options["sigmas"][0].item()
        for callback, own in zip(self.callback, self.kwargs, strict=True):
            if own["sigma_end"] <= sigma <= own["sigma_start"]:
                out = out + callback(out, q, k, v, extra_options, **own)
        return out


def pulid_attention(
    out, q, k, v, extra_options, module_key, pulid, cond, uncond, weight, ortho=False, mask=None, **kwargs
):
    chunks = extra_options["cond_or_uncond"]
    items = q.shape[0] // len(chunks)
    made = []
    for name in ("_to_k_ip", "_to_v_ip"):
        both = [pulid.ip_layers.to_kvs[module_key + name](e).repeat(items, 1, 1) for e in (cond, uncond)]
        made.append(torch.cat([both[n] for n in chunks]))
    own = optimized_attention(q, *made, extra_options["n_heads"])
    if ortho:
        own = own - (out * own).sum(-2, keepdim=True) / (out * out).sum(-2, keepdim=True) * out
    own = own * weight
    if mask is not None:
        grid = tuple(extra_options["activations_shape"][2:])
        mask = torch.nn.functional.interpolate(mask[:, None], size=grid, mode="bilinear").flatten(1)[..., None]
        own = own * mask.expand(items, -1, -1).repeat(len(chunks), 1, 1)
    return own


def layers(seed):
    """Keys and values of each layer, by the pack's names."""
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{KEYS[block]}.to_{name}_ip.weight": torch.randn(channels, WIDTH, generator=generator) / 2
        for block, channels in SDXL.items()
        for name in "kv"
    }


class StandIn:
    module = sys.modules[__name__]

    @staticmethod
    def network(seed):
        return Weights(layers(seed))

    @staticmethod
    def put(model, kwargs, block):
        options = model.model_options["transformer_options"]
        replaced = options.setdefault("patches_replace", {}).setdefault("attn2", {})
        if block in replaced:
            replaced[block].add(pulid_attention, **kwargs)
        else:
            replaced[block] = Replacement(pulid_attention, **kwargs)
