"""The live handle between I2AM Capture and I2AM Collect: which sampling run made which latent."""

import dataclasses
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ...i2am_core.attribution import Attribution
from .located import Regions
from .tags import fingerprint

PAIR_MAPS = ("inpainting mask", "everywhere", "off")
BRANCHES = ("positive", "negative")  # names of conditionings in ComfyUI's guiders
REMEMBERED = 256  # dropped runs, of which is known that they were: only their latents' hashes are kept
SEVERAL = (
    "these are several latents in one, as of a video with sound, and a run on several latents at once cannot be "
    "captured: sample them one by one."
)
NO_RUN_YET = (
    "no run of a sampler has come to this I2AM Capture. Connect its MODEL output to the sampler whose LATENT goes into "
    "I2AM Collect. Where it is connected, it may be that the sampler has nothing to sample (denoise 0, or a start that "
    "is not before the end), that a node between leaves out what I2AM Capture has added to the model (place I2AM "
    "Capture right before the sampler), that the sampler does not sample in ComfyUI's own way, or that ComfyUI has "
    "taken the latent from its memory of an earlier queue (change the seed)."
)
NOT_OF_THESE = (
    "none of the {} finished run(s) that this I2AM Capture has kept made this latent. It may be that it was changed "
    "after sampling (connect the LATENT output of the sampler itself), that its sampler uses another model or has "
    "nothing to sample (denoise 0, or a start that is not before the end), that many runs came after it (sample "
    "again), or that it was loaded, or made in another ComfyUI session: such a latent has no maps here."
)
TENSOR_BYTES = 1024  # that a tensor takes beside its values, in Python's objects


class NoRun(ValueError):
    """No run that is kept made a latent. ``started``: whether any run has begun. The workflow may say why."""

    def __init__(self, sentence: str, started: bool) -> None:
        super().__init__(sentence)
        self.started = started


@dataclass(frozen=True)
class Settings:
    """What is set on I2AM Capture."""

    mechanism: str  # "auto", or the name of a mechanism
    branch: str  # of BRANCHES
    pair_maps: str  # of PAIR_MAPS
    budget_bytes: int
    regions: Regions = field(default_factory=Regions)  # what a person marked


@dataclass
class Capture:
    """Finished runs, newest last. Older ones are dropped while all together exceed the budget; the newest stays.

    ModelPatcher.clone() copies deeply what model_options holds; there must be one handle, so a copy of
    it is itself.
    """

    settings: Settings
    started: int = 0
    failure: str = ""  # why the last run has no maps
    _runs: list[tuple[frozenset[str], Attribution]] = field(default_factory=list)
    _dropped: deque[frozenset[str]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __deepcopy__(self, memo: dict) -> "Capture":
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of all runs that are kept; what several share counts once."""
        return _bytes_of(attribution for _, attribution in self._runs)

    def keep(self, attribution: Attribution, latents: Sequence[Tensor]) -> None:
        """Remember that this run made these latents: its output, and the last denoised one."""
        digests = frozenset(digest for latent in latents for digest in _digests(latent))
        with self._lock:
            self._runs = [run for run in self._runs if not run[0] & digests]
            self._runs.append((digests, attribution))
            self.failure = ""
            while len(self._runs) > 1 and self.nbytes > self.settings.budget_bytes:
                self._dropped.append(self._runs.pop(0)[0])

    def find(self, samples: Tensor) -> Attribution:
        """The run that made a latent. Raises ValueError where there is none, saying what to do.

        NoRun, which is one, where nothing is known of the latent.
        """
        if not isinstance(samples, Tensor):
            raise ValueError(SEVERAL)
        digest = fingerprint(samples)
        with self._lock:
            for digests, attribution in reversed(self._runs):
                if digest in digests:
                    return attribution
            if any(digest in digests for digests in self._dropped):
                raise ValueError(
                    "the maps of this latent were dropped to stay within budget_mb, because later runs of the same "
                    "I2AM Capture needed the memory: give each sampler a Capture of its own, or raise budget_mb."
                )
            finished = len(self._runs)
        if not self.started and not self.failure:
            raise NoRun(NO_RUN_YET, started=False)
        if self.failure:
            raise ValueError(f"the last run of this I2AM Capture has no maps: {self.failure}.")
        raise NoRun(NOT_OF_THESE.format(finished), started=True)


def _digests(output: Tensor) -> frozenset[str]:
    """Fingerprints of the latent as it is, and as it is after ComfyUI has stored it in half precision."""
    return frozenset(fingerprint(output.to(dtype)) for dtype in (torch.float32, torch.float16, torch.bfloat16))


def _bytes_of(attributions: Iterable[Attribution]) -> int:
    """Memory that attributions take: of each distinct storage all of it, for a view keeps the whole alive."""
    tensors = {id(x): x for attribution in attributions for x in _tensors(attribution)}
    storages = {(x.device, x.untyped_storage().data_ptr()): x.untyped_storage().nbytes() for x in tensors.values()}
    return sum(storages.values()) + TENSOR_BYTES * len(tensors)


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in what is made of dataclasses, mappings and tuples, whatever an attribution comes to hold."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(value):
        for attribute in dataclasses.fields(value):
            yield from _tensors(getattr(value, attribute.name))
