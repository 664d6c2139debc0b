"""Which calls of each node made one picture of a list: over a list ComfyUI calls a node once for each thing in it.

A node is called as often as the longest of the lists that come to it, and call n gets thing n of each (the last thing
of one that is shorter): ``_async_map_node_over_list`` in execution.py. One that takes lists whole is called once. What
one call gives becomes one thing of the list at an output, unless the node says that it gives a list there. So the
number of a picture is that of the calls that made it, as long as no node on the way takes or gives lists.
"""

from typing import Any, Literal, Protocol

from .workflow_graph import KindOf, Link, links_of

Calls = Literal["of this number", "unknown", "all", "the only one", "the only one, of a list"]
"""Which calls of a node made the picture: the one of the picture's number, it is not known which, or all; the only one
that there was, perhaps one that gave a list of which the picture is one."""

Way = Literal["of this number", "unknown", "all"]
WAYS: tuple[Way, ...] = ("of this number", "unknown", "all")  # what holds of a node on two ways is the later of them


class Graph(Protocol):
    """The graph of a queue, and what its nodes unfold into while it runs: ComfyUI's ``DynamicPrompt``."""

    def get_node(self, node_id: str) -> dict[str, Any]: ...

    def has_node(self, node_id: str) -> bool: ...

    def get_real_node_id(self, node_id: str) -> str: ...

    def all_node_ids(self) -> set[str]: ...


def calls_before(graph: Graph, node: str, name: str, kind_of: KindOf) -> dict[str, Calls]:
    """Of each node that the input ``name`` of a node comes from, up to the loaders: which of its calls made it.

    Nodes are named by the ids that they have for the user: one that unfolds into others while it runs, as loops do,
    stands for all of these.
    """
    lists = _Lists(graph, kind_of)
    ways: dict[str, Way] = {}
    giving: set[str] = set()  # nodes that give a list themselves, of which the picture is one
    waiting = [(links_of(graph.get_node(node))[name], lists.at(node, "of this number"))]
    while waiting:
        link, way = waiting.pop()
        id_ = link.node
        if not graph.has_node(id_):
            continue
        if lists.gives_list(link) and way != "all":
            way = "unknown"
            giving.add(id_)
        way = lists.at(id_, way)
        if id_ in ways and WAYS.index(way) <= WAYS.index(ways[id_]):
            continue
        ways[id_] = way
        if (real := graph.get_real_node_id(id_)) != id_:
            waiting.append((Link(real, -1), way))
        way = lists.before(id_, way)
        waiting += [(other, way) for other in links_of(graph.get_node(id_)).values()]
    once = {id_ for id_ in ways if lists.is_called_once(id_)}

    def calls(id_: str) -> Calls:
        if id_ not in once or ways[id_] == "all":
            return ways[id_]
        return "the only one, of a list" if id_ in giving else "the only one"

    return {id_: calls(id_) for id_ in ways if graph.get_real_node_id(id_) == id_}


class _Lists:
    """What takes and gives lists in a graph."""

    def __init__(self, graph: Graph, kind_of: KindOf) -> None:
        self._graph, self._kind_of = graph, kind_of
        inside = (id_ for id_ in graph.all_node_ids() if graph.get_real_node_id(id_) != id_)
        self._unfolded = {id_ for one in inside for id_ in (one, graph.get_real_node_id(one))}
        self._once: dict[str, bool] = {}

    def at(self, id_: str, way: Way) -> Way:
        """How a node is on a way: what one unfolds into has calls with numbers of their own."""
        return "unknown" if id_ in self._unfolded and way == "of this number" else way

    def before(self, id_: str, way: Way) -> Way:
        """How those are whose output comes to a node: one that takes lists whole is made from all their calls."""
        return "all" if self._takes_lists(id_) and way == "of this number" else way

    def gives_list(self, link: Link) -> bool:
        """Whether one call of a node gives a list at this output."""
        kind = self._kind_of(self._graph.get_node(link.node)["class_type"])
        return kind is None or kind.gives_list(link.output)

    def is_called_once(self, id_: str) -> bool:
        """Whether no list comes to a node, unless it takes lists whole. ComfyUI has refused a graph with a cycle."""
        waiting = [id_]
        while waiting:
            links = [] if self._takes_lists(waiting[-1]) else list(links_of(self._graph.get_node(waiting[-1])).values())
            links = [link for link in links if self._graph.has_node(link.node)]
            if lacking := [link.node for link in links if link.node not in self._once]:
                waiting += lacking
            else:
                self._once[waiting.pop()] = all(self._once[x.node] and not self.gives_list(x) for x in links)
        return self._once[id_]

    def _takes_lists(self, id_: str) -> bool:
        kind = self._kind_of(self._graph.get_node(id_)["class_type"])
        return kind is not None and kind.takes_lists
