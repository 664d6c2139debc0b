"""The workflow, in ComfyUI's API format: which inputs the table feeds, and which outputs are scores."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from comfy_client import Json
from devenv import HostError
from evaluation.table import Row

SCORES = {"I2AM_IMACS": "imacs", "I2AM_Report": "report"}  # nodes whose third output is JSON
JSON_OUTPUT = 2
PICTURES = ("SaveImage", "PreviewImage")
SAVE = "I2AM_Save"  # the node that writes maps to a file, and gives its path
READER = "evaluation:"  # what our own nodes in the graph are called


@dataclass(frozen=True)
class Feed:
    """A column of the table, and the input of a node that gets its values."""

    column: str
    node: str
    name: str  # of the input
    kind: str  # INT, FLOAT, BOOLEAN, STRING or COMBO
    picture: bool = False  # whether the value is the path of a picture, which is sent to the server
    choices: tuple[Any, ...] = ()  # what the node takes, where it says so
    least: float = -math.inf
    most: float = math.inf

    def value(self, given: Any) -> Any:
        """What the node gets for a value of the table. Raises ValueError."""
        if given is None:
            raise ValueError(f"column {self.column!r} is empty")
        read: Mapping[str, Callable[[Any], Any]] = {"INT": _whole, "FLOAT": float, "BOOLEAN": _truth, "STRING": str}
        try:
            value = read.get(self.kind, lambda x: x)(given)
        except (TypeError, ValueError, KeyError, OverflowError):
            raise ValueError(f"column {self.column!r} is {given!r}, expected {self.kind}") from None
        if self.choices and not self.picture and value not in self.choices:
            raise ValueError(
                f"column {self.column!r} is {given!r}, expected one of {', '.join(map(str, self.choices))}"
            )
        if isinstance(value, int | float) and not (math.isfinite(value) and self.least <= value <= self.most):
            raise ValueError(f"column {self.column!r} is {given!r}, expected {self._range}")
        return value

    @property
    def _range(self) -> str:
        """As the node gives it, to the digit."""
        if math.isinf(self.least) and math.isinf(self.most):
            return "a finite number"
        return f"{self.least} to {self.most}"


@dataclass(frozen=True)
class Wanted:
    """Which columns of the table have the right picture, and the mask of what is judged apart; "" of none."""

    truth: str = ""
    mask: str = ""


@dataclass(frozen=True)
class Workflow:
    """A graph, with nodes of ours that hand out the scores; ``picture`` is the node whose picture is judged.

    ``saved`` are nodes of ours that say where a file of maps is, by the node that saves it.
    """

    graph: Json
    feeds: tuple[Feed, ...]
    readers: Mapping[str, str]  # by node of ours the name that its scores begin with
    picture: str | None
    saved: Mapping[str, str] = field(default_factory=dict)

    def graph_of(self, row: Row, uploaded: Mapping[str, str]) -> Json:
        """The graph with the values of a row; ``uploaded`` are the server's names of pictures, by path."""
        graph: Json = copy.deepcopy(self.graph)
        for feed in self.feeds:
            value = row.values[feed.column]
            graph[feed.node]["inputs"][feed.name] = uploaded[_absolute(value)] if feed.picture else feed.value(value)
        return graph

    def pictures_of(self, row: Row) -> list[str]:
        """Paths of the pictures that a row feeds."""
        return [_absolute(row.values[feed.column]) for feed in self.feeds if feed.picture]

    def files_of(self, outputs: Mapping[str, Json]) -> dict[str, Json]:
        """By the node that saved it, each file of maps as an entry that the server can be asked for."""
        paths = {node: PurePosixPath(outputs[reader]["text"][0]) for node, reader in self.saved.items()}
        return {
            node: {"filename": path.name, "subfolder": str(path.parent), "type": "output"}
            for node, path in paths.items()
        }

    def scores_of(self, outputs: Mapping[str, Json]) -> Json:
        """All numbers in what the score nodes have said, by name; of a report the findings."""
        scores: Json = {}
        for node, name in self.readers.items():
            said = json.loads(outputs[node]["text"][0])
            scores |= _findings(said, name) if "findings" in said else dict(flat(said, name))
        return scores


def read_workflow(
    path: Path, columns: Sequence[str], feeds: Mapping[str, str], object_info: Json, picture: str | None = None,
    maps: bool = False,
) -> Workflow:  # fmt: skip
    """The workflow in a file. ``feeds`` says by column which ``node.input`` it feeds, as a column's own name may.

    ``object_info`` is the server's list of nodes, ``maps`` whether files of maps are wanted. Raises HostError.
    """
    graph = _graph(path)
    _check_nodes(graph, object_info)
    named = {column: column for column in columns if _is_input(graph, column)} | dict(feeds)
    if not named:
        raise HostError(
            "No column of the table feeds an input: name a column NODE.INPUT, as in 3.seed, or say which one a column "
            "feeds with --feed COLUMN=NODE.INPUT."
        )
    listed = [_feed(graph, column, target, columns, object_info) for column, target in named.items()]
    scored = {node: SCORES[graph[node]["class_type"]] for node in graph if graph[node]["class_type"] in SCORES}
    if not scored:
        raise HostError(f"The workflow {path.name} has no node that scores: put in I2AM IMACS or I2AM Report.")
    several = len(set(scored.values())) < len(scored)
    readers = {READER + node: f"{kind}@{node}" if several else kind for node, kind in scored.items()}
    for node in scored:
        graph[READER + node] = _reader(node, JSON_OUTPUT)
    saving = [node for node in graph if maps and graph[node]["class_type"] == SAVE]
    if maps and not saving:
        raise HostError(f"The workflow {path.name} saves no maps: put in I2AM Save, or leave out --maps.")
    graph |= {READER + node: _reader(node, 0) for node in saving}
    saved = {node: READER + node for node in saving}
    return Workflow(graph, tuple(listed), readers, _picture(graph, picture), saved)


def _reader(node: str, output: int) -> Json:
    """A node that says what an output of another is."""
    return {"class_type": "PreviewAny", "inputs": {"source": [node, output]}}


def flat(said: Any, name: str) -> Iterable[tuple[str, Any]]:
    """Numbers and truths in JSON, each by the names that lead to it; why there is none where a reason is given."""
    if isinstance(said, dict):
        for key, value in said.items():
            yield from flat(value, f"{name}.{key}")
    elif isinstance(said, (bool, int, float)):
        yield name, None if isinstance(said, float) and not math.isfinite(said) else said
    elif said is None or (isinstance(said, str) and name.endswith(".reason")):
        yield name, said


def _findings(said: Json, name: str) -> Json:
    findings = said["findings"]
    return {
        f"{name}.findings": [f"{finding['rule']}: {finding['case']}" for finding in findings],
        f"{name}.faults": sum(finding["weight"] == "fault" for finding in findings),
        f"{name}.sentences": [finding["sentence"] for finding in findings],
    }


def _graph(path: Path) -> Json:
    try:
        graph = json.loads(path.read_text())
    except OSError as error:
        raise HostError(f"The workflow {path} cannot be opened ({error.strerror}).") from None
    except ValueError:
        raise HostError(f"The workflow {path} is no JSON: save it in ComfyUI with Export (API).") from None
    if not isinstance(graph, dict) or "nodes" in graph or not all(_is_node(node) for node in graph.values()):
        raise HostError(f"The workflow {path} is not in API format: save it in ComfyUI with Export (API).")
    return graph


def _is_node(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("class_type"), str) and isinstance(node.get("inputs"), dict)


def _check_nodes(graph: Json, object_info: Json) -> None:
    if not any(node["class_type"].startswith("I2AM_") for node in graph.values()):
        raise HostError("The workflow has no I2AM nodes: put in I2AM Capture, I2AM Collect, and I2AM IMACS or Report.")
    missing = sorted({node["class_type"] for node in graph.values()} - object_info.keys())
    if missing:
        raise HostError(f"The server has no node {missing[0]}: install the pack that has it, on all servers.")


def _is_input(graph: Json, column: str) -> bool:
    node, _, name = column.rpartition(".")
    return node in graph and name in graph[node]["inputs"]


def _feed(graph: Json, column: str, target: str, columns: Sequence[str], object_info: Json) -> Feed:
    if column not in columns:
        raise HostError(f"The table has no column {column!r}: it has {', '.join(columns)}.")
    node, _, name = target.rpartition(".")
    if node not in graph:
        raise HostError(f"The workflow has no node {node!r}, which column {column!r} is to feed ({target}).")
    kind = graph[node]["class_type"]
    inputs = object_info[kind]["input"]
    specified = (inputs.get("required", {}) | inputs.get("optional", {})).get(name)
    if specified is None:
        raise HostError(f"Node {node} ({kind}) has no input {name!r}, which column {column!r} is to feed.")
    of_kind, options = specified[0], specified[1] if len(specified) > 1 else {}
    choices = tuple(of_kind if isinstance(of_kind, list) else options.get("options", ()))
    if isinstance(of_kind, list):
        of_kind = "COMBO"
    if of_kind not in ("INT", "FLOAT", "BOOLEAN", "STRING", "COMBO"):
        raise HostError(f"Input {name!r} of node {node} ({kind}) takes {of_kind}, which is no value of a table.")
    bounds = options.get("min", -math.inf), options.get("max", math.inf)
    return Feed(column, node, name, of_kind, bool(options.get("image_upload")), choices, *bounds)


def _picture(graph: Json, wanted: str | None) -> str | None:
    """The node whose picture is judged: the given one, else the only one that shows or saves a picture."""
    showing = [node for node, x in graph.items() if x["class_type"] in PICTURES]
    if wanted is not None and wanted not in graph:
        raise HostError(f"The workflow has no node {wanted!r}: --picture names one that saves or shows a picture.")
    if wanted is None and len(showing) > 1:
        raise HostError(f"The workflow shows pictures in nodes {', '.join(showing)}: choose one with --picture.")
    return wanted or next(iter(showing), None)


def _absolute(path: Any) -> str:
    """Of a path in the table, which is looked at from where the command runs, or on another machine."""
    return str(Path(str(path)).absolute())


def _whole(given: Any) -> int:
    number = float(given)
    if number != int(number):
        raise ValueError
    return int(given) if isinstance(given, str) and given.lstrip("+-").isdigit() else int(number)


def _truth(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[str(given).lower()]
