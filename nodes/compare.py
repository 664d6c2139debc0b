"""I2AM Compare: two runs, and what changed from one to the other."""

from dataclasses import replace
from typing import Literal

from comfy_api.latest import io
from torch import Tensor

from .. import i2am_core as core
from ..i2am_core import (
    COMPARED_SENTENCES,
    MARKS,
    NORMALIZATIONS,
    Attribution,
    Compared,
    ComparedPage,
    MapsOfBoth,
    Normalization,
    Owner,
    Route,
    Selection,
    TokenGrid,
    compared_page,
    diverging,
    errors,
    is_all,
    maps_of_both,
    measured_in_both,
    notice,
)
from .checked import checked
from .images import choose, choose_video, generated_picture, size_for, size_of
from .schema import AttributionHandle, Schema
from .selections import (
    DIRECTIONS,
    EFFECT,
    effect_inputs,
    number_inputs,
    owner_of,
    scope_input,
    selection_inputs,
    selection_of,
)
from .wanted_maps import WantedMaps, check_memory
from .wording import in_words, words

SEARCH_ALIASES = ["compare", "difference", "A/B", "before after", "diff", "two seeds", "attention map", "I2AM"]
WIDGETS = (  # what a person can set right on this node: it is refused, and no reason why runs cannot be compared
    *(errors.BadSelection, errors.UnknownChoice, errors.UnknownReference, errors.BadCount, errors.NoEffectLevel),
    errors.OnlyOnPicture,
)


class I2AMCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Compare",
            display_name="I2AM Compare",
            description="Two runs side by side: what changed from A to B, by how much, and against how much two "
            "pictures of one batch differ.",
            search_aliases=SEARCH_ALIASES,
            inputs=[
                AttributionHandle.Input("a", tooltip="From I2AM Collect or I2AM Load: what there was before."),
                AttributionHandle.Input("b", tooltip="The other run: what there is now."),
                io.Combo.Input(
                    "direction",
                    options=list(DIRECTIONS),
                    tooltip="'reference to generated': maps on the picture. 'generated to reference': maps on the "
                    "reference.",
                ),
                io.Combo.Input(
                    "level",
                    options=list[str](core.LEVELS),
                    tooltip="One map of everything, or one for each group of steps, each head, layer, reference or "
                    "frame. Maps that are of the same in both runs are compared.",
                ),
                io.Combo.Input(
                    "normalization",
                    options=[EFFECT, *NORMALIZATIONS],
                    tooltip="'effect': what changes without the reference, where I2AM Effect measured in both runs. "
                    "'share': how much of the attention goes to it. 'paper': where it goes.",
                ),
                scope_input(),
                *selection_inputs(),
                io.Int.Input(
                    "time_groups",
                    default=5,
                    min=0,
                    max=1000,
                    tooltip="At level 'time': into how many equal groups the steps of each run are put, of which the "
                    "first is compared with the first. 0 has each step.",
                ),
                *number_inputs(),
                io.Image.Input("image_a", optional=True, tooltip="The picture that the run of 'a' made, or its batch."),
                io.Image.Input("image_b", optional=True, tooltip="The picture that the run of 'b' made, or its batch."),
                *effect_inputs(),
            ],
            outputs=[
                io.Image.Output(
                    display_name="difference",
                    tooltip="What B has more than A: red is more, blue is less, white is no difference. One scale for "
                    "all maps.",
                ),
                io.Image.Output(
                    display_name="side_by_side",
                    tooltip="One page, 1600 pixels wide: what changed, both pictures, and the maps of A, of B, and B - "
                    "A.",
                ),
                io.String.Output(
                    display_name="findings",
                    tooltip="What changed, as Markdown; which settings are unlike, and what could not be compared.",
                ),
            ],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, a: Attribution, b: Attribution, direction: str, level: core.Level,
        normalization: Normalization | Literal["effect"], scope: str, steps: str, layers: str, heads: str,
        time_groups: int, reference: int, item: int, image_a: Tensor | None = None, image_b: Tensor | None = None,
        effect_of: str = "reference", effect_through: Route = "everything",
    ) -> io.NodeOutput:  # fmt: skip
        pictures = _pictures(a, image_a, item, "image_a"), _pictures(b, image_b, item, "image_b")
        compared = core.compare(a, b, item, pictures)
        wanted = WantedMaps(DIRECTIONS[direction], level, normalization, time_groups, effect_of, effect_through)
        selection = selection_of(steps, layers, heads, reference, item, scope)
        of_item = _first(pictures[0].get(item)), _first(pictures[1].get(item))
        owner = owner_of(a, effect_of, reference) if a.references or reference == 0 else reference
        maps: MapsOfBoth | None = None
        title = f"{direction}, {normalization}, level '{level}'"
        try:
            title = f"{direction}, {wanted.about(a, reference)}"
            chosen, note = _in_steps_of_both(wanted, (a, b), selection, owner)
            maps = maps_of_both(wanted.of, (a, b), chosen, wanted.sums)
            title += note
            difference = _difference(maps, wanted, of_item[1])
        except (errors.InOneRun, errors.Incomparable) as error:
            if isinstance(error, errors.InOneRun) and isinstance(error.error, WIDGETS):
                raise
            title += f": no maps were compared, since {words(error)}"
            difference = notice(title)
        page = ComparedPage((a, b), compared, maps, title, item, owner, wanted.blocks, of_item)
        return io.NodeOutput(difference, compared_page(page)[None], _markdown(compared, maps, title))


def _in_steps_of_both(
    wanted: WantedMaps, runs: tuple[Attribution, Attribution], selection: Selection, owner: Owner
) -> tuple[Selection, str]:
    """Effects are means over the steps in which they were measured: where these are unlike, over those of both."""
    if not wanted.of_effects or wanted.level == "time" or wanted.blocks or not is_all(selection.steps):
        return selection, ""
    steps = ",".join(map(str, measured_in_both(*runs, owner, wanted.through)))
    return (replace(selection, steps=steps), f", steps {steps}") if steps else (selection, "")


def _markdown(compared: Compared, maps: MapsOfBoth | None, title: str) -> str:
    said = [f"{MARKS[finding.weight]} {finding.worded(COMPARED_SENTENCES)}" for finding in compared.findings]
    return "\n".join(f"* {line}" for line in [*said, *compared.notes(), *_of_maps(maps, title)])


def _pictures(run: Attribution, image: Tensor | None, item: int, name: str) -> dict[int, Tensor]:
    """By item ``[H, W, 3]``, of a video all its frames: of a whole batch all, which tell how much two seeds differ."""
    if image is None:
        return {}
    items = range(run.items) if len(image) > 1 else [item]
    read = choose_video if run.grid.frames > 1 else choose
    try:
        chosen = {n: read(image, generated_picture(run, n)) for n in items}
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return {n: picture.float().nan_to_num(0).clamp(0, 1) for n, picture in chosen.items()}


def _first(picture: Tensor | None) -> Tensor | None:
    """Of a video the first frame, which is drawn."""
    return None if picture is None else picture.reshape(-1, *picture.shape[-3:])[0]


def _difference(maps: MapsOfBoth, wanted: WantedMaps, picture: Tensor | None) -> Tensor:
    """In the size of the picture that maps are on, where it is known."""
    height, width = maps.a.shape[-2:]
    size = size_for(TokenGrid(height, width))
    if wanted.side == "r2g" and picture is not None:
        size = size_of(picture)
    check_memory(len(maps.a), *size)
    return diverging(maps.difference, size, wanted.blocks)


def _of_maps(maps: MapsOfBoth | None, title: str) -> list[str]:
    """What the pictures of the difference show, a line each; or why there is none."""
    if maps is None:
        return [f"Maps, {title}"]
    most = float(maps.difference.abs().max())
    lines = [f"Maps of {title}: the colours of the difference end at {most:.3g} more in B (red), and less (blue)."]
    lines += [f"Map {n}: {x if x == y else f'{x} in A, {y} in B'}." for n, (x, y) in enumerate(maps.labels)]
    return lines + [f"Not compared: {line}." for line in maps.left_out] + [f"Note: {maps.grids}."] * bool(maps.grids)
