"""Which node of a graph is at work, and which nodes a picture comes from: ComfyUI knows both while it runs a graph.

A node is known by its id and by all that goes into it, its own settings and those of the nodes before it: that is what
its output was made from, be it in this queue or in an earlier one whose output ComfyUI has cached.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from ...i2am_core.printing import NAME, printable
from .lists import Calls, Graph, calls_before
from .workflow_graph import kind_of, links_of

DIGEST_BYTES = 16


@dataclass(frozen=True)
class GraphNode:
    """A node of the graph as the user sees it: ``given`` is a hash of what goes into it, and into those before it."""

    id: str
    kind: str  # its class
    given: str

    def __str__(self) -> str:
        return printable(f"{self.kind} (node {self.id})", NAME)


@dataclass(frozen=True)
class Origin:
    """What made something: a node, in a queue, in its call of number ``item``, as ComfyUI calls one for each of a list.

    It is None where that is not known: what a node unfolds into has calls with numbers of their own.
    """

    queue: str
    node: GraphNode
    item: int | None


@dataclass(frozen=True)
class Upstream:
    """The nodes that an input of the node at work comes from, all of them up to the loaders; and the queue.

    The input may be one of a list: it is thing number ``item``, and of each node it says which calls made it.
    """

    queue: str
    nodes: Mapping[GraphNode, Calls]
    item: int = 0


def origin() -> Origin | None:
    """Of the node at work; None where no graph runs, or where it cannot be known (in a thread of a node)."""
    at_work = _at_work()
    if at_work is None:
        return None
    queue, node, item, graph = at_work
    real = graph.get_real_node_id(node)
    return Origin(queue, _Given(graph).node(real), item if real == node else None)


def upstream_of(name: str) -> Upstream | None:
    """Of the input ``name`` of the node at work; None where that cannot be known."""
    at_work = _at_work()
    if at_work is None:
        return None
    queue, node, item, graph = at_work
    if name not in links_of(graph.get_node(node)):
        return None
    given = _Given(graph)
    calls = calls_before(graph, node, name, kind_of)
    return Upstream(queue, {given.node(id_): which for id_, which in calls.items()}, item)


def _at_work() -> tuple[str, str, int, Graph] | None:
    context, state = get_executing_context(), get_progress_state()
    graph: Graph = state.dynprompt
    if context is None or state.prompt_id != context.prompt_id or not graph.has_node(context.node_id):
        return None
    return context.prompt_id, context.node_id, context.list_index or 0, graph


class _Given:
    """What goes into the nodes of a graph, each worked out once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._hashes: dict[str, str] = {}

    def node(self, id_: str) -> GraphNode:
        return GraphNode(id_, self._graph.get_node(id_)["class_type"], self._hash(id_))

    def _hash(self, id_: str) -> str:
        """ComfyUI has refused a graph with a cycle before any node is at work."""
        if id_ not in self._hashes:
            waiting = [id_]
            while waiting:
                links = links_of(self._graph.get_node(waiting[-1])).values()
                lacking = [link.node for link in links if self._is_lacking(link.node)]
                if lacking:
                    waiting += lacking
                else:
                    last = waiting.pop()
                    self._hashes[last] = self._hash_of(self._graph.get_node(last))
        return self._hashes[id_]

    def _is_lacking(self, id_: str) -> bool:
        return id_ not in self._hashes and self._graph.has_node(id_)

    def _hash_of(self, node: dict[str, Any]) -> str:
        links = links_of(node)
        inputs = {
            name: [self._hashes.get(links[name].node, links[name].node), value[1]] if name in links else value
            for name, value in node["inputs"].items()
        }
        text = json.dumps([node["class_type"], inputs], sort_keys=True, default=repr)
        return hashlib.blake2b(text.encode(errors="replace"), digest_size=DIGEST_BYTES).hexdigest()
