"""What the parts of the study share: both demo models with their held-out scenes, and a folder of results."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ..demo import effect
from ..demo.subject import CrossAttention, JointAttention

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
        return effect.Study(DRAWN, self.steps, cache=self.cache, subject=CrossAttention(), first=self.scenes)

    @cached_property
    def joint(self) -> effect.Study:
        """The Flux in which everything looks at everything, trained by the picture alone."""
        return effect.Study(DRAWN, self.steps, cache=self.cache, subject=JointAttention(), first=self.scenes)

    @property
    def studies(self) -> dict[str, effect.Study]:
        """Both, by the name that tables call them by."""
        return {"cross-attention": self.cross, "joint attention": self.joint}

    def stored(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """What ``make`` gives, from the second time on from a file of that name. The name says all that it depends on."""
        settings = f"{self.scenes} of {DRAWN} scenes, {self.steps} steps"
        path = self.cache / "validation" / settings / (re.sub(r"[^\w.,=-]+", "_", name) + ".safetensors")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            save_file({key: value.contiguous() for key, value in make().items()}, path.with_suffix(".part"))
            path.with_suffix(".part").rename(path)
        return load_file(path)
