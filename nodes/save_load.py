"""I2AM Save and I2AM Load: an attribution as a file, which is read again without sampling."""

import contextvars
import dataclasses
from typing import Any

import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..i2am_core import Attribution, load, save_new
from .checked import checked
from .images import choose, generated_picture, reference_image, small
from .saved_files import find, new_names, saved_files
from .schema import AttributionHandle, Schema
from .summary import summary_of
from .wording import in_words, of_system_in_words

_listing = contextvars.ContextVar("listing", default=False)  # whether the page asks which files there are


class I2AMSave(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Save",
            display_name="I2AM Save",
            description="Writes an attribution to ComfyUI's output folder, with the pictures it is about.",
            is_output_node=True,
            inputs=[
                AttributionHandle.Input("attribution", tooltip="From I2AM Collect."),
                io.String.Input(
                    "filename_prefix", default="i2am/attribution", tooltip="Name of the file, as in Save Image."
                ),
                io.Image.Input("image", optional=True, tooltip="The generated picture, to save with the maps."),
                io.Image.Input("reference", optional=True, tooltip="The reference image, to save with the maps."),
            ],
            outputs=[io.String.Output(display_name="path", tooltip="The file, within ComfyUI's output folder.")],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls,
        attribution: Attribution,
        filename_prefix: str,
        image: Tensor | None = None,
        reference: Tensor | None = None,
    ) -> io.NodeOutput:
        pictures = dict(attribution.pictures)
        if image is not None:
            for item in range(attribution.items):
                pictures[f"generated {item}"] = small(choose(image, generated_picture(attribution, item)))
        if reference is not None:
            for number in range(len(attribution.references)):
                pictures[f"reference {number}"] = small(choose(reference, reference_image(attribution, number, 0)))
        height, width = (0, 0) if image is None else image.shape[1:3]
        with of_system_in_words(f"the attribution was not saved as '{filename_prefix}'"):
            names = new_names(filename_prefix, width, height, cls.hidden.prompt if cls.hidden else None)
            path = save_new(dataclasses.replace(attribution, pictures=pictures), names)
        return io.NodeOutput(path.relative_to(folder_paths.get_output_directory()).as_posix())


class I2AMLoad(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Load",
            display_name="I2AM Load",
            description="Reads an attribution that I2AM Save wrote, from ComfyUI's output or input folder.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=saved_files() if _listing.get() else [],
                    tooltip="Files of ComfyUI's output and input folders.",
                )
            ],
            outputs=[
                AttributionHandle.Output(display_name="attribution", tooltip="As it was when it was saved."),
                io.String.Output(display_name="summary", tooltip="What was captured, how finely, and what was not."),
            ],
        )

    @classmethod  # type: ignore[misc]  # (ComfyUI calls it final, but what it says of a node's inputs is made here)
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:  # noqa: N802  (ComfyUI's name for it)
        """What the page is told of this node: the one time that files are looked for.

        ComfyUI makes the schema anew whenever it starts, and for each prompt, where nobody reads the list.
        """
        before = _listing.set(True)
        try:
            return super().GET_NODE_INFO_V1()
        finally:
            _listing.reset(before)

    @classmethod
    def validate_inputs(cls, file: object) -> bool | str:
        """A file may be newer than the list that the page shows, but must lie in one of ComfyUI's folders."""
        if file is None:  # another node gives it, which has not run yet
            return True
        try:
            find(file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: object) -> tuple[int, int, int] | None:
        if file is None:
            return None
        stat = find(file).stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    @classmethod
    @in_words()
    @checked
    def execute(cls, file: str) -> io.NodeOutput:
        attribution = load(find(file))
        return io.NodeOutput(attribution, summary_of(attribution))
