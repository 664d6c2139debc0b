"""What a run was given as a reference, and what became of it: nothing that was given is passed over in silence."""

from dataclasses import dataclass
from typing import Literal, get_args

Fate = Literal["captured", "ignored", "elsewhere", "unknown"]
"""What became of something that was given.

Attention to it was captured; the model ignores it; it reaches the model by a route that attention does not show; or it
cannot be told.
"""
FATES: tuple[Fate, ...] = get_args(Fate)

WORDS: dict[Fate, str] = {
    "captured": "captured",
    "ignored": "this model ignores it",
    "elsewhere": "it reaches the model by a route that attention does not show",
    "unknown": "I2AM cannot tell what becomes of it",
}


@dataclass(frozen=True)
class GivenReference:
    """One thing that a run was given: in its conditioning (of the watched branch), in its latent, or by a patch.

    ``what`` it is, as a person calls it; ``how`` it came to its fate: the mechanism that captured it, the route, or
    the reason. ``advice`` is what to do, in a sentence without its full stop, or "". ``key`` is where it was: a key of
    ComfyUI's conditioning, "samples" in the latent, or "patches" of the model. ``certain``: whether it was given at
    all; else it may be there, and nothing says so.
    """

    what: str
    fate: Fate
    how: str = ""
    advice: str = ""
    key: str = ""
    certain: bool = True

    @property
    def sentence(self) -> str:
        """What became of it, without the advice and without a full stop; of what may not be there, only why it may."""
        fate = f": {WORDS[self.fate]}" if self.certain else ""
        return f"{self.what}{fate}" + (f" ({self.how})" if self.how else "")

    @property
    def line(self) -> str:
        """What became of it, and what to do: a line of the summary."""
        return f"{'given' if self.certain else 'perhaps given'}: {self.sentence}" + (
            f". {self.advice}" if self.advice else ""
        )
