"""Qwen-Image-Edit with its images in the text: ComfyUI's own text encoder, tokenizer and nodes, at the smallest sizes.

The language model is Qwen2.5-VL of 2 layers, its eyes of 2 layers of 16 channels. The real tokenizer gives the places.
"""

from typing import Any

import comfy.sd
import comfy.text_encoders.llama as llama
import comfy.text_encoders.qwen_image as qwen_image
import comfy.text_encoders.qwen_vl as qwen_vl
import comfy_extras.nodes_qwen as nodes_qwen
import tiny_graphs
import tiny_models
import torch
from tiny_graphs import Graph
from tiny_models import TEXT_WIDTH
from torch import Tensor

LANGUAGE_MODEL = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
}
EDIT_TOKENS = 37 * 37  # that TextEncodeQwenImageEdit makes of a square image
SIZES = ((64, 64), (48, 96))  # px, height and width: squares of 384 px for Plus are 14 x 14 tokens, the second 10 x 19
GRIDS = ((14, 14), (10, 19))


class TinyQwenVL(llama.Qwen25_7BVLI):
    """The language model, but for its eyes, whose size its class does not leave to the configuration."""

    def __init__(self, config: dict[str, Any], dtype: Any, device: Any, operations: Any) -> None:
        super().__init__(config, dtype, torch.device("meta"), operations)
        self.visual = qwen_vl.Qwen2VLVisionTransformer(
            hidden_size=16,
            output_hidden_size=TEXT_WIDTH,
            intermediate_size=24,
            num_heads=2,
            num_layers=2,
            ops=operations,
        )
        self.visual.fullatt_block_indexes = [1]
        self.model.to_empty(device="cpu")


class TinyEncoder(qwen_image.Qwen25_7BVLIModel):
    """``Qwen25_7BVLIModel`` around it."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        qwen_image.sd1_clip.SDClipModel.__init__(
            self,
            device=device,
            layer="last",
            textmodel_json_config=dict(LANGUAGE_MODEL),
            dtype=dtype,
            special_tokens={"pad": 151643},
            layer_norm_hidden_state=False,
            model_class=TinyQwenVL,
            enable_attention_masks=True,
            return_attention_masks=True,
            model_options=model_options or {},
        )


def qwen_clip(
    model: Any = qwen_image.QwenImageTEModel, tokenizer: Any = qwen_image.QwenImageTokenizer
) -> comfy.sd.CLIP:
    """A CLIP of random weights, as ``load_clip`` makes it of the published ones."""

    class Target:
        params: dict[str, Any] = {}
        clip = model

    Target.tokenizer = tokenizer
    cpu = torch.device("cpu")
    options = {"qwen25_7b_class": TinyEncoder, "load_device": cpu, "offload_device": cpu, "dtype": torch.float32}
    clip = comfy.sd.CLIP(Target, model_options=options)
    tiny_models.fill(clip.cond_stage_model)
    return clip


def images(seed: int = 2, sizes: Any = SIZES) -> list[Tensor]:
    """Pictures with large parts, so that they differ as real ones do."""
    return [tiny_graphs.pixels(seed + n, 1, *size) for n, size in enumerate(sizes)]


def qwen_plus(
    clip: comfy.sd.CLIP, prompt: str = "a cat", seed: int = 2, sizes: Any = SIZES, vae: Any = None, **shape: Any
) -> Graph:
    """TextEncodeQwenImageEditPlus, with a VAE or without: ``T|I|R...``, and in the text each image."""
    graph = tiny_graphs._image(tiny_models.qwen_image(), 1, 16, **shape)
    graph.references = images(seed, sizes)
    named = {f"image{n}": image for n, image in enumerate(graph.references, 1)}
    graph.positive = tiny_graphs.run(nodes_qwen.TextEncodeQwenImageEditPlus, clip, prompt, vae, **named)[0]
    graph.text_tokens = graph.positive[0][0].shape[1]
    return graph


def qwen_one(clip: comfy.sd.CLIP, prompt: str = "a cat", seed: int = 2, vae: Any = None, **shape: Any) -> Graph:
    """TextEncodeQwenImageEdit of one image."""
    graph = tiny_graphs._image(tiny_models.qwen_image(), 1, 16, **shape)
    graph.references = images(seed, SIZES[:1])
    graph.positive = tiny_graphs.run(nodes_qwen.TextEncodeQwenImageEdit, clip, prompt, vae, graph.references[0])[0]
    graph.text_tokens = graph.positive[0][0].shape[1]
    return graph
