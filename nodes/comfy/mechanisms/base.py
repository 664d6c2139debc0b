"""What every reference mechanism answers: does this attention call read a reference, and where?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ....i2am_core.attribution import Reference
from ..located import CallSite, Chunk, Given, Located, ModelCall, Off, Skip
from ..pending_call import Attend

NOT_THE_FEATURE_MAP = "attention of {} queries, where the feature map has {} cells"


@dataclass(frozen=True)
class Documented:
    """One row of the table in docs/mechanisms.md, which ``scripts/mechanisms_page.py`` writes."""

    users: str  # what users build it with
    captured: str
    spatial: str
    certainty: str
    limits: str = ""
    name: str = ""  # where it is not the mechanism's own


class Mechanism:
    """One way of conditioning on a reference. ``name`` is its entry in I2AM Capture's ``mechanism``.

    Each call goes to all mechanisms that are in use. By ``priority``, highest first, given references are numbered, and
    the reason of a skip is chosen.
    """

    name: str
    priority: int
    documented: tuple[Documented, ...]
    of_text = False  # whether it is about the text, and not about a reference
    is_off = False  # whether it stands for attention that is not made, and answers ``off`` alone
    is_beside = False  # whether its attention is beside that of the block that runs, and none of the block's own
    of_model = False  # whether it stands for attention of the model, that all mechanisms in use are asked about

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        """Whether it may say anything of the attention calls that this call of the denoiser makes for a conditioning.

        That must follow from what the call of the denoiser was given, since it is asked once for all of them: else each
        costs time for every mechanism there is. Not asked of one that has intercepted an attention call by itself, of
        the text beside references, nor of ``beside_adapters``.
        """
        return True

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        """Prove where the references are in this attention call, or say why it is skipped.

        None where there is nothing to say of it.
        """
        raise NotImplementedError

    def off(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Off | None:
        """The references that are off for the rows of a conditioning, where the mechanism ``is_off``."""
        return None

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        """Whether its references may be in this attention of a block, of those that come through ComfyUI's override.

        Where they cannot be, attention that could not be read is nothing that a consumer that acts has missed.
        """
        return True

    def beside_adapters(self) -> "Mechanism | None":
        """What is to be asked of the attention to the text that is in a pack's function, beside an IP-Adapter's own.

        None where none of its references are in the text.
        """
        return self if self.of_text else None

    def given(self, run: Given) -> Sequence[Reference]:
        """The references that the run was given, in order, as far as that is known before they are read."""
        return ()

    def install(self, options: dict[str, Any], attend: Attend) -> None:
        """Put what this needs into the ``transformer_options`` of one run.

        Its dictionaries may be changed; the objects in them belong to the user.
        """
