"""Nodes that answer some steps from memory: EasyCache and LazyCache of ComfyUI, TeaCache, MagCache and their kin.

They have no common interface but their names: of the keys of wrappers and options that they add, and of the functions
that they put around the model or into its patches.

What happens to them in an evaluation that a run is not to notice (``Evaluation.again``):

* What is a cache by its name is left out. The evaluation computes all, and the cache does not learn of it. Where a run
  has one, its own answer may be remembered, so that the answer to compare with is computed once more, too.
* What is not is left in: it may be what makes the model work, as the function that adds IC-Light's channels. Whether
  it remembers anything cannot be known, so that all that it could remember is put back afterwards (``remembered.py``).
  One that then answers the evaluation from memory is noticed by the blocks that do not run, and nothing is measured.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .callers import OUR_PACKAGE, function_of
from .pack_functions import WRAPPER, closed_over, functions_in

NAME = "cache"
OTHER_NAMES = ("KV_Attn_Input",)  # of FluxKVCache, which patches attention
FUNCTIONS = ("patches", "patches_replace")  # keys of options that hold functions by their kind


def caches_of(wrappers: Mapping[str, Mapping[Any, Any]]) -> Iterator[str]:
    """Names under which caches were put around the model, of wrappers by kind and key."""
    for by_key in wrappers.values():
        yield from (str(key) for key, functions in by_key.items() if functions and _is_named(key))


def has_cache(model_options: Mapping[str, Any]) -> bool:
    """Whether a run's answers may come from memory."""
    options = model_options.get("transformer_options", {})
    function = model_options.get(WRAPPER)
    return (
        any(caches_of(options.get("wrappers", {})))
        or any(_is_named(key) and value is not None for key, value in options.items())
        or any(_is_named_cache(f) for key in FUNCTIONS for f in functions_in(options.get(key, {})))
        or any(is_cache(f) for f in closed_over(function))
    )


def names_of(model_options: Mapping[str, Any]) -> list[str]:
    """Names, for a person, of the caches that may answer a run's steps or blocks."""
    options = model_options.get("transformer_options", {})
    holders = (value for key, value in options.items() if _is_named(key) and value is not None)
    names = [name for holder in holders if isinstance(name := getattr(holder, "name", None), str)]
    if not names:
        names += caches_of(options.get("wrappers", {}))
    patched = [f for key in FUNCTIONS for f in functions_in(options.get(key, {})) if _is_named_cache(f)]
    around = [f for f in closed_over(model_options.get(WRAPPER)) if is_cache(f)]
    return list(dict.fromkeys([*names, *(str(function_of(f)) for f in (*patched, *around))]))


def without_caches(model_options: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a run's ``model_options`` in which none is around the model: it computes, and none remembers it.

    Dictionaries of other things are shared with the original, but for those of wrappers and patches.
    """
    options = dict(model_options)
    transformer_options = {k: x for k, x in options.get("transformer_options", {}).items() if not _is_named(k)}
    transformer_options["wrappers"] = {
        kind: {key: functions for key, functions in by_key.items() if not _is_named(key)}
        for kind, by_key in transformer_options.get("wrappers", {}).items()
    }
    for key in FUNCTIONS:
        if key in transformer_options:
            transformer_options[key] = _without(transformer_options[key])
    if is_cache(options.get(WRAPPER)):
        del options[WRAPPER]
    return options | {"transformer_options": transformer_options}


def _is_named(key: Any) -> bool:
    return NAME in str(key).lower()


def is_cache(function: Any) -> bool:
    """By its own name, or that of its pack."""
    if function is None or function_of(function).module.startswith(OUR_PACKAGE):
        return False
    pack = re.split(r"[\\/]", function_of(function).module)[-1]  # ComfyUI names the modules of packs by their path
    return _is_named(pack) or _is_named_cache(function)


def _is_named_cache(function: Any) -> bool:
    """By its own name alone: what a pack with such a name patches into attention may be a reference."""
    name = function_of(function).name
    return _is_named(name) or name in OTHER_NAMES


def _without(of_kinds: Any) -> Any:
    """The same lists and dictionaries without the functions of caches."""
    if isinstance(of_kinds, Mapping):
        rest = {key: _without(functions) for key, functions in of_kinds.items()}
        return {key: functions for key, functions in rest.items() if not _is_cache_itself(functions)}
    if isinstance(of_kinds, list | tuple):
        return [_without(function) for function in of_kinds if not _is_cache_itself(function)]
    return of_kinds


def _is_cache_itself(x: Any) -> bool:
    return not isinstance(x, Mapping | list | tuple) and _is_named_cache(x)
