"""Wan Animate 2, whose self-attention is not followed: it is a call for each frame, past its blocks' forwards."""

from collections.abc import Iterator

from ..blocks import Block, ForeignModule
from ..located import CallSite, ModelCall, Skip
from .base import Sequence
from .wan import OTHER_ROLES, Wan, role_of, video_grid

FRAME_BY_FRAME = (
    "Wan Animate 2 attends to its reference frame and its poses for each frame of the video apart, in calls that do "
    "not say of which frame they are: measure it with I2AM Effect, with `without` connected to the same conditioning "
    "made without the image"
)

OF_POSES = "attention in Wan Animate 2's branch of poses, which does not see the video"


class WanAnimate2(Wan):
    """``WanAnimate2Model`` (comfy/ldm/wan/model_animate2.py). A branch for poses runs beside that of the video."""

    family = "WanAnimate2Model"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        if (skip := self.why_not_of_video(site, call)) is not None:
            return skip
        return Skip(OTHER_ROLES["text"], absent=True) if role_of(site, call) == "text" else Skip(FRAME_BY_FRAME)

    def why_not_of_video(self, site: CallSite, call: ModelCall) -> Skip | None:
        """The branch of poses has as many rows as the video has without its first frame."""
        grid = video_grid(call.x, call.denoiser.patch_size)
        return Skip(OF_POSES, absent=True) if site.queries == grid.cells - grid.plane != grid.plane else None

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        yield from ()
