"""The maps of one call by fused kernels (Triton): two sweeps over the logits, which never are in memory.

Both softmaxes of a logit S need a sum over its whole row or column first. The first sweep makes these, as the highest
logit and the sum of ``exp(S - highest)``, so that no number leaves float32 whatever the logits are; the second sums the
softmaxes. With L the row log-sum-exp over all keys, a share is the softmax over the reference times the part of the
attention that the reference has: ``sum * exp(highest - L)``. Queries and keys are multiplied in the dtype that they
have, and all sums are in float32.

Nothing here waits for the device, but for the proof, once a ``Case``: only where kernels agreed on this device with
``streaming`` in float64, in a call that is as hard as any of the case, they serve.
"""

import dataclasses
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

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
COLUMNS = 64  # of a tile
# Of a tile of 128 or 64 rows: so no register is spilled much, and 100 KB of shared memory suffice (an RTX 30 has them).
# On an H100, 24 heads of 4096 positions and 4096 tokens of 128: 1.1 ms a sweep with 4 warps, up to 1.6 with 8.
LAUNCH = {"num_warps": 4, "num_stages": 2}
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


@functools.cache
def _serves(device: torch.device) -> bool:
    """Whether Triton compiles for a device. Kernels that it interprets are for tests on the CPU."""
    kernels = _kernels() if device.type in DEVICES else None
    if kernels is None or (device.type == "cpu") != kernels.INTERPRETED:
        return False
    return device.type == "cpu" or torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


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
    sweeps = _Sweeps(c, chunk_bytes)
    row_highest, row_sum, column_highest, column_sum = sweeps.highest_and_sums()
    rows, columns = _softmax(row_highest, row_sum), _softmax(column_highest, column_sum)
    attending, attended = row_highest > -torch.inf, column_highest > -torch.inf
    gain = c.gain[:, None].to(c.dtype)
    share = attending.to(c.dtype) if c.total is None else row_sum * (rows[0] - _finite(c.total)).exp()
    over_rows, sums = sweeps.weights(rows, columns, share * gain)
    maps = {
        "r2g_share": share.clamp(max=1) * gain,
        "r2g_paper": over_rows / _count(attended),
        "g2r_share": sums[0] / c.shape[2],
        "g2r_paper": sums[1] / _count(attending),
    }
    if c.scope is not None:
        inside = c.scope[:, None]
        maps["g2r_share_scope"] = sums[2] / _count(inside)
        maps["g2r_paper_scope"] = sums[3] / _count(attending & inside)
    if c.pair_rows is not None:
        maps |= dict(zip(PAIR_KEYS, sweeps.pairs(rows, columns, c.pair_rows), strict=True))
    return maps


def row_share(c: ReferenceColumns) -> Tensor:
    """The same as ``share``, by the first sweep alone. Raises what Triton raises."""
    assert c.total is not None
    highest, total, _, _ = _Sweeps(c, 0).highest_and_sums(of_columns=False)
    return total * (_finite(highest) - _finite(c.total)).exp()


class _Sweeps:
    """The kernels' launches for one call, which share their first and last arguments."""

    def __init__(self, c: ReferenceColumns, chunk_bytes: int) -> None:
        kernels = _kernels()
        assert kernels is not None
        self.kernels, self.c, self.chunk_bytes = kernels, c, chunk_bytes
        batch, heads, self.n, self.m = c.shape
        self.total_heads, self.shape = batch * heads, (batch, heads)
        bias = c.q if c.bias is None else c.bias
        self.counting = (c.gain != 0).to(torch.int32).contiguous()
        self.inputs = (c.q, c.k, bias, self.counting)
        strides = (0, 0, 0, 0) if c.bias is None else c.bias.stride()
        self.strides = (c.scale, *c.q.stride(), *c.k.stride(), *strides)
        width = max(SMALLEST_WIDTH, 1 << (c.q.shape[-1] - 1).bit_length())
        upcast = kernels.INTERPRETED and c.q.dtype == torch.bfloat16
        self.rows = 128 if width <= 128 else 64
        self.kind = {"D": c.q.shape[-1], "WIDTH": width, "BIASED": c.bias is not None, "UPCAST": upcast,
                     "ROWS": self.rows, "COLUMNS": COLUMNS, **LAUNCH}  # fmt: skip
        self.blocks = -(-self.n // self.rows)

    def new(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=self.c.q.device)

    def launches(self, parts: int) -> list[tuple[int, int]]:
        """First head and number of heads of each launch, whose columns have so many parts of sums in each block."""
        size = 4 * parts * self.blocks * self.m
        at_once = max(1, min(self.total_heads, self.chunk_bytes // size))
        return [(first, min(at_once, self.total_heads - first)) for first in range(0, self.total_heads, at_once)]

    def highest_and_sums(self, of_columns: bool = True) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Highest logit and sum of each row ``[B, H, N]``, and of each column ``[B, H, M]``, if these are wanted."""
        row_highest, row_sum = self.new(self.total_heads, self.n), self.new(self.total_heads, self.n)
        highest, sums = [], []
        for first, heads in self.launches(2) if of_columns else [(0, self.total_heads)]:
            parts = self.new(2, heads, self.blocks, self.m) if of_columns else self.new(2, 1)
            self.kernels.highest_and_sums[(self.blocks, heads)](
                *self.inputs, row_highest, row_sum, *parts, first, self.shape[1], self.n, self.m, *self.strides,
                **self.kind, OF_COLUMNS=of_columns,
            )  # fmt: skip
            if of_columns:
                highest.append(parts[0].amax(1))
                sums.append((parts[1] * (parts[0] - _finite(highest[-1])[:, None]).exp()).sum(1))
        columns = [torch.cat(x).unflatten(0, self.shape) for x in (highest, sums)] if of_columns else [row_sum] * 2
        return row_highest.unflatten(0, self.shape), row_sum.unflatten(0, self.shape), columns[0], columns[1]

    def weights(
        self, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], share: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Softmaxes over rows, summed over columns ``[B, H, N]``; and those over columns ``[2 or 4, B, H, M]``.

        ``rows`` and ``columns`` are what ``_softmax`` gives; ``share [B, H, N]`` is what a softmax over columns counts.
        """
        scope, over_rows, sums = self.c.scope, self.new(self.total_heads, self.n), []
        inside = share if scope is None else scope.to(torch.float32).contiguous()
        for first, heads in self.launches(count := 2 if scope is None else 4):
            parts = self.new(count, heads, self.blocks, self.m)
            self.kernels.weights[(self.blocks, heads)](
                *self.inputs, *rows, *columns, share.contiguous(), inside, over_rows, parts, first, self.shape[1],
                self.n, self.m, parts[0].numel(), *self.strides, **self.kind, SCOPED=scope is not None,
            )  # fmt: skip
            sums.append(parts.sum(2))
        return over_rows.unflatten(0, self.shape), torch.cat(sums, 1).unflatten(1, self.shape)

    def pairs(
        self, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], pair_rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both softmaxes of some positions, over columns and over rows, as means over heads: ``[B, A, M]`` each."""
        batch, heads = self.shape
        by_row, by_column = self.new(2, batch, len(pair_rows), self.m)
        if len(pair_rows):
            grid = (-(-len(pair_rows) // self.rows), -(-self.m // COLUMNS), batch)
            self.kernels.pairs[grid](
                *self.inputs, *rows, *columns, pair_rows.contiguous(), by_row, by_column, heads, self.n, self.m,
                len(pair_rows), *self.strides, **self.kind,
            )  # fmt: skip
        return by_row / heads, by_column / heads


def _softmax(highest: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    """What a logit is lessened by, and what its exponential is multiplied with; 0 where all is masked."""
    return _finite(highest), torch.where(highest > -torch.inf, 1 / total, 0)


def _finite(highest: Tensor) -> Tensor:
    """A maximum or log-sum-exp that can be subtracted: 0 where everything is masked; what is no number stays so."""
    return torch.where(highest == -torch.inf, 0, highest)


def _count(chosen: Tensor) -> Tensor:
    return chosen.sum(-1, keepdim=True).clamp(min=1)


@functools.cache
def is_proved(case: Case) -> bool:
    """Whether the kernels agree with ``streaming`` in float64, in a call that is as hard as any of this case.

    Heads lie side by side; keys begin within others; lengths fill no tile; logits are large in one item; some positions
    do not count, and gains are negative; of a bias, some columns, some rows as a whole and one column as a whole are
    masked. Raises OutOfMemoryError, which says nothing of the kernels.
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
    """A call of a case, of 2 items with 2 heads, 153 positions and 77 reference tokens among 101 keys."""
    g = torch.Generator().manual_seed(0)
    batch, heads, n, all_keys, first, m = 2, 2, 153, 101, 13, 77
    q, k = (torch.randn(batch, x, heads * case.head_size, generator=g) for x in (n, all_keys))
    q[1] *= 6
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
