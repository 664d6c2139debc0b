"""I2AM Save and I2AM Load: an attribution as a file, which is read again without sampling."""

import dataclasses
from pathlib import Path

import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ..i2am_core import SUFFIX, Attribution, load, save
from .checked import checked, described
from .images import choose, generated_picture, reference_image, small
from .schema import AttributionHandle, Schema
from .wording import in_words

LONGEST_NAME = 200  # bytes, without number and ending
FOLDERS = {"output": folder_paths.get_output_directory, "input": folder_paths.get_input_directory}


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
        output = folder_paths.get_output_directory()
        folder, name, counter, _, _ = _place(filename_prefix, output)
        path = Path(folder) / f"{name}_{counter:05}{SUFFIX}"
        while path.exists():
            counter += 1
            path = Path(folder) / f"{name}_{counter:05}{SUFFIX}"
        save(dataclasses.replace(attribution, pictures=pictures), path)
        return io.NodeOutput(str(path.relative_to(output)))


class I2AMLoad(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Load",
            display_name="I2AM Load",
            description="Reads an attribution that I2AM Save wrote, from ComfyUI's output or input folder.",
            inputs=[
                io.Combo.Input("file", options=saved_files(), tooltip="Files of ComfyUI's output and input folders.")
            ],
            outputs=[
                AttributionHandle.Output(display_name="attribution", tooltip="As it was when it was saved."),
                io.String.Output(display_name="summary", tooltip="What was captured, how finely, and what was not."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: object) -> bool | str:
        """A file may be newer than the list that the page shows, but must lie in one of ComfyUI's folders.

        Where another node gives the name, it is not known yet, and None.
        """
        if file is None:
            return True
        if not isinstance(file, str):
            return f"the file is {described(file)}: choose one from the list"
        try:
            find(file)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file: str | None) -> tuple[float, int] | None:
        if file is None:
            return None
        stat = find(file).stat()
        return stat.st_mtime, stat.st_size

    @classmethod
    @in_words()
    @checked
    def execute(cls, file: str) -> io.NodeOutput:
        attribution = load(find(file))
        return io.NodeOutput(attribution, attribution.summary())


def _place(prefix: str, output: str) -> tuple[str, str, int, str, str]:
    """Where Save Image would put a file: folder, name, number. Raises ValueError where it may not."""
    try:
        place: tuple[str, str, int, str, str] = folder_paths.get_save_image_path(prefix, output)
        if "\0" in prefix or len(place[1].encode()) > LONGEST_NAME:
            raise ValueError("no file can have this name")
    except Exception as error:  # ComfyUI raises no narrower one for a path that leads out
        raise ValueError(
            f"filename_prefix {described(prefix)} names no place in ComfyUI's output folder: write a name such as "
            "'i2am/attribution'."
        ) from error
    return place


def saved_files() -> list[str]:
    """Every saved attribution, newest first, as ``<folder>/<path within it>``."""
    folders = {name: Path(folder()) for name, folder in FOLDERS.items()}
    files = [(path, name) for name, folder in folders.items() for path in folder.rglob(f"*{SUFFIX}")]
    files.sort(key=lambda file: file[0].stat().st_mtime, reverse=True)
    return [f"{name}/{path.relative_to(folders[name]).as_posix()}" for path, name in files]


def find(file: str) -> Path:
    """The file that an entry of the list names. Raises ValueError for one outside ComfyUI's folders, or missing."""
    name, _, inside = file.partition("/")
    if name not in FOLDERS:
        raise ValueError(f"'{file}' is not in ComfyUI's output or input folder: choose a file from the list.")
    folder = Path(FOLDERS[name]()).resolve()
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder) or not path.name.endswith(SUFFIX):
        raise ValueError(f"'{file}' is no attribution in ComfyUI's {name} folder: choose a file from the list.")
    if not path.is_file():
        raise ValueError(f"there is no file '{inside}' in ComfyUI's {name} folder: choose one that I2AM Save wrote.")
    return path
