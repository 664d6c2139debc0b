"""MiniMax H3 at the smallest size, and a graph around it, by the host's own classes. ComfyUI 0.33 has it."""

from typing import Any

import comfy.supported_models
import tiny_models
import torch
from comfy.model_patcher import ModelPatcher
from this_core import need
from tiny_graphs import Graph, noise
from tiny_models import TEXT_WIDTH


def minimax_h3(**config: Any) -> ModelPatcher:
    """A video and its sound in one sequence, in 2 blocks of 2 heads."""
    tiny = {
        "image_model": "minimax_h3",
        "hidden_size": 32,
        "num_layers": 2,
        "token_refiner_num_layers": 1,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "ffn_hidden_size": 32,
        "text_dim": TEXT_WIDTH,
        "timestep_input_dim": 16,
        "time_embed_hidden_size": 16,
        "time_embed_dim": 16,
        "rope_inv_freq_len": 2,
    }
    model = tiny_models.build(tiny | config, need(comfy.supported_models, "MiniMaxH3"))
    model.model.diffusion_model.rope.inv_freq.copy_(torch.tensor([1.0, 0.1]))  # no parameter
    return model


def minimax_h3_references(text: int = 1, reference: int = 2, cfg: float = 1.0, bare: bool = False) -> Graph:
    """What MiniMaxH3AddGuide and MiniMaxH3ReferenceToVideo give: a guide, an image, a video with sound, and a sound.

    ``T|guide|image|sound|video|sound|sound of the target|target``; both latents are in one. Nothing of it if ``bare``.
    """
    import comfy.nested_tensor

    model, (positive, negative) = minimax_h3(), ([[noise(text + 100 * n, 1, 7, TEXT_WIDTH), {}]] for n in range(2))
    latents = [noise(reference + n, 1, 24, *size) for n, size in enumerate(((1, 4, 4), (1, 4, 6), (2, 2, 4)))]
    guide, image, video = latents
    sounds = [noise(reference + 10 + n, 1, 32, 2, length) for n, length in enumerate((3, 2))]
    if not bare:
        positive[0][1]["minimax_keyframes"] = [{"resolved_frame_index": 0, "latent": guide}]
        positive[0][1]["minimax_refs"] = [
            {"kind": "image", "latent_h": 4, "latent_w": 6, "latent": image},
            {"kind": "video_audio", "latent_t": 2, "latent_h": 2, "latent_w": 4, "ref_audio_t": 3, "latent": video}
            | {"audio_latent": sounds[0]},
            {"kind": "audio", "ref_audio_t": 2, "audio_latent": sounds[1]},
        ]
    target = comfy.nested_tensor.NestedTensor((torch.zeros(1, 24, 2, 4, 4), torch.zeros(1, 32, 2, 8)))
    return Graph(model, positive, negative, {"samples": target}, cfg, 7, latents)
