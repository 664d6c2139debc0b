"""What a run was given as a reference: everything in its conditioning and its latent is accounted for when it ends.

Whether a model reads a key of the conditioning is proved, not looked up: see ``ModelConditions``.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from comfy.model_base import BaseModel
from torch import Tensor

from ...i2am_core.given import GivenReference
from .conditioning_keys import NO_REFERENCES, READ_BY, REFERENCES, ROUTES
from .given_in_latent import given_in_latent
from .given_in_text import given_in_text
from .given_run import Conditioning, GivenRun, in_words
from .model_conditions import ModelConditions
from .tags import KEY as TAGS
from .tags import tagged

log = logging.getLogger(__name__)

SAME = "what the model gets is the same with it and without it"
ANOTHER_WAY = "Nothing of it reaches the picture: give the reference in a way that this model reads"
NO_PART = "this model has no part that reads it"
OF_PACKS = "what a pack hands to the model itself"
NOT_COMPARED = "what the model gets with it and without it could not be compared: {}"
NOT_CHOSEN = "I2AM Capture looks for '{}' alone, and this is read by '{}'"
CHOOSE = "Set mechanism of I2AM Capture to auto"
NOT_CAPTURED = "no attention call that reads it was captured: the skipped calls say why"
UNKNOWN_ROUTE = "the model gets it as '{}', and what it does with that I2AM does not know"
OF_A_PACK = "ComfyUI hands nothing of it to the model; whether {} reads it by itself is not known"
OF_PACK = "Sample once more without it, with the same seed, and compare the two"
CONTROL = "through the ControlNet's own network, whose outputs are added inside the model"
SMALL_PARTS = 3  # how deep tensors are looked for in what a pack has put into a conditioning
COPIED_FROM_BATCH = ("reference_latents", "ref_latent", "time_dim_concat")  # one for each picture, from the first on
PLACE_IN_TIME = (
    "I2AM Effect, with `without` connected to the conditioning before the guide was added, measures what its place in "
    "time causes; its frames stay in the latent"
)
CANVAS = (
    "Where a part of it is a reference (side by side, as of ACE++ and IC-LoRA), mark it: reference_region of I2AM "
    "Capture, and generated_region for what is painted"
)


def given_references(run: GivenRun, device: torch.device) -> tuple[GivenReference, ...]:
    """All that the run was given, each with its fate. What cannot be read of it says so: it raises nothing."""
    given: dict[GivenReference, None] = {}
    for c in run.conditionings:
        host = ModelConditions(run, c, device)
        for key, value in c.items():
            if _is_given(key, value):
                given.update(dict.fromkeys(_fates(run, host, key, value)))
        given.update(dict.fromkeys(_tagged(run, c)))
        given.update(dict.fromkeys(_handed_over(run, host)))
    is_offered = any(x.advice == CANVAS for x in given)
    given.update(dict.fromkeys(x for x in given_in_latent(run) if x.certain or not is_offered))
    given.update(dict.fromkeys(given_in_text(run)))
    return tuple(given)


def conditionings_given(guider: Any, branch: str) -> list[Conditioning]:
    """Those of a branch that a person connected: not the copies that ComfyUI makes of another branch's areas."""
    prepared = (getattr(guider, "conds", None) or {}).get(branch) or []
    own = [c.get("uuid") for c in (getattr(guider, "original_conds", None) or {}).get(branch) or ()]
    return [c for c in prepared if not own or c.get("uuid") in own]


def _is_given(key: str, value: Any) -> bool:
    if key in NO_REFERENCES or value is None:
        return False
    return key in REFERENCES or _holds_tensor(value, SMALL_PARTS)


def _holds_tensor(value: Any, depth: int) -> bool:
    """Whether there is a tensor, in whatever a pack has put into a conditioning."""
    if isinstance(value, Tensor):
        return value.ndim > 1
    if depth == 0 or isinstance(value, str | int | float | type | torch.nn.Module):
        return False
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    parts = parts or getattr(value, "__dict__", {}).values()
    return any(_holds_tensor(part, depth - 1) for part in list(parts))


def _fates(run: GivenRun, host: ModelConditions, key: str, value: Any) -> Iterator[GivenReference]:
    if key == "control":
        yield from _controls(run, value)
        return
    what = _what(run, key, value)
    try:
        names = host.changed(key)
        how = [*_uses(run, host, key, value, names)]
    except Exception as error:
        log.debug("what the model gets of %s", key, exc_info=True)
        yield GivenReference(what, "unknown", _not_compared(error), run.measure, key)
        return
    fates = _by_what_it_changes(run, GivenReference(what, "unknown", key=key), names, how)
    yield from (x for x in fates if x.fate == "captured" or not _is_blank(value))


def _not_compared(error: Exception) -> str:
    return NOT_COMPARED.format(error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")


def _is_blank(value: Any) -> bool:
    """Whether latents hold no picture: one value a channel, as where a node fills in for what is not connected."""
    latents = value if isinstance(value, list | tuple) else [value]
    if not latents or not all(isinstance(x, Tensor) and x.ndim > 3 for x in latents):
        return False
    flat = [x.flatten(2) for x in latents]
    return all(torch.equal(x.amax(2), x.amin(2)) for x in flat)


def _what(run: GivenRun, key: str, value: Any) -> str:
    name = REFERENCES.get(key, f"what the conditioning holds as '{key}'")
    if _is_painted_into(run, key):
        return "the picture that is painted into, beside the latent"
    return f"{len(value)} {name}" if key == "reference_latents" and len(value) > 1 else name


def _uses(run: GivenRun, host: ModelConditions, key: str, value: Any, names: frozenset[str]) -> Iterator[str]:
    """Which of several the model uses, of a list and of a batch."""
    latents = list(value) if isinstance(value, list | tuple) else [value]
    if not names or key not in COPIED_FROM_BATCH or not all(isinstance(x, Tensor) for x in latents):
        return
    used = [n for n in range(len(latents)) if host.changed(key, [*latents[:n], *latents[n + 1 :]] or None)]
    if 0 < len(used) < len(latents):
        number = "number" if len(used) == 1 else "numbers"
        yield f"of the {len(latents)}, the model uses only {number} {in_words(n + 1 for n in used)}"
    batch = max((latents[n].shape[0] for n in used), default=1)
    if batch > run.noise.shape[0]:
        first = "the first" if run.noise.shape[0] == 1 else f"the first {run.noise.shape[0]}, one for each picture,"
        yield f"the model uses {first} of the {batch} images"


def _by_what_it_changes(
    run: GivenRun, given: GivenReference, names: frozenset[str], uses: Sequence[str]
) -> Iterator[GivenReference]:
    """One for each way in which the model gets it."""

    def with_fate(fate: Any, how: str, advice: str = "") -> GivenReference:
        return GivenReference(given.what, fate, "; ".join([how, *uses]), advice, given.key)

    unread = {name for name in names if _has_no_part(run.model, name)}
    if not names and given.key not in REFERENCES and run.pack_functions:
        yield with_fate("unknown", OF_A_PACK.format(" and ".join(run.pack_functions)), OF_PACK)
        return
    if not names - unread:
        is_canvas = _is_painted_into(run, given.key)  # which the model paints on all the same
        yield with_fate("ignored", NO_PART if unread else SAME, "" if is_canvas else ANOTHER_WAY)
        return
    for name in sorted(names - unread):
        readers = READ_BY.get(name, ())
        captured = [reader for reader in readers if reader in run.captured]
        if captured:
            yield with_fate("captured", f"by {captured[0]}")
        elif readers and run.mechanism not in ("auto", *readers):
            yield with_fate("unknown", NOT_CHOSEN.format(run.mechanism, readers[0]), CHOOSE)
        elif name in ROUTES:
            yield with_fate("elsewhere", ROUTES[name] + _filled(run, given.key), _advice(run, given.key, name))
        elif readers:
            yield with_fate("unknown", NOT_CAPTURED, run.measure)
        else:
            yield with_fate("unknown", UNKNOWN_ROUTE.format(name), run.measure)


def _has_no_part(model: BaseModel, name: str) -> bool:
    """Whether the network, which takes whatever it is handed, has not got the layer that this would go into.

    ``WanModel`` (comfy/ldm/wan/model.py); models made from it may read a reference latent otherwise.
    """
    denoiser = getattr(model.diffusion_model, "_orig_mod", model.diffusion_model)
    if name == "clip_fea":
        return getattr(denoiser, "img_emb", denoiser) is None
    is_plain = type(denoiser).__name__ == "WanModel"
    return name == "reference_latent" and is_plain and getattr(denoiser, "ref_conv", denoiser) is None


def _filled(run: GivenRun, key: str) -> str:
    """Which frames of the video it fills, as the mask beside it says: they count as video in maps."""
    if key != "concat_latent_image" or run.noise.ndim != 5:
        return ""
    masks = [c["concat_mask"] for c in run.conditionings if isinstance(c.get("concat_mask"), Tensor)]
    if not masks or masks[0].ndim != 5:
        return ""
    filled = (masks[0].amax((3, 4)) == 0).flatten(0, 1).any(0).nonzero().flatten().tolist()
    frames = f"frame{'s' * (len(filled) > 1)} {in_words(n + 1 for n in filled)} of {masks[0].shape[2]}"
    return f"; it fills {frames} of the latent, and counts as video there" if filled else ""


def _advice(run: GivenRun, key: str, name: str) -> str:
    if name == "c_concat" and _is_painted_into(run, key):
        return "" if run.has_regions else CANVAS
    return PLACE_IN_TIME if name == "keyframe_idxs" and not run.measured else run.measure


def _is_painted_into(run: GivenRun, key: str) -> bool:
    """Whether the image in further channels is the picture itself, as inpainting models get it."""
    masked = any("concat_mask" in c for c in run.conditionings)
    return key == "concat_latent_image" and run.noise.ndim == 4 and masked


def _controls(run: GivenRun, control: Any) -> Iterator[GivenReference]:
    """Those of a chain."""
    chain: list[Any] = []
    while control is not None and control not in chain:
        chain.append(control)
        control = getattr(control, "previous_controlnet", None)
    kinds = Counter((type(x).__name__, getattr(x, "strength", 1.0) == 0) for x in chain)
    for (kind, is_off), count in kinds.items():
        what = f"{REFERENCES['control']} ({kind})" if count == 1 else f"{count} ControlNets ({kind})"
        if is_off:
            yield GivenReference(what, "ignored", "the strength is 0", key="control")
        else:
            yield GivenReference(what, "elsewhere", CONTROL, run.measure, "control")


def _handed_over(run: GivenRun, host: ModelConditions) -> Iterator[GivenReference]:
    """What a pack hands to the model without a key of the conditioning."""
    try:
        names = host.beyond()
    except Exception as error:
        log.debug("what the model gets of a conditioning", exc_info=True)
        reason = _not_compared(error)
        yield GivenReference(OF_PACKS, "unknown", reason, run.measure, "model_conds", certain=False)
        return
    for name in names:
        what = f"what a pack hands to the model as '{name}'"
        yield GivenReference(what, "unknown", UNKNOWN_ROUTE.format(name), run.measure, "model_conds")


def _tagged(run: GivenRun, c: Conditioning) -> Iterator[GivenReference]:
    """Tokens in the text that are tagged."""
    is_unet = any(kind.__name__ == "UNetModel" for kind in type(run.model.diffusion_model).__mro__)
    reader = "cross-attention tokens" if is_unet else "style tokens"
    for group in tagged(c):
        what = f"{group.count} tokens of '{group.name}' in the text, tagged"
        if reader in run.captured:
            yield GivenReference(what, "captured", f"by {reader}", key=TAGS)
        elif run.mechanism not in ("auto", reader):
            yield GivenReference(what, "unknown", NOT_CHOSEN.format(run.mechanism, reader), CHOOSE, TAGS)
        else:
            yield GivenReference(what, "unknown", NOT_CAPTURED, run.measure, TAGS)
