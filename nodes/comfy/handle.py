"""The live handle between I2AM Capture and what collects from it: which run made which latent, and which picture."""

import dataclasses
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from torch import Tensor

from ...i2am_core.attribution import Attribution
from ...i2am_core.printing import printable
from ...i2am_core.reading.items import of_items
from ...i2am_core.selection import numbers_text
from .kept_run import DROPPED, FAILED, SEVERAL, Run, digests_of, ended_with, items_of
from .lists import Calls
from .located import Regions
from .origin import GraphNode, Upstream, origin
from .picture_runs import RunsOf, runs_of_picture
from .several_latents import is_several, packed
from .tags import fingerprint

PAIR_MAPS = ("inpainting mask", "everywhere", "off")
BRANCHES = ("positive", "negative")  # names of conditionings in ComfyUI's guiders
REMEMBERED = 256  # runs without maps, of which is known that they were: only their latents' hashes are kept
MORE_MEMORY = "give each sampler a Capture of its own, or raise budget_mb, and sample again"
NO_RUN_YET = (
    "no run of a sampler has come to this I2AM Capture. Connect its MODEL output to the sampler whose LATENT goes into "
    "I2AM Collect. Where it is connected, it may be that the sampler has nothing to sample (denoise 0, or a start that "
    "is not before the end), that a node between leaves out what I2AM Capture has added to the model (place I2AM "
    "Capture right before the sampler), that the sampler does not sample in ComfyUI's own way, or that ComfyUI has "
    "taken the latent from its memory of an earlier queue (change the seed)."
)
NOT_OF_THESE = (
    "none of the {} finished run(s) that this I2AM Capture has kept made this latent. It may be that it was changed "
    "after sampling (connect the LATENT output of the sampler itself, or where there is none, as of detailers and "
    "upscalers, their IMAGE to I2AM Collect Runs), that its sampler uses another model or has "
    "nothing to sample (denoise 0, or a start that is not before the end), that many runs came after it (sample "
    "again), or that it was loaded, or made in another ComfyUI session: such a latent has no maps here."
)
REASON = 300  # letters of why a run could not be finished
LISTED = 80  # letters of the pictures that a batch has
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
    every: int = 1  # so many steps from one that is looked at to the next
    live: bool = False  # whether the map so far is sent to the page after each step


@dataclass
class Capture:
    """Finished runs, newest last. Older ones are dropped while all together exceed the budget; the newest stays.

    ModelPatcher.clone() copies deeply what model_options holds; there must be one handle, so a copy of
    it is itself.
    """

    settings: Settings
    node: str = ""  # the id of its node; "" where that is not known
    started: int = 0
    failure: str = ""  # why the last run that could not be finished has no maps
    _runs: list[Run] = field(default_factory=list)  # that have maps
    _dropped: deque[Run] = field(default_factory=lambda: deque(maxlen=REMEMBERED))  # and those that have none any more
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _last: int = 0  # number of the newest run

    def __deepcopy__(self, memo: dict) -> "Capture":
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of all runs that are kept; what several share counts once."""
        return _bytes_of(run.attribution for run in self._runs if run.attribution is not None)

    def keep(self, attribution: Attribution, latents: Sequence[Tensor]) -> None:
        """Remember that this run made these latents: its output, and the last denoised one."""
        digests = frozenset(digest for latent in latents for digest in digests_of(latent))
        run = Run(origin(), digests, items_of(attribution.ended or ended_with(latents)), attribution)
        with self._lock:
            self._number(run)
            self._runs = [other for other in self._runs if not run.replaces(other)]
            self._runs.append(run)
            self.failure = ""
            while len(self._runs) > 1 and self.nbytes > self.settings.budget_bytes:
                self._dropped.append(self._runs.pop(0).without_maps(DROPPED))

    def fail(self, reason: str) -> None:
        """Remember that a run could not be watched or finished."""
        with self._lock:
            self.failure = reason
            run = Run(origin(), why=FAILED.format(printable(reason, REASON)))
            self._number(run)
            self._dropped.append(run)

    def find(self, samples: Tensor) -> Attribution:
        """The run that made a latent, or of some items of its batch what they are in it.

        Raises ValueError where there is none, saying what to do: NoRun, which is one, where nothing is known of
        the latent.
        """
        several = is_several(samples)
        samples = packed(samples) if several else samples
        digest = fingerprint(samples)
        with self._lock:
            runs, dropped = list(reversed(self._runs)), list(self._dropped)
        for run in runs:
            if digest in run.digests and run.attribution is not None:
                return run.attribution
        each = [fingerprint(item[None]) for item in samples] if samples.ndim > 0 else []
        for run in runs:
            if each and all(one in run.items for one in each) and run.attribution is not None:
                return _of_batch(run.attribution, [run.items[one] for one in each])
        if several:
            raise ValueError(f"these are several latents in one, and {SEVERAL}: sample them one by one.")
        if any(digest in run.digests or (each and all(one in run.items for one in each)) for run in dropped):
            raise ValueError(f"the maps of this latent {DROPPED}: {MORE_MEMORY}.")
        if not self.started and not self.failure:
            raise NoRun(NO_RUN_YET, started=False)
        if self.failure:
            raise ValueError(f"the last run of this I2AM Capture has no maps: {self.failure}.")
        raise NoRun(NOT_OF_THESE.format(len(runs)), started=True)

    def runs_of(self, picture: Upstream | None) -> RunsOf:
        """The runs that made a picture, those without maps among them; of all runs where None is known of it.

        Of each node that the picture comes from, the runs are those of the last queue in which it had what it has now:
        what ComfyUI has cached of a node was made then; and of a list those of the calls that made this picture of it.
        Runs of which no node is known count where there are no others.
        """
        with self._lock:
            runs = sorted((*self._dropped, *self._runs), key=lambda run: run.number)
        if picture is None:
            return runs_of_picture(runs, {}, 0)
        calls: dict[str, Calls] = {}  # by what a node was given, for another node's output may stand for its own
        made = {}
        for node, which in picture.nodes.items():
            calls[node.given] = which if calls.get(node.given, which) == which else "unknown"
            made.update({run.number: run for run in _last_of(runs, node)})
        by_number = [made[number] for number in sorted(made)]
        unknown = [run for run in runs if run.origin is None]
        return runs_of_picture(by_number or unknown, calls, picture.item)

    def all_runs(self) -> list[Run]:
        """All runs that have maps, in order."""
        with self._lock:
            return list(self._runs)

    def attribution_of(self, run: Run) -> Attribution:
        """The maps of one of these runs. Raises ValueError with the reason where it has none any more."""
        if run.attribution is None:
            raise ValueError(f"the maps of this run {run.why}.")
        return run.attribution

    def _number(self, run: Run) -> None:
        """Number a new run, among all of this capture, and among those of its node in this queue."""
        self._last += 1
        run.number = self._last
        same = [x for x in (*self._dropped, *self._runs) if x.node_in_queue == run.node_in_queue]
        run.position = 1 + max((x.position for x in same), default=-1)


def _last_of(runs: Sequence[Run], node: GraphNode) -> list[Run]:
    """Those of the last time when a node made runs of what the node has now.

    ComfyUI takes what it has cached of another node if that was given the same, so the node's own runs come first.
    """
    alike = [run for run in runs if run.origin is not None and run.origin.node.given == node.given]
    own = [run for run in alike if run.origin is not None and run.origin.node.id == node.id] or alike
    return [run for run in own if run.node_in_queue == own[-1].node_in_queue]


def _of_batch(attribution: Attribution, items: Sequence[int]) -> Attribution:
    """Some items of a run's batch, with a note that says which."""
    ascending = all(one < other for one, other in pairwise(items))
    listed = numbers_text(items) if ascending else ", ".join(map(str, items))
    pictures = "picture" if len(items) == 1 else "pictures"
    which = f"{pictures} {printable(listed, LISTED)} of a batch of {attribution.items} (the first is 0)"
    some = of_items(attribution, items)
    return dataclasses.replace(some, notes=(which, *some.notes))


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
