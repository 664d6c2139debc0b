"""What the model predicted in one step with something and without it: which of them there are, as latents to decode."""

from torch import Tensor

from ..i2am_core import Attribution, Effects, Owner, Removal, errors

STRONGEST = -1  # as a step: the measured one in which most changes


def removals_of(attribution: Attribution, owner: Owner) -> tuple[Effects, list[Removal]]:
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


def chosen(effects: Effects, removals: list[Removal], step: int, inside: Tensor) -> Removal:
    """The removal in this step, or the one in which most changes. Raises ValueError where there is none to decode."""
    decodable = {x.step: x for x in removals if _is_kept(effects, x)}
    measured = [x.step for x in removals]
    others = f"set step to one of {', '.join(map(str, decodable))}, or to -1 for the one in which most changes"
    raised = "raise budget_mb of I2AM Capture and sample again"
    if not decodable:
        raise ValueError(f"the predictions with and without it were not kept within budget_mb: {raised}.")
    if step == STRONGEST:
        return max(decodable.values(), key=lambda x: alone(effects, x).strength(x.owner, x.route, inside))
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


def alone(effects: Effects, removal: Removal) -> Effects:
    """One removal of all that were measured, so that its strength is that of one step."""
    return Effects({removal: effects.maps[removal]}, effects.floor)


def pair(effects: Effects, removal: Removal, item: int) -> tuple[Tensor, Tensor]:
    """The predictions of a picture with it and without it, each ``[1, C, (frames,) h, w]`` as a VAE takes them."""
    with_ = effects.predictions[removal.step, None]
    without = effects.predictions.get((removal.step, removal.owner), with_)
    return with_[item : item + 1].float(), without[item : item + 1].float()
