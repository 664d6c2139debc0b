"""How a run's budget of memory is divided: what is computed at a time, pair maps, and the maps."""

from collections import Counter
from collections.abc import Sequence

from ..attention.marginals import CHUNK_BYTES
from ..errors import BadAttention
from ..kinds import PAIR_KEYS
from .detail import Detail, Extent, Key, Resolution, details

UNCOUNTED = 34 * 2**20  # of a chunk of ``attribute`` are not counted: above 32 MB, glibc returns memory at once
PAIR_SHARE = 0.5  # of the budget, at most, for pair maps
PAIR_SUMS = 2  # so many sums of each pair map exist: over the calls of a step, and over steps
PAIR_TEMPORARY = 1.5 / PAIR_SUMS  # a call is added with so much more than its layer's sums: its maps, one new sum


class Budget:
    """Bytes for the sums of a run. Pair maps take theirs layer by layer, first come, first served.

    Maps of layers and references are known by keys, as they turn up.
    """

    def __init__(self, budget_bytes: int, steps: int) -> None:
        self.chunk_bytes = min(CHUNK_BYTES, UNCOUNTED + budget_bytes // 4)  # for ``attribute``
        self._bytes = budget_bytes - max(0, self.chunk_bytes - UNCOUNTED)
        self._pair_bytes: dict[Key, int] = {}  # 0 where they do not fit
        self.extents: dict[Key, Extent] = {}
        self._values: Counter[tuple[bool, bool]] = Counter()  # of one step, with heads or not, with frames or not
        self._details = list(details(steps))

    def reserve(self, nbytes: int) -> None:
        """Leave so many bytes to something else of the run. Before any maps are known."""
        self._bytes -= nbytes

    def pairs_fit(self, key: Key, values: int) -> bool:
        """Whether pair maps of so many values each fit; if so, their bytes are taken. A second answer is the first."""
        if key not in self._pair_bytes:
            size = PAIR_SUMS * 4 * len(PAIR_KEYS) * values
            others = list(self._pair_bytes.values())
            free_bytes = self._bytes * PAIR_SHARE - sum(others) - PAIR_TEMPORARY * max([size, *others])
            self._pair_bytes[key] = size if size <= free_bytes else 0
        return self._pair_bytes[key] > 0

    def lacks_pairs(self, key: Key) -> bool:
        """Whether there were pair maps that did not fit."""
        return self._pair_bytes.get(key) == 0

    def add(self, key: Key, extent: Extent) -> bool:
        """Maps that will be summed; whether they are new. Raises BadAttention where they are other ones than before."""
        if (known := self.extents.get(key)) is not None:
            if known != extent:  # sums of them would be lost with the whole step
                raise BadAttention(
                    f"maps of a reference in {key[1].name} have another size than in earlier calls", extent
                )
            return False
        self.extents[key] = extent
        self._count(extent, 1)
        return True

    def free(self, key: Key) -> None:
        """What this key takes is free again."""
        self._pair_bytes.pop(key, None)
        if (extent := self.extents.pop(key, None)) is not None:
            self._count(extent, -1)

    @property
    def has_frames(self) -> bool:
        """Whether any map is of a video."""
        return self._values[True, True] > self._values[True, False]

    @property
    def finest(self) -> Detail:
        """Every head in every step."""
        return self._details[0]

    def detail(self, current: Detail, most_bins: int) -> Detail | None:
        """The finest that fits, and that sums of the ``current`` detail can be brought to; None where none fits.

        Sums of steps that are closed can only get fewer time bins: ``most_bins`` at most.
        """
        for detail in self._details[self._details.index(current) :]:
            if detail.by_step.bins <= most_bins and self._bytes_of(detail) <= self.map_bytes:
                return detail
        return None

    @property
    def coarsest(self) -> Detail:
        """Means over heads and steps, and nothing else."""
        return self._details[-1]

    @property
    def map_bytes(self) -> float:
        """What pair maps leave for maps."""
        sizes = self._pair_bytes.values()
        return self._bytes - sum(sizes) - PAIR_TEMPORARY * max(sizes, default=0)

    def _bytes_of(self, detail: Detail) -> int:
        return sum(self._values[x.heads, x.frames] * x.bytes_a_value for x in detail.resolutions)

    def _count(self, extent: Extent, sign: int) -> None:
        for heads in (True, False):
            for frames in (True, False):
                resolution = Resolution(1, heads=heads, frames=frames)
                self._values[heads, frames] += sign * extent.values(resolution)


def merged(bins: Sequence[range]) -> list[range]:
    """Neighbouring time bins joined two by two; where their number is odd, the last one stays."""
    pairs = [bins[i : i + 2] for i in range(0, len(bins), 2)]
    return [range(pair[0].start, pair[-1].stop) for pair in pairs]
