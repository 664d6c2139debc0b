"""How a run's budget of memory is divided: what is computed at a time, pair maps, and the maps of time bins."""

import itertools
from collections.abc import Sequence

from ..attention.marginals import CHUNK_BYTES
from ..attribution import Layer
from ..kinds import PAIR_KEYS

UNCOUNTED = 34 * 2**20  # of a chunk of ``attribute`` are not counted: above 32 MB, glibc returns memory at once
PAIR_SHARE = 0.5  # of the budget, at most, for pair maps
PAIR_SUMS = 2  # so many sums of each pair map exist: over the calls of a step, and over steps
PAIR_TEMPORARY = 1.5 / PAIR_SUMS  # a call is added with so much more than its layer's sums: its maps, one new sum
OPEN_STEPS = 2  # steps that may still get calls: second-order samplers evaluate one step ahead and return


class Budget:
    """Bytes for the sums of a run. Pair maps take theirs layer by layer, first come, first served."""

    def __init__(self, budget_bytes: int) -> None:
        self.chunk_bytes = min(CHUNK_BYTES, UNCOUNTED + budget_bytes // 4)  # for ``attribute``
        self._bytes = budget_bytes - max(0, self.chunk_bytes - UNCOUNTED)
        self.pair_bytes: dict[tuple[int, Layer], int] = {}  # by reference and layer; 0 where they do not fit

    def pairs_fit(self, key: tuple[int, Layer], values: int) -> bool:
        """Whether pair maps of so many values each fit; if so, their bytes are taken. A second answer is the first."""
        if key not in self.pair_bytes:
            size = PAIR_SUMS * 4 * len(PAIR_KEYS) * values
            others = list(self.pair_bytes.values())
            free_bytes = self._bytes * PAIR_SHARE - sum(others) - PAIR_TEMPORARY * max([size, *others])
            self.pair_bytes[key] = size if size <= free_bytes else 0
        return self.pair_bytes[key] > 0

    @property
    def map_bytes(self) -> float:
        """What pair maps leave for maps."""
        sizes = self.pair_bytes.values()
        return self._bytes - sum(sizes) - PAIR_TEMPORARY * max(sizes, default=0)

    def bins(self, steps: int, step_bytes: int) -> list[range]:
        """The finest time bins whose maps fit, where one step has ``step_bytes`` of them: as equal as can be."""
        count = max(1, min(steps, int(self.map_bytes // max(1, step_bytes)) - OPEN_STEPS))
        edges = [-(-b * steps // count) for b in range(count + 1)]
        return [range(low, high) for low, high in itertools.pairwise(edges)]


def merged(bins: Sequence[range]) -> list[range]:
    """Neighbouring time bins joined two by two; where their number is odd, the last one stays."""
    pairs = [bins[i : i + 2] for i in range(0, len(bins), 2)]
    return [range(pair[0].start, pair[-1].stop) for pair in pairs]
