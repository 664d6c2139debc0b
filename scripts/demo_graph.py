"""The graph of the demo, in ComfyUI's API format: sampled once, shown at every level in both directions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Graph = dict[str, dict[str, Any]]

DIRECTIONS = {"r2g": "reference to generated", "g2r": "generated to reference"}
LEVELS = ("unified", "time", "head", "layer")
SIZE = 384  # px of the pictures to look at; the model paints 64


def build(*, scene_object: int = 11, seed: int = 3, steps: int = 20) -> Graph:
    """Nodes by name. ``text:*`` nodes show text, ``save:*`` nodes save pictures, both named for their file."""
    graph: Graph = {
        "scene": node("I2AM_DemoScene", object=scene_object, seed=seed, batch=1),
        "loader": node("I2AM_DemoLoader"),
        "positive": node("I2AM_DemoReference", encoder=["loader", 2], image=["scene", 2]),
        "negative": node("ConditioningZeroOut", conditioning=["positive", 0]),
        "inpaint": node(
            "InpaintModelConditioning",
            positive=["positive", 0],
            negative=["negative", 0],
            vae=["loader", 1],
            pixels=["scene", 0],
            mask=["scene", 1],
            noise_mask=True,
        ),
        "capture": node(
            "I2AM_Capture",
            model=["loader", 0],
            mechanism="auto",
            branch="positive",
            pair_maps="inpainting mask",
            budget_mb=512,
        ),
        "effect": node(
            "I2AM_Effect",
            model=["capture", 0],
            probe_steps=3,
            regions=4,
            regions_by="taken away",
            through="everything",
            owners="references",
        ),
        "sampler": node(
            "KSampler",
            model=["effect", 0],
            positive=["inpaint", 0],
            negative=["inpaint", 1],
            latent_image=["inpaint", 2],
            seed=seed,
            steps=steps,
            cfg=1.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "collect": node("I2AM_Collect", capture=["capture", 1], samples=["sampler", 0]),
        "decode": node("VAEDecode", samples=["collect", 1], vae=["loader", 1]),
        "imacs": node(
            "I2AM_IMACS",
            attribution=["collect", 0],
            inpainting_mask=["scene", 1],
            reference_mask=["scene", 3],
            scope="auto",
            penalty=3.0,
            threshold=0.4,
            **selection(),
        ),
        "text:imacs": node("PreviewAny", source=["imacs", 2]),
        "text:summary": node("PreviewAny", source=["collect", 2]),
    }
    pictures = {"generated": ["decode", 0], "reference": ["scene", 2], "scene": ["scene", 0], "truth": ["scene", 4]}
    for name, output in pictures.items():
        graph[f"large:{name}"] = node(
            "ImageScale", image=output, upscale_method="bicubic", width=SIZE, height=SIZE, crop="disabled"
        )
        graph[f"save:{name}"] = save(name, [f"large:{name}", 0])
    add_counterfactual(graph)
    add_report(graph)
    add_comparison(graph)
    for direction in DIRECTIONS:
        add_maps(graph, direction, "unified", "effect")
        for level in LEVELS:
            add_maps(graph, direction, level)
    return graph


def add_counterfactual(graph: Graph) -> None:
    """What the model would paint with and without the reference, as seen from the first measured step."""
    graph["counterfactual"] = node("I2AM_Counterfactual", attribution=["collect", 0], step=0, reference=0, item=0)
    for number, name in enumerate(("with", "without")):
        graph[f"decode:{name}"] = node("VAEDecode", samples=["counterfactual", number], vae=["loader", 1])
        graph[f"large:{name}"] = node(
            "ImageScale", image=[f"decode:{name}", 0], upscale_method="bicubic", width=SIZE, height=SIZE,
            crop="disabled",
        )  # fmt: skip
        graph[f"save:{name}_reference"] = save(f"{name}_reference", [f"large:{name}", 0])
    graph["text:counterfactual"] = node("PreviewAny", source=["counterfactual", 2])


def add_report(graph: Graph) -> None:
    """One page, with the object marked in both pictures."""
    graph["report"] = node(
        "I2AM_Report",
        attribution=["collect", 0],
        item=0,
        image=["large:generated", 0],
        reference=["large:reference", 0],
        mask=["scene", 1],
        reference_mask=["scene", 3],
    )
    graph["save:report"] = save("report", ["report", 0])
    graph["text:findings"] = node("PreviewAny", source=["report", 1])


def add_comparison(graph: Graph) -> None:
    """The run, compared with one of a blank reference."""
    graph["blank"] = node("EmptyImage", width=64, height=64, batch_size=1, color=0x808080)
    graph["positive:blank"] = node("I2AM_DemoReference", encoder=["loader", 2], image=["blank", 0])
    graph["inpaint:blank"] = node(
        "InpaintModelConditioning", **graph["inpaint"]["inputs"] | {"positive": ["positive:blank", 0]}
    )
    inputs = {"positive": ["inpaint:blank", 0], "negative": ["inpaint:blank", 1]}
    graph["sampler:blank"] = node("KSampler", **graph["sampler"]["inputs"] | inputs)
    graph["collect:blank"] = node("I2AM_Collect", capture=["capture", 1], samples=["sampler:blank", 0])
    graph["decode:blank"] = node("VAEDecode", samples=["sampler:blank", 0], vae=["loader", 1])
    graph["compare"] = node(
        "I2AM_Compare",
        a=["collect:blank", 0],
        b=["collect", 0],
        direction=DIRECTIONS["r2g"],
        level="unified",
        normalization="effect",
        scope="auto",
        time_groups=5,
        image_a=["decode:blank", 0],
        image_b=["decode", 0],
        **selection(),
    )
    graph["save:difference"] = save("difference", ["compare", 0])
    graph["save:comparison"] = save("comparison", ["compare", 1])
    graph["text:comparison"] = node("PreviewAny", source=["compare", 2])


def add_maps(graph: Graph, direction: str, level: str, normalization: str = "paper") -> None:
    """Overlays, heatmaps and labels of one level, saved under ``<direction>_<level>``, or ``_effect``."""
    name = f"{direction}_{'effect' if normalization == 'effect' else level}"
    graph[f"maps:{name}"] = node(
        "I2AM_Maps",
        attribution=["collect", 0],
        direction=DIRECTIONS[direction],
        level=level,
        normalization=normalization,
        scope="auto",
        time_groups=5,
        image=["large:generated" if direction == "r2g" else "large:reference", 0],
        colormap="jet",
        scale="each map",
        opacity=0.5,
        **selection(),
    )
    graph[f"save:{name}_overlay"] = save(f"{name}_overlay", [f"maps:{name}", 0])
    graph[f"save:{name}_heatmap"] = save(f"{name}_heatmap", [f"maps:{name}", 1])
    graph[f"text:{name}"] = node("PreviewAny", source=[f"maps:{name}", 3])


def selection() -> dict[str, Any]:
    """Everything: all steps, layers and heads of the first reference and picture."""
    return {"steps": "all", "layers": "all", "heads": "all", "reference": 0, "item": 0}


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def save(name: str, output: list[Any]) -> dict[str, Any]:
    """Saves the images of an output, which is a name of a node and a number, under ``name``."""
    return node("SaveImage", images=output, filename_prefix=name)


def of_template(path: Path) -> Graph:
    """A template in this format: nodes by their titles, or by their type where they have none."""
    workflow = json.loads(path.read_text())
    nodes = [one for one in workflow["nodes"] if one["type"] != "MarkdownNote"]
    names = {one["id"]: one.get("title", one["type"]) for one in nodes}
    origins = {link: [names[origin], output] for link, origin, output, *_ in workflow["links"]}
    graph: Graph = {}
    for one in nodes:
        values = iter(x for x in one.get("widgets_values") or [] if x != "fixed")  # what a seed does is the page's own
        inputs = {entry["name"]: next(values) for entry in one["inputs"] if "widget" in entry}
        inputs |= {entry["name"]: origins[entry["link"]] for entry in one["inputs"] if entry["link"] is not None}
        graph[names[one["id"]]] = node(one["type"], **inputs)
    return graph


def numbered(graph: Graph) -> Graph:
    """The same graph with numbers for names, which is what the page takes."""
    numbers = {name: str(number) for number, name in enumerate(graph, 1)}
    return {
        numbers[name]: {
            "class_type": one["class_type"],
            "inputs": {key: [numbers[x[0]], x[1]] if isinstance(x, list) else x for key, x in one["inputs"].items()},
        }
        for name, one in graph.items()
    }
