"""What a node is given, checked against its schema before it runs.

ComfyUI checks which outputs are linked to which inputs, but lets outputs of type ``*``, which many packs have, into all
of them; and a graph that a script sends may have a word where a link belongs. It does not look at the lists of nodes
that are written as ours are, and its range of a number lets NaN pass.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, TypeVar

from torch import Tensor

from ..i2am_core import Attribution, printable
from .comfy.handle import Capture
from .comfy.resampler_rollout import RolledOut
from .comfy.tags import KEY

LONGEST_TEXT = 10_000  # letters: of names of all layers it would be a tenth
LARGEST = 2.0**64  # of a number
MOST_LISTED = 20  # choices in a sentence
CHECKED_LATER = (  # what the core words itself: choices that the page does not list, numbers that a run may not have
    *("colormap", "scope", "level", "file"),
    *("reference", "item", "time_groups"),
)

Execute = TypeVar("Execute", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind:
    """What an input of one type takes, and what to connect."""

    fits: Callable[[Any], bool]
    wanted: str


def checked(execute: Execute) -> Execute:
    """Of ``execute`` of a node: a ValueError with a sentence for an input that is not of the type in its schema."""
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def check_and_execute(cls: Any, *args: Any, **kwargs: Any) -> Any:
        schema = cls.define_schema()  # not remembered: ComfyUI makes a new class for every run
        bound = signature.bind(cls, *args, **kwargs)
        given = bound.arguments
        for declared in schema.inputs:
            value = given.get(declared.id)
            if value is not None or (declared.id in given and not declared.optional):
                _check(f"{declared.id} of {schema.display_name}", declared, value)
            elif declared.id in given:  # an optional input that a script sends as null is one that is not there
                del given[declared.id]
        return execute(*bound.args, **bound.kwargs)

    return check_and_execute  # type: ignore[return-value]


def _check(name: str, declared: Any, value: Any) -> None:
    io_type = declared.get_io_type()
    if io_type == "COMBO":
        _check_choice(name, declared, value)
    if io_type == "INT":
        _check_number(name, declared, value)
    kind = KINDS.get(io_type)
    if kind is not None and not kind.fits(value):
        raise ValueError(f"{name} is {described(value)}: {kind.wanted}.")


def _check_choice(name: str, declared: Any, value: Any) -> None:
    options = declared.options or []
    listed = ", ".join(map(str, options[:MOST_LISTED])) + (", ..." if len(options) > MOST_LISTED else "")
    advice = f"choose one of {listed}" if options else f"choose a {declared.id} from the list"
    if not _is_text(value) or (value not in options and declared.id not in CHECKED_LATER):
        raise ValueError(f"{name} is {described(value)}: {advice}.")


def _check_number(name: str, declared: Any, value: Any) -> None:
    """ComfyUI holds to the range what is typed, not what comes from another node."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"{name} is {described(value)}: give a whole number.")
    if declared.id not in CHECKED_LATER and not declared.min <= value <= declared.max:
        raise ValueError(f"{name} is {described(value)}: give a whole number from {declared.min} to {declared.max}.")


def described(value: Any) -> str:
    """A value that is of a wrong kind, in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} of {str(value.dtype).removeprefix('torch.')}" + (
            " without data" if value.is_meta else ""
        )
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"'{printable(value, 40)}'" if len(value) <= LONGEST_TEXT else f"a text of {len(value)} letters"
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**64):
        return str(value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _is_text(value: Any) -> bool:
    """Half a character can be in JSON, but not be printed: ComfyUI, which logs what goes wrong, would end on one."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and _is_whole(value)


def _is_whole(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_number(value: Any) -> bool:
    """Not NaN, and nothing that a tensor of numbers cannot hold."""
    return isinstance(value, Real) and -LARGEST < value < LARGEST  # type: ignore[operator]


def _is_image(value: Any) -> bool:
    return _is_picture(value) and value.ndim == 4 and value.shape[-1] >= 3 and value.is_floating_point()


def _is_mask(value: Any) -> bool:
    return _is_picture(value) and value.ndim in (2, 3) and not value.is_complex()


def _is_picture(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.is_meta and value.numel() > 0


def _is_latent(value: Any) -> bool:
    """Several latents in one object, as of video with sound, are no tensor: Collect says what that means."""
    if not isinstance(value, Mapping) or not hasattr(value.get("samples"), "shape"):
        return False
    samples = value["samples"]
    return not isinstance(samples, Tensor) or not (samples.is_meta or samples.is_complex())


def _is_conditioning(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_entry, value))


def _is_entry(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) < 2:
        return False
    tokens, about = value[:2]
    if not isinstance(tokens, Tensor) or tokens.ndim != 3 or not isinstance(about, Mapping):
        return False
    return isinstance(about.get(KEY, []), list | tuple)


def _is_vae(value: Any) -> bool:
    """Packs have VAEs of their own classes. Text has only the one method, bytes only the other."""
    return callable(getattr(value, "decode", None)) and callable(getattr(value, "encode", None))


KINDS = {
    "BOOLEAN": Kind(lambda value: isinstance(value, bool), "choose true or false"),
    "FLOAT": Kind(_is_number, "give a number"),
    "STRING": Kind(_is_text, f"give a text of at most {LONGEST_TEXT} whole letters"),
    "IMAGE": Kind(_is_image, "connect an IMAGE, pictures of three colours with at least one pixel"),
    "MASK": Kind(_is_mask, "connect a MASK of at least one pixel"),
    "LATENT": Kind(_is_latent, "connect the LATENT output of a sampler"),
    "CONDITIONING": Kind(_is_conditioning, "connect a CONDITIONING, as CLIP Text Encode gives"),
    "VAE": Kind(_is_vae, "connect the VAE with which the workflow decodes its picture"),
    "CLIP_VISION": Kind(lambda value: hasattr(value, "encode_image"), "connect Load CLIP Vision"),
    "I2AM_ATTRIBUTION": Kind(lambda value: isinstance(value, Attribution), "connect I2AM Collect or I2AM Load"),
    "I2AM_CAPTURE": Kind(lambda value: isinstance(value, Capture | RolledOut), "connect I2AM Capture"),
}
