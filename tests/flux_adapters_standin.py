"""Packs with the contracts of adapters of Flux, at their smallest; of the real ones no code is here.

IP-Adapter, as ComfyUI-IPAdapter-Flux: blocks of its own in the place of the model's, with lists ``ip_adapter`` and
``image_emb``, and a forward of its own that gives them no options. A processor attends with PyTorch's own function.
"""

import types

import torch
import torch.nn.functional as F
from comfy.ldm.flux.layers import timestep_embedding
from comfy.ldm.flux.math import apply_rope
from comfy.ldm.modules.attention import optimized_attention


def attention(q, k, v, pe, mask=None):
    q, k = apply_rope(q, k, pe)
    return optimized_attention(q, k, v, q.shape[1], skip_reshape=True, mask=mask)


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class Processor(torch.nn.Module):
    def __init__(self, width, token_width, scale, timestep_range):
        super().__init__()
        self.scale, self.timestep_range = scale, timestep_range
        self.to_k_ip = torch.nn.Linear(token_width, width, bias=False)
        self.to_v_ip = torch.nn.Linear(token_width, width, bias=False)
        self.norm_added_k = torch.nn.RMSNorm(width // 2, elementwise_affine=False)  # of the tiny model's two heads

    def __call__(self, num_heads, query, image_emb, t):
        if t[0] > self.timestep_range[0] or t[0] < self.timestep_range[1]:
            return None
        k, v = (split(layer(image_emb), num_heads) for layer in (self.to_k_ip, self.to_v_ip))
        out = F.scaled_dot_product_attention(query, self.norm_added_k(k), v, dropout_p=0.0, is_causal=False)
        return self.scale * out.transpose(1, 2).flatten(2)


class Block(torch.nn.Module):
    """Around the model's own block, of which it uses the parts."""

    def __init__(self, original, processors, tokens):
        super().__init__()
        self.original, self.ip_adapter, self.image_emb = original, processors, tokens

    def adapted(self, out, query, t):
        for processor, tokens in zip(self.ip_adapter, self.image_emb, strict=True):
            added = processor(self.original.num_heads, query, tokens, t)
            out = out if added is None else out + added
        return out


def both_sides(own, img, txt, vec):
    """What a double block of Flux makes of text and picture, and the queries, keys and values of both together."""
    sides = []
    for name, x in (("txt", txt), ("img", img)):
        first, second = getattr(own, f"{name}_mod")(vec)
        part = getattr(own, f"{name}_attn")
        qkv = part.qkv((1 + first.scale) * getattr(own, f"{name}_norm1")(x) + first.shift)
        q, k, v = qkv.unflatten(-1, (3, own.num_heads, -1)).permute(2, 0, 3, 1, 4)
        sides.append((name, x, first, second, part, *part.norm(q, k, v), v))
    q, k, v = (torch.cat(both, 2) for both in zip(*(side[5:] for side in sides), strict=True))
    return sides, q, k, v


def ended(own, sides, outs):
    """Text and picture behind a double block, with what attention gave each."""
    done = []
    for (name, x, first, second, part, *_), mine in zip(sides, outs, strict=True):
        x = x + first.gate * part.proj(mine)
        normed = (1 + second.scale) * getattr(own, f"{name}_norm2")(x) + second.shift
        done.append(x + second.gate * getattr(own, f"{name}_mlp")(normed))
    return done


class Double(Block):
    def forward(self, img, txt, vec, pe, t, attn_mask=None):
        own = self.original
        sides, q, k, v = both_sides(own, img, txt, vec)
        out = attention(q, k, v, pe=pe, mask=attn_mask)
        outs = out[:, : txt.shape[1]], self.adapted(out[:, txt.shape[1] :], sides[1][5], t)
        done = ended(own, sides, outs)
        return done[1], done[0]


class Single(Block):
    def forward(self, x, vec, pe, t, attn_mask=None):
        own = self.original
        mod, _ = own.modulation(vec)
        normed = (1 + mod.scale) * own.pre_norm(x) + mod.shift
        qkv, mlp = torch.split(own.linear1(normed), [3 * own.hidden_size, own.mlp_hidden_dim], dim=-1)
        q, k, v = qkv.unflatten(-1, (3, own.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = own.norm(q, k, v)
        out = self.adapted(attention(q, k, v, pe=pe, mask=attn_mask), q, t)
        return x + mod.gate * own.linear2(torch.cat((out, own.mlp_act(mlp)), 2))


def forward_orig(self, img, img_ids, txt, txt_ids, timesteps, y, guidance=None, *args, attn_mask=None, **kwargs):
    img, txt = self.img_in(img), self.txt_in(txt)
    vec = self.time_in(timestep_embedding(timesteps, 256).to(img.dtype)) + self.vector_in(y)
    vec = vec + self.guidance_in(timestep_embedding(guidance, 256).to(img.dtype))
    pe = self.pe_embedder(torch.cat((txt_ids, img_ids), dim=1))
    for block in self.double_blocks:
        img, txt = block(img=img, txt=txt, vec=vec, pe=pe, t=timesteps, attn_mask=attn_mask)
    img = torch.cat((txt, img), 1)
    for block in self.single_blocks:
        img = block(img, vec=vec, pe=pe, t=timesteps, attn_mask=attn_mask)
    return self.final_layer(img[:, txt.shape[1] :], vec)


class StandIn:
    @staticmethod
    def processor(width, token_width, scale, timestep_range):
        return Processor(width, token_width, scale, timestep_range)

    @staticmethod
    def patch(model, processors, tokens):
        """A clone of the model; ``processors`` are by the name of their block."""
        model = model.clone()
        denoiser = model.model.diffusion_model
        model.add_object_patch("diffusion_model.forward_orig", types.MethodType(forward_orig, denoiser))
        for name, processor in processors.items():
            path = f"diffusion_model.{name}"
            present = model.get_model_object(path)
            own, others, images = present, [], []
            if isinstance(present, Block):
                own, others, images = present.original, present.ip_adapter, present.image_emb
            kind = Double if name.startswith("double") else Single
            model.add_object_patch(path, kind(own, [*others, processor], [*images, tokens]))
        return model


# XLabs


class IPProcessor(torch.nn.Module):
    def __init__(self, width, token_width, tokens, scale):
        super().__init__()
        self.ip_hidden_states, self.ip_scale = tokens, scale
        self.ip_adapter_double_stream_k_proj = torch.nn.Linear(token_width, width)
        self.ip_adapter_double_stream_v_proj = torch.nn.Linear(token_width, width)

    def forward(self, img_q, attn):
        layers = self.ip_adapter_double_stream_k_proj, self.ip_adapter_double_stream_v_proj
        k, v = (split(layer(self.ip_hidden_states), attn.num_heads) for layer in layers)
        return F.scaled_dot_product_attention(img_q, k, v).transpose(1, 2).flatten(2) * self.ip_scale


class WithAdapters(torch.nn.Module):
    def __init__(self, ip_adapters):
        super().__init__()
        self.ip_adapters = torch.nn.ModuleList(ip_adapters)

    def forward(self, block, img, txt, vec, pe):
        own = block.original
        sides, q, k, v = both_sides(own, img, txt, vec)
        q, k = apply_rope(q, k, pe)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        done = ended(own, sides, (out[:, : txt.shape[1]], out[:, txt.shape[1] :]))
        for adapter in self.ip_adapters:
            done[1] = done[1] + adapter(sides[1][5], own).mean(0, keepdim=True)
        return done[1], done[0]


class XLabsBlock(torch.nn.Module):
    def __init__(self, original, adapters):
        super().__init__()
        self.original, self.processor = original, WithAdapters(adapters)

    def forward(self, img, txt, vec, pe, **further):
        return self.processor(self, img, txt, vec, pe)


class XLabsStandIn:
    """Mended, so that it takes what newer cores call a block with."""

    @staticmethod
    def adapter(*about):
        return IPProcessor(*about)

    @staticmethod
    def patch(model, adapters):
        model = model.clone()
        for number, adapter in enumerate(adapters):
            path = f"diffusion_model.double_blocks.{number}"
            present = model.get_model_object(path)
            own, others = present, []
            if isinstance(present, XLabsBlock):
                own, others = present.original, [*present.processor.ip_adapters]
            model.add_object_patch(path, XLabsBlock(own, [*others, adapter]))
        return model


# PuLID


class Perceiver(torch.nn.Module):
    def __init__(self, width, size, heads, token_width):
        super().__init__()
        self.heads = heads
        self.to_q = torch.nn.Linear(width, heads * size, bias=False)
        self.to_kv = torch.nn.Linear(token_width, 2 * heads * size, bias=False)
        self.to_out = torch.nn.Linear(heads * size, width, bias=False)

    def forward(self, tokens, picture):
        q = split(self.to_q(picture), self.heads)
        k, v = (split(x, self.heads) for x in self.to_kv(tokens).chunk(2, dim=-1))
        out = self.weights(q, k) @ v
        return self.to_out(out.transpose(1, 2).flatten(2))

    def weights(self, q, k):
        return torch.softmax((q * k.shape[-1] ** -0.25) @ (k * k.shape[-1] ** -0.25).transpose(-2, -1), dim=-1)


def added(img, pulid_model, ca_idx, weight, embedding, mask, transformer_options):
    made = weight * pulid_model.model.pulid_ca[ca_idx](embedding, img)
    return made if mask is None else made * mask


class BlockAndPuLID:
    def __init__(self, callback, **kwargs):
        self.callback, self.kwargs = [callback], [kwargs]

    def add(self, callback, **kwargs):
        self.callback.append(callback)
        self.kwargs.append(kwargs)

    def __call__(self, given, further):
        options = further["transformer_options"]
        out = further["original_block"](given)
        text = 0 if "txt" in given else options["text"]
        sigma = float(options["sigma"][0])
        img = picture = out["img"][:, text:]
        for callback, own in zip(self.callback, self.kwargs, strict=True):
            if own["sigma_start"] >= sigma >= own["sigma_end"]:
                kwargs = {n: own[n] for n in ("pulid_model", "ca_idx", "weight", "embedding", "mask")}
                img = img + callback(picture, **kwargs, transformer_options=options)
        return out | {"img": torch.cat([out["img"][:, :text], img], 1)}


def pulid_forward(
    self, img, img_ids, txt, txt_ids, timesteps, y, guidance=None, control=None, transformer_options=None, *args,
    attn_mask=None, **kwargs,
):  # fmt: skip
    img, txt = self.img_in(img), self.txt_in(txt)
    vec = self.time_in(timestep_embedding(timesteps, 256).to(img.dtype)) + self.vector_in(y)
    vec = vec + self.guidance_in(timestep_embedding(guidance, 256).to(img.dtype))
    pe = self.pe_embedder(torch.cat((txt_ids, img_ids), dim=1))
    own = {"text": txt.shape[1], "sigma": timesteps}
    replaced = transformer_options["patches_replace"]["dit"]

    def through(key, block, given):
        def original(given):
            out = block(**given, vec=vec, pe=pe, attn_mask=attn_mask)
            return {"img": out[0], "txt": out[1]} if isinstance(out, tuple) else {"img": out}

        if key not in replaced:
            return original(given)
        further = {"original_block": original, "transformer_options": transformer_options | own}
        if "x" not in given:
            return replaced[key](given, further)
        further["original_block"] = lambda args: original({"x": args["img"]})
        return replaced[key]({"img": given["x"]}, further)

    for n, block in enumerate(self.double_blocks):
        out = through(("double_block", n), block, {"img": img, "txt": txt})
        img, txt = out["img"], out["txt"]
    img = torch.cat((txt, img), 1)
    for n, block in enumerate(self.single_blocks):
        img = through(("single_block", n), block, {"x": img})["img"]
    return self.final_layer(img[:, txt.shape[1] :], vec)


class PuLIDStandIn:
    @staticmethod
    def perceiver(*sizes):
        return Perceiver(*sizes)

    @staticmethod
    def patch(model, perceivers, tokens, weight, sigmas, mask):
        """A clone of the model; ``perceivers`` are by the key of their block."""
        model = model.clone()
        denoiser = model.model.diffusion_model
        model.add_object_patch("diffusion_model.forward_orig", types.MethodType(pulid_forward, denoiser))
        networks = types.SimpleNamespace(model=types.SimpleNamespace(pulid_ca=torch.nn.ModuleList(perceivers.values())))
        options = model.model_options["transformer_options"]
        replaced = options.setdefault("patches_replace", {}).setdefault("dit", {})
        own = {"pulid_model": networks, "weight": weight, "embedding": tokens, "mask": mask}
        own |= {"sigma_start": sigmas[0], "sigma_end": sigmas[1]}
        for number, key in enumerate(perceivers):
            if key in replaced:
                replaced[key].add(added, **own, ca_idx=number)
            else:
                replaced[key] = BlockAndPuLID(added, **own, ca_idx=number)
        return model
