"""The maps of one call by fused kernels (Triton): two sweeps over the logits, which never are in memory.

Both softmaxes of a logit S need a sum over its whole row or column first. The first sweep makes these; the second sums
the softmaxes. With L the row log-sum-exp over all keys, ``exp(S - L)`` is what shares add up, and from it come both
sums; where L is not known or there is a bias, the sums are of ``exp(S - highest)``, which never leaves float32.
Where ``exp(S - L)`` has left it, these are made once more: by a kernel that follows in any case, as the host does not
know. A share is the softmax over the reference times the part of the attention that the reference has. Queries and
keys are multiplied in the dtype that they have, and all sums are in float32.

Nothing here waits for the device, but for the proof, once a ``Case``: only where kernels agreed on this device with
``streaming`` in float64, in a call that is as hard as any of the case, they serve.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..kinds import PAIR_KEYS
from . import streaming
from .columns import ReferenceColumns, unexpanded

log = logging.getLogger(__name__)

NAME = "fused kernel, sums in float32"
DTYPES = (torch.float16, torch.bfloat16)
DEVICES = ["cuda"]  # types of device that Triton compiles for
LEAST_CAPABILITY = (8, 0)  # of NVIDIA's: Triton has no products in half precision for older ones
LARGEST_HEAD = 256
SMALLEST_WIDTH = 16  # of a product that Triton makes
COLUMNS, WIDE = 64, 256  # of a tile, of queries and of sums alone
# Of a tile of 128 or 64 rows: so no register is spilled much, and 100 KB of shared memory suffice (an RTX 30 has them).
# Trials on an H100 are in benchmarks/README.md.
LAUNCH = {"num_warps": 4, "num_stages": 2}
STAGES_OF_HOPPER = 3  # it has the memory for keys of one tile more on their way, where a head is no wider than 128
HIGH = 28.0  # logits of the trial, in base e
ATOL, RTOL = 1e-7, 2e-4  # of float32's maps from those of float64: products of fewer bits are ten times as far off


@dataclass(frozen=True)
class Case:
    """What decides which kernels compute a call, and how: where they have agreed once, they are trusted.

    ``bias`` is its dtype, and which of the axes B, H and N have one bias for all.
    """

    device: torch.device
    dtype: torch.dtype
    head_size: int
    bias: tuple[torch.dtype, bool, bool, bool] | None
    all_keys: bool
    scoped: bool
    paired: bool

    @classmethod
    def of(cls, c: ReferenceColumns) -> "Case":
        """That of a call."""
        bias = None
        if c.bias is not None:
            batch, heads, rows = (
                size > 1 and n == 1 for size, n in zip(c.shape, unexpanded(c.bias).shape[:3], strict=False)
            )
            bias = (c.bias.dtype, batch, heads, rows)
        return cls(
            c.q.device, c.q.dtype, c.q.shape[-1], bias, c.total is None, c.scope is not None, c.pair_rows is not None
        )


_refused: set[Case] = set()  # in which kernels raised an error, though they were trusted


def maps(c: ReferenceColumns, chunk_bytes: int) -> dict[str, Tensor] | None:
    """All maps of a call, by their names in ``marginals.Marginals``; None where no kernel is proved.

    The parts of the columns' sums take about ``chunk_bytes`` at a time.
    """
    return _where_proved(c, lambda: computed(c, chunk_bytes))


def share(c: ReferenceColumns) -> Tensor | None:
    """The part of each row's attention that goes to these columns, ``[B, H, N]``; None where no kernel is proved.

    ``c.total`` must be known, and gains do not count.
    """
    return _where_proved(c, lambda: row_share(c))


T = TypeVar("T")


def _where_proved(c: ReferenceColumns, compute: Callable[[], T]) -> T | None:
    """What kernels compute of a call, or None: the call must not be lost, whatever they do."""
    if not possible(c):
        return None
    case = Case.of(c)
    try:
        return compute() if case not in _refused and is_proved(case) else None
    except torch.cuda.OutOfMemoryError:  # the plain computation needs less; next time there may be more
        return None
    except Exception as error:  # Triton raises errors of many kinds
        log.warning("fused kernel: %s raised an error, and is not used any more: %s", case, error)
        _refused.add(case)
        return None


def possible(c: ReferenceColumns) -> bool:
    """Whether there is a kernel for such a call."""
    fits = c.q.dtype in DTYPES and c.k.dtype == c.q.dtype and c.q.shape[-1] <= LARGEST_HEAD
    return fits and _serves(c.q.device)


def lacks_triton(device: torch.device) -> bool:
    """Whether there are no kernels for a device for this reason alone: Triton is not there, or does not work."""
    return device.type in DEVICES and _is_capable(device) and _kernels() is None


@functools.cache
def _serves(device: torch.device) -> bool:
    """Whether Triton compiles for a device. Kernels that it interprets are for tests on the CPU."""
    kernels = _kernels() if device.type in DEVICES else None
    if kernels is None or (device.type == "cpu") != kernels.INTERPRETED:
        return False
    return _is_capable(device)


def options(head_size: int, hopper: bool, biased: bool) -> dict[str, Any]:
    """How the sweeps of calls are compiled. ``hopper``: for a GPU of that generation, see ``_is_as_hopper``.

    With a bias, a product is laid out as the bias is read, and nothing is gained by sums of each warp.
    """
    width = max(SMALLEST_WIDTH, 1 << (head_size - 1).bit_length())
    own = {"num_stages": STAGES_OF_HOPPER} if hopper and width <= 128 else {}
    rows = 128 if width <= 128 else 64
    shape = {"D": head_size, "WIDTH": width, "ROWS": rows, "COLUMNS": COLUMNS}
    return {**shape, "BIASED": biased, "BY_WARPS": hopper and not biased, **LAUNCH, **own}


@functools.cache
def _is_as_hopper(device: torch.device) -> bool:
    """Whether kernels sum as is best for a Hopper: also where they are interpreted, so that it is tested."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] == 9


def _is_capable(device: torch.device) -> bool:
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


@functools.cache
def _kernels() -> ModuleType | None:
    """The kernels, or None where Triton is not installed, or does not work."""
    try:
        from . import fused_kernels
    except Exception as error:  # a Triton that does not fit the system may raise anything
        log.info("fused kernel: there is no Triton that can be used: %s", error)
        return None
    return fused_kernels


def computed(c: ReferenceColumns, chunk_bytes: int) -> dict[str, Tensor]:
    """The maps of a call, by their names in ``marginals.Marginals``. Raises what Triton raises."""
    sweeps = _Sweeps(c)
    batch, heads, n, m = c.shape
    count = 2 if c.scope is None else 4
    r2g, g2r = sweeps.new(2, batch, heads, n), sweeps.new(count, batch, heads, m)
    for first, many in sweeps.launches(count, chunk_bytes):
        sweeps.rows_and_columns(first, many, r2g, g2r)
    maps = dict(zip(("r2g_share", "r2g_paper"), r2g, strict=True))
    maps |= dict(zip(("g2r_share", "g2r_paper", "g2r_share_scope", "g2r_paper_scope"), g2r, strict=False))
    if c.pair_rows is not None:
        maps |= dict(zip(PAIR_KEYS, sweeps.pairs(c.pair_rows), strict=True))
    return maps


def row_share(c: ReferenceColumns) -> Tensor:
    """The same as ``share``, by the first sweep alone. Raises what Triton raises."""
    return _Sweeps(c).share_alone()


class _Sweeps:
    """The kernels' launches for one call, and what they hand on to each other."""

    def __init__(self, c: ReferenceColumns) -> None:
        kernels = _kernels()
        assert kernels is not None
        self.kernels, self.c = kernels, c
        batch, self.heads, self.n, self.m = c.shape
        self.total_heads, self.batch = batch * self.heads, batch
        upcast = kernels.INTERPRETED and c.q.dtype == torch.bfloat16
        self.options = options(c.q.shape[-1], _is_as_hopper(c.q.device), c.bias is not None) | {"UPCAST": upcast}
        self.rows = self.options["ROWS"]
        self.blocks, self.tiles = -(-self.n // self.rows), -(-self.m // WIDE)
        bias = c.q if c.bias is None else c.bias
        self.inputs = c.q, c.k, bias, c.gain
        strides = (0, 0, 0, 0) if c.bias is None else c.bias.stride()
        self.strides = (c.scale, *c.gain.stride(), *c.q.stride(), *c.k.stride(), *strides)
        self.total = c.gain if c.total is None else c.total.contiguous()
        self.scope = c.gain if c.scope is None else c.scope.contiguous()
        self.row_log_sum, self.share = self.new(2, self.total_heads, self.n)
        self.column_log_sum, self.column_weight = self.new(2, self.total_heads, self.m)
        counts = self.new(4, self.total_heads, self.blocks, dtype=torch.int32)
        self.lost, self.row_counts = counts[0], counts[1:]

    def new(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=self.c.q.device)

    def launches(self, count: int, chunk_bytes: int) -> list[tuple[int, int]]:
        """First head and number of heads of each round of launches, whose columns have so many sums in each block."""
        size = 4 * count * self.blocks * self.m
        at_once = max(1, min(self.total_heads, chunk_bytes // size))
        return [(first, min(at_once, self.total_heads - first)) for first in range(0, self.total_heads, at_once)]

    def rows_and_columns(self, first: int, heads: int, r2g: Tensor, g2r: Tensor) -> None:
        """All maps but pair maps of some heads: ``r2g [2, B, H, N]`` and ``g2r [2 or 4, B, H, M]``."""
        kernels, scoped, count = self.kernels, self.c.scope is not None, len(g2r)
        parts = self.new(count, heads, self.blocks, self.m)
        size, of_rows, of_columns = parts[0].numel(), (self.blocks, heads), (self.tiles, heads)
        attended, far = self.new(2, self.total_heads, self.tiles, dtype=torch.int32)
        self.first_sweep(first, heads, (r2g[0], parts[0], parts[1]))
        kernels.column_log_sums[of_columns](
            parts[0], parts[1], self.column_log_sum, self.column_weight, attended, far, first, self.m, self.blocks,
            COLUMNS=WIDE,
        )  # fmt: skip
        kernels.weights[of_rows](
            *self.inputs, self.row_log_sum, self.column_log_sum, self.column_weight, self.share, self.scope,
            attended, far, r2g[1], parts, first, self.heads, self.n, self.m, size, self.tiles, *self.strides,
            **self.options, SCOPED=scoped,
        )  # fmt: skip
        kernels.means[of_columns](
            parts, self.row_counts, g2r, first, self.n, self.m, size, self.blocks, self.total_heads, g2r[0].numel(),
            COLUMNS=WIDE, SCOPED=scoped,
        )  # fmt: skip

    def first_sweep(self, first: int, heads: int, into: tuple[Tensor, Tensor, Tensor] | None = None) -> None:
        """Of some heads, ``into`` shares times gains and both parts of columns' sums; or else of their shares alone.

        By the sums over all keys, where these are known and there is no bias. Blocks of rows of which that loses sums
        are then made by maxima; but not of shares alone, which are 0 where they are lost.
        """
        known, of_columns = self.c.total is not None, into is not None
        by_total, grid = known and self.c.bias is None, (self.blocks, heads)
        gained, *parts = into or [self.share] * 3  # nothing is written to these
        given = (
            *self.inputs, self.total, self.scope, self.lost, self.row_log_sum, self.share, gained, self.row_counts,
            *parts, first, self.heads, self.n, self.m, self.row_counts[0].numel(), *self.strides,
        )  # fmt: skip
        kind = self.options | {"OF_COLUMNS": of_columns, "SCOPED": of_columns and self.c.scope is not None}
        if by_total:
            self.kernels.sums_by_total[grid](*given, **kind)
        if of_columns or not by_total:
            self.kernels.sums_by_maxima[grid](*given, **kind, ALL_KEYS=not known, REPAIRS=by_total)

    def share_alone(self) -> Tensor:
        """The part of each row's attention that goes to the columns, ``[B, H, N]``; 0 where a gain is 0."""
        self.first_sweep(0, self.total_heads)
        return self.share.view(self.batch, self.heads, self.n)

    def pairs(self, pair_rows: Tensor) -> tuple[Tensor, Tensor]:
        """Both softmaxes of some positions, over columns and over rows, as means over heads: ``[B, A, M]`` each."""
        by_row, by_column = self.new(2, self.batch, len(pair_rows), self.m)
        if len(pair_rows):
            grid = (-(-len(pair_rows) // self.rows), -(-self.m // COLUMNS), self.batch)
            of_pairs = {name: x for name, x in self.options.items() if name != "BY_WARPS"} | LAUNCH
            self.kernels.pairs[grid](
                *self.inputs, self.row_log_sum, self.column_log_sum, pair_rows.contiguous(), by_row, by_column,
                self.heads, self.n, self.m, len(pair_rows), *self.strides,
                **of_pairs,
            )  # fmt: skip
        return by_row / self.heads, by_column / self.heads


@functools.cache
def is_proved(case: Case) -> bool:
    """Whether the kernels agree with ``streaming`` in float64, in a call that is as hard as any of this case.

    Heads lie side by side; keys begin within others; lengths fill no tile; logits are large in one item, and in one of
    its heads shares leave float32; some positions do not count, and gains are negative; of a bias, some columns, some
    rows as a whole and one column as a whole are masked. Raises OutOfMemoryError, which says nothing of the kernels.
    """
    try:
        wrong = disproof(case)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:
        log.info("fused kernel: %s is not available: %s", case, error)
        return False
    log.log(logging.WARNING if wrong else logging.INFO, "fused kernel: %s %s", case, wrong or "agrees")
    return not wrong


def disproof(case: Case) -> str:
    """Which maps the kernels have wrong in the trial of a case, and by how much; nothing where they are right.

    Raises what Triton raises.
    """
    c = trial(case)
    maps, expected = computed(c, 4 * c.shape[3]), _exact(c)
    if c.total is not None:
        maps["share alone"] = row_share(c) * c.gain[:, None]
        expected["share alone"] = expected["r2g_share"]
    wrong = []
    for name, exact in expected.items():
        difference = (maps[name].double() - exact).abs()
        if not bool((difference <= ATOL + RTOL * exact.abs()).all()):
            wrong.append(f"{name} is wrong by up to {difference.max().item():.1e}")
    return ", ".join(wrong)


def _exact(c: ReferenceColumns) -> dict[str, Tensor]:
    total = None if c.total is None else c.total.double()
    if total is None:
        total = (c.q.double() * c.scale @ c.k.double().mT).logsumexp(-1)
    exact = dataclasses.replace(c, q=c.q.double(), k=c.k.double(), total=total)
    batch, heads = c.shape[:2]
    by_head = [[streaming.marginals(exact, item, head, 2**20) for head in range(heads)] for item in range(batch)]
    return {name: torch.stack([_of_item(name, x) for x in by_head]) for name in by_head[0][0]}


def _of_item(name: str, by_head: list[dict[str, Tensor]]) -> Tensor:
    stacked = torch.stack([maps[name] for maps in by_head])
    return stacked.mean(0) if name in PAIR_KEYS else stacked


def trial(case: Case) -> ReferenceColumns:
    """A call of a case, of 2 items with 2 heads, 153 positions and 77 reference tokens among 101 keys.

    In one head of one item, positions look at another key alone: their shares are 0 in float32. In one of the other
    item all logits are high: sums are far from 1.
    """
    g = torch.Generator().manual_seed(0)
    batch, heads, n, all_keys, first, m = 2, 2, 153, 101, 13, 77
    q, k = (torch.randn(batch, x, heads * case.head_size, generator=g) for x in (n, all_keys))
    q[1] *= 6
    k[1, 0, case.head_size :] = 3 * q[1, 7, case.head_size :]
    q[0, :, case.head_size] = k[0, :, case.head_size] = (HIGH / 0.7 * case.head_size**0.5) ** 0.5
    q, k = (x.to(case.device, case.dtype).unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k))
    scale, own = 0.7 * case.head_size**-0.5, slice(first, first + m)
    bias = None if case.bias is None else _bias(case, (batch, heads, n, all_keys), own, g)
    logits = q.double() * scale @ k.double().mT
    total = (logits if bias is None else logits + bias.double()).logsumexp(-1).float()
    gain = torch.randn(batch, n, generator=g)
    gain[:, 3:20:4] = 0
    return ReferenceColumns(
        q,
        k[:, :, own],
        scale,
        gain=gain.to(case.device),
        total=None if case.all_keys else total,
        bias=None if bias is None else bias[..., own],
        scope=(torch.rand(batch, n, generator=g) < 0.5).to(case.device) if case.scoped else None,
        pair_rows=torch.arange(1, n, 5, device=case.device) if case.paired else None,
    )


def _bias(case: Case, shape: tuple[int, int, int, int], own: slice, g: torch.Generator) -> Tensor:
    assert case.bias is not None
    dtype, *shared = case.bias
    sizes = [1 if one else size for one, size in zip(shared, shape, strict=False)]
    bias = 3 * torch.randn(*sizes, shape[3], generator=g)
    bias[torch.rand(bias.shape, generator=g) < 0.2] = -torch.inf
    bias[..., own.start + 7] = -torch.inf
    if sizes[2] > 1:
        bias[..., 5, :] = -torch.inf
    return bias.to(case.device, dtype).expand(shape)
