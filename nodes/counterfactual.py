"""I2AM Counterfactual: what the model would paint without a reference, as seen from one step, as latents to decode."""

from comfy_api.latest import io
from torch import Tensor

from ..i2am_core import Attribution, Effects, Removal
from .checked import checked
from .predictions import STRONGEST, alone, chosen, pair, removals_of
from .schema import AttributionHandle, Schema
from .selections import effect_of_input, owner_of
from .wording import CERTAINTY, in_words

SEARCH_ALIASES = ["without reference", "counterfactual", "what if", "ablation", "effect of the reference", "I2AM"]


class I2AMCounterfactual(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Counterfactual",
            display_name="I2AM Counterfactual",
            description="What the model would paint without the reference, as seen from one step of the run, beside "
            "what it would paint with it: two latents for VAE Decode.",
            search_aliases=SEARCH_ALIASES,
            inputs=[
                AttributionHandle.Input("attribution", tooltip="From I2AM Collect, of a run with I2AM Effect."),
                io.Int.Input(
                    "step",
                    default=STRONGEST,
                    min=STRONGEST,
                    max=9999,
                    tooltip="A step in which I2AM Effect measured, by its number from 0 in the summary of I2AM "
                    "Collect. -1 takes the one in which most changes.",
                ),
                io.Int.Input(
                    "reference",
                    default=0,
                    min=-1,
                    max=63,
                    tooltip="Which reference is taken away, counted from 0; -1 for all together.",
                ),
                io.Int.Input("item", default=0, min=0, max=4095, tooltip="Which picture of the batch, counted from 0."),
                effect_of_input(
                    "What is taken away: the reference of that number, all references together, the text, or what the "
                    "run's conditioning has and 'without' of I2AM Effect lacks."
                ),
            ],
            outputs=[
                io.Latent.Output(
                    display_name="with_reference",
                    tooltip="The picture that the model predicted in this step, as the run went. For VAE Decode.",
                ),
                io.Latent.Output(
                    display_name="without_reference",
                    tooltip="What it would have predicted in the same step without it. For VAE Decode.",
                ),
                io.String.Output(
                    display_name="label", tooltip="What was taken away, in which step, and how much that changes."
                ),
            ],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, attribution: Attribution, step: int, reference: int, item: int, effect_of: str = "reference"
    ) -> io.NodeOutput:
        attribution.check_item(item)
        effects, removals = removals_of(attribution, owner_of(attribution, effect_of, reference))
        inside = attribution.scope_on_latent(item)
        removal = chosen(effects, removals, step, inside)
        latents = [{"samples": x} for x in pair(effects, removal, item)]
        return io.NodeOutput(*latents, _label(attribution, alone(effects, removal), removal, inside))


def _label(attribution: Attribution, effect: Effects, removal: Removal, inside: Tensor) -> str:
    """What was taken away, in which step, how much that changes, and whether this is more than rounding."""
    step, owner, route = removal
    name = attribution.owner_names[owner]
    way = ", by the picture's own positions alone" if route == "directly" else ""
    where = "" if attribution.mask_on_latent() is None else " in the mask"
    return (
        f"without {name}{way}, as seen from step {step} of {attribution.steps} (from 0), sigma "
        f"{attribution.sigmas[step]:.3g}: changes {effect.strength(owner, route, inside):.3g} latent units{where}, "
        f"{CERTAINTY[effect.certainty(owner, route, inside)]}"
    )
