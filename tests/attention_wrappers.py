"""How newer ComfyUI cores call attention, for the core that the tests run on.

Written after what ``wrap_attn`` does in 0.33 (containers) and in 0.36 (a preferred attention as well). The module says
that it is the one in which that is, as frames of theirs do: whoever reads the stack finds them there.
"""

import functools
import itertools

__name__ = "comfy.ldm.modules.attention"


class Container:
    """A tensor that whoever uses it may take away."""

    def __init__(self, tensor):
        self.tensor = tensor

    def peek(self):
        if self.tensor is None:
            raise RuntimeError("attention tensor container has already been consumed")
        return self.tensor

    def take(self):
        tensor = self.peek()
        self.tensor = None
        return tensor


class Preferred:
    """What a part of a model prefers: the function that a model file names, or none."""

    def __init__(self, function):
        self.function = function


def taken(args):
    return (*(x.take() if hasattr(x, "take") and hasattr(x, "peek") else x for x in args[:3]), *args[3:])


def of_newer_cores(func):
    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        preferred_attention = kwargs.pop("preferred_attention", None)
        in_containers = isinstance(args[0], Container)
        if "_inside_attn_wrapper" not in kwargs:
            kwargs["_inside_attn_wrapper"] = True
            options = kwargs.get("transformer_options")
            if options is not None and "optimized_attention_override" in options:
                override = options["optimized_attention_override"]
                if in_containers and hasattr(override, "container_function"):
                    return override.container_function(*args, **kwargs)
                return override(func, *taken(args), **kwargs)
            if preferred_attention is not None and preferred_attention.function is not None:
                return preferred_attention.function(*args, **kwargs)
        if in_containers and wrapper.container_function is not None:
            return wrapper.container_function(*args, **kwargs)
        return func(*taken(args), **kwargs)

    wrapper.container_function = None
    return wrapper


def of_a_core_to_come(func):
    """It takes something else out of the arguments, and its wrapper knows nothing of itself."""

    @functools.wraps(func)
    def wrapper(*args, **kwargs):
        chosen = kwargs.pop("attention_of_this_layer", None)
        options = kwargs.get("transformer_options")
        if "_inside_attn_wrapper" not in kwargs:
            kwargs["_inside_attn_wrapper"] = True
            if options is not None and "optimized_attention_override" in options:
                return options["optimized_attention_override"](func, *args, **kwargs)
            if chosen is not None:
                return chosen(*args, **kwargs)
        return func(*args, **kwargs)

    return wrapper


def called_with_containers(attention, container=Container):
    """What a model calls with tensors, and hands them on in containers."""

    def attention_in_containers(q, k, v, *args, **kwargs):
        return attention(container(q), container(k), container(v), *args, **kwargs)

    return attention_in_containers


def with_values_times(attention, factor):
    """An attention whose numbers are visibly other ones. It may get containers."""

    def attention_with_values(*args, **kwargs):
        q, k, v, *others = taken(args)
        return attention(q, k, v * factor, *others, **kwargs)

    return attention_with_values


def preferring_by_turns(attention, *functions):
    """Layers of a model that prefer other functions, one after the other."""
    turns = itertools.cycle(functions)

    def attention_by_turns(*args, **kwargs):
        return attention(*args, preferred_attention=Preferred(next(turns)), **kwargs)

    return attention_by_turns
