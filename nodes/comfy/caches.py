"""Nodes that answer some steps from memory: EasyCache and LazyCache of ComfyUI, TeaCache, MagCache and their kin.

They have no common interface but their names: the keys of wrappers that they add, and the functions that they put
around the model.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from .callers import function_of

NAME = "cache"
WRAPPER = "model_function_wrapper"  # the one function that a node may put around every call of the model


def caches_of(wrappers: Mapping[str, Mapping[Any, Any]]) -> Iterator[str]:
    """Names under which caches were put around the model, of wrappers by kind and key."""
    for by_key in wrappers.values():
        yield from (str(key) for key, functions in by_key.items() if functions and NAME in str(key).lower())


def has_cache(model_options: Mapping[str, Any]) -> bool:
    """Whether a run's answers may come from memory."""
    wrappers = model_options.get("transformer_options", {}).get("wrappers", {})
    return any(caches_of(wrappers)) or _is_cache(model_options.get(WRAPPER))


def without_caches(model_options: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a run's ``model_options`` in which none is around the model: it computes, and none remembers it.

    Dictionaries of other things are shared with the original, but for those of wrappers.
    """
    options = dict(model_options)
    transformer_options = dict(options.get("transformer_options", {}))
    transformer_options["wrappers"] = {
        kind: {key: functions for key, functions in by_key.items() if NAME not in str(key).lower()}
        for kind, by_key in transformer_options.get("wrappers", {}).items()
    }
    if _is_cache(options.get(WRAPPER)):
        del options[WRAPPER]
    return options | {"transformer_options": transformer_options}


def _is_cache(function: Any) -> bool:
    return function is not None and NAME in str(function_of(function)).lower()
