"""A pack with the contract of IPAdapter_plus, at its smallest, and the real one where it is there.

The contract: an object in ``patches_replace["attn2"]`` with lists ``callback`` and ``kwargs``; attention is the
``optimized_attention`` of this module, without options. ``IPADAPTER_PLUS_PATH`` is a folder with the real pack.
"""

import copy
import importlib
import os
import sys
import types

import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import optimized_attention

from i2am_pack.i2am_core.attention.rollout import resample

SD15 = {("input", 1): 32, ("output", 3): 32}  # block of the tiny U-Net that both know: its channels
SDXL = {("output", 0, 0): 128, ("output", 0, 1): 128, ("output", 1, 0): 128, ("output", 1, 1): 128}
KEYS = {  # of the real pack's layers
    ("input", 1): "1",
    ("output", 3): "13",
    ("output", 0, 0): "49",
    ("output", 0, 1): "51",
    ("output", 1, 0): "69",
    ("output", 1, 1): "71",
}
LAYERS = 16

WEIGHT = 0.6
SETTINGS = {
    "weight": WEIGHT,
    "weight_type": "linear",
    "attn_mask": None,
    "start_at": 0.0,
    "end_at": 1.0,
    "embeds_scaling": "V only",
    "unfold_batch": False,
}


class Replacement:
    def __init__(self, callback, **kwargs):
        self.callback, self.kwargs = [callback], [kwargs]

    def add(self, callback, **kwargs):
        self.callback.append(callback)
        self.kwargs.append(kwargs)

    def __call__(self, q, k, v, extra_options):
        out = optimized_attention(q, k, v, extra_options["n_heads"])
        sigma = extra_options["sigmas"][0].item()
        for callback, kwargs in zip(self.callback, self.kwargs, strict=True):
            if kwargs["sigma_end"] <= sigma <= kwargs["sigma_start"]:
                out = out + callback(out, q, k, v, extra_options, **kwargs)
        return out


class Weights(torch.nn.Module):
    """``ip_layers.to_kvs`` of an adapter."""

    def __init__(self, state):
        super().__init__()
        self.ip_layers = torch.nn.Module()
        self.ip_layers.to_kvs = torch.nn.ModuleDict()
        for name, weight in state.items():
            layer = torch.nn.Linear(*reversed(weight.shape), bias=False).requires_grad_(False)
            layer.weight.copy_(weight)
            self.ip_layers.to_kvs[name.removesuffix(".weight").replace(".", "_")] = layer


def ipadapter_attention(out, q, k, v, extra_options, module_key, ipadapter, weight, cond, uncond, **kwargs):
    number, chunks = extra_options["transformer_index"], extra_options["cond_or_uncond"]
    items = q.shape[0] // len(chunks)
    kind, scaling = kwargs["weight_type"], kwargs["embeds_scaling"]
    if kind == "ease in":
        weight = weight * (0.05 + 0.95 * (1 - number / LAYERS))
    elif kind == "weak input" and extra_options["block"][0] == "input":
        weight = weight * 0.2
    elif isinstance(weight, dict):
        if number not in weight:
            return 0
        if kind == "composition precise" and number not in (4, 5):
            cond, uncond = cond * 0, cond
        weight = weight[number]
        cond = (kwargs.get("cond_alt") or {}).get(number, cond)
    if weight == 0:
        return 0
    if kwargs["unfold_batch"]:
        cond, uncond = (torch.cat([e, e[-1:].expand(items, -1, -1)])[:items] for e in (cond, uncond))
        repeats = 1
    else:
        repeats = items
    made = []
    for name in ("_to_k_ip", "_to_v_ip"):
        layer = ipadapter.ip_layers.to_kvs[module_key + name]
        both = [layer(e).repeat(repeats, 1, 1) for e in (cond, uncond)]
        made.append(torch.cat([both[n] for n in chunks]))
    ip_k, ip_v = made
    if scaling.startswith("K"):
        weight = weight * (ip_k.shape[2] / 1280 if "penalty" in scaling else 1)
        mean = ip_v.mean(1, keepdim=True)
        ip_v = ip_v - mean + mean * weight if "mean" in scaling else ip_v * weight
        result = optimized_attention(q, ip_k * weight, ip_v, extra_options["n_heads"])
    else:
        result = optimized_attention(q, ip_k, ip_v, extra_options["n_heads"]) * weight
    if kwargs["mask"] is not None:
        grid = extra_options["activations_shape"][2:]
        mask = F.interpolate(kwargs["mask"][:, None], size=tuple(grid), mode="bilinear").flatten(1)[..., None]
        result = result * mask.expand(items, -1, -1).repeat(len(chunks), 1, 1)
    return result


class StandIn:
    module = sys.modules[__name__]

    @staticmethod
    def encode(clip_vision, image):
        return clip_vision.encode_image(image).penultimate_hidden_states

    @staticmethod
    def apply(model, adapter, cond, uncond, xl, **kwargs):
        """A clone of the model; ``cond`` are the embeds ``[images, (tokens,) width]`` of the vision model."""
        sampling = model.get_model_object("model_sampling")
        start, end = (sampling.percent_to_sigma(kwargs[name]) for name in ("start_at", "end_at"))
        own = {"sigma_start": start, "sigma_end": end, "mask": kwargs["attn_mask"]}
        weight, kind = kwargs["weight"], kwargs["weight_type"]
        if kind in ("style transfer", "composition precise"):
            weight = dict.fromkeys([0, 1, 2, 3] if kind == "style transfer" else range(16), weight)
        names = ("weight_type", "embeds_scaling", "unfold_batch")
        own |= {"weight": weight, "cond": project(adapter, cond), "uncond": project(adapter, uncond)}
        own |= {name: kwargs[name] for name in names}
        model = model.clone()
        options = model.model_options["transformer_options"]
        options["patches_replace"] = dict(options.get("patches_replace", {}))
        blocks = options["patches_replace"]["attn2"] = dict(options["patches_replace"].get("attn2", {}))
        for block in SDXL if xl else SD15:
            given = own | {"module_key": KEYS[block], "ipadapter": Weights(adapter["ip_adapter"])}
            if block in blocks:
                blocks[block].add(ipadapter_attention, **given)
            else:
                blocks[block] = Replacement(ipadapter_attention, **given)
        return model


class Real:
    """The pack's own classes and functions; the package's list of nodes stays unread."""

    def __init__(self, path):
        package = types.ModuleType("ipadapter_plus_pack")
        package.__path__ = [path]
        sys.modules.setdefault(package.__name__, package)
        self.pack = importlib.import_module("ipadapter_plus_pack.IPAdapterPlus")
        self.module = importlib.import_module("ipadapter_plus_pack.CrossAttentionPatch")

    def encode(self, clip_vision, image):
        return self.pack.encode_image_masked(clip_vision, image).penultimate_hidden_states

    def apply(self, model, adapter, cond, uncond, xl, **kwargs):
        adapter = copy.deepcopy(adapter)
        return self.pack.ipadapter_execute(model.clone(), adapter, None, pos_embed=cond, neg_embed=uncond, **kwargs)[0]


def project(adapter, embeds):
    """What the adapter makes of images. A "plus" one has a Resampler, a plain one makes 4 tokens of one.

    A "full" one has a layer, GELU, a layer and a norm for each token.
    """
    proj = adapter["image_proj"]
    if "latents" in proj:
        return resample(proj, embeds).tokens  # which test_rollout.py does by hand
    if "norm.weight" in proj:
        tokens = F.linear(embeds, proj["proj.weight"], proj["proj.bias"]).unflatten(-1, (4, -1))
        return F.layer_norm(tokens, tokens.shape[-1:], proj["norm.weight"], proj["norm.bias"])
    hidden = F.gelu(F.linear(embeds, proj["proj.0.weight"], proj["proj.0.bias"]))
    tokens = F.linear(hidden, proj["proj.2.weight"], proj["proj.2.bias"])
    return F.layer_norm(tokens, tokens.shape[-1:], proj["proj.3.weight"], proj["proj.3.bias"])


def weights(xl=False, seed=0, vision=8, plus=False):
    """An adapter for the tiny U-Nets: a "full" or a "plus" one for Stable Diffusion 1.5, a plain one for SDXL."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    width = 2048 if xl else 12  # by which the real pack tells SDXL
    layers = {"1.to_k_ip.weight": random(32, width)} if xl else {}
    for block, channels in (SDXL if xl else SD15).items():
        layers |= {f"{KEYS[block]}.to_{name}_ip.weight": 2 * random(channels, width) for name in "kv"}
    if xl:
        proj = {"proj.weight": random(4 * width, vision), "proj.bias": random(4 * width)}
        proj |= {"norm.weight": 1 + random(width), "norm.bias": random(width)}
    elif plus:
        proj = resampler(random, vision, width)
    else:
        proj = {"proj.0.weight": random(vision, vision), "proj.0.bias": random(vision)}
        proj |= {"proj.2.weight": random(width, vision), "proj.2.bias": random(width)}
        proj |= {"proj.3.weight": 1 + random(width), "proj.3.bias": random(width)}
    return {"image_proj": proj, "ip_adapter": layers}


def resampler(random, vision, width):
    """As wide as the tokens that it makes, and with the 12 heads and 4 layers that the real pack gives it."""

    def norm(name):
        return {f"{name}.weight": 1 + random(width), f"{name}.bias": random(width)}

    proj = {"latents": random(1, 16, width), "proj_in.weight": random(width, vision), "proj_in.bias": random(width)}
    proj |= {"proj_out.weight": random(width, width), "proj_out.bias": random(width), **norm("norm_out")}
    for layer in (f"layers.{n}" for n in range(4)):
        proj |= norm(f"{layer}.0.norm1") | norm(f"{layer}.0.norm2") | norm(f"{layer}.1.0")
        proj |= {f"{layer}.0.to_q.weight": random(768, width), f"{layer}.0.to_kv.weight": random(2 * 768, width)}
        proj |= {f"{layer}.0.to_out.weight": random(width, 768)}
        proj |= {f"{layer}.1.1.weight": random(4 * width, width), f"{layer}.1.3.weight": random(width, 4 * width)}
    return proj


def packs():
    path = os.environ.get("IPADAPTER_PLUS_PATH")
    return [StandIn(), *([Real(path)] if path else [])]
