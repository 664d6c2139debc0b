"""What the parts of the study share: both demo models with their held-out scenes, and a folder of results."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ..demo import effect, results
from ..demo.subject import CrossAttention, JointAttention, Subject
from ..demo.weights import JOINT_WEIGHTS, WEIGHTS

DRAWN = 64  # scenes; the study is of the first of them, in an order by chance, so that fewer are a part of more


@dataclass(frozen=True)
class Lab:
    """``scenes`` of each model, each painted in ``steps``. What is computed is kept in ``cache``."""

    scenes: int
    steps: int
    cache: Path

    @cached_property
    def cross(self) -> effect.Study:
        """The U-Net that looks at the object alone, trained with losses on its attention."""
        return self.study(CrossAttention(WEIGHTS), self.cache / "runs" / digest(WEIGHTS))

    @cached_property
    def joint(self) -> effect.Study:
        """The Flux in which everything looks at everything, trained by the picture alone."""
        return self.study(JointAttention(JOINT_WEIGHTS), self.cache / "runs" / digest(JOINT_WEIGHTS))

    @property
    def studies(self) -> dict[str, effect.Study]:
        """Both, by the name that tables call them by."""
        return {"cross-attention": self.cross, "joint attention": self.joint}

    def study(self, subject: Subject, cache: Path | None = None) -> effect.Study:
        """The same scenes, painted by a model."""
        return effect.Study(DRAWN, self.steps, cache=cache, subject=subject, first=self.scenes)

    @cached_property
    def settings(self) -> str:
        """All that results depend on but the code: how much was painted, and by which weights."""
        weights = ", ".join(f"{path.name} {digest(path)}" for path in (WEIGHTS, JOINT_WEIGHTS))
        return f"{self.scenes} of {DRAWN} scenes, {self.steps} steps, {weights}"

    @property
    def folder(self) -> Path:
        """For results of these settings."""
        return self.cache / self.settings

    def stored(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What ``make`` gives, from the second time on from a file, whose name says what else it depends on."""
        return results.stored(self.folder, name, make)


def digest(path: Path) -> str:
    """The beginning of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
