"""Packs for Flux, Qwen-Image and Wan: ``patches_replace["dit"]``, overrides inside overrides, wrappers."""

import types

import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP

from attention_packs import HEADS, by_hand, original, theirs


def _all_tokens(args):
    """Of a double block as it joins them; of a single block, or one of Wan, what is given as the picture."""
    text = args.get("txt")
    joined = text is not None and text.shape[-1] == args["img"].shape[-1] and "attn_mask" in args
    return torch.cat([text, args["img"]], 1) if joined else args["img"]


def answers_from_a_cache(model):
    """The whole denoiser's answer of the first step again in the next, as EasyCache gives it."""
    answers = {}

    def cached(executor, x, *args, **kwargs):
        options = next(a for a in (*args, *kwargs.values()) if isinstance(a, dict) and "cond_or_uncond" in a)
        key = tuple(options["cond_or_uncond"])
        if key not in answers:
            answers[key] = executor(x, *args, **kwargs)
            return answers[key]
        return answers.pop(key)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "cache", cached)
    return model


# The replacement of blocks


def _replaces(model, function, blocks):
    model = model.clone()
    for kind, number in blocks:
        model.set_model_patch_replace(function, "dit", kind, number)
    return model


def wraps_blocks(model, blocks):
    """As caches that are not in use do it: the block runs as it is."""

    def wrap(args, extra):
        return original(extra["original_block"])(args)

    return _replaces(model, wrap, blocks)


def adds_to_blocks(model, blocks, before=False):
    """One more attention of the same tokens, before the block or after it."""

    def wrap(args, extra):
        if before:
            x = _all_tokens(args)
            with theirs():
                optimized_attention(x, x.flip(1), x, HEADS, transformer_options=args["transformer_options"])
        output = original(extra["original_block"])(args)
        if not before:
            x = _all_tokens(args)
            with theirs():
                optimized_attention(x, x.flip(1), x, HEADS, transformer_options=args["transformer_options"])
        return output

    return _replaces(model, wrap, blocks)


def replaces_blocks(model, blocks):
    """Blocks of its own, which never call ComfyUI's attention."""

    def block(args, extra):
        streams = ("img", "txt") if "txt" in args and args["txt"].shape[-1] == args["img"].shape[-1] else ("img",)
        return {name: args[name] + 0.1 * by_hand(args[name], args[name], args[name]) for name in streams}

    return _replaces(model, block, blocks)


def runs_twice(model, blocks):
    """As packs that repeat layers do it."""

    def twice(args, extra):
        run = original(extra["original_block"])
        return run(args | run(args))

    return _replaces(model, twice, blocks)


def reorders(model):
    """Double block 0 where 1 is due, and 1 where 0 is; ComfyUI's options go on naming the place."""
    blocks = model.model.diffusion_model.double_blocks

    def other(number):
        def run(args, extra):
            names = ("img", "txt", "vec", "pe", "attn_mask", "transformer_options")
            img, txt = original(blocks[number])(**{name: args[name] for name in names})
            return {"img": img, "txt": txt}

        return run

    model = model.clone()
    for place, number in ((0, 1), (1, 0)):
        model.set_model_patch_replace(other(number), "dit", "double_block", place)
    return model


# Attention in attention


def nests(model):
    """An override that makes one more attention call, with the options, in each call that comes to it."""
    inside = []

    def override(attention, q, k, v, heads, *args, **kwargs):
        if not inside:
            inside.append(None)
            try:
                with theirs():
                    options = {name: kwargs[name] for name in ("skip_reshape", "transformer_options") if name in kwargs}
                    optimized_attention(q, k.flip(-2), v, heads, **options)
            finally:
                inside.pop()
        return attention(q, k, v, heads, *args, **kwargs)

    model = model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    return model


def nests_by_hand(model):
    """An override that computes attention itself: calls come to it, but none runs a kernel."""

    def override(attention, q, k, v, heads, *args, skip_reshape=False, **kwargs):
        if skip_reshape:
            q, k, v = (x.transpose(1, 2).flatten(2) for x in (q, k, v))
        return by_hand(q, k, v, heads)

    model = model.clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    return model


# Wan


class TwoTexts:
    """A cross-attention that attends to the text twice, to other tokens the second time (normalized guidance)."""

    def __init__(self, scale=0.3):
        self.scale = scale

    def __get__(self, module, kind=None):
        def attend(module, x, context, *args, transformer_options=None, **kwargs):
            return attends_twice(module, x, context, self.scale, transformer_options or {}, **kwargs)

        return types.MethodType(attend, module)


def attends_twice(module, x, context, scale, options, context_img_len=None, **kwargs):
    q = module.norm_q(module.q(x))
    image = 0
    if hasattr(module, "k_img"):
        seen, context = context[:, :context_img_len], context[:, context_img_len:]
        k, v = module.norm_k_img(module.k_img(seen)), module.v_img(seen)
        with theirs():
            image = optimized_attention(q, k, v, heads=module.num_heads, transformer_options=options)
    answers = []
    for text in (context, context.flip(1) * 0.5):
        k, v = module.norm_k(module.k(text)), module.v(text)
        with theirs():
            answers.append(optimized_attention(q, k, v, heads=module.num_heads, transformer_options=options))
    positive, negative = answers
    return module.o(image + positive + scale * (positive - negative))


def attends_to_text_twice(model, *also):
    """Object patches on ``blocks.i.cross_attn.forward`` of all blocks, of ``also`` (``vace_blocks``) too."""
    denoiser = model.model.diffusion_model
    model = model.clone()
    for name in ("blocks", *also):
        for number, block in enumerate(getattr(denoiser, name)):
            forward = TwoTexts().__get__(block.cross_attn, type(block.cross_attn))
            model.add_object_patch(f"diffusion_model.{name}.{number}.cross_attn.forward", forward)
    return model


def attends_before_the_blocks(model, tokens):
    """One more call, of so many tokens, before the first block: from a wrapper of the whole denoiser."""

    def attend(executor, x, *args, **kwargs):
        options = next(a for a in (*args, *kwargs.values()) if isinstance(a, dict) and "cond_or_uncond" in a)
        generator = torch.Generator().manual_seed(0)
        made_up = torch.randn(x.shape[0], tokens, 24, generator=generator)
        with theirs():
            optimized_attention(made_up, made_up.flip(1), made_up, HEADS, transformer_options=options)
        return executor(x, *args, **kwargs)

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "attends before", attend)
    return model


def attends_while_embedding(model):
    """One more call of the video's tokens, where they are made (object patch on ``patch_embedding.forward``)."""
    key, given = "diffusion_model.patch_embedding.forward", []
    run = original(model.get_model_object(key))

    def remember(executor, x, *args, **kwargs):
        given[:] = [a for a in (*args, *kwargs.values()) if isinstance(a, dict) and "cond_or_uncond" in a]
        return executor(x, *args, **kwargs)

    def embed(x):
        embedded = run(x)
        x = embedded.flatten(2).transpose(1, 2)
        with theirs():
            optimized_attention(x, x.flip(1), x, HEADS, transformer_options=given[0])
        return embedded

    model = model.clone()
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "remembers", remember)
    model.add_object_patch(key, embed)
    return model
