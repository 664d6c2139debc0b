"""Write locales/en/nodeDefs.json from the nodes' own schemas, which are its only source. Runs anywhere.

python scripts/locales.py
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from comfy_server import ComfyServer
from devenv import ROOT, one_sentence_errors, prepare

ENGLISH = ROOT / "locales" / "en" / "nodeDefs.json"


def node_defs(object_info: dict[str, Any]) -> dict[str, Any]:
    """What ComfyUI looks up for our nodes in a language, from what the server says of them."""
    return {name: node_def(about) for name, about in sorted(object_info.items()) if name.startswith("I2AM_")}


def node_def(about: dict[str, Any]) -> dict[str, Any]:
    fields = {**about["input"].get("required", {}), **about["input"].get("optional", {})}
    inputs = {name: {"name": name, "tooltip": field[1]["tooltip"]} for name, field in fields.items()}
    outputs = zip(about["output_name"], about.get("output_tooltips") or (), strict=True)
    return {
        "display_name": about["display_name"],
        "description": about["description"],
        "inputs": inputs,
        "outputs": {str(number): {"name": name, "tooltip": tip} for number, (name, tip) in enumerate(outputs)},
    }


def main() -> None:
    with one_sentence_errors(), tempfile.TemporaryDirectory(prefix="i2am-") as work:
        with ComfyServer(prepare(), Path(work)) as server:
            defs = node_defs(server.object_info())
        ENGLISH.parent.mkdir(parents=True, exist_ok=True)
        ENGLISH.write_text(json.dumps(defs, indent=2) + "\n")


if __name__ == "__main__":
    main()
