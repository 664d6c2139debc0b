"""I2AM Collect Runs: the attributions of the runs that made a picture, where there is no LATENT of the sampler."""

from comfy_api.latest import io
from torch import Tensor

from .checked import checked
from .collect import check_captured, is_empty
from .comfy.handle import MORE_MEMORY, Capture
from .comfy.kept_run import DROPPED
from .comfy.origin import Upstream, upstream_of
from .comfy.picture_runs import RunsOf
from .comfy.resampler_rollout import RolledOut
from .runs_in_words import MIXED, gone, in_short, listed, numbered, places, worded
from .schema import AttributionHandle, CaptureHandle, Schema
from .summary import summary_of
from .wording import in_words

WHICH = ("last", "by number", "all")
MOST = 65536  # runs
NO_RUN = "it may be that the node had nothing to sample (a detailer that detected nothing, denoise 0)"
NOT_USED = (
    "no sampler has used this I2AM Capture's model: connect its MODEL output to the node that samples, and the IMAGE "
    f"that this node gives to I2AM Collect Runs. If they are connected, {NO_RUN}, or that a node after I2AM Capture "
    "drops what it adds: place I2AM Capture directly before the node that samples."
)
NOT_OF_PICTURE = (
    "no run that this I2AM Capture has kept made this picture: connect the IMAGE that comes out of the node which "
    f"samples with the captured model, or of a node after it. If it is connected, {NO_RUN}, or that many runs came "
    "after it: then sample again."
)


class I2AMCollectRuns(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_CollectRuns",
            display_name="I2AM Collect Runs",
            description="Takes the maps of the runs that made this picture out of an I2AM Capture: for detailers, "
            "upscalers and others that give an IMAGE and no LATENT.",
            inputs=[
                CaptureHandle.Input("capture", tooltip="From I2AM Capture."),
                io.Image.Input(
                    "image",
                    tooltip="The IMAGE of the node that samples with the captured model, or of one after it. The runs "
                    "of all nodes that it comes from count.",
                ),
                io.Combo.Input(
                    "which",
                    options=list(WHICH),
                    default="last",
                    tooltip="The last run, the one of this number, or all as a list. The summary lists them.",
                ),
                io.Int.Input(
                    "number",
                    default=0,
                    min=-MOST,
                    max=MOST - 1,
                    tooltip="For 'by number': 0 is the first run, -1 the last.",
                ),
            ],
            outputs=[
                AttributionHandle.Output(
                    display_name="attribution", is_output_list=True, tooltip="One, or with 'all' one of each run."
                ),
                io.Image.Output(display_name="image", tooltip="The picture, unchanged."),
                io.String.Output(display_name="summary", tooltip="All runs of the picture, and what was captured."),
            ],
        )

    @classmethod
    @in_words()
    @checked
    def execute(cls, capture: Capture | RolledOut, image: Tensor, which: str, number: int) -> io.NodeOutput:
        picture = upstream_of("image")
        of_picture = _runs_of(capture, picture)
        runs = of_picture.runs
        numbers = _numbers(of_picture, which, number)
        chosen = {n: capture.attribution_of(runs[n]) for n in numbers}
        useful = {n: attribution for n, attribution in chosen.items() if not is_empty(attribution)}
        if not useful:
            check_captured(chosen[numbers[-1]], capture.settings.mechanism)
        lines = [
            *listed(runs, picture, of_picture.mixed),
            *places(runs, image),
            *(f"run {n} has neither attention nor effects, and is left out" for n in numbers if n not in useful),
            *(f"\nrun {n}:\n{summary_of(attribution)}" for n, attribution in useful.items()),
        ]
        return io.NodeOutput(list(useful.values()), image, "\n".join(lines))


def _runs_of(capture: Capture | RolledOut, picture: Upstream | None) -> RunsOf:
    """The runs of the picture. Raises ValueError where there are none, saying what there is."""
    of_picture = capture.runs_of(picture)
    if of_picture.runs:
        return of_picture
    others = capture.all_runs()
    if not others and not capture.started:
        raise ValueError(NOT_USED)
    raise ValueError(f"{NOT_OF_PICTURE} Kept: {in_short([worded(run) for run in others])}.")


def _numbers(of_picture: RunsOf, which: str, number: int) -> list[int]:
    """The chosen runs. Raises ValueError where there is none of this number, or where none has maps."""
    runs = of_picture.runs
    if which == "last" and of_picture.mixed:
        raise ValueError(f"{MIXED}. Set which to 'all', or to 'by number': {in_short(numbered(runs))}.")
    if which == "all":
        if with_maps := [n for n, run in enumerate(runs) if run.attribution is not None]:
            return with_maps
        raise ValueError(f"the maps of all {len(runs)} run(s) of this picture are gone: {in_short(gone(runs))}.")
    at = len(runs) - 1 if which == "last" else number + (len(runs) if number < 0 else 0)
    if not 0 <= at < len(runs):
        raise ValueError(
            f"number of I2AM Collect Runs is {number}, and this picture has {len(runs)} run(s), numbered from 0, or "
            f"backwards from -1, the last one: {in_short(numbered(runs))}."
        )
    if runs[at].attribution is None:
        advice = f": {MORE_MEMORY}" if runs[at].why == DROPPED else ""
        remaining = [line for line, run in zip(numbered(runs), runs, strict=True) if run.attribution is not None]
        others = f" There are: {in_short(remaining)}." if remaining else ""
        raise ValueError(f"the maps of run {at} {runs[at].why}{advice}.{others}")
    return [at]
