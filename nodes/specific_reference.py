"""I2AM Specific Reference: which part of the reference made this part of the picture, or where a part went."""

from comfy_api.latest import io

from ..i2am_core.reading.specific import specific
from ..i2am_core.showing import render
from .images import as_batch, choose, generated, referred, size_for
from .schema import AttributionHandle, schema
from .selections import DIRECTIONS, number_inputs, selection_inputs, selection_of
from .wording import in_words


class I2AMSpecificReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="I2AM_SpecificReference",
            display_name="I2AM Specific Reference",
            description="Answers for one region: which parts of the reference made this part of the picture, or where "
            "this part of the reference went.",
            inputs=[
                AttributionHandle.Input("attribution", tooltip="From I2AM Collect, captured with pair_maps."),
                io.Mask.Input(
                    "region",
                    tooltip="The part to ask about: of the generated picture for 'generated to reference', of the "
                    "reference image for 'reference to generated'.",
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
                    "colormap", options=list(render.COLORMAPS), tooltip="Colours of the heat, from matplotlib."
                ),
                io.Float.Input(
                    "opacity", default=0.5, min=0.0, max=1.0, step=0.05, tooltip="Strength of the heat over the image."
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
    def execute(
        cls, attribution, region, direction, steps, layers, heads, reference, item, colormap, opacity, image=None
    ) -> io.NodeOutput:
        towards = DIRECTIONS[direction]
        picture, source = generated(attribution, item), referred(attribution, reference, item)
        asked, shown = (picture, source) if towards == "g2r" else (source, picture)
        selection = selection_of(steps, layers, heads, reference, item)
        found = specific(attribution, choose(region, asked), towards, selection)
        under = None if image is None else choose(image, shown)
        heat = render.heat(found.values[None], size_for(shown.grid) if under is None else tuple(under.shape[:2]))
        colors = render.colorize(heat, colormap)
        over = colors if under is None else render.overlay(as_batch(under, 1), colors, opacity)
        return io.NodeOutput(over, colors, heat)
