"""I2AM IPAdapter Reference: the maps of an IP-Adapter Plus on its reference image, approximately."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..i2am_core import patch_grid, resample, rollout
from .checked import checked
from .comfy.handle import Capture
from .comfy.resampler_rollout import Image, RolledOut
from .images import small
from .schema import CaptureHandle, Schema
from .tag_reference import central_square
from .wording import in_words

IPAdapter = io.Custom("IPADAPTER")


class I2AMIPAdapterReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_IPAdapterReference",
            display_name="I2AM IPAdapter Reference",
            description="Place it between I2AM Capture and I2AM Collect: the 16 tokens of an IP-Adapter Plus are put "
            "on the patches of the image that they were made of. Which part of the image acts is then shown, "
            "approximately; where it acts in the picture stays exact.",
            inputs=[
                CaptureHandle.Input("capture", tooltip="From I2AM Capture."),
                IPAdapter.Input("ipadapter", tooltip="What goes into the IPAdapter node: of the kind 'Plus'."),
                io.Image.Input("image", tooltip="The reference image or images that go into the IPAdapter node."),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="What goes into the IPAdapter node. IPAdapter Unified Loader brings its own.",
                ),
            ],
            outputs=[CaptureHandle.Output(display_name="capture", tooltip="Goes to I2AM Collect.")],
        )

    @classmethod
    @in_words()
    @checked
    def execute(
        cls, capture: Capture | RolledOut, ipadapter: Any, image: Tensor, clip_vision: Any = None
    ) -> io.NodeOutput:
        ipadapter, clip_vision = _parts(ipadapter, clip_vision)
        features = clip_vision.encode_image(image.float()).penultimate_hidden_states
        resampled = resample(ipadapter["image_proj"], features.cpu())
        patch_grid(features.shape[1])  # raises now, not after sampling, where the patches are no square
        shares = rollout(resampled.attentions)
        pictures = [small(central_square(x)) for x in image]
        images = (Image(*parts) for parts in zip(resampled.tokens, shares, pictures, strict=True))
        return io.NodeOutput(RolledOut(capture, tuple(images)))


def _parts(ipadapter: Any, clip_vision: Any) -> tuple[Mapping[str, Any], Any]:
    """The adapter's weights and its CLIP vision: IPAdapter Unified Loader gives both in one."""
    if isinstance(ipadapter, Mapping) and "ipadapter" in ipadapter:
        clip_vision = clip_vision or (ipadapter.get("clipvision") or {}).get("model")
        ipadapter = ipadapter["ipadapter"].get("model")
    if not isinstance(ipadapter, Mapping) or not isinstance(ipadapter.get("image_proj"), Mapping):
        raise ValueError(
            f"I2AM IPAdapter Reference got a {type(ipadapter).__name__} that holds no 'image_proj': connect the "
            "ipadapter of IPAdapter Model Loader or IPAdapter Unified Loader."
        )
    if "portraitunnorm" in ipadapter:
        raise ValueError(
            "this is a FaceID Portrait adapter, whose tokens describe a face and belong to no part of the image: only "
            "the tokens of an IP-Adapter Plus can be put on patches."
        )
    if clip_vision is None:
        raise ValueError(
            "this ipadapter comes without a CLIP vision model: connect clip_vision with what the IPAdapter node gets."
        )
    return ipadapter, clip_vision
