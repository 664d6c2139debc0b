"""Every path to a map, proved on a device: against float64, in calls that are as hard as real ones."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from i2am_pack.i2am_core import Logits, Marginals, Positions, attribute, span
from i2am_pack.i2am_core.attention import fused, logsumexp
from i2am_pack.i2am_core.attention.columns import ReferenceColumns
from i2am_pack.i2am_core.attention.logsumexp import Case
from i2am_pack.i2am_core.kinds import KINDS, PAIR_KEYS

AGREES, NOT_AVAILABLE = "agrees", "not available"
HEAD_SIZES = (40, 64, 72, 80, 96, 120, 128, 160, 256)
COMMON_SIZES = (64, 128)
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SHARED = {"none": None, "one for all": (True, True, True), "a row each": (True, True, False), "all": (False,) * 3}
MODEL_SHAPES = ((2, 8, 4096, 40), (2, 10, 4096, 64), (1, 24, 5337, 128), (1, 24, 8704, 128))
# Each head size with and without a bias, and of two sizes all.
ON_A_GPU = list(
    dict.fromkeys(
        [
            *((size, torch.bfloat16, name) for size in HEAD_SIZES for name in ("none", "a row each")),
            *((size, dtype, name) for size in COMMON_SIZES for dtype in DTYPES for name in SHARED),
        ]
    )
)
MOST_PROCESSES, PROCESS_BYTES = 14, 1e9  # of each on the GPU: half of it is CUDA's own
ON_A_CPU = [(40, torch.bfloat16, "a row each"), (128, torch.float16, "none"), (64, torch.float32, "all")]
MAPS = (*(kind.key for kind in KINDS), *PAIR_KEYS)
ATOL, RTOL = 1e-6, 5e-4  # of maps in float32 whose logits are as large as those of the trial


@dataclass(frozen=True)
class Proof:
    """What was proved of a path, in words; ``verdict`` is AGREES, NOT_AVAILABLE with a reason, or how it is wrong."""

    path: str
    call: str
    verdict: str

    @property
    def is_disproof(self) -> bool:
        return not self.verdict.startswith((AGREES, NOT_AVAILABLE))


def proofs(device: torch.device) -> Iterator[Proof]:
    """Of all paths on a device; on the CPU of a few calls, with the fused kernels interpreted.

    Most of the time on a GPU goes into compiling, which several processes share.
    """
    if device.type == "cpu":
        for call in ON_A_CPU:
            yield from of_call(device, *call)
        return
    fitting = int(torch.cuda.mem_get_info(device)[0] / PROCESS_BYTES)
    processes = max(1, min(MOST_PROCESSES, fitting, (os.cpu_count() or 2) - 1))
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        started = [pool.submit(of_call, device, *call) for call in ON_A_GPU]
        for future in started:
            yield from future.result()


@torch.inference_mode()
def of_call(device: torch.device, head_size: int, dtype: torch.dtype, name: str) -> list[Proof]:
    """Of all paths, in one kind of call."""
    shared = SHARED[name]
    bias = None if shared is None else (dtype, *shared)
    call = f"{str(dtype).removeprefix('torch.')}, head size {head_size}, bias: {name}"
    case = fused.Case(device, dtype, head_size, bias, all_keys=False, scoped=True, paired=True)
    return [*of_row_sums(Case(None, device, dtype, head_size, bias), call), *of_maps(case, call)]


def of_row_sums(case: Case, call: str) -> Iterator[Proof]:
    """Of each kernel that this device may have: its row log-sum-exp, which calls are intercepted for."""
    for operation in logsumexp.KERNELS:
        name = logsumexp.name_of(operation)
        if name.endswith("cpu") == (case.device.type == "cpu"):
            with warnings_of(logsumexp.log) as warnings:
                agrees = logsumexp.is_trusted(replace(case, operation=operation))
            wrong = f"{NOT_AVAILABLE}: its sums are wrong, so that they do not serve" if warnings else NOT_AVAILABLE
            yield Proof(f"row sums by {name}", call, AGREES if agrees else wrong)


def of_maps(case: fused.Case, call: str) -> Iterator[Proof]:
    """Of each arithmetic that this device may have, through all that a captured call goes through."""
    if case.dtype in fused.DTYPES:
        yield Proof(fused.NAME, call, tried(lambda: fused.disproof(case)))
    for path, fusing in {"maps as chosen": True, "maps without Triton": False}.items():
        with fused_kernels_serve(fusing):
            yield Proof(path, call, tried(lambda: difference(case)))


def requested_sums(device: torch.device) -> Iterator[str]:
    """Of kernels that give their sums only where these are asked for: whether asking changes the output, in words.

    ComfyUI does not ask, and the pack changes nothing of a call: so sums of these are not intercepted.
    """
    for operation in logsumexp.KERNELS:
        on_request = "compute_log_sumexp" in {argument.name for argument in operation._schema.arguments}
        for shape in MODEL_SHAPES if on_request else ():
            g = torch.Generator(device).manual_seed(0)
            q, k, v = (torch.randn(shape, generator=g, device=device, dtype=torch.bfloat16) for _ in range(3))
            try:
                plain, requested = (operation(q, k, v, None, sums)[0] for sums in (False, True))
            except RuntimeError as error:
                verdict = f"{NOT_AVAILABLE}: {str(error).partition(chr(10))[0][:100]}"
            else:
                verdict = "the same output to the bit" if torch.equal(plain, requested) else "another output"
            yield f"{logsumexp.name_of(operation)}, {tuple(shape)}, asked for its sums: {verdict}"


def tried(disproof: Callable[[], str]) -> str:
    try:
        return disproof() or AGREES
    except torch.cuda.OutOfMemoryError:
        return f"{NOT_AVAILABLE}: memory is short"
    except Exception as error:  # of Triton, of a driver: the pack goes another way then
        return f"{NOT_AVAILABLE}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:100]}"


def difference(case: fused.Case) -> str:
    """By how much the maps of a call on the device are not those of float64 on the CPU."""
    c = fused.trial(case)
    maps, exact = maps_of(c), maps_of(in_float64(c))
    wrong = []
    for name in MAPS:
        expected = getattr(exact, name)
        away = (getattr(maps, name).double().cpu() - expected).abs()
        if not bool((away <= ATOL + RTOL * expected.abs()).all()):
            wrong.append(f"{name} is wrong by up to {away.max().item():.1e}")
    return ", ".join(wrong)


def maps_of(c: ReferenceColumns) -> Marginals:
    positions = Positions(gain=c.gain, scope=c.scope, pair_rows=c.pair_rows)
    group = span("reference", 0, count=c.k.shape[2])
    return attribute(c.q, c.k, [group], Logits(c.scale, c.bias, c.total), positions)[0]


def in_float64(c: ReferenceColumns) -> ReferenceColumns:
    """On the CPU, of the same numbers."""
    host = {name: x.cpu() for name, x in vars(c).items() if isinstance(x, torch.Tensor)}
    exact = {name: x.double() for name, x in host.items() if name in ("q", "k", "total")}
    return replace(c, **(host | exact))


@contextmanager
def fused_kernels_serve(serve: bool) -> Iterator[None]:
    before = fused.possible
    fused.possible = before if serve else lambda c: False
    try:
        yield
    finally:
        fused.possible = before


@contextmanager
def warnings_of(log: logging.Logger) -> Iterator[list[str]]:
    """The warnings that are logged meanwhile."""
    warnings: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    log.addHandler(handler)
    try:
        yield warnings
    finally:
        log.removeHandler(handler)
