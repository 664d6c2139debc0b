"""One training run of a demo model: resumable, seeded by the step, with a log of what was measured on the way."""

import argparse
import contextlib
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from . import data

FONT = "NotoColorEmoji.ttf"  # PIL looks where the system has its fonts
OUTSIDE_WEIGHT = 0.1  # of the error outside the mask, where the answer is given
CHECK_EVERY = 250  # steps
EMA = 0.998


class TrainableOperations:
    """ComfyUI's operations leave weights uninitialized; these are torch's own."""

    Linear = nn.Linear
    Conv2d = nn.Conv2d
    GroupNorm = nn.GroupNorm
    LayerNorm = nn.LayerNorm
    RMSNorm = nn.RMSNorm

    @staticmethod
    def conv_nd(dims: int, *args: Any, **kwargs: Any) -> nn.Conv2d:
        return nn.Conv2d(*args, **kwargs)


class Task(Protocol):
    """What is trained, and on what."""

    @property
    def model(self) -> nn.Module: ...

    @property
    def average(self) -> nn.Module:
        """Of the model's weights over the steps: what is measured and exported."""

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]: ...

    @property
    def peaks(self) -> Sequence[float]:
        """The highest learning rate of each of them."""

    @property
    def changes_in_place(self) -> bool:
        """Whether its modules change tensors that the gradient still needs, as some of ComfyUI's do."""

    def losses(self, step: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """What to go down on, and the losses that the log has a column for."""

    def check(self) -> dict[str, float]:
        """What the average does on held-out scenes."""


def train(run: Path, task: Task, steps: int, seed: int, rate: Any, exported: Sequence[int], settings: dict) -> None:
    """Train up to ``steps``, from the checkpoint in the folder ``run`` if there is one.

    Each step draws everything from a generator seeded by its number, so that a resumed run sees what an
    uninterrupted one would have seen. ``rate`` is the share of the highest learning rate at a step. Weights are
    exported at the ``exported`` steps and at the last one, with ``settings`` beside them.
    """
    run.mkdir(parents=True, exist_ok=True)
    parts: dict[str, nn.Module | torch.optim.Optimizer] = {"model": task.model, "average": task.average}
    parts |= {f"optimizer {number}": optimizer for number, optimizer in enumerate(task.optimizers)}
    checkpoint = run / "checkpoint.pt"
    step, seconds = _resume(parts, checkpoint) if checkpoint.exists() else (0, 0.0)
    log = Log(run / "training.csv", step)
    while step < steps:
        started = time.perf_counter()
        share = rate(step, steps)
        log.add(_step(task, step, share, torch.Generator().manual_seed(seed * 1_000_003 + step)))
        step += 1
        _follow(task.average, task.model, min(EMA, step / (step + 10)))
        seconds += time.perf_counter() - started
        if step % CHECK_EVERY == 0 or step == steps:
            log.write(step, seconds, share * task.peaks[0], task.check())
            _save(parts, {"step": step, "seconds": seconds}, checkpoint)
        if step in exported or step == steps:
            about = json.dumps({"step": step, "steps": steps, "seed": seed} | settings)
            export(task.average, run / f"step_{step:05d}.safetensors", {"training": about})


def _step(task: Task, step: int, share: float, generator: torch.Generator) -> dict[str, float]:
    allowed = torch.autograd.graph.allow_mutation_on_saved_tensors
    with allowed() if task.changes_in_place else contextlib.nullcontext():
        total, losses = task.losses(step, generator)
        task.model.zero_grad()
        total.backward()
    torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
    for optimizer, peak in zip(task.optimizers, task.peaks, strict=True):
        optimizer.param_groups[0]["lr"] = share * peak
        optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, momentum: float) -> None:
    for mean, new in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(new, 1 - momentum)


def picture_loss(predicted: Tensor, clean: Tensor, mask: Tensor) -> Tensor:
    """Mean square of latents ``[B, 48, GRID, GRID]``, that outside the mask ``[B, 1, IMAGE, IMAGE]`` weighing less."""
    weight = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * F.avg_pool2d(mask, data.PATCH)
    return ((predicted - clean).square() * weight).mean() / weight.mean()


def parser(about: str | None, steps: int) -> argparse.ArgumentParser:
    """The arguments that both commands have."""
    arguments = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run", type=Path, required=True, help="folder of checkpoints and log")
    arguments.add_argument("--font", default=FONT)
    arguments.add_argument("--steps", type=int, default=steps)
    arguments.add_argument("--seed", type=int, default=0)
    return arguments


def warm_up_and_decay(step: int, steps: int, warm_up: int, decay: float) -> float:
    """Rises over ``warm_up`` steps, and falls to zero over the last ``decay`` of the run."""
    return min(1.0, (step + 1) / warm_up) * min(1.0, (steps - step) / (decay * steps))


def export(model: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write the weights as fp16 safetensors."""
    weights = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(weights, temporary, metadata=metadata)
    temporary.replace(path)


def _save(parts: Mapping[str, Any], progress: Mapping[str, float], path: Path) -> None:
    """Write the state of each part beside the progress; an interrupt while it writes leaves the earlier file."""
    temporary = path.with_suffix(".tmp")
    torch.save({name: part.state_dict() for name, part in parts.items()} | dict(progress), temporary)
    temporary.replace(path)


def _resume(parts: Mapping[str, Any], path: Path) -> tuple[int, float]:
    saved = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return saved["step"], saved["seconds"]


class Log:
    """One line of a CSV file for each check: the mean losses since the last one, and what the check measured."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        if path.exists():
            with path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        self.losses: list[dict[str, float]] = []

    def add(self, losses: dict[str, float]) -> None:
        self.losses.append(losses)

    def write(self, step: int, seconds: float, rate: float, check: dict[str, float]) -> None:
        means = {name: sum(one[name] for one in self.losses) / len(self.losses) for name in self.losses[0]}
        self.losses.clear()
        row = {"step": step, "seconds": round(seconds), "learning_rate": f"{rate:.2e}"}
        row |= {f"{name}_loss": f"{value:.4f}" for name, value in means.items()}
        row |= {name: f"{value:.3f}" for name, value in check.items()}
        self.rows.append(row)
        with self.path.open("w", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            writer.writeheader()
            writer.writerows(self.rows)
        sys.stdout.write(" ".join(f"{k}={v}" for k, v in row.items()) + "\n")
        sys.stdout.flush()
