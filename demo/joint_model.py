"""The joint demo model as a ComfyUI MODEL: its own Flux class, to which references come as latents."""

# The classes of ComfyUI that are inherited from here have no types.
# mypy: allow-untyped-calls

from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.supported_models
import comfy.supported_models_base
import torch
from torch import Tensor

from . import joint_network
from .model import LatentFormat, PixelVAE, check_tokens, mean_weights
from .weights import JOINT_WEIGHTS


class JointConfig(comfy.supported_models_base.BASE):
    unet_extra_config = {}
    latent_format = LatentFormat
    sampling_settings: dict[str, Any] = {"multiplier": 1.0}  # the model is given sigma itself
    memory_usage_factor = 1.0


class PredictsImage(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    """Flow matching whose model says the clean latent, not the velocity: few channels pass little noise through."""

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_output


class JointDiffusion(comfy.model_base.Flux):
    """ComfyUI's Flux: any number of ``reference_latents``, in the order scene, object."""

    def __init__(self, config: JointConfig, device: torch.device | None = None) -> None:
        super().__init__(config, device=device)
        self.model_sampling = PredictsImage(config)

    def encode_adm(self, **kwargs: Any) -> None:
        """Nothing: this one has no pooled prompt."""

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Raises ValueError for a prompt or a latent of another model."""
        check_tokens(kwargs.get("cross_attn"), joint_network.TEXT_TOKENS, "two references", "empty_prompt")
        for latent in kwargs.get("reference_latents") or []:
            if latent.shape[1] != LatentFormat.latent_channels:
                raise ValueError(
                    f"A reference latent has {latent.shape[1]} channels, and the demo model with two references reads "
                    f"{LatentFormat.latent_channels}: encode the image with the vae of I2AM Demo Model."
                )
        conditions: dict[str, Any] = super().extra_conds(**kwargs)
        return conditions


def load(*paths: Path) -> tuple[comfy.model_patcher.ModelPatcher, PixelVAE]:
    """Model and VAE, from the joint model's own weights or the mean of those in files."""
    load_device = comfy.model_management.get_torch_device()
    config = JointConfig(joint_network.flux_config() | {"dtype": torch.float32})
    model = JointDiffusion(config, torch.device("cpu"))
    weights = mean_weights(paths or (JOINT_WEIGHTS,))  # which newer cores know by other names
    weights = comfy.supported_models.Flux.process_unet_state_dict(config, weights)
    model.diffusion_model.load_state_dict(weights)
    patcher = comfy.model_patcher.ModelPatcher(model, load_device, comfy.model_management.unet_offload_device())
    return patcher, PixelVAE()
