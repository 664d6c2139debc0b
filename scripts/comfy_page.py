"""ComfyUI's page as a person uses it, in the frontends and renderers that there are.

The same in 1.32.9 and 1.58.1: commands, keys, the graph's own methods, ``.workflow-tab``, and in Nodes 2.0 the element
of a node, ``[data-node-id]``, with ``node-title`` and ``node-body-<id>`` as test ids inside. The element of a DOM
widget is in ``.dom-widget`` on the canvas, and inside the node's own element in Nodes 2.0.

What differs:

- The Run button is in the element ``queue-button``, or (1.58.1) is that element.
- Ids of nodes are numbers, or (1.58.1) strings. ``getNodeById`` takes both; here they are strings.
- Nodes 2.0 of 1.32.9 moves and enlarges all nodes of a workflow when it opens one; 1.58.1 does not.
- 1.32.9 on a canvas does not record a conversion to a subgraph that was a command: undoing it would undo what was done
  before. So it is done by its keys here. No version records what a script does to the graph.
- The workflow that a reload brings back is the storage's text itself, or (1.58.1) the text in ``data`` of an entry.
- In Nodes 2.0 the pointer over a node does not move the canvas's own: what is pasted then goes to [0, 0].
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


ORIGIN = (160, 140)  # of a node that is brought into view
# Where a test before has left it open, the newest frontend has its panel at NOWHERE, with the small map beside it.
USUAL = {"Comfy.Locale": "en", "Comfy.ColorPalette": "dark", "Comfy.RightSidePanel.IsOpen": False}
NOWHERE = (1250, 900)  # an empty place of the canvas

IDS = "graph => (graph?.nodes ?? []).map(node => String(node.id)).sort().join()"
# ComfyUI has taken note of the graph as it is, which it does some time after an event: for undo, tabs and reloads.
RECORDED = f"""() => {{
    const tracker = app.extensionManager.workflow.activeWorkflow?.changeTracker;
    const ids = {IDS};
    return tracker && !tracker._restoringState && ids(tracker.activeState) === ids(app.rootGraph ?? app.graph);
}}"""
STORED = f"""() => {{
    const ids = {IDS}, now = ids(app.rootGraph ?? app.graph);
    const read = text => {{ try {{ return JSON.parse(text); }} catch {{ return null; }} }};
    return [localStorage, sessionStorage].flatMap(storage => Object.values(storage)).map(read).some(
        entry => ids(typeof entry?.data === "string" ? read(entry.data) : entry) === now);
}}"""
RENDERED = """vue => Boolean(LiteGraph.vueNodesMode) === vue
    && document.querySelectorAll("[data-node-id]").length === (vue ? app.graph.nodes.length : 0)"""
# Puts a node at true size into the middle (of a large one, its title); says where the title is, once it is there.
CENTERED = """([id, vue]) => {
    const node = app.graph.getNodeById(id), {canvas, ds} = app.canvas;
    const middle = [(canvas.clientWidth - node.size[0]) / 2, (canvas.clientHeight - node.size[1]) / 2];
    const [left, top] = [Math.max(middle[0], 160), Math.max(middle[1], 160)];
    ds.scale = 1;
    ds.offset = [left - node.pos[0], top - node.pos[1]];
    app.canvas.bringToFront(node);
    app.canvas.setDirty(true, true);
    const title = vue
        ? document.querySelector(`[data-node-id="${id}"] [data-testid="node-title"]`)?.getBoundingClientRect()
        : {left, top: top - LiteGraph.NODE_TITLE_HEIGHT, height: LiteGraph.NODE_TITLE_HEIGHT};
    const now = title && [title.left, title.top, ...node.pos, ...node.size].join();
    const same = window.i2amTestNode === now;
    window.i2amTestNode = now;
    const there = title && Math.abs(title.left - left) < 80 && Math.abs(title.top - top) < 80;
    return same && there && [left + Math.min(node.size[0] / 2, 100), title.top + title.height / 2];
}"""
# The scale of the canvas, and on the page the left, top, right and bottom of all groups.
IN_VIEW = """() => {
    const areas = app.graph.groups.map(group => group.boundingRect ?? group._bounding);
    const at = (value, axis) => (value + app.canvas.ds.offset[axis]) * app.canvas.ds.scale;
    return [app.canvas.ds.scale,
        at(Math.min(...areas.map(a => a[0])), 0), at(Math.min(...areas.map(a => a[1])), 1),
        at(Math.max(...areas.map(a => a[0] + a[2])), 0), at(Math.max(...areas.map(a => a[1] + a[3])), 1)];
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


def set_setting(page: Any, server: Any, name: str, value: Any) -> None:
    """Before a page is opened. The server keeps it: whoever opens the next one sets what it needs."""
    answer = page.request.post(
        f"{server.url}/api/settings/{name}", data=json.dumps(value), headers={"Content-Type": "application/json"}
    )
    assert answer.ok


class ComfyPage:
    """One page of a server. ``vue`` chooses Nodes 2.0, else LiteGraph draws the nodes on a canvas."""

    def __init__(self, page: Any, server: Any, vue: bool, settings: dict[str, Any] | None = None) -> None:
        self.page = page
        self.server = server
        self.vue = vue
        self.watch = Watch(page)
        page.set_default_timeout(30_000)
        set_setting(page, server, "Comfy.VueNodes.Enabled", vue)
        set_setting(page, server, "Comfy.TutorialCompleted", True)  # or the template browser would open by itself
        for name, value in (USUAL | (settings or {})).items():
            set_setting(page, server, name, value)
        page.goto(server.url)
        page.wait_for_function(READY)
        self.rendered()

    def rendered(self) -> None:
        """Nodes are elements of the page, all of them, or none is."""
        self.page.wait_for_function(RENDERED, arg=self.vue)

    def set_renderer(self, vue: bool) -> None:
        """Change it while a workflow is open, as a person does in the settings."""
        self.vue = vue
        self.page.evaluate("vue => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', vue)", vue)
        self.rendered()

    def load_api(self, graph: dict[str, Any], name: str = "look") -> None:
        """Open a graph in API format, as dropping such a file on the page does."""
        self.page.evaluate("([graph, name]) => app.loadApiJson(graph, `${name}.json`)", [graph, name])
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(graph))
        self.rendered()

    def load(self, workflow: dict[str, Any]) -> None:
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(workflow["nodes"]))
        self.rendered()

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
        return self.server.wait(self.queue())

    def queue(self) -> str:
        """Press Run; the id of what is queued."""
        queue = self.page.get_by_test_id("queue-button")  # newer frontends: the button itself
        button = queue.get_by_role("button", name="Run").or_(queue.and_(self.page.get_by_role("button"))).first
        with self.page.expect_response(is_queued) as answer:
            button.click()
        return str(answer.value.json()["prompt_id"])

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

    def search(self, words: str, title: str) -> None:
        """Open the search of nodes with these words, and wait until it offers one of this title."""
        self.command("Workspace.SearchBox.Toggle")
        self.page.locator("input:focus").fill(words)
        self.page.get_by_text(title).filter(visible=True).first.wait_for(timeout=5000)

    def to_tab(self, name: str) -> None:
        """Click a workflow's tab, away from its closing cross."""
        tab = self.page.locator(".workflow-tab").filter(has_text=re.compile(rf"^\s*{re.escape(name)}"))
        tab.first.click(position={"x": 6, "y": 6})
        self.page.wait_for_function("name => app.extensionManager.workflow.activeWorkflow.filename === name", arg=name)
        self.page.wait_for_function(RECORDED)
        self.rendered()

    def new_tab(self) -> str:
        """Open a blank workflow; the name of the tab that was left."""
        self.page.wait_for_function(RECORDED)
        left = self.page.evaluate("() => app.extensionManager.workflow.activeWorkflow.filename")
        self.command("Comfy.NewBlankWorkflow")
        self.page.wait_for_function("() => app.graph.nodes.length === 0")
        self.page.wait_for_function(RECORDED)
        return left

    def reload(self, nodes: int) -> None:
        """Reload once ComfyUI has kept the workflow in the browser's storage.

        The newest frontend keeps it when something changes, which to it undoing is not: so something does.
        """
        self.page.evaluate("() => { const [node] = app.graph.nodes; node.pos = [node.pos[0] + 1, node.pos[1]]; }")
        self.page.mouse.click(*NOWHERE)
        self.page.wait_for_function(STORED)
        self.page.reload()
        self.page.wait_for_function(READY)
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=nodes)

    # One node, by its id

    def ids(self, prefix: str = "") -> list[str]:
        """Of the nodes whose type begins so."""
        script = "prefix => app.graph.nodes.filter(n => n.type.startsWith(prefix)).map(n => String(n.id))"
        return self.page.evaluate(script, prefix)

    def node(self, node_id: str) -> Any:
        """The graph's own node, to evaluate scripts on."""
        return self.page.evaluate_handle("id => app.graph.getNodeById(id)", node_id)

    def element(self, node_id: str) -> Any:
        """The node in the page; in Nodes 2.0 only."""
        return self.page.locator(f"[data-node-id='{node_id}']")

    def center_on(self, node_id: str) -> tuple[float, float]:
        """Bring a node into view at its true size; a place on its title."""
        x, y = self.page.wait_for_function(CENTERED, arg=[node_id, self.vue], polling=100).json_value()
        return x, y

    def pick(self, node_id: str) -> None:
        """Click a node's title, which gives the keyboard to the canvas too."""
        self.page.mouse.click(*self.center_on(node_id))
        self.page.wait_for_function(
            "id => [...app.canvas.selectedItems].map(item => item.id).join() === id", arg=node_id
        )
        self.page.wait_for_function(RECORDED)

    def remove(self, node_id: str) -> None:
        self.pick(node_id)
        self.page.keyboard.press("Delete")
        self.page.wait_for_function("id => !app.graph.getNodeById(id)", arg=node_id)
        self.page.wait_for_function(RECORDED)

    def copy(self, node_id: str) -> str:
        """Copy and paste a node; the id of the new one."""
        self.pick(node_id)
        before = self.ids()
        self.page.mouse.move(*NOWHERE)
        self.page.keyboard.press("Control+c")
        self.page.keyboard.press("Control+v")
        self.page.wait_for_function("count => app.graph.nodes.length === count", arg=len(before) + 1)
        self.page.wait_for_function(RECORDED)
        (new,) = set(self.ids()) - set(before)
        return new

    def to_subgraph(self, node_id: str) -> str:
        """Put a node into a subgraph of its own; the id of the node that stands for it."""
        self.pick(node_id)
        before = self.ids()
        self.page.keyboard.press("Control+Shift+E")
        self.page.wait_for_function("id => !app.graph.getNodeById(id)", arg=node_id)
        self.page.wait_for_function(RECORDED)
        (new,) = set(self.ids()) - set(before)
        return new

    def undo(self) -> None:
        """Until the nodes are others: that Nodes 2.0 measured a new node may be a step of its own, after the first."""
        before = self.ids()
        undone = "() => app.extensionManager.workflow.activeWorkflow.changeTracker.redoQueue.length"
        while self.ids() == before:
            steps = self.page.evaluate(undone)
            self.page.keyboard.press("Control+z")
            self.page.wait_for_function(f"steps => ({undone})() === steps + 1", arg=steps)
            self.page.wait_for_function(RECORDED)
        self.rendered()
