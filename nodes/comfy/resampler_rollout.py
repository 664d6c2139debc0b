"""A capture whose IP-Adapter Plus references are rolled out on to the patches of their images."""

import dataclasses
from dataclasses import dataclass

from torch import Tensor

from ...i2am_core.attention.rollout import spread
from ...i2am_core.attribution import Attribution
from ...i2am_core.recording.recorder import PAIR_SHARE
from .handle import Capture, Settings
from .kept_run import Run
from .origin import Upstream
from .picture_runs import RunsOf

TOLERANCE = 0.1  # of their length, by which the tokens of one image may differ: half precision, another order of sums


@dataclass(frozen=True)
class Image:
    """A reference image: the tokens that the Resampler makes of it, and its picture as CLIP saw it."""

    tokens: Tensor  # [T, C]
    shares: Tensor  # [T, 1 + P]: how much of each token comes from CLIP's class token and each patch, see ``rollout``
    picture: Tensor  # [H, W, 3] uint8


@dataclass(frozen=True)
class RolledOut:
    """In the place of a capture: the same runs, rolled out on to these images. The capture itself stays as it is."""

    capture: "Capture | RolledOut"
    images: tuple[Image, ...]

    @property
    def settings(self) -> Settings:
        return self.capture.settings

    def find(self, samples: Tensor) -> Attribution:
        """The run that made a latent. Raises ValueError where an image was no reference of it."""
        return self._rolled_out(self.capture.find(samples))

    @property
    def started(self) -> int:
        """How many runs were started."""
        return self.capture.started

    def runs_of(self, picture: Upstream | None) -> RunsOf:
        """The runs that made a picture: see ``Capture``."""
        return self.capture.runs_of(picture)

    def all_runs(self) -> list[Run]:
        """All runs that have maps, in order."""
        return self.capture.all_runs()

    def attribution_of(self, run: Run) -> Attribution:
        """The maps of one of these runs. Raises ValueError where there are none, or an image was no reference of it."""
        return self._rolled_out(self.capture.attribution_of(run))

    def _rolled_out(self, attribution: Attribution) -> Attribution:
        if not attribution.entries:
            return attribution
        near = [_differences(attribution, image) for image in self.images]
        for number, differences in enumerate(near):
            if min(differences.values(), default=1.0) > TOLERANCE:
                raise ValueError(_no_reference(attribution, number, differences))
        for reference in range(len(attribution.references)):
            image = min(range(len(near)), key=lambda n: near[n].get(reference, 1.0))
            if near[image].get(reference, 1.0) <= TOLERANCE:
                attribution = self._spread(attribution, reference, self.images[image])
        return attribution

    def _spread(self, attribution: Attribution, reference: int, image: Image) -> Attribution:
        rolled_out = (n for n, other in enumerate(attribution.references) if other.approximate)
        free_bytes = self.settings.budget_bytes * PAIR_SHARE - sum(_pair_bytes(attribution, n) for n in rolled_out)
        attribution = spread(attribution, reference, image.shares, free_bytes)
        pictures = {**attribution.pictures, f"reference {reference}": image.picture}
        return dataclasses.replace(attribution, pictures=pictures)


def _pair_bytes(attribution: Attribution, reference: int) -> int:
    entries = (entry for (number, _), entry in attribution.entries.items() if number == reference)
    return sum(x.nbytes for entry in entries for x in entry.pairs.values())


def _differences(attribution: Attribution, image: Image) -> dict[int, float]:
    """How far the tokens of each reference that has no places are from those of an image, over their length."""
    differences = {}
    for number, reference in enumerate(attribution.references):
        embeds = reference.embeds
        if reference.grid is None and embeds is not None and embeds.shape == image.tokens.shape:
            given = embeds.to("cpu", image.tokens.dtype)
            differences[number] = float((given - image.tokens).norm() / image.tokens.norm())
    return differences


def _no_reference(attribution: Attribution, number: int, differences: dict[int, float]) -> str:
    names = ", ".join(f"{r.name} ({r.tokens} tokens)" for r in attribution.references)
    how_far = f"the nearest differ by {min(differences.values()):.0%}" if differences else "there are none to compare"
    return (
        f"image {number + 1} of I2AM IPAdapter Reference is not what the IP-Adapter of this run was given: its tokens "
        f"are those of no reference ({names}; {how_far}). Connect the ipadapter, CLIP vision and image that go into "
        "the IPAdapter node, as they go in. Images that it cuts into tiles, combines or weights, and an image for each "
        "picture of a batch (unfold_batch), cannot be rolled out."
    )
