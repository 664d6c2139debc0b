"""ComfyUI's own model classes at the smallest sizes they allow, with seeded random weights, on the CPU.

A model is built as ``load_diffusion_model_state_dict`` in comfy/sd.py builds it once the configuration is
detected: the entry of comfy/supported_models.py that matches it makes the model. Only the detection from the names
and shapes of the weights is left out, as it takes the heads and dimensions of the published models for granted.
"""

import dataclasses
import math
from typing import Any

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_detection
import comfy.ops
import comfy.supported_models
import torch
from comfy.ldm.chroma.model import ChromaParams
from comfy.ldm.flux.model import FluxParams
from comfy.ldm.hunyuan_video.model import HunyuanVideoParams
from comfy.model_patcher import ModelPatcher
from comfy.supported_models_base import BASE
from this_core import need
from torch import Tensor

TEXT_WIDTH = 12
POOLED_WIDTH = 10


def flux(**config: Any) -> ModelPatcher:
    """Flux.1 dev and Kontext: ``T|I|R...`` in 2 double and 2 single blocks (comfy/ldm/flux/model.py)."""
    return build(known_parameters(FluxParams, FLUX | {"image_model": "flux"} | config))


def flux_fill() -> ModelPatcher:
    """Flux.1 Fill: masked image and mask, 16 + 64 channels, beside the latent's 16."""
    return flux(in_channels=96)


def flux2(**config: Any) -> ModelPatcher:
    """Flux.2: 128 channels, a cell is a token, text padded on the left to 512, one modulation for all blocks."""
    tiny = {
        "image_model": "flux2",
        "in_channels": 128,
        "out_channels": 128,
        "patch_size": 1,
        "vec_in_dim": None,
        "mlp_ratio": 3.0,
        "axes_dim": [4, 4, 4, 4],
        "theta": 2000,
        "qkv_bias": False,
        "global_modulation": True,
        "mlp_silu_act": True,
        "ops_bias": False,
        "default_ref_method": "index",
        "ref_index_scale": 10.0,
        "txt_ids_dims": [3],
    }
    return build(known_parameters(FluxParams, FLUX | tiny | config), need(comfy.supported_models, "Flux2"))


def chroma(**config: Any) -> ModelPatcher:
    """Chroma: ``T|I`` in 2 double and 2 single blocks, its modulation from a network (comfy/ldm/chroma/model.py)."""
    tiny = {"image_model": "chroma", "in_channels": 64, "out_channels": 64, "patch_size": 2}
    shared = {name: FLUX[name] for name in FLUX if name not in ("vec_in_dim", "guidance_embed")}
    approximator = {"in_dim": 64, "out_dim": FLUX["hidden_size"], "hidden_dim": 8, "n_layers": 1}
    return build(known_parameters(ChromaParams, shared | tiny | approximator | {"vec_in_dim": None} | config))


def sd3(**config: Any) -> ModelPatcher:
    """Stable Diffusion 3.5 medium: ``T|I`` in 2 blocks, and in the first the picture alone (mmdit.py)."""
    tiny = {
        "in_channels": 16,
        "input_size": None,
        "depth": 2,
        "adm_in_channels": POOLED_WIDTH,
        "context_embedder_config": {
            "target": "torch.nn.Linear",
            "params": {"in_features": TEXT_WIDTH, "out_features": 128},
        },
        "num_patches": 64,
        "pos_embed_max_size": 8,
        "pos_embed_scaling_factor": None,
        "qk_norm": "rms",
        "x_block_self_attn_layers": [0],
    }
    model = build(tiny | config, comfy.supported_models.SD3)
    model.model.diffusion_model.pos_embed.zero_()  # not a parameter
    return model


def qwen_image(**config: Any) -> ModelPatcher:
    """Qwen-Image and Qwen-Image-Edit: ``T|I|R...`` in 2 double blocks (comfy/ldm/qwen_image/model.py)."""
    tiny = {
        "image_model": "qwen_image",
        "in_channels": 64,
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": TEXT_WIDTH,
        "axes_dims_rope": (4, 6, 6),
    }
    return build(tiny | config)


def omnigen2(**config: Any) -> ModelPatcher:
    """OmniGen2: 4 heads of queries, 2 of keys; ``T|R...|I`` in 2 layers (comfy/ldm/omnigen/omnigen2.py)."""
    tiny = {
        "image_model": "omnigen2",
        "in_channels": 16,
        "hidden_size": 48,
        "num_layers": 2,
        "num_refiner_layers": 1,
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "multiple_of": 16,
        "axes_dim_rope": [4, 4, 4],
        "text_feat_dim": TEXT_WIDTH,
        "timestep_scale": 1000.0,
    }
    return build(tiny | config)


def hidream(**config: Any) -> ModelPatcher:
    """HiDream I1 and E1: ``I|T5|llama|llama`` in 2 double and 2 single blocks (comfy/ldm/hidream/model.py)."""
    tiny = {
        "image_model": "hidream",
        "in_channels": 16,
        "out_channels": 16,
        "patch_size": 2,
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "axes_dims_rope": [8, 4, 4],
        "caption_channels": [TEXT_WIDTH, TEXT_WIDTH],
        "text_emb_dim": POOLED_WIDTH,
        "llama_layers": [0, 1, 1, 1],
        "max_resolution": [128, 128],
    }
    return build(tiny | config)


def lumina2(**config: Any) -> ModelPatcher:
    """Lumina 2: refiners, then ``T|I`` in 2 layers, 4 heads of queries, 2 of keys (comfy/ldm/lumina/model.py)."""
    return build(LUMINA | config, comfy.supported_models.Lumina2)


def z_image(**config: Any) -> ModelPatcher:
    """Z-Image: as Lumina 2, text and picture each padded to a multiple of 32 tokens; the class needs 256 channels."""
    tiny = {
        "dim": 256,
        "n_kv_heads": 4,
        "ffn_dim_multiplier": 1.0,
        "axes_dims": [16, 24, 24],
        "rope_theta": 256.0,
        "z_image_modulation": True,
        "time_scale": 1000.0,
        "pad_tokens_multiple": 32,
    }
    return build(LUMINA | tiny | config, need(comfy.supported_models, "ZImage"))


def sd15(**config: Any) -> ModelPatcher:
    """Stable Diffusion 1.5: U-Net of two levels, 8 heads (comfy/ldm/modules/diffusionmodules/openaimodel.py)."""
    tiny = UNET | {"use_linear_in_transformer": False, "adm_in_channels": None}
    return build(tiny | config, comfy.supported_models.SD15)


def sd15_inpaint() -> ModelPatcher:
    """Stable Diffusion 1.5 with mask and masked image as channels: 4 + 1 + 4."""
    return sd15(in_channels=9)


def sdxl(**config: Any) -> ModelPatcher:
    """Stable Diffusion XL: heads of 64 channels, two transformer blocks in the second level, pooled text."""
    tiny = UNET | {
        "model_channels": 64,
        "transformer_depth": [0, 2],
        "transformer_depth_output": [0, 0, 2, 2],
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": POOLED_WIDTH + 6 * 256,
    }
    return build(tiny | config, comfy.supported_models.SDXL)


def wan_t2v(**config: Any) -> ModelPatcher:
    """Wan 2.1 text to video and Phantom: self- and cross-attention in 2 blocks (comfy/ldm/wan/model.py)."""
    return build(WAN | {"model_type": "t2v"} | config)


def wan_i2v(**config: Any) -> ModelPatcher:
    """Wan 2.1 image to video: first frame and its mask as channels, and attention to 257 tokens of CLIP."""
    return build(WAN | {"model_type": "i2v", "in_dim": 36} | config)


def wan_flf2v() -> ModelPatcher:
    """Wan 2.1 first and last frame: as ``wan_i2v``, to 2 x 257 tokens of CLIP."""
    return wan_i2v(flf_pos_embed_token_number=514)


def wan_fun_reference() -> ModelPatcher:
    """Wan 2.2 Fun Control: control, start frame and mask as channels, and a reference frame before the video."""
    return wan_t2v(in_dim=52, in_dim_ref_conv=16)


def wan_vace() -> ModelPatcher:
    """Wan 2.1 VACE: a control branch of one block after the first of the two."""
    return build(WAN | {"model_type": "vace", "vace_layers": 1, "vace_in_dim": 96})


def hunyuan_video(**config: Any) -> ModelPatcher:
    """HunyuanVideo: ``video|T`` in 2 double and 2 single blocks (comfy/ldm/hunyuan_video/model.py)."""
    return build(known_parameters(HunyuanVideoParams, HUNYUAN | config))


def hunyuan_video_i2v() -> ModelPatcher:
    """HunyuanVideo image to video v1: first frame and mask as channels, 16 + 16 + 1."""
    return hunyuan_video(in_channels=33)


def hunyuan_video_15() -> ModelPatcher:
    """HunyuanVideo 1.5: a cell is a token; SigLIP and byt5 beside the text, first frame and mask as channels."""
    need(comfy.supported_models, "HunyuanVideo15")
    return hunyuan_video(
        in_channels=65,
        out_channels=32,
        patch_size=[1, 1, 1],
        vec_in_dim=None,
        guidance_embed=False,
        byt5=True,
        use_cond_type_embedding=True,
        vision_in_dim=1152,
        meanflow_sum=True,
    )


def svd() -> ModelPatcher:
    """Stable Video Diffusion: the image as one token of text, and as channels beside each frame, 4 + 4."""
    tiny = UNET | {
        "in_channels": 8,
        "model_channels": 64,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 3 * 256,
        "use_temporal_attention": True,
        "use_temporal_resblock": True,
        "extra_ff_mix_layer": True,
        "use_spatial_context": True,
        "merge_strategy": "learned_with_images",
        "merge_factor": 0.0,
        "video_kernel_size": [3, 1, 1],
        "disable_temporal_crossattention": False,
    }
    return build(tiny, comfy.supported_models.SVD_img2vid)


def ltxv() -> ModelPatcher:
    """LTX Video, whose order of tokens I2AM does not know (comfy/ldm/lightricks/model.py)."""
    tiny = {
        "image_model": "ltxv",
        "cross_attention_dim": 32,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "caption_channels": TEXT_WIDTH,
        "num_layers": 2,
    }
    return build(tiny)


def cosmos() -> ModelPatcher:
    """Cosmos image to video, whose order of tokens I2AM does not know (comfy/ldm/cosmos/model.py)."""
    tiny = COSMOS | {
        "image_model": "cosmos",
        "block_config": "FA-CA-MLP",
        "block_x_format": "THWBD",
        "affline_emb_norm": True,
        "extra_per_block_abs_pos_emb": True,
        "extra_per_block_abs_pos_emb_type": "learnable",
    }
    return build(tiny)


def cosmos_predict2() -> ModelPatcher:
    """Cosmos Predict2 image to video (comfy/ldm/cosmos/predict2.py)."""
    return build(COSMOS | {"image_model": "cosmos_predict2"})


def control_net() -> comfy.controlnet.ControlNet:
    """A ControlNet for ``sd15``: a copy of the U-Net's first half, whose hint is a picture (comfy/cldm/cldm.py)."""
    tiny = UNET | {"use_linear_in_transformer": False, "num_heads": 8, "hint_channels": 3}
    outputs = ("out_channels", "transformer_depth_output", "use_temporal_attention")
    model = comfy.cldm.cldm.ControlNet(
        **{name: value for name, value in tiny.items() if name not in outputs}, operations=comfy.ops.manual_cast
    ).eval()
    fill(model)
    cpu = torch.device("cpu")
    return comfy.controlnet.ControlNet(model, load_device=cpu)


FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": POOLED_WIDTH,
    "context_in_dim": TEXT_WIDTH,
    "hidden_size": 32,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    "txt_ids_dims": [],
}

HUNYUAN = {
    "image_model": "hunyuan_video",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "vec_in_dim": POOLED_WIDTH,
    "context_in_dim": TEXT_WIDTH,
    "hidden_size": 32,
    "mlp_ratio": 2.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6],
    "theta": 256,
    "qkv_bias": True,
    "guidance_embed": True,
    "byt5": False,
    "meanflow": False,
    "use_cond_type_embedding": False,
    "vision_in_dim": None,
    "meanflow_sum": False,
}

# Parameters that some versions lack: of HunyuanVideo 1.5, of Chroma Radiance, and the place of a text token in Flux,
# which is then 0.
NOT_EVERYWHERE = {
    *("txt_ids_dims", "vec_in_dim", "use_cond_type_embedding", "vision_in_dim", "meanflow_sum"),
    *("use_x0", "use_sequential_txt_ids"),
}

LUMINA = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 48,
    "n_layers": 2,
    "n_refiner_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 2,
    "multiple_of": 16,
    "qk_norm": True,
    "cap_feat_dim": TEXT_WIDTH,
    "axes_dims": [4, 4, 4],
    "axes_lens": [300, 512, 512],
}

WAN = {
    "image_model": "wan2.1",
    "patch_size": (1, 2, 2),
    "in_dim": 16,
    "out_dim": 16,
    "dim": 24,
    "ffn_dim": 48,
    "freq_dim": 16,
    "text_dim": TEXT_WIDTH,
    "num_heads": 2,
    "num_layers": 2,
}

COSMOS = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 17,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "model_channels": 64,
    "num_blocks": 2,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "crossattn_emb_channels": TEXT_WIDTH,
    "pos_emb_cls": "rope3d",
    "use_adaln_lora": True,
    "adaln_lora_dim": 16,
}

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": (1, 2),
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": TEXT_WIDTH,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}


def known_parameters(params: type, config: dict[str, Any]) -> dict[str, Any]:
    """The parameters that this core's dataclass ``params`` of the model has."""
    fields = {field.name for field in dataclasses.fields(params)}
    return {name: value for name, value in config.items() if name in fields or name not in NOT_EVERYWHERE}


def build(config: dict[str, Any], family: type[BASE] | None = None, seed: int = 0) -> ModelPatcher:
    """The model of this ``unet_config``; ``family`` where the host tells it by the size of the published model."""
    family_config = family(config) if family else comfy.model_detection.model_config_from_unet_config(config)
    family_config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    model = family_config.get_model({}, device=cpu).eval()
    fill(model.diffusion_model, seed)
    return ModelPatcher(model, cpu, cpu)


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    """Random weights everywhere: the host leaves them uninitialised, and training would start some at zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.requires_grad_(False).copy_(_scaled(name, noise))


def _scaled(name: str, noise: Tensor) -> Tensor:
    if noise.ndim > 1:
        return noise / math.sqrt(noise[0].numel())  # the size of a row, so that activations keep theirs
    is_gain_of_a_norm = name.endswith(("weight", "scale"))
    return 1 + 0.2 * noise if is_gain_of_a_norm else 0.1 * noise
