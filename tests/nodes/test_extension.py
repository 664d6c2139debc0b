"""The list of nodes that ComfyUI gets: it holds every node of the pack, and all of them word the errors of the core."""

import asyncio
import importlib
import inspect
import pkgutil

import pytest
from comfy_api.latest import io

import i2am_pack.nodes
from i2am_pack.demo.nodes import DEMO_NODES

EXTENSION = importlib.import_module("i2am_pack.__init__")
LISTED = asyncio.run(asyncio.run(EXTENSION.comfy_entrypoint()).get_node_list())
READS_NO_ATTRIBUTION = {"I2AMCapture", "I2AMTagReference"}


def written():
    """The node classes of the files in ``nodes/``."""
    for file in pkgutil.iter_modules(i2am_pack.nodes.__path__, "i2am_pack.nodes."):
        if not file.ispkg:
            module = importlib.import_module(file.name)
            for value in vars(module).values():
                if inspect.isclass(value) and issubclass(value, io.ComfyNode) and value.__module__ == file.name:
                    yield value


def test_every_node_is_listed_once():
    assert len(LISTED) == len(set(LISTED))
    assert set(LISTED) == {*written(), *DEMO_NODES}


def test_ids_begin_with_the_name_of_the_pack():
    ids = [node.define_schema().node_id for node in LISTED]
    assert len(ids) == len(set(ids)) and all(name.startswith("I2AM_") for name in ids)


@pytest.mark.parametrize("node", [node for node in LISTED if node not in DEMO_NODES], ids=lambda node: node.__name__)
def test_every_node_that_reads_an_attribution_words_the_errors(node):
    in_words = any(name.endswith("contextlib.py") for name in written_in(node.execute.__func__))
    assert in_words == (node.__name__ not in READS_NO_ATTRIBUTION)


@pytest.mark.parametrize(
    "node", [node for node in LISTED if node.define_schema().inputs], ids=lambda node: node.__name__
)
def test_every_node_checks_what_it_is_given(node):
    assert any(name.endswith("nodes/checked.py") for name in written_in(node.execute.__func__))


def written_in(function):
    """The files of a function and of those that it is wrapped around."""
    while function is not None:
        yield function.__code__.co_filename
        function = getattr(function, "__wrapped__", None)
