"""ComfyUI's page as a person uses it, in the frontends and renderers that there are.

Between frontend 1.32.9 and 1.58.1 the Run button lies elsewhere in its element, and a tab has another class; commands and
the graph's own methods are the same.
"""

from __future__ import annotations

import json
import re
from typing import Any

READY = "() => window.app?.graph && window.app.extensionManager?.workflow"
SETTLED = """() => {
    const now = [app.canvas.ds.scale, ...app.canvas.ds.offset].join();
    const same = window.i2amTestView === now;
    window.i2amTestView = now;
    return same;
}"""


class Watch:
    """What went wrong in a page."""

    def __init__(self, page: Any) -> None:
        self.page_errors: list[str] = []
        self.console: list[str] = []
        self.refused: list[str] = []
        page.on("pageerror", lambda error: self.page_errors.append(str(error)))
        page.on("console", self._console)
        page.on("response", self._response)

    def ours(self) -> list[str]:
        """The frontend asks Comfy's registry about every node of a pack, which the server forbids: not our doing."""
        said = [text for text in self.console if "i2am" in text.lower() and "api.comfy.org" not in text]
        return said + self.refused

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.console.append(f"{message.text} ({message.location.get('url', '')})")

    def _response(self, response: Any) -> None:
        if response.status >= 400 and re.search("i2am|workflow_templates", response.url, re.IGNORECASE):
            self.refused.append(f"{response.status} {response.url}")


def is_queued(answer: Any) -> bool:
    return answer.url.endswith("/prompt") and answer.request.method == "POST"
