"""What a run was given as a reference: everything in its conditioning and its latent is accounted for when it ends.

Whether a model reads a key of the conditioning is proved, not looked up: see ``ModelConditions``.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...i2am_core.given import Fate, GivenReference
from ...i2am_core.printing import listed
from ...i2am_core.selection import numbers_text
from .blocks import ForeignModule
from .conditioning_keys import NO_REFERENCES, REFERENCES, ROUTES, readers_of, route_of
from .ended_run import COMPARE, Conditioning, EndedRun, frames_text, is_blank
from .given_by_network import STRENGTH_IS_ZERO, given_by_controls, given_by_patches
from .given_in_latent import given_in_latent
from .given_in_text import given_in_text
from .mechanisms.frames_inside import ANIMATE
from .mechanisms.reference_frames import ReferenceFrames
from .model_conditions import ModelConditions
from .run import Sampling
from .tags import KEY as TAGS
from .tags import tagged
from .token_orders import order_of
from .token_orders.base import handed_over
from .token_orders.wan import references_of_control
from .unobservable import pack_functions

log = logging.getLogger(__name__)

EVERYTHING = "what the conditioning and the latent hold"
SAME = "what the model gets is the same with it and without it"
ANOTHER_WAY = "Nothing of it reaches the picture: give the reference in a way that this model reads"
WITHOUT_LATENT = "it is read only where there is a reference latent as well: connect the VAE of TextEncodeZImageOmni"
NO_PART = "this model has no part that reads it"
NEVER_ACTIVE = "start and end of its conditioning leave out all steps of this run"
MAKE_ACTIVE = "Set start and end of that conditioning so that steps of the run are between them"
OF_PACKS = "what a pack hands to the model itself"
NOT_COMPARED = "what the model gets with it and without it could not be compared: {}"
UNKNOWN_ROUTE = "what the model does with it, I2AM does not know: it is handed over as '{}'"
OF_A_PACK = "ComfyUI hands nothing of it to the model; whether {} reads it by itself is not known"
SMALL_PARTS = 3  # how deep tensors are looked for in what a pack has put into a conditioning
COPIED_FROM_BATCH = ("reference_latents", "ref_latent", "time_dim_concat")  # one for each picture, from the first on
CHANNELS = "concat_latent_image"
CANVAS = (
    "Where a part of it is a reference (side by side, as of ACE++ and IC-LoRA), mark it: reference_region of {}, and "
    "generated_region for what is painted"
)
ANIMATE_REFERENCE = "the first frame of the latent: the reference image (or the grey that its node puts there for none)"
ANIMATE_VIDEO = "a background, or motion that goes on (or the grey that its node puts there where none is connected)"
VACE_REFERENCES = "VACE's reference images"
VACE_VIDEO = "VACE's control video (or the grey that its node puts there where none is connected)"


def given_in(sampling: Sampling, branch: str, **about: Any) -> tuple[GivenReference, ...]:
    """What a run was given in a branch, each with its fate; ``about`` gives further fields of its ``EndedRun``."""
    try:
        patcher = sampling.guider.model_patcher
        run = EndedRun(
            model=patcher.model,
            branch=branch,
            conditionings=conditionings_given(sampling.guider, branch),
            noise=sampling.noise,
            latent=sampling.latent_image,
            mask=sampling.denoise_mask,
            options=sampling.guider.model_options,
            **about,
        )
        return given_references(run, patcher.load_device)
    except Exception as error:  # what a pack has put there may be of any form: maps are there nevertheless
        log.warning("what the run was given could not be read", exc_info=True)
        return (GivenReference(EVERYTHING, "unknown", f"{type(error).__name__}: {error}"),)


def given_references(run: EndedRun, device: torch.device) -> tuple[GivenReference, ...]:
    """All that the run was given, each with its fate. What cannot be read of it says so: it raises nothing."""
    given: dict[GivenReference, None] = {}
    for c in run.conditionings:
        given.update(dict.fromkeys(_of_conditioning(run, c, device)))
    given.update(dict.fromkeys(given_by_patches(run)))
    is_canvas = any(x.key == CHANNELS and x.fate == "elsewhere" for x in given) and any(
        _is_painted_into(run, c, CHANNELS) for c in run.conditionings
    )
    given.update(dict.fromkeys(x for x in given_in_latent(run) if x.certain or not is_canvas))
    given.update(dict.fromkeys(given_in_text(run)))
    return tuple(given)


def _of_conditioning(run: EndedRun, c: Conditioning, device: torch.device) -> Iterator[GivenReference]:
    host = ModelConditions(run, c, device)
    for key, value in c.items():
        if not _is_given(key, value):
            continue
        if run.was_active(c):
            yield from _fates(run, c, host, key, value)
        elif not is_blank(value):
            yield GivenReference(_what(run, c, key, value), "ignored", NEVER_ACTIVE, MAKE_ACTIVE, key)
    yield from _tagged(run, c)
    if run.was_active(c):
        yield from _handed_over(run, host)


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


def _fates(run: EndedRun, c: Conditioning, host: ModelConditions, key: str, value: Any) -> Iterator[GivenReference]:
    if key == "control":
        yield from given_by_controls(run, value)
        return
    what = _what(run, c, key, value)
    try:
        names = host.changed(key)
        how = [*_uses(run, host, key, value, names)]
        fates = [*_by_what_it_changes(run, c, GivenReference(what, "unknown", key=key), names, how)]
    except Exception as error:
        log.debug("what the model gets of %s", key, exc_info=True)
        yield GivenReference(what, "unknown", _not_compared(error), run.measure, key)
        return
    yield from (x for x in fates if x.fate == "captured" or not is_blank(value))


def _not_compared(error: Exception) -> str:
    return NOT_COMPARED.format(error if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")


def _what(run: EndedRun, c: Conditioning, key: str, value: Any) -> str:
    name = REFERENCES.get(key, f"what the conditioning holds as '{key}'")
    if _is_painted_into(run, c, key):
        return "the picture that is painted into, beside the latent"
    return f"{len(value)} {name}" if key == "reference_latents" and len(value) > 1 else name


def _uses(run: EndedRun, host: ModelConditions, key: str, value: Any, names: frozenset[str]) -> Iterator[str]:
    """Which of several the model uses, of a list and of a batch."""
    latents = list(value) if isinstance(value, list | tuple) else [value]
    if not names or key not in COPIED_FROM_BATCH or not all(isinstance(x, Tensor) for x in latents):
        return
    used = [n for n in range(len(latents)) if host.changed(key, [*latents[:n], *latents[n + 1 :]] or None)]
    if 0 < len(used) < len(latents):
        number = "number" if len(used) == 1 else "numbers"
        yield f"of the {len(latents)}, the model uses only {number} {numbers_text(n + 1 for n in used)}"
    batch = max((latents[n].shape[0] for n in used), default=1)
    if batch > run.noise.shape[0]:
        first = "the first" if run.noise.shape[0] == 1 else f"the first {run.noise.shape[0]}, one for each picture,"
        yield f"the model uses {first} of the {batch} images"


def _by_what_it_changes(
    run: EndedRun, c: Conditioning, given: GivenReference, names: frozenset[str], uses: Sequence[str]
) -> Iterator[GivenReference]:
    """One for each way in which the model gets it."""

    def with_fate(fate: Fate, how: str, advice: str = "") -> GivenReference:
        return replace(given, fate=fate, how="; ".join([how, *uses]), advice=advice)

    unread = {name: why for name in names if (why := _why_unread(run, c, name))}
    packs = pack_functions(run.options)
    if not names and given.key not in REFERENCES and packs:
        yield with_fate("unknown", OF_A_PACK.format(listed(map(str, packs))), f"To see what it does, {COMPARE}")
        return
    if not names - unread.keys():
        is_canvas = _is_painted_into(run, c, given.key)  # which the model paints on all the same
        yield with_fate("ignored", next(iter(unread.values()), SAME), "" if is_canvas else ANOTHER_WAY)
        return
    for name in sorted(names - unread.keys()):
        if name == "vace_context":
            yield from _of_vace(run, c)
            continue
        if name == "c_concat" and given.key == CHANNELS and run.family & ANIMATE:
            yield from _of_animate(run, c, given)
            continue
        fate = _by_name(run, given, name, route_of(name, run.family) + _filled(run, c, given.key))
        advice = _advice(run, c, given.key, name) if fate.fate == "elsewhere" else fate.advice
        yield replace(fate, how="; ".join([fate.how, *uses]), advice=advice)


def _by_name(run: EndedRun, given: GivenReference, name: str, route: str) -> GivenReference:
    """What becomes of what the model gets under this name; ``route`` is the one beside attention, "" if unknown."""
    return _by_readers(run, given, readers_of(name, run.family), name, route)


def _by_readers(
    run: EndedRun, given: GivenReference, readers: Sequence[str], name: str, route: str = ""
) -> GivenReference:
    captured = [reader for reader in readers if reader in run.captured]
    if captured:
        return replace(given, fate="captured", how=f"by {captured[0]}")
    if readers:
        return run.not_captured(given.what, readers, given.key)
    if route:
        return replace(given, fate="elsewhere", how=route, advice=run.measure)
    return replace(given, fate="unknown", how=UNKNOWN_ROUTE.format(name), advice=run.measure)


def _of_vace(run: EndedRun, c: Conditioning) -> Iterator[GivenReference]:
    """VACE's references and its control video, of which one conditioning may hold several.

    A control of strength 0 is multiplied with it (``VaceWanModel``, comfy/ldm/wan/model.py), references and all.
    """
    key, name = "vace_frames", "vace_context"
    controls = c["model_conds"][name].cond.unbind(1)  # [items, 96, frames, h, w], as the run had them
    strengths = [bool(torch.as_tensor(x).any()) for x in c.get("vace_strength") or [1.0] * len(controls)]
    counts = [references_of_control(control) for control in controls]
    videos = [(x[:, :, n:], on) for x, n, on in zip(c[key], counts, strengths, strict=True) if n < x.shape[2]]
    videos = [(video, on) for video, on in videos if not is_blank(video)]
    off = [n for n, on in enumerate(strengths) if not on]
    some = f"; of the {len(controls)} controls, number {numbers_text(n + 1 for n in off)} has strength 0" * bool(off)
    for what, on in ((VACE_REFERENCES, [on for n, on in zip(counts, strengths, strict=True) if n]),
                     (VACE_VIDEO, [on for _, on in videos])):  # fmt: skip
        if not on:
            continue
        if not any(on):
            yield GivenReference(what, "ignored", STRENGTH_IS_ZERO, key=key)
        elif what == VACE_VIDEO:
            yield GivenReference(what, "elsewhere", ROUTES[name] + some, run.measure, key)
        else:
            fate = _by_name(run, GivenReference(what, "unknown", key=key), name, "")
            yield replace(fate, how=fate.how + some)


def _why_unread(run: EndedRun, c: Conditioning, name: str) -> str:
    """Why the network reads nothing of what it is handed under this name; "" where it may."""
    denoiser = getattr(run.model.diffusion_model, "_orig_mod", run.model.diffusion_model)
    order = order_of(run.family)
    if name == "ref_latents" and order is not None:
        why = order.why_latents_are_unread(denoiser, handed_over(c))
        return f"this model {why}" if why else ""
    if _has_no_part(denoiser, name):
        return NO_PART
    return WITHOUT_LATENT if name == "siglip_feats" and "ref_latents" not in c["model_conds"] else ""


def _of_animate(run: EndedRun, c: Conditioning, given: GivenReference) -> Iterator[GivenReference]:
    """The channels beside the latent: the reference is in its first frame, before a background and earlier motion."""
    reference = replace(given, what=ANIMATE_REFERENCE)
    yield _by_readers(run, reference, [ReferenceFrames.name], "c_concat")
    if not is_blank(c[CHANNELS][:, :, 1:]):
        route = ROUTES["c_concat"] + _filled(run, c, given.key, first=1)
        yield replace(given, what=ANIMATE_VIDEO, fate="elsewhere", how=route, advice=run.measure)


def _has_no_part(denoiser: ForeignModule, name: str) -> bool:
    """Whether the network, which takes whatever it is handed, has not got the layer that this would go into.

    ``WanModel`` (comfy/ldm/wan/model.py); models made from it may read a reference latent otherwise.
    """
    if name == "siglip_feats":
        return getattr(denoiser, "siglip_embedder", None) is None
    if name == "clip_fea":
        return getattr(denoiser, "img_emb", denoiser) is None
    is_plain = type(denoiser).__name__ == "WanModel"
    return name == "reference_latent" and is_plain and getattr(denoiser, "ref_conv", denoiser) is None


def _filled(run: EndedRun, c: Conditioning, key: str, first: int = 0) -> str:
    """Which frames of the video it fills, as the mask beside it says: they count as video in maps.

    Those before the ``first`` are left out.
    """
    mask = c.get("concat_mask")
    if key != CHANNELS or run.noise.ndim != 5 or not isinstance(mask, Tensor) or mask.ndim != 5:
        return ""
    filled = [n for n in (mask.amax((3, 4)) == 0).flatten(0, 1).any(0).nonzero().flatten().tolist() if n >= first]
    frames = frames_text(filled, mask.shape[2])
    return f"; it fills {frames} of the latent, and counts as video there" if filled else ""


def _advice(run: EndedRun, c: Conditioning, key: str, name: str) -> str:
    if name == "c_concat" and _is_painted_into(run, c, key):
        return "" if run.has_regions else CANVAS.format(run.node)
    return run.measure


def _is_painted_into(run: EndedRun, c: Conditioning, key: str) -> bool:
    """Whether the image in further channels is the picture itself, as inpainting models get it."""
    return key == CHANNELS and key in c and run.noise.ndim == 4 and "concat_mask" in c


def _handed_over(run: EndedRun, host: ModelConditions) -> Iterator[GivenReference]:
    """What a pack hands to the model without a key of the conditioning."""
    try:
        names = host.beyond()
    except Exception as error:
        log.debug("what the model gets of a conditioning", exc_info=True)
        reason = _not_compared(error)
        yield GivenReference(OF_PACKS, "unknown", reason, run.measure, "model_conds", certain=False)
        return
    for name in names:
        given = GivenReference(f"what a pack hands to the model as '{name}'", "unknown", key="model_conds")
        yield _by_name(run, given, name, route_of(name, run.family))


def _tagged(run: EndedRun, c: Conditioning) -> Iterator[GivenReference]:
    """Tokens in the text that are tagged."""
    of_language_model = {group.key for group in tagged(c, by_language_model=True)}
    for group in tagged(c):
        reader = "images in the text" if group.key in of_language_model else "style tokens"
        reader = "cross-attention tokens" if "UNetModel" in run.family else reader
        what = f"{group.count} tokens of '{group.name}' in the text, tagged"
        if not run.was_active(c):
            yield GivenReference(what, "ignored", NEVER_ACTIVE, MAKE_ACTIVE, TAGS)
        elif reader in run.captured:
            yield GivenReference(what, "captured", f"by {reader}", key=TAGS)
        else:
            yield run.not_captured(what, [reader], TAGS)
