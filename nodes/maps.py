"""I2AM Maps: where the reference acts, as pictures."""

from typing import Literal

from comfy_api.latest import io
from torch import Tensor

from .. import i2am_core as core
from ..i2am_core import NORMALIZATIONS, Attribution, Normalization, Route
from .checked import checked
from .images import Subject, as_batch, choose, choose_frames, generated_picture, reference_image, size_for, size_of
from .schema import AttributionHandle, Schema
from .selections import (
    DIRECTIONS,
    EFFECT,
    effect_inputs,
    number_inputs,
    scope_input,
    selection_inputs,
    selection_of,
)
from .wanted_maps import WantedMaps, check_memory
from .wording import in_words


class I2AMMaps(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Maps",
            display_name="I2AM Maps",
            description="Shows where the reference acts in the picture, or which parts of the reference were used: "
            "as one map, or over time, heads, layers, references or the frames of a video.",
            inputs=[
                AttributionHandle.Input("attribution", tooltip="From I2AM Collect."),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    tooltip="'reference to generated': where in the picture the reference acts. "
                    "'generated to reference': which parts of the reference the picture used.",
                ),
                io.Combo.Input(
                    "level",
                    options=list[str](core.LEVELS),
                    tooltip="One map of everything, or one for each group of steps, each head or each layer; "
                    "'reference' shows which of several references acts where, the strongest first; 'frame' shows "
                    "each frame of a video's latent.",
                ),
                io.Combo.Input(
                    "normalization",
                    options=[*NORMALIZATIONS, EFFECT],
                    tooltip="'paper' says where: each layer's map sums to 1 on its own grid. 'share' says how much: "
                    "the part of the attention that went to the reference, of all that the model looked at. 'effect' "
                    "says what changes without it, where I2AM Effect measured.",
                ),
                scope_input(),
                *selection_inputs(),
                io.Int.Input(
                    "time_groups",
                    default=5,
                    min=0,
                    max=1000,
                    tooltip="At level 'time': into how many equal groups the steps are put. 0 shows each step. "
                    "'effect' has each step that was measured.",
                ),
                *number_inputs(),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="What to lay the map over: the generated picture for 'reference to generated', the "
                    "reference for 'generated to reference'. Sets the size of the outputs. Of a video: all its frames.",
                ),
                io.Combo.Input(
                    "colormap", options=list(core.COLORMAPS), tooltip="Colours of the heat, from matplotlib."
                ),
                io.Combo.Input(
                    "scale",
                    options=["each map", "shared"],
                    tooltip="'each map' stretches every map to its own range: for looking at one. 'shared' gives all "
                    "the same range: for comparing steps or heads (layers of coarser grids have larger values a cell).",
                ),
                io.Float.Input(
                    "opacity",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="Strength of the heat over the image. 0.5 is the paper's 0.7 image + 0.5 heat.",
                ),
                *effect_inputs(),
            ],
            outputs=[
                io.Image.Output(display_name="overlay", tooltip="The maps over the image (or alone, without one)."),
                io.Image.Output(display_name="heatmap", tooltip="The maps alone, in colour."),
                io.Mask.Output(display_name="mask", tooltip="The maps as masks in [0, 1], for use further on."),
                io.String.Output(display_name="labels", tooltip="What each picture of the batch shows, one per line."),
            ],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, attribution: Attribution, direction: str, level: core.Level,
        normalization: Normalization | Literal["effect"], scope: str,
        steps: str, layers: str, heads: str, time_groups: int, reference: int, item: int, colormap: str,
        scale: core.Scale, opacity: float, image: Tensor | None = None, effect_of: str = "reference",
        effect_through: Route = "everything",
    ) -> io.NodeOutput:  # fmt: skip
        selection = selection_of(steps, layers, heads, reference, item, scope)
        side = DIRECTIONS[direction]
        wanted = WantedMaps(side, level, normalization, time_groups, effect_of, effect_through)
        maps, about = wanted.of(attribution, selection), wanted.about(attribution, reference)
        if image is None and level != "frame":
            saved = attribution.picture(side, reference, item)
            image = None if saved is None else saved[None].float() / 255
        on_picture = side == "r2g"
        subject = generated_picture(attribution, item) if on_picture else reference_image(attribution, reference, item)
        pictures = None if image is None else _under(image, subject, level, len(maps.values))
        size = size_for(subject.grid) if pictures is None else size_of(pictures[0])
        check_memory(len(maps.values), *size)
        heat = core.heat(maps.values, size, scale, blocks=wanted.blocks)
        colors = core.colorize(heat, colormap)
        overlay = colors if pictures is None else core.overlay(pictures, colors, opacity)
        about = f"{direction}, {about}"
        if not on_picture:
            approximate = ", approximate" if attribution.references[reference].approximate else ""
            about += f", scope {maps.scope}{approximate}"
        labels = _labels_of_effects if wanted.of_effects else _labels_of_attention
        return io.NodeOutput(overlay, colors, heat, "\n".join(labels(maps, about)))


def _under(image: Tensor, subject: Subject, level: core.Level, count: int) -> Tensor:
    """What ``count`` maps are laid over, ``[count, H, W, 3]``: the pictures of a video, or one picture for all."""
    return choose_frames(image, subject, count) if level == "frame" else as_batch(choose(image, subject), count)


def _labels(maps: core.Maps, about: str) -> list[str]:
    """What each picture shows, and the range that its colours stand for."""
    return [
        f"{label} | {about} | {values.min():.3g} to {values.max():.3g}"
        for label, values in zip(maps.labels, maps.values, strict=True)
    ]


def _labels_of_attention(maps: core.Maps, about: str) -> list[str]:
    """The same, and whether the map is flat but for rounding: then it is dark, whatever its values are."""
    return [
        label + (", flat" if values.any() and core.is_flat(values) else "")
        for label, values in zip(_labels(maps, about), maps.values, strict=True)
    ]


def _labels_of_effects(maps: core.Maps, about: str) -> list[str]:
    """The same with the unit, and whether the map was measured: of those that were not, the core says why."""
    return [
        f"{label} latent units" + (", measured" if certainty == "measured" else "")
        for label, certainty in zip(_labels(maps, about), maps.certainties, strict=True)
    ]
