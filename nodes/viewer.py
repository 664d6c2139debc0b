"""I2AM Viewer: looks around in an attribution. The page (``web/``) loads one file; all the rest happens there."""

import io as streams
import json
from dataclasses import dataclass, field
from typing import Any

import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_api.latest import io
from PIL import Image
from safetensors.torch import save as to_bytes
from torch import Tensor

from ..i2am_core import (
    COLORMAPS,
    Attribution,
    FileHeader,
    HeaderPicture,
    TokenGrid,
    WithMadeBy,
    WithPredictions,
    color_table,
    sheets,
    view,
)
from .checked import checked
from .comfy.made_by import made_by
from .comfy.present_workflow import present_node
from .images import LONGEST_SIDE, choose, enlarge, generated_picture, reference_image, size_for, small
from .masks import PaintedMask, painted_mask
from .schema import AttributionHandle, Schema
from .temp_files import TempFiles
from .view_findings import view_findings
from .view_predictions import Decoder, view_predictions
from .wording import in_words

FILE_BYTES = 60 * 2**20  # of the file that the page loads
PICTURE_SIDE = 1024  # px, at most, of the pictures in it
FILES = TempFiles("i2am_", ".safetensors")


class I2AMViewer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_Viewer",
            display_name="I2AM Viewer",
            description="Look around: scrub through steps, layers and heads, and click a part of the picture to see "
            "which parts of the reference made it. Looking does not run the graph again.",
            is_output_node=True,
            inputs=[
                AttributionHandle.Input(
                    "attribution",
                    optional=True,
                    tooltip="From I2AM Collect or I2AM Load. Without it, nothing is shown.",
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="The generated picture. Without it, the one saved with the maps."
                ),
                io.Image.Input(
                    "reference",
                    optional=True,
                    tooltip="The reference image, as the model saw it. Without it, the one saved with the maps.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the picture was painted, for the outline and the score. Without it, the mask that "
                    "the sampler worked with.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Decodes what the model predicted with the reference and without it, in a run with "
                    "I2AM Effect: the viewer then shows both pictures, one beside the other.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.dynprompt],  # not the node's own number, which would be part of what ComfyUI caches it by
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        """ComfyUI answers for a cached node with the name of its old file: where files are gone, it is to run again."""
        return FILES.count_gone()

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, attribution: Attribution | None = None, image: Tensor | None = None, reference: Tensor | None = None,
        mask: Tensor | None = None, vae: Decoder | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        if attribution is None:  # as where I2AM Collect is bypassed: the page says so
            return io.NodeOutput(ui={"i2am_view": []})
        pictures = Pictures()
        items = range(attribution.items)
        painted = [_mask(attribution, mask, item) for item in items]
        generated = [_generated(pictures, attribution, image, item) for item in items]
        references = [
            [_reference(pictures, attribution, reference, number, item) for item in items]
            for number in range(len(attribution.references))
        ]
        masks = {
            f"mask/{item}": enlarge(x.inside, about["canvas"]).round().to(torch.uint8)
            for item, (x, about) in enumerate(zip(painted, generated, strict=True))
            if x is not None
        }
        predictions: WithPredictions = {}
        said: list[str] = []
        if vae is not None:
            predictions, said = view_predictions(attribution, vae, pictures.name_of)
        tables = torch.stack([color_table(name) for name in COLORMAPS])
        tensors = pictures.tensors | masks | {"colormaps": (tables * 255).round().to(torch.uint8)}
        progress = ProgressBar(sheets(attribution))

        def tick() -> None:
            throw_exception_if_processing_interrupted()
            progress.update(1)

        insides = [None if x is None else x.inside for x in painted]
        maps = view(attribution, FILE_BYTES - sum(x.nbytes for x in tensors.values()), insides, tick)
        notes = list(dict.fromkeys([*(note for x in painted if x is not None for note in x.notes), *said]))
        header: FileHeader = {
            **maps.header,
            **_settings(getattr(cls.hidden, "dynprompt", None)),
            **predictions,
            "pictures": {"generated": generated, "reference": references},
            "colormaps": list(COLORMAPS),
            "masked": sorted(masks),
            "notes": [*maps.header["notes"], *notes],
            "summary": "\n".join([*notes, maps.header["summary"]]),
            "findings": view_findings(attribution, insides if mask is not None else [None] * attribution.items),
        }
        return io.NodeOutput(ui={"i2am_view": [_write(tensors | maps.tensors, header)]})


def _settings(workflow: Any) -> WithMadeBy:
    """By which settings the file is made, where that is known."""
    settings = made_by(workflow, present_node())
    return {} if settings is None else {"made_by": settings}


@dataclass
class Pictures:
    """PNG files as tensors; of equal pictures there is one."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    _names: dict[bytes, str] = field(default_factory=dict)

    def add(self, picture: Tensor | None, grid: TokenGrid, note: str = "") -> HeaderPicture:
        """Add a picture ``[H, W, 3]`` uint8. Returns what the page needs: its name, and the size in px of its heat."""
        if picture is None:
            return {"name": None, "canvas": size_for(grid), "note": note}
        height, width = picture.shape[:2]
        scale = LONGEST_SIDE / max(height, width)
        return {
            "name": self.name_of(picture),
            "canvas": (max(1, round(height * scale)), max(1, round(width * scale))),
            "note": note,
        }

    def name_of(self, picture: Tensor) -> str:
        """The name of the tensor that holds a picture ``[H, W, 3]`` uint8."""
        stream = streams.BytesIO()
        Image.fromarray(picture.numpy()).save(stream, "PNG", compress_level=1)
        data = stream.getvalue()
        if data not in self._names:
            self._names[data] = f"picture/{len(self._names)}"
            self.tensors[self._names[data]] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return self._names[data]


def _generated(pictures: Pictures, attribution: Attribution, image: Tensor | None, item: int) -> HeaderPicture:
    if image is None:
        return pictures.add(attribution.picture("r2g", 0, item), attribution.grid)
    return pictures.add(small(choose(image, generated_picture(attribution, item)), PICTURE_SIDE), attribution.grid)


def _reference(
    pictures: Pictures, attribution: Attribution, image: Tensor | None, number: int, item: int
) -> HeaderPicture:
    """The reference's picture. One that is not what the model saw is left out with the reason, and the maps stay."""
    grid = attribution.references[number].grid
    if image is None:
        return pictures.add(attribution.picture("g2r", number, item), grid or TokenGrid(1, 1))
    if grid is None:
        return pictures.add(small(image[min(number, len(image) - 1)][..., :3], PICTURE_SIDE), TokenGrid(1, 1))
    try:
        chosen = choose(image, reference_image(attribution, number, item))
    except ValueError as error:
        saved = attribution.picture("g2r", number, item)
        return pictures.add(saved, grid, str(error) if saved is None else "")
    return pictures.add(small(chosen, PICTURE_SIDE), grid)


def _mask(attribution: Attribution, mask: Tensor | None, item: int) -> PaintedMask | None:
    """Where the picture was painted, if that is known."""
    if mask is None and attribution.denoise_mask is None:
        return None
    return painted_mask(attribution, mask, item, "mask")


def _write(tensors: dict[str, Tensor], header: FileHeader) -> dict[str, Any]:
    """Write a file for the page and describe it."""
    data = to_bytes({name: x.contiguous() for name, x in tensors.items()}, metadata={"i2am_view": json.dumps(header)})
    name = FILES.write(data)
    return {"filename": name, "subfolder": "", "type": "temp", "bytes": len(data)}
