"""Inputs that several nodes share, so that they have the same names, tooltips and meaning everywhere."""

from typing import Final

from comfy_api.latest import io

from ..i2am_core import ROUTES, SCOPES, Attribution, Direction, Owner, Selection

DIRECTIONS: dict[str, Direction] = {"reference to generated": "r2g", "generated to reference": "g2r"}
EFFECT: Final = "effect"  # the name of the maps of what a reference changed, beside the normalizations of attention
EFFECT_OF: dict[str, Owner | None] = {
    "reference": None,  # the one whose number is in the widget `reference`
    "all references": "all references",
    "text": "text",
    "what without lacks": "conditioning",
}


def scope_input() -> io.Combo.Input:
    return io.Combo.Input(
        "scope",
        options=list(SCOPES),
        default="auto",
        tooltip="For which part of the picture the maps of 'generated to reference' are made: the whole image, or the "
        "inpainting mask. 'auto' takes the inpainting mask where the run had one.",
    )


def selection_inputs(verb: str = "average") -> list[io.String.Input]:
    return [
        io.String.Input("steps", default="all", tooltip=f"Steps to {verb}: 'all', or numbers from 0 such as '0-4,10'."),
        io.String.Input(
            "layers",
            default="all",
            tooltip=f"Layers to {verb}: 'all', numbers such as '0-4,10', or names such as 'output*'. "
            "I2AM Collect's summary lists them.",
        ),
        io.String.Input("heads", default="all", tooltip=f"Heads to {verb}: 'all', or numbers from 0 such as '0-4,10'."),
    ]


def number_inputs() -> list[io.Int.Input]:
    return [
        io.Int.Input("reference", default=0, min=0, max=63, tooltip="Which reference image, counted from 0."),
        io.Int.Input("item", default=0, min=0, max=4095, tooltip="Which picture of the batch, counted from 0."),
    ]


def effect_of_input(tooltip: str) -> io.Combo.Input:
    """Optional, so that its widget comes last: saved workflows give values to widgets by their order."""
    return io.Combo.Input("effect_of", options=list(EFFECT_OF), default="reference", optional=True, tooltip=tooltip)


def effect_inputs() -> list[io.Combo.Input]:
    """Of what an effect is, and by which way: for nodes that show maps of effects beside those of attention."""
    return [
        effect_of_input(
            "For 'effect': of what. The reference of that number, all references together, the text, or what the run's "
            "conditioning has and 'without' of I2AM Effect lacks."
        ),
        io.Combo.Input(
            "effect_through",
            options=list[str](ROUTES),
            default="everything",
            optional=True,
            tooltip="For 'effect': by whatever way it reaches the picture, or 'directly', not by way of the text, "
            "which also looks at it and hands it on.",
        ),
    ]


def owner_of(attribution: Attribution, effect_of: str, reference: int) -> Owner:
    """What these widgets name: of a run in which no reference was located, 'reference' is all that ``without`` lacks.

    A single reference is all references, and ``reference`` -1 means all. Raises errors.UnknownReference.
    """
    owner, count = EFFECT_OF[effect_of], len(attribution.references)
    if owner is None and reference == -1:
        owner = "all references"
    if owner == "all references" and count == 1:
        return 0
    if owner is not None:
        return owner
    if count == 0 and reference == 0:
        return "conditioning"
    attribution.check_reference(reference)
    return reference


def selection_of(steps: str, layers: str, heads: str, reference: int, item: int, scope: str = "auto") -> Selection:
    """The selection that these inputs name. It is checked when it meets an attribution."""
    return Selection(steps=steps, layers=layers, heads=heads, reference=reference, item=item, scope=scope)
