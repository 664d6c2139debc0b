"""I2AM Effect: a model whose runs measure what the reference causes."""

from comfy_api.latest import io

from ..i2am_core import CUTS, ROUTES, Cut, Route
from .checked import checked
from .comfy.measured import effect_with
from .comfy.removals import Settings
from .model_inputs import diffusion_model
from .schema import Conditioning, Schema
from .wording import in_words

BOTH = "both"
OWNERS = ("references", "references and text")
SEARCH_ALIASES = [
    "what did the reference do", "reference effect", "counterfactual", "ablation", "with and without reference",
    "reference strength", "causal", "I2AM",
]  # fmt: skip
MOST_REGIONS = 16


class I2AMEffect(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Effect",
            display_name="I2AM Effect",
            description="Measures what the reference causes: at a few steps the model is evaluated again without it. "
            "The picture does not change. Needs an I2AM Capture on the same MODEL line.",
            search_aliases=SEARCH_ALIASES,
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to measure. Place this node beside an I2AM Capture, before the sampler."
                ),
                io.Int.Input(
                    "probe_steps",
                    default=3,
                    min=1,
                    max=1000,
                    tooltip="In how many steps the model is evaluated again: the first, and others spread over the "
                    "first half of the run, since late steps say little. Each costs one evaluation for each reference.",
                ),
                io.Int.Input(
                    "regions",
                    default=0,
                    min=0,
                    max=MOST_REGIONS,
                    tooltip="Divides each reference into so many rows and columns, and measures each part by itself, "
                    "in the first step. 0 measures none; 4 costs 16 evaluations.",
                ),
                io.Combo.Input(
                    "regions_by",
                    options=[*CUTS, BOTH],
                    default="taken away",
                    tooltip="'taken away': without this part. 'only this left': this part against nothing of the "
                    "reference. Where they disagree, parts of the reference repeat each other.",
                ),
                io.Combo.Input(
                    "through",
                    options=[*ROUTES, BOTH],
                    default="everything",
                    tooltip="'everything': the reference is not there at all. 'directly': the picture does not look at "
                    "it, but the text, which hands it on, still does.",
                ),
                io.Combo.Input(
                    "owners",
                    options=list(OWNERS),
                    default="references",
                    tooltip="What is taken away: each reference, and all together; or the text as well.",
                ),
                io.Conditioning.Input(
                    "without",
                    optional=True,
                    tooltip="The same conditioning, made without the reference: the wire before the node that adds it. "
                    "For references that attention does not show.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="The same model, measured. Goes to any sampler.")],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, model: object, probe_steps: int, regions: int, regions_by: str, through: str, owners: str,
        without: Conditioning | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        settings = Settings(
            probe_steps=probe_steps,
            regions=regions,
            cuts=tuple[Cut, ...](cut for cut in CUTS if regions_by in (cut, BOTH)),
            routes=tuple[Route, ...](route for route in ROUTES if through in (route, BOTH)),
            text=owners == OWNERS[1],
            without=without,
        )
        return io.NodeOutput(effect_with(diffusion_model(model, "I2AM Effect"), settings))
