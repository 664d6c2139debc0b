"""What I2AM Steer wants of a run: the references of one or both branches, counted otherwise."""

from collections.abc import Sequence
from dataclasses import replace

from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...i2am_core.given import GivenReference
from ...i2am_core.regions import has_aspect_of
from .caches import caches_of
from .captured import mask_of
from .consumers.base import Consumer
from .consumers.steer import Steer
from .engine import Engine
from .fates import given_in
from .guided import Guided, left_out
from .located import Regions
from .mechanisms import chosen
from .mechanisms.canvas_regions import CanvasRegions
from .model_calls import ModelCalls, conditionings_of, grid_of
from .refusal import named, refuse
from .run import Part, Sampling, Watch, watched
from .steer_choice import Choice, Settings

NO_REGION = (
    "I2AM Steer on a canvas needs reference_region: paint the part of the canvas that shows the reference. Without "
    "generated_region, the inpainting mask says what is painted."
)
CACHE = (
    "the node behind '{}' is a cache by its name, which answers some steps from memory, without running the "
    "model. Remove it for a run that is steered."
)


def steer_with(model: ModelPatcher, settings: Settings) -> ModelPatcher:
    """A clone of the model whose every sampling run is steered."""
    return watched(model, SteerWatch(settings))


class SteerWatch(Watch):
    """A Steer on the MODEL line."""

    acts = True

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.order = int(settings.by == "guidance")  # inside those that steer attention, which act in its evaluations

    def begin(self, sampling: Sampling) -> Part:
        """Raises ValueError where the settings do not fit the run, or the run cannot be steered."""
        settings = self.settings
        with named():
            steps = frozenset(settings.selection.step_numbers(max(0, len(sampling.sigmas) - 1)))
        if settings.strength == 1:  # not a bit is to change: the run is not even watched
            return Part()
        for name in caches_of(sampling.guider.model_patcher.wrappers):
            refuse(CACHE.format(name))
        branches = _branches(settings, sampling)
        canvas = _canvas(settings, branches[0], sampling)
        mixes_in_region = settings.by == "guidance"
        if settings.generated_region is not None and (canvas is None or mixes_in_region):
            _check_fits(settings.generated_region, sampling)
        if canvas is not None:  # the regions say what the reference is, so that no part of it is meant
            generated = settings.generated_region if mixes_in_region else None
            settings = replace(settings, reference_region=None, generated_region=generated)
        own = (c for branch in branches for c in conditionings_of(sampling.guider, branch))
        begins_late = any(c.get("start_percent") for c in own)

        def watching(consumer: Consumer) -> tuple[Engine, ModelCalls]:
            engine = Engine(chosen(settings.mechanism), [consumer])
            regions = canvas or Regions()
            return engine, ModelCalls(sampling.guider, branches, sampling.noise, sampling.sigmas, regions, engine)

        def given(branch: str) -> Sequence[GivenReference]:
            return given_in(sampling, branch, mechanism=settings.mechanism, node="I2AM Steer")

        if settings.by == "guidance":
            choice = Choice(left_out(settings), branches, given)
            steer = Steer(choice, frozenset(), begins_late)
            return Guided(settings, steps, steer, watching)
        steer = Steer(Choice(settings, branches, given), steps, begins_late)
        return Steered(steer, *watching(steer))


class Steered(Part):
    """One steered run."""

    def __init__(self, steer: Steer, engine: Engine, calls: ModelCalls) -> None:
        self.steer = steer
        super().__init__((engine, calls))

    def finish(self, sampling: Sampling, output: Tensor) -> None:
        super().finish(sampling, output)
        self.steer.finished()


def _branches(settings: Settings, sampling: Sampling) -> list[str]:
    """Names of conditionings in the guider: of both, any that a guider has beside these is one."""
    if settings.branch != "both":
        return [settings.branch]
    given = getattr(sampling.guider, "conds", None) or {}
    return ["positive", *(name for name in given if name != "positive")]


def _canvas(settings: Settings, branch: str, sampling: Sampling) -> Regions | None:
    """What is marked on a canvas that reference and picture share; None where the reference is not on it."""
    if settings.mechanism != CanvasRegions.name:
        return None
    if settings.reference_region is None:
        raise ValueError(NO_REGION)
    generated = settings.generated_region
    if generated is None:
        generated = mask_of(sampling.guider, branch, sampling.denoise_mask, sampling.noise)
    return Regions(generated, settings.reference_region)


def _check_fits(region: Tensor, sampling: Sampling) -> None:
    """Raises ValueError where a region cannot be of the pictures that are made."""
    if len(region) not in (1, len(sampling.noise)):
        raise ValueError(
            f"I2AM Steer: got {len(region)} masks as generated_region for {len(sampling.noise)} picture(s): give one, "
            "which is used for all, or one for each."
        )
    grid = grid_of(sampling.noise)
    if not has_aspect_of(region, grid):
        raise ValueError(
            f"I2AM Steer: generated_region is {region.shape[-1]} wide and {region.shape[-2]} high, but the latent has "
            f"{grid.width} by {grid.height} cells: another aspect. Paint the mask on a picture of the size that is "
            "sampled."
        )
