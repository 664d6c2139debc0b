"""The core's errors as sentences for users of the nodes: which widget it is about, and what to do."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..i2am_core import Attribution, Certainty, errors, printable
from .comfy.refusal import LONGEST

NO_PAIRS = (
    "no pair maps were kept for the selected layers: set pair_maps of I2AM Capture to 'inpainting mask' or "
    "'everywhere' (and raise budget_mb if the summary says that they did not fit), then sample again. Areas of "
    "conditionings and context windows keep none."
)
OUTSIDE = (
    "no pair maps were kept for this region: it lies outside the inpainting mask. Choose a region inside it, or set "
    "pair_maps of I2AM Capture to 'everywhere' and sample again."
)
NO_ATTENTION = (
    "no attention to a reference was captured in this run, and the summary of I2AM Collect says why: what was measured "
    "are effects, which I2AM Maps shows with normalization 'effect'"
)
CERTAINTY: dict[Certainty, str] = {
    "measured": "measured",
    "rough": "rough, since it is not ten times the noise floor",
    "too small to measure": "too small to measure, less than three times the noise floor",
    "none": "no effect: not a digit changes",
}


def check_attention(attribution: Attribution) -> None:
    """Raises ValueError where there are effects alone, whatever is selected of attention."""
    if not attribution.entries:
        raise ValueError(f"{NO_ATTENTION}.")


def check_regions(attribution: Attribution, reference: int) -> None:
    """Raises ValueError with the reason where regions of a reference were to be measured, and could not be."""
    if attribution.effects is not None and 0 <= reference < len(attribution.references):
        name = attribution.owner_names[reference]
        reason = attribution.effects.unmeasured.get(f"regions of {name}")
        if reason and not any(number == reference for number, _ in attribution.effects.regions):
            raise ValueError(f"regions of {name} were not measured: {reason}.")


@contextmanager
def in_words() -> Iterator[None]:
    """In a with statement or as a decorator: errors of the core become a ValueError with a sentence for the user."""
    try:
        yield
    except errors.AttributionError as error:
        raise ValueError(words(error)) from error


@contextmanager
def of_system_in_words(what: str) -> Iterator[None]:
    """In a with statement: what the system says of files becomes a ValueError; ``what`` could not be done."""
    try:
        yield
    except OSError as error:
        reason = printable(error.strerror or str(error))
        sentence = f"{printable(what, 200)} ({reason}): see to that, or choose another place, and queue again."
        raise ValueError(sentence) from error


def words(error: errors.AttributionError) -> str:
    """One sentence or two: that of ``WORDS``, or the core's own where it names no widget."""
    word = WORDS.get(type(error))
    return printable(str(error) if word is None else word(error), LONGEST)


def _axis(error: errors.UnresolvedAxis) -> str:
    if error.pairs:
        return (
            f"pair maps are kept as means over steps and heads, so {error.axis} '{error.text}' are not resolved "
            "here: use 'all' for both. Layers can be chosen."
        )
    if error.within:
        heads = f"heads '{error.text}'" if error.text else "single heads"
        return (
            f"{heads} are not resolved in single {error.within}: budget_mb was enough for the mean of each head over "
            f"all {error.within}. Select all {error.within}, or all heads, or raise budget_mb and sample again."
        )
    if error.axis == "steps":
        return (
            f"steps '{error.text}' are not resolved: within budget_mb this attribution kept the groups "
            f"{', '.join(error.groups)}. Select whole groups, or raise budget_mb and sample again."
        )
    if error.text:
        return (
            f"heads are not resolved here, only their mean fitted budget_mb: write 'all', not '{error.text}', or "
            "raise budget_mb and sample again."
        )
    return (
        "heads are not resolved in this attribution: only their mean fitted budget_mb. Raise it and sample again, "
        "or choose another level."
    )


def _layout(error: errors.NoLayout) -> str:
    if error.part:
        return str(error)
    return (
        f"reference {error.reference} ('{error.name}') has {error.tokens} tokens without a spatial layout, so there is "
        "no generated-to-reference map: use the direction 'reference to generated'."
    )


def _file(error: errors.BadFile) -> str:
    name = printable(error.name)
    if error.problem == "missing":
        return f"there is no file {name}: choose one that I2AM Save wrote."
    if error.problem == "foreign":
        return f"{name} is a safetensors file, but not an I2AM attribution: choose one that I2AM Save wrote."
    if error.problem == "no file":
        return f"{name} is a folder, a pipe or a device, and not a file: choose one that I2AM Save wrote."
    if error.problem == "too large":
        return f"{name} is too large ({printable(error.detail)}): lower budget_mb of I2AM Capture, and sample again."
    return str(error)


def _reference(error: errors.UnknownReference) -> str:
    if error.count:
        return str(error)
    return (
        f"reference {error.reference} does not exist: no attention to a reference was captured in this run. Effects on "
        "the picture remain: in I2AM Maps, normalization 'effect' with the direction 'reference to generated'."
    )


def _no_effects(error: errors.NoEffects) -> str:
    if error.reasons:
        return f"I2AM Effect measured nothing in this run ({'; '.join(error.reasons)}): see to that, and sample again."
    return (
        "no effect was measured in this run: place I2AM Effect beside I2AM Capture on the MODEL line, connect its "
        "model to the sampler, and sample again."
    )


def _not_measured(error: errors.NotMeasured) -> str:
    advice = {
        "all references": "choose one of these in effect_of",
        "text": "set owners of I2AM Effect to 'references and text' and sample again, or effect_of to one of these",
        "conditioning": "connect 'without' of I2AM Effect and sample again, or set effect_of to one of these",
    }.get(str(error.owner), "choose one of these in effect_of and reference")
    if error.reason:
        advice = "choose one of these in effect_of and reference, or mend that and sample again"
    way = ""
    if any(measured.startswith(error.name) for measured in error.measured):
        way = " directly" if error.route == "directly" else " through everything"
        other = "everything" if error.route == "directly" else "directly"
        advice = f"set effect_through to '{other}', or through of I2AM Effect to 'both' and sample again"
    why = f" ({error.reason})" if error.reason else ""
    there_is = "that of " + "; ".join(error.measured)
    if way:
        there_is = "through everything" if error.route == "directly" else "directly"
    return f"I2AM Effect did not measure the effect of {error.name}{way}{why}, but {there_is}: {advice}."


def _not_one_run(error: errors.NotOneRun) -> str:
    advice = {
        "sigmas": "in two KSampler (Advanced), end_at_step of the first must be start_at_step of the second, with the "
        "same steps and scheduler; the first has return_with_leftover_noise on 'enable', the second add_noise on "
        "'disable'",
        "branch": "set branch of both I2AM Captures to the same, and sample again",
    }.get(error.problem, "connect the latent of the first sampler to the second as it is")
    return f"these two runs are not two parts of one: {error.got}. To join them, {advice}."


def _no_regions(error: errors.NoRegions) -> str:
    if not isinstance(error.owner, int):
        return (
            f"the effect of {error.name} is not measured in regions: set effect_of to 'reference', or the direction to "
            "'reference to generated'."
        )
    if error.measured:
        return (
            f"I2AM Effect did not measure regions of {error.name} in this way, but {'; '.join(error.measured)}: choose "
            "that (in by, or in effect_through), or set regions_by and through of I2AM Effect and sample again."
        )
    return (
        f"no regions of {error.name} were measured: set regions of I2AM Effect, to 4 for example, and sample again. "
        "A reference without a spatial layout has none."
    )


def _effect_level(error: errors.NoEffectLevel) -> str:
    if error.regions:
        return (
            f"effects on the reference have no level '{error.level}', since regions are measured in one step: set "
            "level to 'unified'."
        )
    return (
        "effects have no heads and no layers: set heads and layers to 'all', and level to 'unified', 'time', "
        "'reference' or 'frame'."
    )


def _in_one_run(error: errors.InOneRun) -> str:
    said = words(error.error) if isinstance(error.error, errors.AttributionError) else str(error.error)
    return f"in {error.run}, {said}"


WORDS: dict[type[errors.AttributionError], Callable[[Any], str]] = {
    errors.UnresolvedAxis: _axis,
    errors.NoLayout: _layout,
    errors.NoPairMaps: lambda error: OUTSIDE if error.outside else NO_PAIRS,
    errors.InOneRun: _in_one_run,
    errors.EmptyRegion: lambda error: "the region is empty: paint the part of the image that the map is to be about.",
    errors.OnlyOnPicture: lambda error: (
        "level 'reference' compares references on the picture that they act in: use the direction "
        "'reference to generated', or choose one reference and another level."
    ),
    errors.BadFile: _file,
    errors.UnknownReference: _reference,
    errors.NoEffects: _no_effects,
    errors.NotMeasured: _not_measured,
    errors.NoEffectInSteps: lambda error: (
        f"I2AM Effect did not measure the effect of {error.name} in steps '{error.text}', but in "
        f"{', '.join(map(str, error.measured))}: set steps to some of these, or to 'all'."
    ),
    errors.NoRegions: _no_regions,
    errors.NotOneRun: _not_one_run,
    errors.NoEffectLevel: _effect_level,
    errors.EffectTooSmall: lambda error: (
        f"the effect of {error.name} is too small for a map: {error.strength:.2g} latent units, and the noise floor is "
        f"{error.floor:.2g}, of which it should be ten times. So it changes next to nothing here, or that cannot be "
        "told from rounding: choose another reference, effect_of or steps."
    ),
}
