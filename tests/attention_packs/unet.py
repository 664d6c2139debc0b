"""Packs for U-Nets: functions in ``patches_replace`` and in the patches of ``BasicTransformerBlock``."""

from comfy.ldm.modules.attention import optimized_attention

from attention_packs import HEADS, by_hand, theirs

BLOCKS = (("input", 1), ("input", 3), ("middle", 0), *(("output", n) for n in range(4)))  # of the tiny SD 1.5


# Replacements of attention


def with_options(q, k, v, extra_options):
    """As perturbed-attention and attention-couple packs that are kind to others."""
    with theirs():
        return optimized_attention(q, k, v, extra_options["n_heads"], transformer_options=extra_options)


def without_options(q, k, v, extra_options):
    """As comfyui-daam: ComfyUI's attention without the options, so that it does not come to any override."""
    return optimized_attention(q, k, v, extra_options["n_heads"])


def softmax_by_hand(q, k, v, extra_options):
    """As those that want the weights."""
    return by_hand(q, k, v, extra_options["n_heads"])


class Recording:
    """A replacement that is an object, with an attribute to look at."""

    def __init__(self):
        self.seen = []

    def __call__(self, q, k, v, extra_options):
        return self.record(q, k, v, extra_options)

    def record(self, q, k, v, extra_options):
        self.seen.append(tuple(q.shape))
        return optimized_attention(q, k, v, extra_options["n_heads"])


def with_a_setting(setting, q, k, v, extra_options):
    """To be used through ``functools.partial``, which has no name of its own."""
    return optimized_attention(q, k, v * setting, extra_options["n_heads"])


def replaces(model, function, which="attn1", blocks=BLOCKS, parts=2):
    """``function`` in the given blocks, for the whole block (``parts`` 2) or for one transformer of it (3)."""
    model = model.clone()
    for name, number in blocks:
        model.set_model_patch_replace(function, which, name, number, *((0,) if parts == 3 else ()))
    return model


def daam(model):
    """All text attention, around what is there already: an IP-Adapter runs inside a closure."""
    there = model.model_options["transformer_options"].get("patches_replace", {}).get("attn2", {})

    def heat(earlier):
        def hook(q, k, v, extra_options):
            if earlier is not None:
                return earlier(q, k, v, extra_options)
            return optimized_attention(q, k, v, extra_options["n_heads"])

        return hook

    model = model.clone()
    for name, number in BLOCKS:
        model.set_model_attn2_replace(heat(there.get((name, number))), name, number)
    return model


# Patches around attention


def self_attention_output(model):
    """One more call after each attn1, of as many tokens as it."""

    def look_twice(n, extra_options):
        with theirs():
            optimized_attention(n, n.flip(1), n, HEADS, transformer_options=extra_options)
        return n

    model = model.clone()
    model.set_model_attn1_output_patch(look_twice)
    return model


def text_attention_output(model):
    """One more call after each attn2, of as many tokens as attn1, mixed into what the block goes on with."""

    def mix(n, extra_options):
        with theirs():
            more = optimized_attention(n, n.flip(1), n, HEADS, transformer_options=extra_options)
        return n + 0.1 * more

    model = model.clone()
    model.set_model_attn2_output_patch(mix)
    return model


def before_self_attention(model):
    """One more call right before each attn1."""

    def look_first(n, context, value, extra_options):
        with theirs():
            optimized_attention(n, n.flip(1), n, HEADS, transformer_options=extra_options)
        return n, context, value

    model = model.clone()
    model.set_model_attn1_patch(look_first)
    return model


def before_text_attention(model):
    """One more call right before each attn2; its text stays."""

    def look_first(n, context, value, extra_options):
        with theirs():
            optimized_attention(n, n.flip(1), n, HEADS, transformer_options=extra_options)
        return n, context, value

    model = model.clone()
    model.set_model_attn2_patch(look_first)
    return model
