"""I2AM Steer: a model whose references count more, less, or not at all."""

from comfy_api.latest import io
from torch import Tensor

from ..i2am_core import Selection, is_all
from .checked import checked
from .comfy.handle import BRANCHES
from .comfy.mechanisms import MECHANISMS
from .comfy.steer_choice import THROUGH, WAYS, By, Settings
from .comfy.steered import steer_with
from .model_inputs import diffusion_model, marked, marked_once
from .schema import Schema
from .selections import selection_inputs
from .wording import in_words

SEARCH_ALIASES = [
    "reference strength", "reference weight", "mute reference", "mask reference", "drop background", "Kontext strength",
    "Redux strength", "IPAdapter weight", "regional", "attention control", "I2AM",
]  # fmt: skip
RANGES: dict[By, tuple[float, float]] = {"attention": (0.0, 10.0), "output": (-2.0, 5.0), "guidance": (-2.0, 5.0)}
NO_LAYERS = (
    "'guidance' weighs the answer of the whole model, which has no layers and heads: leave layers and heads on 'all', "
    "or choose 'attention' or 'output'."
)


class I2AMSteer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Steer",
            display_name="I2AM Steer",
            description="Makes a reference, or a part of it, count less or more: in the whole picture or in a part, "
            "in all steps and layers or in some. Strength 0 mutes it, 1 changes nothing.",
            search_aliases=SEARCH_ALIASES,
            inputs=[
                io.Model.Input("model", tooltip="The model to steer. Place this node anywhere before the sampler."),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-2.0,
                    max=10.0,
                    step=0.05,
                    tooltip="How many times the reference counts: 0 mutes it, 1 changes nothing, 0.5 is half. Above 1 "
                    "helps a weak reference only; the help page says how much.",
                ),
                io.Combo.Input(
                    "by",
                    options=list[str](WAYS),
                    default="attention",
                    tooltip="'attention' weighs where the model looks (0 to 10). 'output' weighs what it took from "
                    "there (-2 to 5), which costs a second attention. 'guidance' weighs what the reference changes in "
                    "the model's answer (-2 to 5): the model runs twice.",
                ),
                io.Int.Input(
                    "reference",
                    default=-1,
                    min=-1,
                    max=63,
                    tooltip="Which reference: its number in the summary of I2AM Collect, or -1 for all that are listed "
                    "there.",
                ),
                io.Combo.Input(
                    "through",
                    options=list(THROUGH),
                    default="everything",
                    tooltip="'everything': for the text too, which also looks at the reference and hands it on. "
                    "'directly': for the picture alone.",
                ),
                io.Combo.Input(
                    "branch",
                    options=["both", *BRANCHES],
                    default="both",
                    tooltip="In which conditioning. Where both hold the reference, muting it in one alone makes "
                    "guidance push away from it.",
                ),
                *selection_inputs("steer"),
                io.Combo.Input(
                    "mechanism",
                    options=["auto", *MECHANISMS],
                    default="auto",
                    tooltip="How the reference reaches the model. 'auto' recognises what the graph uses, but for a "
                    "canvas: choose 'canvas regions', and mark both regions on it.",
                ),
                io.Mask.Input(
                    "reference_region",
                    optional=True,
                    tooltip="The part of the reference that is steered, painted on it (white), as the model sees it: "
                    "scaled and cropped as it is. Without it, all of the reference.",
                ),
                io.Mask.Input(
                    "generated_region",
                    optional=True,
                    tooltip="The part of the picture in which it is steered (white), painted on a picture of the size "
                    "that is sampled. Without it, everywhere.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The same model, steered. Goes to any sampler.")],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, model: object, strength: float, by: By, reference: int, through: str, branch: str, steps: str,
        layers: str, heads: str, mechanism: str, reference_region: Tensor | None = None,
        generated_region: Tensor | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        if by == "guidance" and not (is_all(layers) and is_all(heads)):
            raise ValueError(NO_LAYERS)
        settings = Settings(
            strength=_checked(strength, by),
            by=by,
            reference=reference,
            reference_region=marked_once("reference_region", reference_region),
            generated_region=marked("generated_region", generated_region),
            through=through,
            branch=branch,
            selection=Selection(steps, layers, heads),
            mechanism=mechanism,
        )
        return io.NodeOutput(steer_with(diffusion_model(model, "I2AM Steer"), settings))


def _checked(strength: float, by: By) -> float:
    """Raises ValueError where it is outside the range of this way."""
    low, high = RANGES[by]
    if not low <= strength <= high:  # NaN is in no range
        raise ValueError(
            f"strength {strength:g} is outside the range of '{by}', {low:g} to {high:g}: "
            + ("only 'output' and 'guidance' go below 0." if strength < 0 else "choose a number in it.")
        )
    return strength
