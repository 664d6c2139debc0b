"""Nodes of the demo: its model, a scene to paint in, and the reference that goes into it."""

import torch
from comfy_api.latest import io
from torch import Tensor

from ..nodes.checked import checked, described
from ..nodes.comfy.tags import KEY, tag
from ..nodes.schema import Schema
from . import data, sprites
from .weights import JOINT_MODELS, MODELS, SHIPPED, models

Encoder = io.Custom("I2AM_DEMO_ENCODER")
CATEGORY = "I2AM/demo"


class DemoLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_DemoLoader",
            display_name="I2AM Demo Model",
            category=CATEGORY,
            description="A small model, part of this pack, that fills a masked square with the object of a reference "
            "image. For trying I2AM without a download: 64x64 pixels, emoji on soft colours. There are two: one with a "
            "reference, and one with two, which takes them as Flux Kontext does.",
            inputs=[
                io.Combo.Input(
                    "weights",
                    options=models(),
                    default=SHIPPED,
                    optional=True,
                    tooltip="'shipped' is the model with one reference; another has two. Where the pack's repository "
                    "is, there are worse ones, too, to see what scores say of them.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="Samples like any other model."),
                io.Vae.Output(display_name="vae", tooltip="Its VAE: an exact rearrangement of pixels."),
                Encoder.Output(
                    display_name="encoder",
                    tooltip="Its reference encoder, for I2AM Demo Reference. The model with two references has none.",
                ),
                io.Conditioning.Output(
                    display_name="empty_prompt",
                    tooltip="A prompt that says nothing: the negative. For the model with two references it is the "
                    "start of the positive, too: two ReferenceLatent add the scene, then the object.",
                ),
            ],
        )

    @classmethod
    @checked
    def execute(cls, weights: str = SHIPPED) -> io.NodeOutput:
        if weights in JOINT_MODELS:
            from . import joint_model, joint_network

            patcher, vae = joint_model.load(*JOINT_MODELS[weights])
            return io.NodeOutput(patcher, vae, None, [[joint_network.text(), {}]])
        from . import model, network

        return io.NodeOutput(*model.load(*MODELS[weights]), [[network.no_tokens(), {}]])


class DemoReference(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_DemoReference",
            display_name="I2AM Demo Reference",
            category=CATEGORY,
            description="Encodes a reference image for the demo model with one reference: 256 tokens, one for each 4x4 "
            "pixels.",
            inputs=[
                Encoder.Input("encoder", tooltip="From I2AM Demo Model."),
                io.Image.Input(
                    "image",
                    tooltip="The reference: one object near the middle. The central square of it is used, at 64x64.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="Tokens of the reference.")],
        )

    @classmethod
    @checked
    def execute(cls, encoder: torch.nn.Module, image: Tensor) -> io.NodeOutput:
        from .network import ReferenceEncoder

        if encoder is None:
            raise ValueError(
                "encoder of I2AM Demo Reference is nothing, as the demo model with two references has none: use VAE "
                "Encode and ReferenceLatent in its place, first for the scene, then for the object."
            )
        if not isinstance(encoder, ReferenceEncoder):
            raise ValueError(f"encoder of I2AM Demo Reference is {described(encoder)}: connect I2AM Demo Model.")
        pixels = _square(image[..., :3].movedim(-1, 1).float())
        with torch.no_grad():
            tokens = encoder(data.to_latent(pixels))
        mark = tag("demo reference", 0, tokens, (data.GRID, data.GRID))
        return io.NodeOutput([[tokens, {KEY: [mark]}]])


def _square(pixels: Tensor) -> Tensor:
    """The central square of images ``[B, 3, H, W]``, at the size that the model was trained on."""
    side = min(pixels.shape[-2:])
    top, left = ((length - side) // 2 for length in pixels.shape[-2:])
    pixels = pixels[..., top : top + side, left : left + side]
    if side == data.IMAGE:
        return pixels
    size = (data.IMAGE, data.IMAGE)
    return torch.nn.functional.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)


class DemoScene(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return Schema(
            node_id="I2AM_DemoScene",
            display_name="I2AM Demo Scene",
            category=CATEGORY,
            description="A scene with a masked square, and a reference with the object that belongs there. The demo "
            "model has never seen these objects.",
            inputs=[
                io.Int.Input(
                    "object",
                    default=0,
                    min=0,
                    max=9999,
                    tooltip="Which of the held-out objects; starts over after the last.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**32 - 1, tooltip="Places, sizes and colours of the scene."
                ),
                io.Int.Input(
                    "batch", default=1, min=1, max=64, tooltip="Scenes to draw, of this object and the next ones."
                ),
            ],
            outputs=[
                io.Image.Output(display_name="scene", tooltip="The scene, the square in grey."),
                io.Mask.Output(display_name="mask", tooltip="The square to paint."),
                io.Image.Output(display_name="reference", tooltip="The object on another background."),
                io.Mask.Output(display_name="reference_mask", tooltip="The object in the reference."),
                io.Image.Output(display_name="truth", tooltip="The scene with the object in it: the right answer."),
            ],
        )

    @classmethod
    @checked
    def execute(cls, object: int, seed: int, batch: int) -> io.NodeOutput:
        held_out = sprites.held_out_sprites()
        chosen = held_out[(object + torch.arange(batch)) % len(held_out)]
        scenes = data.draw_scenes(chosen, torch.Generator().manual_seed(seed))
        return io.NodeOutput(
            scenes.masked_image.movedim(1, -1),
            scenes.mask[:, 0],
            scenes.reference.movedim(1, -1),
            (scenes.reference_object_mask[:, 0] > 0.5).float(),
            scenes.image.movedim(1, -1),
        )


DEMO_NODES: list[type[io.ComfyNode]] = [DemoLoader, DemoReference, DemoScene]
