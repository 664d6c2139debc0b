"""What capture, Effect and Steer cost on a GPU, and whether all of it is right there. Started by ``scripts/gpu_check``.

    scripts/gpu_check [part of a case's name] [--quick] [--table]

Every path to a map is proved on the device. Then models of true width and random weights sample in the real ComfyUI, in
bfloat16, at true depth as far as memory allows: pictures with and without the pack are compared to the bit, waits and
kernels are counted by the profiler, and runs of 20 steps (steered ones of 2 s) are timed in turn: three times, or once
where a step takes long. --quick leaves out Effect, and --table all that is proved and compared before the table. How
many seconds have passed is written to the standard error after each part.

Without CUDA this says so, and runs what it can: proofs on the CPU, with the fused kernels interpreted, and whether the
picture stays the same to the bit. Exit code 0: nothing was disproved. Else something was, or nothing could be checked,
which is said.
"""

import argparse
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

CUDA = torch.cuda.is_available()
if not CUDA:
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported

import sampling  # noqa: E402  (it prepares ComfyUI for a machine without CUDA)
from launched import Launched, planted  # noqa: E402
from proofs import NOT_AVAILABLE, proofs, requested_sums  # noqa: E402
from sampling import UNET, Run, flux, unet, watch  # noqa: E402

from i2am_pack.i2am_core.attention import fused  # noqa: E402
from i2am_pack.nodes.comfy.handle import Capture  # noqa: E402
from i2am_pack.nodes.comfy.measured import effect_with  # noqa: E402
from i2am_pack.nodes.comfy.removals import Settings as EffectSettings  # noqa: E402
from i2am_pack.nodes.comfy.steer_choice import Settings as SteerSettings  # noqa: E402
from i2am_pack.nodes.comfy.steered import steer_with  # noqa: E402

SDXL = UNET | dict(
    num_res_blocks=[2, 2, 2],
    channel_mult=(1, 2, 4),
    transformer_depth=[0, 0, 2, 2, 10, 10],
    transformer_depth_output=[0, 0, 0, 2, 2, 2, 10, 10, 10],
    transformer_depth_middle=10,
    num_head_channels=64,
    use_linear_in_transformer=True,
    context_dim=2048,
)
ON_A_CPU = UNET | dict(
    num_res_blocks=[1, 1],
    channel_mult=(1, 2),
    transformer_depth=[0, 1],
    transformer_depth_output=[0, 0, 1, 1],
    transformer_depth_middle=1,
    num_head_channels=64,
    use_linear_in_transformer=True,
    context_dim=2048,
)
FLUX_BLOCKS = (19, 38)
FLUX_BYTES = 24e9  # of all its blocks in bfloat16
FOR_THE_REST = 6e9  # of memory, that weights have to leave
STEPS, MORE_STEPS = 2, 3
RUN_STEPS = 20  # of a run that is timed: what is kept of it, and what is done once, depends on how many there are
STEERED_SECONDS = 2  # of the plain run beside a steered one: all that is done for it is done in each step
START = time.monotonic()
MOST_WAITS = 4  # a step, beyond the plain run's own
HEAD = [
    *("model", "blocks", "a step", "capture", "effect", "steer", "waits a step", "kernels a step", "memory"),
    *("extra memory", "aim of capture"),
]


@dataclass(frozen=True)
class Case:
    """A model of true width: ``aim`` is what capture may cost; ``cut`` where memory may cut its depth."""

    make: Callable[[tuple[int, int]], Run]
    aim: float
    cut: bool = False


CASES = {
    "SD1.5, 512 px, 257 tokens": Case(lambda blocks: unet(sampling.SD15, 64, 257), 1.05),
    "SDXL, 1024 px, 257 tokens": Case(lambda blocks: unet(SDXL, 128, 257), 1.05),
    "Flux, 1024 px, 729 style tokens": Case(lambda blocks: flux(729, blocks=blocks), 1.05, cut=True),
    "Kontext, 1024 px, 1 reference": Case(lambda blocks: flux(references=1, blocks=blocks), 1.10, cut=True),
    "Kontext, 1024 px, 2 references": Case(lambda blocks: flux(references=2, blocks=blocks), 1.15, cut=True),
}


@dataclass
class Verdicts:
    """What was disproved."""

    wrong: list[str] = field(default_factory=list)

    def check(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.wrong.append(sentence)
            print(f"WRONG: {sentence}", flush=True)


def report_time(part: str) -> None:
    """Says when a part was done."""
    print(f"{time.monotonic() - START:.0f} s: {part}", file=sys.stderr, flush=True)


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def prove(device: torch.device, verdicts: Verdicts) -> None:
    """Each path in a line: of how many calls it is right, and what of it is not to be had."""
    results = list(proofs(device))
    for path in dict.fromkeys(proof.path for proof in results):
        own = [proof for proof in results if proof.path == path]
        missing = [proof for proof in own if proof.verdict.startswith(NOT_AVAILABLE)]
        wrong = [proof for proof in own if proof.is_disproof]
        print(f"{path}: {len(own) - len(missing) - len(wrong)} of {len(own)} calls agree", flush=True)
        for verdict in dict.fromkeys(proof.verdict for proof in missing):
            calls = [proof.call for proof in missing if proof.verdict == verdict]
            print(f"  {verdict}, in {len(calls)}, as {calls[0]}")
        for proof in wrong:
            verdicts.check(False, f"{path}: {proof.call}: {proof.verdict}")
    report_time("proofs")


def check_picture(name: str, run: Run, verdicts: Verdicts) -> None:
    """The picture is the same to the bit: with capture, with pair maps, and with Effect."""
    plain, again = run.sample(run.model)[1], run.sample(run.model)[1]
    if not same_bits(plain, again):
        print(f"{name}: two plain runs differ on this device, so that nothing can be said of the picture", flush=True)
        return
    captured, handle = watch(run.model)
    patched = {"pair maps": watch(run.model, "everywhere")[0]}
    patched["Effect"] = effect_with(watch(run.model)[0], EffectSettings(probe_steps=1))
    latents = {"capture": run.sample(captured)[1]} | {what: run.sample(model)[1] for what, model in patched.items()}
    differs = [what for what, latent in latents.items() if not same_bits(plain, latent)]
    verdicts.check(not differs, f"{name}: the picture differs with {', '.join(differs)}")
    if not differs:
        print(f"{name}: the picture is the same to the bit", flush=True)
    print(*calls_of(name, handle, latents["capture"], verdicts), sep="\n", flush=True)
    report_time(f"the picture of {name}")


def calls_of(name: str, handle: Capture, latent: torch.Tensor, verdicts: Verdicts) -> list[str]:
    """What the summary of a captured run says of its calls, and by what they were computed."""
    attribution = handle.find(latent)
    verdicts.check(attribution.captured_calls > 0, f"{name}: no call was captured")
    return [f"  {line}" for line in attribution.summary().splitlines() if " calls: " in line]


def sampled(run: Run, model: object, steps: int) -> tuple[float, torch.Tensor]:
    """Seconds of a run, and its latent."""
    sampling.STEPS = steps
    return run.sample(model)  # type: ignore[arg-type]


def each_step(run: Run, model: object) -> Launched:
    few, more = (Launched.by(lambda steps=steps: sampled(run, model, steps)) for steps in (STEPS, MORE_STEPS))
    return more.each_of(MORE_STEPS - STEPS, few)


@dataclass
class Measured:
    """What runs of one model took: seconds of each, and the most memory in GB, weights included."""

    seconds: list[float] = field(default_factory=list)
    memory: float = 0.0

    def over(self, plain: "Measured") -> float:
        """Its time to that of the plain run beside it: the median of rounds."""
        return statistics.median(mine / other for mine, other in zip(self.seconds, plain.seconds, strict=True))


def measured(run: Run, models: Mapping[str, object], steps: int, rounds: int) -> dict[str, Measured]:
    """Of runs of several models in turn, after a short one of each."""
    for model in models.values():
        sampled(run, model, STEPS)
    of_all = {name: Measured() for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            torch.cuda.reset_peak_memory_stats()
            of_all[name].seconds.append(sampled(run, model, steps)[0])
            of_all[name].memory = max(of_all[name].memory, torch.cuda.max_memory_allocated() / 1e9)
    return of_all


def blocks_that_fit() -> tuple[int, int]:
    """How many blocks of Flux have room on this card."""
    part = min(1.0, max(0.0, torch.cuda.mem_get_info()[0] - FOR_THE_REST) / FLUX_BYTES)
    one, two = (max(1, int(part * blocks)) for blocks in FLUX_BLOCKS)
    return one, two


def row(name: str, quick: bool, verdicts: Verdicts) -> str:
    """Of one case all that is measured, for the table."""
    case, blocks = CASES[name], blocks_that_fit()
    run = case.make(blocks)
    (captured, handle), steered = watch(run.model), steer_with(run.model, SteerSettings(strength=2.0))
    models = {"plain": run.model, "capture": captured}
    if not quick:
        models["effect"] = effect_with(captured, EffectSettings())
    latents = [sampled(run, model, STEPS)[1] for model in (run.model, run.model, captured)]
    if same_bits(*latents[:2]):  # else this device itself is not the same twice
        verdicts.check(same_bits(*latents[1:]), f"{name}: the picture differs with capture")
    print(name, *calls_of(name, handle, latents[2], verdicts), sep="\n", file=sys.stderr, flush=True)
    plain, with_capture = each_step(run, run.model), each_step(run, captured)
    more = with_capture.waits - plain.waits
    verdicts.check(more <= MOST_WAITS, f"{name}: the host waits {more:.0f} times more a step, not {MOST_WAITS} at most")
    seconds = sampled(run, run.model, MORE_STEPS)[0] / MORE_STEPS
    rounds = 3 if seconds <= 0.1 else 2 if seconds <= 0.3 else 1
    of_runs = measured(run, models, RUN_STEPS, rounds)
    steps = min(RUN_STEPS, max(MORE_STEPS, round(STEERED_SECONDS / seconds)))
    of_steered = measured(run, {"plain": run.model, "steer": steered}, steps, rounds)
    memory, with_maps = of_runs["plain"].memory, of_runs["capture"].memory
    cells = [
        name,
        f"{blocks[0]} + {blocks[1]}" if case.cut else "all",
        f"{min(of_runs['plain'].seconds) / RUN_STEPS * 1000:.0f} ms",
        f"{of_runs['capture'].over(of_runs['plain']):.3f}",
        "-" if quick else f"{of_runs['effect'].over(of_runs['plain']):.3f}",
        f"{of_steered['steer'].over(of_steered['plain']):.3f}",
        f"{plain.waits:.0f}, {with_capture.waits:.0f}",
        f"{plain.kernels:.0f}, {with_capture.kernels:.0f}",
        f"{memory:.1f} GB",
        f"{with_maps - memory:.2f} GB",
        f"{case.aim:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def table(chosen: str, quick: bool, verdicts: Verdicts) -> None:
    """The table for benchmarks/README.md. Of waits and kernels the plain run's come first, then those with capture."""
    print(f"\n| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    for name in CASES:
        if chosen in name:
            try:
                print(row(name, quick, verdicts), flush=True)
            except torch.cuda.OutOfMemoryError:
                print(f"| {name} | does not fit into the memory of this card{' |' * (len(HEAD) - 1)}", flush=True)
            torch.cuda.empty_cache()
            report_time(f"the row of {name}")


def on_a_gpu(arguments: argparse.Namespace, verdicts: Verdicts) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    major, minor = torch.cuda.get_device_capability(device)
    memory = torch.cuda.mem_get_info(device)[1] / 1e9
    print(f"{torch.cuda.get_device_name(device)} ({major}.{minor}), {memory:.0f} GB, PyTorch {torch.__version__}")
    sampling.DEVICE, sampling.DTYPE = device, torch.bfloat16
    if not arguments.table:
        prove_all(device, verdicts)
    table(arguments.case, arguments.quick, verdicts)


def prove_all(device: torch.device, verdicts: Verdicts) -> None:
    """All but the table."""
    prove(device, verdicts)
    print(*requested_sums(device), sep="\n", flush=True)
    if broken := planted(device):
        verdicts.check(False, f"the profiler's counts: {broken}")
    report_time("requested sums and planted waits")
    sampling.STEPS = STEPS
    check_picture("SD1.5, 512 px", unet(sampling.SD15, 64, 257), verdicts)
    check_picture("SDXL slice, 512 px", unet(sampling.SDXL_SLICE, 64, 257), verdicts)
    check_picture("Flux slice, 512 px, style tokens", flux(729, side=64), verdicts)
    check_picture("Flux slice, 512 px, 2 references", flux(references=2, side=64), verdicts)


def on_a_cpu(verdicts: Verdicts) -> None:
    why = "finds no device" if torch.backends.cuda.is_built() else "was built without it"
    print(
        f"There is no CUDA here: this PyTorch ({torch.__version__}) {why}.\n"
        "So nothing of a GPU is measured, and there is no table. What runs on the CPU is checked.",
        flush=True,
    )
    fused.DEVICES.append("cpu")
    prove(torch.device("cpu"), verdicts)
    fused.DEVICES.remove("cpu")  # the pack does not interpret kernels
    fused._serves.cache_clear()
    sampling.STEPS = STEPS
    check_picture("U-Net slice, 128 px, on the CPU", unet(ON_A_CPU, 16, 257), verdicts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="?", default="", help="only cases of the table whose name holds this")
    parser.add_argument("--quick", action="store_true", help="without Effect")
    parser.add_argument("--table", action="store_true", help="the table alone")
    arguments = parser.parse_args()
    if not any(arguments.case in name for name in CASES):
        parser.error(f"no case of the table has {arguments.case!r} in its name: {'; '.join(CASES)}")
    logging.getLogger().setLevel(logging.ERROR)
    verdicts = Verdicts()
    with torch.inference_mode():
        if CUDA:
            on_a_gpu(arguments, verdicts)
        else:
            on_a_cpu(verdicts)
    print(f"\n{len(verdicts.wrong)} disproved." if verdicts.wrong else "\nNothing was disproved.", flush=True)
    return 1 if verdicts.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
