"""Packs that put a function of their own in the place of a module's ``forward`` (``add_object_patch``)."""

import torch
from comfy.ldm.modules.attention import optimized_attention

from attention_packs import HEADS, by_hand, original, theirs


def tokens_of(args, kwargs):
    """All tokens that a block gets, as it joins them: Flux and Qwen give text and picture apart."""
    apart = [kwargs[name] for name in ("txt", "encoder_hidden_states", "img", "hidden_states") if name in kwargs]
    return torch.cat(apart, 1) if apart else args[0]


def calls_original(model, path):
    """As packs that only count or time do it."""
    key = f"diffusion_model.{path}.forward"
    run = original(model.get_model_object(key))

    def forward(*args, **kwargs):
        return run(*args, **kwargs)

    model = model.clone()
    model.add_object_patch(key, forward)
    return model


class Around(torch.nn.Module):
    """A module in the place of another, which it runs and of whose attributes it has none."""

    def __init__(self, module):
        super().__init__()
        self.inner = module

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


def wraps_module(model, path):
    """As packs that compile blocks do it: another module is put in the place of a block."""
    key = f"diffusion_model.{path}"
    wrapped = Around(model.get_model_object(key))
    model = model.clone()
    model.add_object_patch(key, wrapped)
    return model


def adds(model, path, before=False):
    """One more attention of the same tokens, before the block or after it."""
    key = f"diffusion_model.{path}.forward"
    run = original(model.get_model_object(key))

    def forward(*args, **kwargs):
        options, tokens = kwargs["transformer_options"], tokens_of(args, kwargs)
        if before:
            with theirs():
                optimized_attention(tokens, tokens.flip(1), tokens, HEADS, transformer_options=options)
        output = run(*args, **kwargs)
        if not before:
            with theirs():
                optimized_attention(tokens, tokens.flip(1), tokens, HEADS, transformer_options=options)
        return output

    model = model.clone()
    model.add_object_patch(key, forward)
    return model


def without(model, path):
    """A block of its own, which never calls ComfyUI's attention."""
    key = f"diffusion_model.{path}.forward"

    def forward(*args, **kwargs):
        if "txt" in kwargs:  # double block of Flux
            return tuple(_mixed(kwargs[name]) for name in ("img", "txt"))
        if "encoder_hidden_states" in kwargs:  # block of Qwen-Image
            return tuple(_mixed(kwargs[name]) for name in ("encoder_hidden_states", "hidden_states"))
        if "c" in kwargs and len(args) == 2:  # joint block of Stable Diffusion 3: text, picture
            return tuple(_mixed(x) for x in args)
        if "x" in kwargs:  # control block of VACE: what it adds, and what it hands on
            return _mixed(args[0]), args[0]
        return _mixed(args[0])

    model = model.clone()
    model.add_object_patch(key, forward)
    return model


def attention_without(model, path):
    """The same for a module that is only attention: what it returns has the shape of what it is given."""
    key = f"diffusion_model.{path}.forward"

    def attend(x, *args, **kwargs):
        return by_hand(x, x, x)

    model = model.clone()
    model.add_object_patch(key, attend)
    return model


def fails_once(model, path, error, at=2):
    """A block that fails at the given call of it, after its own attention, and never again."""
    key = f"diffusion_model.{path}.forward"
    run, count = original(model.get_model_object(key)), []

    def forward(*args, **kwargs):
        count.append(None)
        x = tokens_of(args, kwargs)
        with theirs():
            optimized_attention(x, x.flip(1), x, HEADS, transformer_options=kwargs["transformer_options"])
        output = run(*args, **kwargs)
        if len(count) == at:
            raise error
        return output

    model = model.clone()
    model.add_object_patch(key, forward)
    return model


def _mixed(x):
    return x + 0.1 * by_hand(x, x, x)
