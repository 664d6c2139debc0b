"""ComfyUI's page as a person uses it, in the frontends and renderers that there are.

Between frontend 1.32.9 and 1.58.1 the Run button lies elsewhere in its element; commands and the graph's own methods
are the same.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Of Chromium: no screen, no calls home.
FLAGS = (
    *("--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
READY = "() => window.app?.graph && window.app.extensionManager?.workflow"
SETTLED = """() => {
    const now = [app.canvas.ds.scale, ...app.canvas.ds.offset].join();
    const same = window.i2amTestView === now;
    window.i2amTestView = now;
    return same;
}"""


ORIGIN = (160, 140)  # of a node that is shown
USUAL = {"Comfy.Locale": "en", "Comfy.ColorPalette": "dark"}
NOWHERE = (1250, 900)  # an empty place of the canvas


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


class ComfyPage:
    """One page of a server. ``vue`` chooses Nodes 2.0, else LiteGraph draws the nodes on a canvas."""

    def __init__(self, page: Any, server: Any, vue: bool, settings: dict[str, Any] | None = None) -> None:
        self.page = page
        self.server = server
        self.vue = vue
        self.watch = Watch(page)
        page.set_default_timeout(30_000)
        self._set("Comfy.VueNodes.Enabled", vue)
        self._set("Comfy.TutorialCompleted", True)  # or the template browser would open by itself
        for name, value in (USUAL | (settings or {})).items():
            self._set(name, value)
        page.goto(server.url)
        page.wait_for_function(READY)
        assert page.evaluate("() => Boolean(LiteGraph.vueNodesMode)") == vue

    def _set(self, name: str, value: Any) -> None:
        answer = self.page.request.post(
            f"{self.server.url}/api/settings/{name}",
            data=json.dumps(value),
            headers={"Content-Type": "application/json"},
        )
        assert answer.ok

    def load_api(self, graph: dict[str, Any], name: str = "look") -> None:
        """Open a graph in API format, as dropping such a file on the page does."""
        self.page.evaluate("([graph, name]) => app.loadApiJson(graph, `${name}.json`)", [graph, name])
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(graph))

    def load(self, workflow: dict[str, Any]) -> None:
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]))

    def add(self, node_type: str) -> None:
        """Add a node and bring it into view."""
        self.page.evaluate("type => { app.graph.add(LiteGraph.createNode(type)); }", node_type)
        self.show(node_type)

    def saved(self) -> dict[str, Any]:
        """The workflow as it would be saved."""
        return self.page.evaluate("() => JSON.parse(JSON.stringify((app.rootGraph ?? app.graph).serialize()))")

    def prompt(self) -> dict[str, Any]:
        """What would be queued."""
        return self.page.evaluate("async () => (await app.graphToPrompt()).output")

    def run(self) -> Any:
        """Press Run and wait until the server is done; its history entry."""
        queue = self.page.get_by_test_id("queue-button")  # newer frontends: the button itself
        button = queue.get_by_role("button", name="Run").or_(queue.and_(self.page.get_by_role("button"))).first
        with self.page.expect_response(is_queued) as answer:
            button.click()
        return self.server.wait(answer.value.json()["prompt_id"])

    def show(self, node_type: str) -> None:
        """Bring the first node of a type into view at its true size, with nothing over it."""
        self.page.wait_for_function(
            """([type, origin]) => {
                const node = app.graph.nodes.find(node => node.type === type);
                for (const other of app.graph.nodes) if (other !== node) other.pos = [-3000, other.pos[1]];
                node.pos = [0, 0];
                app.canvas.bringToFront(node);
                app.canvas.ds.scale = 1;
                app.canvas.ds.offset = origin;
                app.canvas.setDirty(true, true);
                const box = node.widgets.find(widget => widget.element)?.element.getBoundingClientRect();
                if (!box) return true;
                const there = [0.2, 0.5, 0.8].flatMap(u => [0.2, 0.5, 0.8].map(v => [u, v]));
                return Math.abs(box.left - origin[0]) < 30 && there.every(([u, v]) => document.elementFromPoint(
                    box.left + u * box.width, box.top + v * box.height)?.closest(".i2am-viewer"));
            }""",
            arg=[node_type, ORIGIN],
            polling=200,
        )

    def select(self, node_type: str) -> None:
        """Click a node's title, which also gives the keyboard to the canvas."""
        self.show(node_type)
        self.page.evaluate("() => new Promise(drawn => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
        self.page.mouse.click(ORIGIN[0] + 300, ORIGIN[1] - 14)
        self.page.wait_for_function(
            "type => [...app.canvas.selectedItems].map(item => item.type).join() === type", arg=node_type
        )
        self.page.mouse.move(*NOWHERE)

    def count(self, node_type: str) -> int:
        return self.page.evaluate("type => app.graph.nodes.filter(node => node.type === type).length", node_type)

    def wait_count(self, node_type: str, count: int) -> None:
        self.page.wait_for_function(
            "([type, count]) => app.graph.nodes.filter(node => node.type === type).length === count",
            arg=[node_type, count],
        )

    def command(self, name: str) -> None:
        self.page.evaluate("name => app.extensionManager.command.execute(name)", name)

    def to_tab(self, name: str) -> None:
        """Click a workflow's tab, away from its closing cross."""
        tab = self.page.locator(".workflow-tab").filter(has_text=re.compile(rf"^\s*{re.escape(name)}"))
        tab.first.click(position={"x": 6, "y": 6})
        self.page.wait_for_function("name => app.extensionManager.workflow.activeWorkflow.filename === name", arg=name)

    def reload(self, nodes: int) -> None:
        """Reload once ComfyUI has kept the workflow in the browser's storage."""
        self.page.reload()
        self.page.wait_for_function(READY)
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=nodes)
