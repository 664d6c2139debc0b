"""The graph of a workflow as ComfyUI executes it: its nodes, what links them, and what their classes say of outputs.

Of each node there are its class and its inputs, where a link is the other node and the number of its output.
"""

# ComfyUI's graph has no types.
# mypy: allow-untyped-calls

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from comfy_execution.graph_utils import is_link

from ...i2am_core.printing import printable
from .callers import OF_COMFYUI

NUMBERS = ("PrimitiveInt", "PrimitiveFloat")  # nodes of ComfyUI that give the number in them
LONGEST = 60  # letters of a title


class Link(NamedTuple):
    """What an input is connected to."""

    node: str
    output: int


@dataclass(frozen=True)
class Kind:
    """A class of nodes: the types of its outputs, and whether it is ComfyUI's own.

    Over a list ComfyUI calls a node once for each thing in it, unless it ``takes_lists``: then it is called once with
    all of them. ``gives_lists`` says of each output whether what one call gives there is a list.
    """

    outputs: Sequence[Any]
    of_comfyui: bool
    takes_lists: bool = False
    gives_lists: Sequence[bool] = ()

    def type_of(self, output: int) -> str:
        """The type of an output; "*" where there is none of this number."""
        known = self.outputs[output] if 0 <= output < len(self.outputs) else "*"
        return known if isinstance(known, str) else "COMBO"

    def gives_list(self, output: int) -> bool:
        """Whether one call gives a list at this output."""
        return 0 <= output < len(self.gives_lists) and bool(self.gives_lists[output])


KindOf = Callable[[str], Kind | None]
"""The class of that name; None where it is not known."""


def kind_of(class_type: str) -> Kind | None:
    """A class of nodes that is installed."""
    import nodes as comfyui_nodes  # in here, as a script may have other ones

    node: Any = comfyui_nodes.NODE_CLASS_MAPPINGS.get(class_type)
    if node is None:
        return None
    module = getattr(node, "RELATIVE_PYTHON_MODULE", "nodes")  # as ComfyUI has it in what it says of nodes
    return Kind(
        list(node.RETURN_TYPES),
        str(module).partition(".")[0] in OF_COMFYUI,
        bool(getattr(node, "INPUT_IS_LIST", False)),
        list(getattr(node, "OUTPUT_IS_LIST", None) or ()),
    )


def links_of(node: Mapping[str, Any]) -> dict[str, Link]:
    """The inputs of a node that come from another one, by their names."""
    return {name: Link(*value) for name, value in node.get("inputs", {}).items() if is_link(value)}


@dataclass(frozen=True)
class Node:
    """A node by what people see of it."""

    number: str
    title: str

    def __str__(self) -> str:
        return f"'{printable(self.title, LONGEST)}' (node {printable(self.number, LONGEST)})"


class WorkflowGraph:
    """A workflow of ``nodes``, by their numbers. Raises whatever a workflow out of shape raises."""

    def __init__(self, nodes: Mapping[str, Mapping[str, Any]], kind_of: KindOf) -> None:
        self._nodes, self._kind_of = nodes, kind_of

    def node(self, number: str) -> Node:
        title = (self._nodes[number].get("_meta") or {}).get("title") or self.class_of(number)
        return Node(number, str(title))

    def class_of(self, number: str) -> str:
        """The name of its class."""
        return str(self._nodes[number]["class_type"])

    def kind(self, number: str) -> Kind | None:
        return self._kind_of(self._nodes[number]["class_type"])

    def is_of_comfyui(self, number: str) -> bool:
        kind = self.kind(number)
        return kind is not None and kind.of_comfyui

    def links(self, number: str) -> dict[str, Link]:
        """The inputs of a node that come from another one, by their names."""
        return links_of(self._nodes[number])

    def type_of(self, link: Link) -> str:
        """The type of what comes through a link; "*" where that is not known."""
        kind = self.kind(link.node)
        return "*" if kind is None else kind.type_of(link.output)

    def linked(self, number: str) -> list[tuple[str, str]]:
        """The nodes that inputs of a node come from, each with the type of what comes."""
        return [(link.node, self.type_of(link)) for link in self.links(number).values()]

    def text(self, number: str, name: str) -> str:
        """The text in an input; "" where there is none, or where another node gives it."""
        value = self._nodes[number].get("inputs", {}).get(name)
        return value if isinstance(value, str) else ""

    def number(self, number: str, name: str) -> float | None:
        """The number in an input; None where another node gives it, unless that holds one number and no more."""
        link = self.links(number).get(name)
        if link is not None and self.class_of(link.node) in NUMBERS and self.is_of_comfyui(link.node):
            number, name = link.node, "value"
        value = self._nodes[number].get("inputs", {}).get(name)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None
