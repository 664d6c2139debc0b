"""Inputs that several nodes share, so that they have the same names, tooltips and meaning everywhere."""

from comfy_api.latest import io

from ..i2am_core import SCOPES, Direction, Selection

DIRECTIONS: dict[str, Direction] = {"reference to generated": "r2g", "generated to reference": "g2r"}


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


def selection_of(steps: str, layers: str, heads: str, reference: int, item: int, scope: str = "auto") -> Selection:
    """The selection that these inputs name. It is checked when it meets an attribution."""
    return Selection(steps=steps, layers=layers, heads=heads, reference=reference, item=item, scope=scope)
