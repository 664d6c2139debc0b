"""I2AM Counterfactual: what the model would paint without a reference, as seen from one step, as latents to decode."""

from comfy_api.latest import io
from torch import Tensor

from ..i2am_core import Attribution, Effects, Owner, Removal, errors
from .checked import checked
from .schema import AttributionHandle, Schema
from .selections import effect_of_input, owner_of
from .wording import CERTAINTY, in_words

STRONGEST = -1  # as a step: the measured one in which most changes
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
        effects, removals = _removals(attribution, owner_of(attribution, effect_of, reference))
        inside = attribution.scope_on_latent(item)
        removal = _chosen(effects, removals, step, inside)
        with_ = effects.predictions[removal.step, None]
        without = effects.predictions.get((removal.step, removal.owner), with_)
        latents = [{"samples": x[item : item + 1].float()} for x in (with_, without)]  # [1, C, (frames,) h, w]
        return io.NodeOutput(*latents, _label(attribution, _alone(effects, removal), removal, inside))


def _removals(attribution: Attribution, owner: Owner) -> tuple[Effects, list[Removal]]:
    """What was measured, and in which steps of this owner: by the first of its ways, of which predictions are kept.

    Raises errors.NoEffects and errors.NotMeasured.
    """
    effects = attribution.effects
    if effects is None or not effects.maps:
        raise errors.NoEffects(() if effects is None else effects.reasons)
    routes = effects.routes(owner)
    if not routes:
        names = attribution.owner_names
        reason = effects.unmeasured.get(
            names[owner], "" if owner == "text" else effects.unmeasured.get("references", "")
        )
        raise errors.NotMeasured(owner, names[owner], reason=reason, measured=[names[x] for x in effects.owners])
    return effects, [Removal(step, owner, routes[0]) for step in effects.steps(owner, routes[0])]


def _chosen(effects: Effects, removals: list[Removal], step: int, inside: Tensor) -> Removal:
    """The removal in this step, or the one in which most changes. Raises ValueError where there is none to decode."""
    decodable = {x.step: x for x in removals if _is_kept(effects, x)}
    measured = [x.step for x in removals]
    others = f"set step to one of {', '.join(map(str, decodable))}, or to -1 for the one in which most changes"
    raised = "raise budget_mb of I2AM Capture and sample again"
    if not decodable:
        raise ValueError(f"the predictions with and without it were not kept within budget_mb: {raised}.")
    if step == STRONGEST:
        return max(decodable.values(), key=lambda x: _alone(effects, x).strength(x.owner, x.route, inside))
    if step not in measured:
        raise ValueError(f"I2AM Effect did not measure this in step {step}: {others}.")
    if step not in decodable:
        raise ValueError(f"the predictions of step {step} were not kept within budget_mb: {others}, or {raised}.")
    return decodable[step]


def _is_kept(effects: Effects, removal: Removal) -> bool:
    """Whether both latents are there. Where nothing read what was taken away, they are one and the same."""
    same = not effects.maps[removal].any()
    return (removal.step, None) in effects.predictions and (
        same or (removal.step, removal.owner) in effects.predictions
    )


def _alone(effects: Effects, removal: Removal) -> Effects:
    """One removal of all that were measured, so that its strength is that of one step."""
    return Effects({removal: effects.maps[removal]}, effects.floor)


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
