"""Where the picture and the text are in joint attention: the columns that change with a cell, or with a word."""

import pytest
import tiny_graphs
import tiny_models
import torch

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.host.sources import SOURCES
from i2am_pack.nodes.host.sources.sequences import Sequence, sequence_of


class Watching:
    """A source that takes down the order of each call, and its keys."""

    name = "order"

    def __init__(self):
        self.seen = []

    def probe(self, site, chunk, call):
        self.seen.append((sequence_of(site, call), site.k[chunk.rows]))


def orders(graph, monkeypatch):
    watching = Watching()
    monkeypatch.setitem(SOURCES, watching.name, watching)
    model, _ = I2AMCapture.execute(graph.model, watching.name, "positive", "off", 512).args
    graph.sample(model, steps=1, denoise=0.5)
    return watching.seen


def changed_columns(before, after):
    return (before != after).any(-1).any(1).any(0).nonzero().flatten().tolist()


def unrefined(graph, model):
    """In refiners, cells see each other before they meet the text."""
    graph.model = model
    return graph


GRAPHS = {
    # name: graph, tokens of a side of a cell, columns in all, the first of the picture, captured calls
    "flux": (lambda **shape: tiny_graphs.flux_text(**shape), 2, 19, 7, 4),
    "kontext": (lambda **shape: tiny_graphs.flux_kontext(**shape), 2, 33, 7, 4),
    "chroma": (lambda **shape: tiny_graphs.chroma_text(**shape), 2, 19, 7, 4),
    "sd3": (lambda **shape: tiny_graphs.sd3_text(**shape), 2, 19, 7, 3),
    "qwen": (lambda **shape: tiny_graphs.qwen_edit(**shape), 2, 33, 7, 2),
    "omnigen2": (
        lambda **shape: unrefined(tiny_graphs.omnigen2_edit(**shape), tiny_models.omnigen2(num_refiner_layers=0)),
        *(2, 33, 21, 2),
    ),
    "lumina2": (
        lambda **shape: unrefined(tiny_graphs.lumina2_text(**shape), tiny_models.lumina2(n_refiner_layers=0)),
        *(2, 19, 7, 2),
    ),
    "z-image": (
        lambda **shape: unrefined(tiny_graphs.z_image_text(**shape), tiny_models.z_image(n_refiner_layers=0)),
        *(2, 64, 32, 2),
    ),
    "hidream": (lambda **shape: tiny_graphs.hidream_text(**shape), 2, 33, 0, 4),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_cell_of_the_latent_changes_its_own_column(name, monkeypatch):
    make, patch, keys, first, calls = GRAPHS[name]
    size = (7, 6) if name != "flux" else (8, 6)
    graph, other = (make(size=size) for _ in range(2))
    for latent in (graph.latent, other.latent):
        latent["samples"] += 1  # the host treats one of zeros in another way
    other.latent["samples"][..., 5, 2] = 3
    seen, after = orders(graph, monkeypatch), orders(other, monkeypatch)
    assert [type(sequence) for sequence, _ in seen] == [Sequence] * calls
    sequence, k = seen[0]
    assert sequence.grid == TokenGrid(4, 3)
    assert k.shape[2] == keys
    cell = 5 // patch * 3 + 2 // patch
    rows, columns = (torch.arange(keys)[part].tolist() for part in (sequence.queries, sequence.picture))
    assert rows == columns == list(range(first, first + 12))
    assert changed_columns(k, after[0][1]) == [columns[cell]]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_word_changes_its_own_column(name, monkeypatch):
    make, *_ = GRAPHS[name]
    graph, other = make(), make()
    other.positive[0][0] = other.positive[0][0].clone()
    other.positive[0][0][:, 4] *= -1
    (sequence, k), (_, after) = orders(graph, monkeypatch)[0], orders(other, monkeypatch)[0]
    assert changed_columns(k, after) == [torch.arange(k.shape[2])[sequence.text].tolist()[4]]


@pytest.mark.parametrize("make", [tiny_graphs.lumina2_text, tiny_graphs.z_image_text, tiny_graphs.omnigen2_edit])
def test_refiners_are_told_from_the_layers(make, monkeypatch):
    told = [sequence for sequence, _ in orders(make(), monkeypatch)]
    refiners = 3 if make is tiny_graphs.omnigen2_edit else 2
    assert all("refiner" in skip.reason for skip in told[:refiners])
    assert [type(sequence) for sequence in told[refiners:]] == [Sequence] * 2
