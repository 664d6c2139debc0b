"""Which node of a graph is at work, and which nodes a picture comes from: ComfyUI knows both while it runs a graph.

A node is known by its id and by all that goes into it, its own settings and those of the nodes before it: that is what
its output was made from, be it in this queue or in an earlier one whose output ComfyUI has cached.
"""

# ComfyUI's graph has no types.
# mypy: allow-untyped-calls

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

from comfy_execution.graph_utils import is_link
from comfy_execution.progress import get_progress_state
from comfy_execution.utils import get_executing_context

from ...i2am_core.printing import NAME, printable

DIGEST_BYTES = 16


class Graph(Protocol):
    """The graph of a queue, and what its nodes unfold into while it runs: ComfyUI's ``DynamicPrompt``."""

    def get_node(self, node_id: str) -> dict[str, Any]: ...

    def has_node(self, node_id: str) -> bool: ...

    def get_real_node_id(self, node_id: str) -> str: ...


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
    """What made something: a node, in a queue; ``item`` says for which of a list, where ComfyUI runs it for each."""

    queue: str
    node: GraphNode
    item: int


@dataclass(frozen=True)
class Upstream:
    """The nodes that an input of the node at work comes from, all of them up to the loaders; and the queue."""

    queue: str
    nodes: frozenset[GraphNode]


def origin() -> Origin | None:
    """Of the node at work; None where no graph runs, or where it cannot be known (in a thread of a node)."""
    at_work = _at_work()
    if at_work is None:
        return None
    queue, node, item, graph = at_work
    return Origin(queue, _Given(graph).node(graph.get_real_node_id(node)), item)


def upstream_of(name: str) -> Upstream | None:
    """Of the input ``name`` of the node at work; None where that cannot be known."""
    at_work = _at_work()
    if at_work is None:
        return None
    queue, node, _, graph = at_work
    link = graph.get_node(node)["inputs"].get(name)
    if not _is_link(link):
        return None
    given = _Given(graph)
    return Upstream(queue, frozenset(given.node(id_) for id_ in _before(graph, link[0])))


def _at_work() -> tuple[str, str, int, Graph] | None:
    context, state = get_executing_context(), get_progress_state()
    graph: Graph = state.dynprompt
    if context is None or state.prompt_id != context.prompt_id or not graph.has_node(context.node_id):
        return None
    return context.prompt_id, context.node_id, context.list_index or 0, graph


def _before(graph: Graph, node: str) -> set[str]:
    """The node and those before it, by the ids that they have for the user.

    A node that unfolds into others while it runs, as loops do, stands for all of these.
    """
    seen, waiting = set(), [node]
    while waiting:
        id_ = waiting.pop()
        if id_ not in seen and graph.has_node(id_):
            seen.add(id_)
            waiting += [graph.get_real_node_id(id_), *_links(graph.get_node(id_))]
    return {graph.get_real_node_id(id_) for id_ in seen}


def _is_link(value: Any) -> TypeGuard[list[Any]]:
    return bool(is_link(value))


def _links(node: dict[str, Any]) -> Iterator[str]:
    return (value[0] for value in node["inputs"].values() if _is_link(value))


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
                lacking = [x for x in _links(self._graph.get_node(waiting[-1])) if self._is_lacking(x)]
                if lacking:
                    waiting += lacking
                else:
                    last = waiting.pop()
                    self._hashes[last] = self._hash_of(self._graph.get_node(last))
        return self._hashes[id_]

    def _is_lacking(self, id_: str) -> bool:
        return id_ not in self._hashes and self._graph.has_node(id_)

    def _hash_of(self, node: dict[str, Any]) -> str:
        inputs = {
            name: [self._hashes.get(value[0], value[0]), value[1]] if _is_link(value) else value
            for name, value in node["inputs"].items()
        }
        text = json.dumps([node["class_type"], inputs], sort_keys=True, default=repr)
        return hashlib.blake2b(text.encode(errors="replace"), digest_size=DIGEST_BYTES).hexdigest()
