"""The first data set: held-out scenes of the demo model, each painted by four models of different quality."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from PIL import Image

from comfy_client import Json
from demo import data, sprites
from demo_graph import node, selection

MODELS = ("step 500", "step 2000", "average of step 2000 and shipped", "shipped")
STEPS = 10
AT_A_TIME = 64
PICTURES = ("scene", "mask", "reference", "object")  # nodes of the graph that load one
MODEL = "loader.weights"  # the column, which is the input that it feeds
SCENE = "scene.image"


def write(folder: Path, pairs: int) -> tuple[Path, Path]:
    """``workflow.json`` and ``table.csv`` with ``pairs`` scenes for each model; their pictures in ``pairs/``."""
    (folder / "pairs").mkdir(parents=True, exist_ok=True)
    for first in range(0, pairs, AT_A_TIME):
        _draw(folder / "pairs", range(first, min(pairs, first + AT_A_TIME)))
    workflow, table = folder / "workflow.json", folder / "table.csv"
    workflow.write_text(json.dumps(graph(), indent=2))
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", MODEL, "sampler.seed", *(f"{name}.image" for name in PICTURES), "truth", "mask"])
        for pair in range(pairs):
            names = (*PICTURES, "truth", "mask")
            paths = [str(folder.resolve() / "pairs" / f"{pair:04d}_{name}.png") for name in names]
            rows.writerows([f"{pair:04d} {model}", model, pair, *paths] for model in MODELS)
    return workflow, table


def _draw(folder: Path, numbers: range) -> None:
    """Scenes by their numbers; each is the same whatever others are drawn."""
    held_out = sprites.held_out_sprites()
    for number in numbers:
        chosen = held_out[number % len(held_out)][None]
        scenes = data.draw_scenes(chosen, torch.Generator().manual_seed(number))
        seen = {
            "scene": scenes.masked_image,
            "mask": scenes.mask,
            "reference": scenes.reference,
            "object": (scenes.reference_object_mask > 0.5).float(),
            "truth": scenes.image,
        }
        for name, pixels in seen.items():
            _picture(pixels[0]).save(folder / f"{number:04d}_{name}.png")


def _picture(pixels: torch.Tensor) -> Image.Image:
    """Of ``[C, H, W]`` in [0, 1], where a mask has one channel and becomes grey."""
    values = (pixels.expand(3, -1, -1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.movedim(0, -1).numpy())


def graph() -> Json:
    """The demo's graph on pictures, with the effect of the reference, without maps to look at."""
    images: Json = {name: node("LoadImage", image="") for name in ("scene", "reference")}
    masks: Json = {name: node("LoadImageMask", image="", channel="red") for name in ("mask", "object")}
    return {
        **images,
        **masks,
        "loader": node("I2AM_DemoLoader", weights="shipped"),
        "positive": node("I2AM_DemoReference", encoder=["loader", 2], image=["reference", 0]),
        "negative": node("ConditioningZeroOut", conditioning=["positive", 0]),
        "inpaint": node(
            "InpaintModelConditioning", positive=["positive", 0], negative=["negative", 0], vae=["loader", 1],
            pixels=["scene", 0], mask=["mask", 0], noise_mask=True,
        ),
        "capture": node(
            "I2AM_Capture", model=["loader", 0], mechanism="auto", branch="positive", pair_maps="inpainting mask",
            budget_mb=128,
        ),
        "effect": node(
            "I2AM_Effect", model=["capture", 0], probe_steps=3, regions=0, regions_by="taken away",
            through="everything", owners="references",
        ),
        "sampler": node(
            "KSampler", model=["effect", 0], positive=["inpaint", 0], negative=["inpaint", 1],
            latent_image=["inpaint", 2], seed=0, steps=STEPS, cfg=1.0, sampler_name="euler", scheduler="normal",
            denoise=1.0,
        ),
        "collect": node("I2AM_Collect", capture=["capture", 1], samples=["sampler", 0]),
        "decode": node("VAEDecode", samples=["collect", 1], vae=["loader", 1]),
        "imacs": node(
            "I2AM_IMACS", attribution=["collect", 0], inpainting_mask=["mask", 0], reference_mask=["object", 0],
            scope="auto", penalty=3.0, threshold=0.4, **selection(),
        ),
        "picture": node("PreviewImage", images=["decode", 0]),
    }  # fmt: skip
