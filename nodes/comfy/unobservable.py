"""Models and packs whose attention cannot be observed: they are recognised by name, to give a reason."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from .callers import OUR_PACKAGE, Function, function_of
from .evaluation import KINDS
from .mechanisms.ip_adapter import NAMES as ADAPTERS
from .pack_functions import functions_of

OWN_KERNELS = (
    "runs attention in kernels of its own, which cannot be opened: use the same model in a format that ComfyUI "
    "itself runs (safetensors, fp8 or GGUF)"
)
NO_OPTIONS = (
    "replaces the model's forward by its own, which calls attention without the options of the run: nothing can be "
    "observed while it is applied, so remove it for the run that you want to capture"
)
OWN_ATTENTION = (
    "makes attention of its own, beside the model's or in its place, which I2AM does not know: remove it for the run "
    "that you want to capture"
)
CACHE = (
    "replaces the model's forward while it answers some steps from memory: remove it for the run that you want to "
    "capture"
)
ORTHOGONAL = (
    "changes the attention to its image by more than a weight with the methods 'fidelity' and 'style': choose its "
    "method 'neutral', or remove it for the run that you want to capture"
)
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]+|[0-9]+")  # in a name such as PuLID_Flux or XLabsSampler
REASONS = {  # words of the name of a pack, module or class, in lower case and without what is between them
    "nunchaku": OWN_KERNELS,
    "svdq": OWN_KERNELS,
    "svdquant": OWN_KERNELS,
    "diffusers": "runs the pipeline of another library inside ComfyUI, whose attention cannot be opened: use a "
    "workflow of ComfyUI's own nodes",
    "pulid": NO_OPTIONS,
    "ipadapterflux": NO_OPTIONS,
    "ipaflux": NO_OPTIONS,
    "teacache": CACHE,
    "xflux": OWN_ATTENTION,
    "xlabs": OWN_ATTENTION,
    "pladis": OWN_ATTENTION,
}
METHODS = ("forward", "forward_orig", "_forward")  # of models, which packs replace
IN_OPTIONS = {"pulid": ORTHOGONAL}  # where it is a function in the run's options, and not the model's forward
UNKNOWN_PACK = (
    "has been put around the model or its attention by another pack, and what it does there is not known. It may be "
    "that it brings the reference: then sample once more without it, with the same seed, and compare the two"
)
OURS = OUR_PACKAGE.removesuffix(".nodes.comfy")


def why_unobservable(denoiser: torch.nn.Module, model_options: Mapping[str, Any] | None = None) -> str:
    """Why no attention call of this model was observed, in words for a person."""
    for owner in _owners(denoiser):
        if reason := _reason(owner, REASONS):
            return f"{owner} {reason}"
    for function in pack_functions(model_options or {}):
        if reason := _reason(function.module, REASONS):
            return f"{function} {reason}"
    return (
        f"no attention of the {type(denoiser).__name__} went through ComfyUI's: the model or a pack that patches it "
        "calls attention on its own, which I2AM cannot observe"
    )


def packs_in_the_way(denoiser: torch.nn.Module, model_options: Mapping[str, Any]) -> list[str]:
    """Where attention was observed, and nothing captured: packs that may be why, each in words for a person."""
    owners = ((owner, _reason(owner, REASONS)) for owner in _owners(denoiser))
    named = [f"{owner} {reason}" for owner, reason in owners if reason]
    for function in pack_functions(model_options):
        reason = _reason(function.module, REASONS | IN_OPTIONS)
        if reason or function.name not in ADAPTERS:  # which are known: the skipped calls say what there is
            named.append(f"{function} {reason or UNKNOWN_PACK}")
    return list(dict.fromkeys(named))


def pack_functions(model_options: Mapping[str, Any]) -> list[Function]:
    """The functions that packs have put into a run: around the model, into its attention. ComfyUI's own are none."""
    functions = (x for put in functions_of(model_options, KINDS) for x in parts_of(put))
    return list(dict.fromkeys(function for x in functions if is_of_pack(function := function_of(x))))


def is_of_pack(function: Function) -> bool:
    """Whether it is neither ComfyUI's nor ours."""
    is_ours = function.module.startswith(OURS) or function.pack in ("builtins", "")
    return function.is_of_another_pack and not function.is_of_comfyui_node and not is_ours


def parts_of(put: Any) -> Iterator[Any]:
    """What does the work: an object such as IPAdapter_plus puts in the place of attn2 calls others."""
    callbacks = getattr(put, "callback", None)
    if isinstance(callbacks, list | tuple) and callbacks:
        yield from callbacks
    elif callable(put):
        yield put


def is_named(owner: str, names: Iterable[str]) -> bool:
    """Whether any of these, each of one word or several, is in a name: see ``REASONS``."""
    return bool(_reason(owner, dict.fromkeys(names, "named")))


def _reason(owner: str, reasons: Mapping[str, str]) -> str:
    """By the name of the pack's folder on: what is before it is where ComfyUI lies.

    Whole words alone count, wherever they are written together or apart: 'mypixlabs' is not of XLabs.
    """
    parts = [WORD.findall(part) for part in re.split(r"[./\\]", re.split(r"custom_nodes[./\\]", owner)[-1])]
    return next((reason for name, reason in reasons.items() if any(_holds(words, name) for words in parts)), "")


def _holds(words: Sequence[str], name: str) -> bool:
    """Whether some neighbours among the words make the name."""
    ends = [0, *accumulate(map(len, words))]
    letters = "".join(words).lower()
    return any(letters.startswith(name, start) and start + len(name) in ends for start in ends)


def _owners(denoiser: torch.nn.Module) -> list[str]:
    """Names of the modules and classes whose code runs: of the model and its methods, and of all its parts."""
    parts = [denoiser, *denoiser.modules()]
    methods = [getattr(denoiser, name, None) for name in METHODS]
    owners = [f"{type(part).__module__}.{type(part).__name__}" for part in parts]
    owners += [getattr(method, "__module__", None) or "" for method in methods]
    return list(dict.fromkeys(owners))
