"""The demo model as ComfyUI objects: a MODEL that stock samplers run, a VAE, and a reference encoder."""

# The classes of ComfyUI that are inherited from here have no types.
# mypy: allow-untyped-calls

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.supported_models_base
import torch
from safetensors.torch import load_file
from torch import Tensor

from . import data, network
from .weights import WEIGHTS


class LatentFormat(comfy.latent_formats.LatentFormat):
    """Pixels, rearranged: 4x4 of them to a cell of 48 channels. Nothing to scale."""

    scale_factor = 1.0
    latent_channels = network.LATENT_CHANNELS
    spacial_downscale_ratio = data.PATCH

    def __init__(self) -> None:
        """A preview of the picture while sampling: each cell's mean colour."""
        colour = torch.arange(self.latent_channels) // (data.PATCH * data.PATCH)
        weights = torch.nn.functional.one_hot(colour, 3).float() / (data.PATCH * data.PATCH)
        self.latent_rgb_factors = weights.tolist()  # type: ignore[assignment]  # ComfyUI's type is that of its default


class ModelConfig(comfy.supported_models_base.BASE):
    unet_extra_config = {}  # heads are as network.UNET_CONFIG says
    latent_format = LatentFormat
    sampling_settings: dict[str, Any] = {}
    memory_usage_factor = 1.0


class DemoDiffusion(comfy.model_base.BaseModel):
    """ComfyUI's UNetModel, predicting the clean latent, conditioned on mask and masked image by channels."""

    def __init__(self, config: ModelConfig, device: torch.device | None = None) -> None:
        super().__init__(config, comfy.model_base.ModelType.EPS, device=device)
        self.concat_keys = ("mask", "masked_image")  # type: ignore[assignment]  # ComfyUI's is that of its default

        class PredictsImage(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.X0):
            pass

        self.model_sampling = PredictsImage(config)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Raises ValueError for a conditioning of another model."""
        check_tokens(kwargs.get("cross_attn"), network.CONTEXT_DIM, "one reference", "I2AM Demo Reference")
        conditions: dict[str, Any] = super().extra_conds(**kwargs)
        return conditions

    def blank_inpaint_image_like(self, latent: Tensor) -> Tensor:
        return torch.zeros_like(latent)

    def concat_cond(self, **kwargs: Any) -> Tensor:
        """ComfyUI's mask and masked image, with the position in the mask between them."""
        both = super().concat_cond(**kwargs)
        mask, masked_image = both[:, :1], both[:, 1:]
        masked_image = masked_image * (mask < 0.5)  # what is under the mask is the answer
        return torch.cat([mask, network.mask_coordinates(mask), masked_image], 1)


class PixelVAE:
    """The 'VAE' of a model that works on pixels: an exact rearrangement, both ways."""

    downscale_ratio = data.PATCH
    latent_channels = network.LATENT_CHANNELS

    def encode(self, pixels: Tensor) -> Tensor:
        """Images ``[B, H, W, C]`` in [0, 1] to latents, cropped to whole cells."""
        height, width = (x - x % data.PATCH for x in pixels.shape[1:3])
        return data.to_latent(pixels[:, :height, :width, :3].movedim(-1, 1).float())

    def decode(self, latent: Tensor) -> Tensor:
        return data.to_image(latent.float()).movedim(1, -1)

    def spacial_compression_encode(self) -> int:
        return data.PATCH

    spacial_compression_decode = spacial_compression_encode


def load(*paths: Path) -> tuple[comfy.model_patcher.ModelPatcher, PixelVAE, network.ReferenceEncoder]:
    """Model, VAE and reference encoder from the weights that ship with the pack, or the mean of those in files."""
    weights = mean_weights(paths or (WEIGHTS,))
    load_device = comfy.model_management.get_torch_device()
    model = DemoDiffusion(ModelConfig(network.UNET_CONFIG | {"dtype": torch.float32}), device=torch.device("cpu"))
    unet = {name.removeprefix("unet."): w for name, w in weights.items() if name.startswith("unet.")}
    model.diffusion_model.load_state_dict(unet)
    encoder = network.ReferenceEncoder(comfy.ops.disable_weight_init)
    encoder.load_state_dict({n.removeprefix("encoder."): w for n, w in weights.items() if n.startswith("encoder.")})
    patcher = comfy.model_patcher.ModelPatcher(model, load_device, comfy.model_management.unet_offload_device())
    return patcher, PixelVAE(), encoder.train(False)


def check_tokens(tokens: Tensor | None, width: int, model: str, giver: str) -> None:
    """Raises ValueError where the tokens of a conditioning are another model's."""
    if tokens is not None and tokens.shape[-1] != width:
        raise ValueError(
            f"The conditioning has tokens of {tokens.shape[-1]} numbers, and the demo model with {model} reads "
            f"those of {width}: connect that of {giver}."
        )


def mean_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """By name, the mean over files of the same model."""
    files = [load_file(path) for path in paths]
    return {name: torch.stack([file[name].float() for file in files]).mean(0) for name in files[0]}
