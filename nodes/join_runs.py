"""I2AM Join Runs: two runs that made one picture one after the other, as one."""

from comfy_api.latest import io

from ..i2am_core import Attribution, join
from .checked import checked
from .schema import AttributionHandle, Schema
from .summary import summary_of
from .wording import in_words


class I2AMJoinRuns(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_JoinRuns",
            display_name="I2AM Join Runs",
            description="Makes one run of two that made one picture, such as of a high-noise and a low-noise model.",
            inputs=[
                AttributionHandle.Input("attribution_1", tooltip="Of the run that made the first steps."),
                AttributionHandle.Input("attribution_2", tooltip="Of the run that went on with its latent."),
            ],
            outputs=[
                AttributionHandle.Output(
                    display_name="attribution", tooltip="With the steps of both, those of the higher sigmas first."
                ),
                io.String.Output(display_name="summary", tooltip="What was captured in both, and what was not."),
            ],
        )

    @classmethod
    @in_words()
    @checked
    def execute(cls, attribution_1: Attribution, attribution_2: Attribution) -> io.NodeOutput:
        joined = join(attribution_1, attribution_2)
        return io.NodeOutput(joined, summary_of(joined))
