"""A template that was opened in the page and run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy_page import ComfyPage

FOLDER = Path(__file__).resolve().parents[1] / "example_workflows"


def ran(server: Any, browser: Any, template: Path) -> ComfyPage:
    """The page after Run, in a window of the usual size."""
    page = browser.new_page(viewport={"width": 1920, "height": 1080})
    page.set_default_timeout(60_000)
    comfy = ComfyPage(page, server, vue=False)
    comfy.load(json.loads(template.read_text()))
    comfy.run()
    return comfy
