"""Which calls of a node made one picture of a list, by what takes and gives lists on the way."""

import pytest

from i2am_pack.nodes.comfy.lists import calls_before
from i2am_pack.nodes.comfy.workflow_graph import Kind

ONE, TAKES, GIVES = Kind(["IMAGE"], False), Kind(["IMAGE"], False, True), Kind(["IMAGE"], False, gives_lists=[True])
KINDS = {"One": ONE, "Takes": TAKES, "Gives": GIVES, "Both": Kind(["IMAGE"], False, True, [True])}


class Graph:
    """A line of nodes by their classes, each given the one before; ``inside`` are what others unfold into."""

    def __init__(self, *nodes, inside=()):
        self.nodes, self.inside = nodes, dict(inside)

    def get_node(self, number):
        if number in self.inside:
            return {"class_type": "One", "inputs": {}}
        kind, *others = self.nodes[int(number)].split()
        before = others or ([str(int(number) - 1)] if number != "0" else [])
        return {"class_type": kind, "inputs": {f"i{n}": [other, 0] for n, other in enumerate(before)}}

    def has_node(self, number):
        return number in self.inside or int(number) < len(self.nodes)

    def get_real_node_id(self, number):
        return self.inside.get(number, number)

    def all_node_ids(self):
        return {*map(str, range(len(self.nodes))), *self.inside}


EACH, ALL, UNKNOWN, ONCE = "of this number", "all", "unknown", "the only one"
OF_LIST = "the only one, of a list"
CASES = {  # the nodes, of which the last is at work, and of the others which calls
    "no list": (("One", "One", "One"), (ONCE, ONCE)),
    "over a list": (("Gives", "One", "One", "One"), (OF_LIST, EACH, EACH)),
    "a list that is taken": (("Gives", "One", "Takes", "One"), (ALL, ALL, ONCE)),
    "taken and split again": (("Gives", "One", "Takes", "Gives", "One"), (OF_LIST, UNKNOWN, ONCE, OF_LIST)),
    "given in another order": (("Gives", "One", "Both", "One"), (OF_LIST, UNKNOWN, OF_LIST)),
    "lists of a list": (("Gives", "One", "Gives", "One"), (OF_LIST, UNKNOWN, UNKNOWN)),
    "on two ways, as it is and in another order": (
        ("Gives", "One", "Both", "One 1 2", "One"), (OF_LIST, UNKNOWN, OF_LIST, EACH),
    ),
    "on two ways, as it is and with all": (
        ("Gives", "One", "Takes", "One 1 2", "One"), (ALL, ALL, ONCE, EACH),
    ),
    "what is made once beside a list": (("Gives", "One", "One 9", "One 1 2", "One"), (OF_LIST, EACH, ONCE, EACH)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_calls(name):
    nodes, expected = CASES[name]
    graph = Graph(*nodes)
    calls = calls_before(graph, str(len(nodes) - 1), "i0", KINDS.get)
    assert tuple(calls[str(n)] for n in range(len(nodes) - 1)) == expected


def test_a_class_that_is_not_known_may_give_lists():
    assert calls_before(Graph("Other", "One", "One"), "2", "i0", KINDS.get) == {"0": OF_LIST, "1": EACH}


def test_what_a_node_unfolds_into_has_numbers_of_its_own():
    graph = Graph("Gives", "One", "One", inside={"1.0": "1"})
    assert calls_before(graph, "2", "i0", KINDS.get) == {"0": OF_LIST, "1": UNKNOWN}


def test_a_long_line_with_many_ways():
    nodes = ["Gives", "One", *(f"One {n} {n + 1}" for n in range(2000)), "One"]
    calls = calls_before(Graph(*nodes), str(len(nodes) - 1), "i0", KINDS.get)
    assert len(calls) == len(nodes) - 1 and set(list(calls.values())[:-1]) == {EACH}
