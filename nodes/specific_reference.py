"""I2AM Specific Reference: which part of the reference made this part of the picture, or where a part went."""

from comfy_api.latest import io, ui
from torch import Tensor

from .. import i2am_core as core
from ..i2am_core import Attribution, Cut, inside_of, specific, specific_effect
from .checked import checked
from .images import as_batch, choose, generated_picture, reference_image, size_for, size_of
from .load_image import check_not_placeholder
from .masks import outside_notes
from .schema import AttributionHandle, Schema
from .selections import DIRECTIONS, number_inputs, selection_inputs, selection_of
from .wording import check_attention, check_regions, in_words

BY: dict[str, Cut | None] = {
    "attention": None,
    "effect: taken away": "taken away",
    "effect: only this left": "only this left",
}


class I2AMSpecificReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_SpecificReference",
            display_name="I2AM Specific Reference",
            description="Answers for one region: which parts of the reference made this part of the picture, or where "
            "this part of the reference went.",
            inputs=[
                AttributionHandle.Input(
                    "attribution", tooltip="From I2AM Collect, captured with pair_maps or regions of I2AM Effect."
                ),
                io.Mask.Input(
                    "region",
                    tooltip="The part that the map is about: of the generated picture for 'generated to reference', of "
                    "the reference image for 'reference to generated'.",
                ),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    default="generated to reference",
                    tooltip="'generated to reference': which parts of the reference made the region. "
                    "'reference to generated': where the region of the reference went.",
                ),
                *selection_inputs(),
                *number_inputs(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="What to lay the map over: the reference for 'generated to reference', the generated "
                    "picture for 'reference to generated'.",
                ),
                io.Combo.Input(
                    "colormap", options=list(core.COLORMAPS), tooltip="Colours of the heat, from matplotlib."
                ),
                io.Float.Input(
                    "opacity", default=0.5, min=0.0, max=1.0, step=0.05, tooltip="Strength of the heat over the image."
                ),
                io.Combo.Input(
                    "by",
                    options=list(BY),
                    default="attention",
                    optional=True,  # its widget comes last: saved workflows give values to widgets by their order
                    tooltip="'attention': by where the model looked. 'effect': by what changes where a region of the "
                    "reference is taken away, or comes alone ('only this left'); needs regions of I2AM Effect.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="overlay", tooltip="The map over the image (or alone, without one)."),
                io.Image.Output(display_name="heatmap", tooltip="The map alone, in colour."),
                io.Mask.Output(display_name="mask", tooltip="The map as a mask in [0, 1]."),
            ],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, attribution: Attribution, region: Tensor, direction: str, steps: str, layers: str, heads: str,
        reference: int, item: int, colormap: str, opacity: float, image: Tensor | None = None,
        by: str = "attention",
    ) -> io.NodeOutput:  # fmt: skip
        subjects = [generated_picture(attribution, item), reference_image(attribution, reference, item)]
        if DIRECTIONS[direction] == "r2g":  # from a region of the reference to a map on the picture
            subjects.reverse()
        region_on, map_on = subjects
        selection = selection_of(steps, layers, heads, reference, item)
        check_not_placeholder(region, "region", "the region", required=True)
        marked, cut = inside_of(choose(region, region_on)).float(), BY[by]
        notes = () if DIRECTIONS[direction] == "r2g" else outside_notes(attribution, marked, item, "region")
        if cut is None:
            check_attention(attribution)
            result = specific(attribution, marked, DIRECTIONS[direction], selection)
        else:
            check_regions(attribution, reference)
            result = specific_effect(attribution, marked, DIRECTIONS[direction], selection, cut)
        picture = None if image is None else choose(image, map_on)
        size = size_for(map_on.grid) if picture is None else size_of(picture)
        on_regions = cut is not None and DIRECTIONS[direction] == "g2r"
        heat = core.heat(result.values[None], size, blocks=on_regions)
        colors = core.colorize(heat, colormap)
        overlay = colors if picture is None else core.overlay(as_batch(picture, 1), colors, opacity)
        if not notes:
            return io.NodeOutput(overlay, colors, heat)
        return io.NodeOutput(overlay, colors, heat, ui=ui.PreviewText("\n".join(notes)))
