"""I2AM Capture: a model whose sampling runs are captured."""

from comfy_api.latest import io
from torch import Tensor

from .checked import checked
from .comfy.captured import capture_with
from .comfy.handle import BRANCHES, PAIR_MAPS, Capture, Settings
from .comfy.located import Regions
from .comfy.mechanisms import MECHANISMS
from .comfy.present_workflow import present_node
from .model_inputs import diffusion_model, marked, marked_once
from .schema import CaptureHandle, Schema


class I2AMCapture(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Capture",
            display_name="I2AM Capture",
            description="Opens a model's attention, so that I2AM Collect can show where a reference image acts. "
            "The picture does not change.",
            not_idempotent=True,  # two of these must not share one handle
            inputs=[
                io.Model.Input("model", tooltip="The model to capture. Place this node anywhere before the sampler."),
                io.Combo.Input(
                    "mechanism",
                    options=["auto", *MECHANISMS],
                    default="auto",
                    tooltip="How the reference reaches the model. 'auto' recognises what the graph uses.",
                ),
                io.Combo.Input(
                    "branch",
                    options=list(BRANCHES),
                    default="positive",
                    tooltip="Which conditioning to watch. 'middle' is cond2 of Dual CFG Guider, such as OmniGen2's "
                    "images without the text.",
                ),
                io.Combo.Input(
                    "pair_maps",
                    options=list(PAIR_MAPS),
                    default="inpainting mask",
                    tooltip="For which positions to keep a whole map of 'which patch of the reference made this one'.",
                ),
                io.Int.Input(
                    "budget_mb",
                    default=512,
                    min=1,
                    max=65536,
                    tooltip="Memory for the maps of one run. What does not fit is merged: first, single heads in "
                    "single steps.",
                ),
                io.Mask.Input(
                    "generated_region",
                    optional=True,
                    tooltip="Where reference and result share one canvas: the part that is painted. Without it, the "
                    "inpainting mask.",
                ),
                io.Mask.Input(
                    "reference_region",
                    optional=True,
                    tooltip="Where reference and result share one canvas: the part that shows the reference.",
                ),
                io.Int.Input(
                    "every",
                    optional=True,
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="Look at every n-th step only, from the first on in which the model gets the conditioning: "
                    "2 costs little more than half as much. The other steps have no maps and count in no mean.",
                ),
                io.Boolean.Input(
                    "live",
                    optional=True,
                    default=False,
                    tooltip="While the sampler runs, I2AM Viewer shows the map so far after each step. So you can stop "
                    "a run that goes wrong.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The same model, watched. Goes to any sampler."),
                CaptureHandle.Output(display_name="capture", tooltip="Goes to I2AM Collect."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, model: object, mechanism: str, branch: str, pair_maps: str, budget_mb: int,
        generated_region: Tensor | None = None, reference_region: Tensor | None = None, every: int = 1,
        live: bool = False,
    ) -> io.NodeOutput:  # fmt: skip
        regions = Regions(
            marked("generated_region", generated_region), marked_once("reference_region", reference_region)
        )
        capture = Capture(
            Settings(mechanism, branch, pair_maps, budget_mb * 2**20, regions, every, live), present_node()
        )
        return io.NodeOutput(capture_with(diffusion_model(model, "I2AM Capture"), capture), capture)
