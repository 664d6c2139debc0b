"""Where the picture and the text are in joint attention: the columns that change with a cell, or with a word."""

import pytest
import tiny_graphs
import tiny_models
import torch

from i2am_pack.i2am_core import TokenGrid
from i2am_pack.nodes.capture import I2AMCapture
from i2am_pack.nodes.comfy.located import CallSite, ModelCall, Regions, Skip
from i2am_pack.nodes.comfy.mechanisms import MECHANISMS, Mechanism
from i2am_pack.nodes.comfy.token_orders import Sequence, sequence_of


class Watching(Mechanism):
    """A mechanism that takes down the order of each call, and its keys."""

    name = "order"
    priority = 0

    def __init__(self):
        self.seen = []

    def locate(self, site, chunk, call):
        self.seen.append((sequence_of(site, call), site.k[chunk.rows]))


def orders(graph, monkeypatch):
    watching = Watching()
    monkeypatch.setitem(MECHANISMS, watching.name, watching)
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
    "flux": (tiny_graphs.flux_text, 2, 19, 7, 4),
    "kontext": (tiny_graphs.flux_kontext, 2, 33, 7, 4),
    "chroma": (tiny_graphs.chroma_text, 2, 19, 7, 4),
    "sd3": (tiny_graphs.sd3_text, 2, 19, 7, 3),
    "qwen": (tiny_graphs.qwen_edit, 2, 33, 7, 2),
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
    "hidream": (tiny_graphs.hidream_text, 2, 33, 0, 4),
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


REFERENCES = {
    # name: graph, number of the reference, its grid, the token of its cell in row 2, column 1, as a row and a column
    "kontext": (GRAPHS["kontext"][0], 1, TokenGrid(3, 2), (1, 0)),
    "flux2": (tiny_graphs.flux2_edit, 1, TokenGrid(3, 2), (2, 1)),
    "qwen": (GRAPHS["qwen"][0], 0, TokenGrid(2, 4), (1, 0)),
    "omnigen2": (GRAPHS["omnigen2"][0], 1, TokenGrid(3, 2), (1, 0)),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_a_cell_of_a_reference_changes_its_own_column(name, monkeypatch):
    make, number, grid, (row, column) = REFERENCES[name]
    graph, other = make(), make()
    latents = other.positive[0][1]["reference_latents"] = [x.clone() for x in other.references]
    latents[number][..., 2, 1] *= -2
    (sequence, k), (_, after) = orders(graph, monkeypatch)[0], orders(other, monkeypatch)[0]
    reference = sequence.references[number]
    assert reference.grid == grid
    assert changed_columns(k, after) == [reference.index.start + row * grid.width + column]


def test_a_cell_of_hidream_e1s_reference_changes_its_own_column(monkeypatch):
    graph, other = tiny_graphs.hidream_e1(), tiny_graphs.hidream_e1()
    latent = other.positive[0][1]["concat_latent_image"] = other.positive[0][1]["concat_latent_image"].clone()
    latent[..., 5, 2] *= -2
    (sequence, k), (_, after) = orders(graph, monkeypatch)[0], orders(other, monkeypatch)[0]
    assert changed_columns(k, after) == [sequence.references[0].index[2 * 3 + 1]]


@pytest.mark.parametrize("name", GRAPHS)
def test_a_word_changes_its_own_column(name, monkeypatch):
    make, *_ = GRAPHS[name]
    graph, other = make(), make()
    other.positive[0][0] = other.positive[0][0].clone()
    other.positive[0][0][:, 4] *= -1
    (sequence, k), (_, after) = orders(graph, monkeypatch)[0], orders(other, monkeypatch)[0]
    assert changed_columns(k, after) == [torch.arange(k.shape[2])[sequence.text].tolist()[4]]


@pytest.mark.parametrize("make", [tiny_graphs.lumina2_text, tiny_graphs.z_image_text, tiny_graphs.omnigen2_edit])
def test_refiners_are_no_layers(make, monkeypatch):
    sequences = [sequence for sequence, _ in orders(make(), monkeypatch)]
    refiners = 3 if make is tiny_graphs.omnigen2_edit else 2
    assert all("refiner" in skip.reason for skip in sequences[:refiners])
    assert [type(sequence) for sequence in sequences[refiners:]] == [Sequence] * 2


def call_site(queries, keys):
    return CallSite("double 0", "", queries, keys, heads=2, grid=None, k=torch.empty(1, 2, keys, 16))


def model_call(graph, x, references):
    conditions = {"ref_latents": [torch.zeros(size) for size in references]}
    return ModelCall(0, (), graph.model.model, torch.Size(x), 512, conditions, {}, Regions())


def test_with_a_cache_of_keys_references_are_no_queries_after_the_first_step():
    """As FluxKVCache of newer cores has it."""
    call = model_call(tiny_graphs.flux2_edit(), (1, 128, 4, 3), [(1, 128, 2, 4), (1, 128, 3, 2)])
    full, cached = (sequence_of(call_site(queries, 538), call) for queries in (538, 524))
    assert full == cached
    assert cached.queries == cached.picture == slice(512, 524)
    assert [group.index for group in cached.references] == [slice(524, 532), slice(532, 538)]
    for queries, keys in ((26, 538), (524, 524), (538, 524), (532, 538)):
        assert isinstance(sequence_of(call_site(queries, keys), call), Skip)


def test_layers_of_qwen_image_are_frames():
    """Newer cores make pictures of several layers; this one takes one frame."""
    call = model_call(tiny_graphs.qwen_edit(), (1, 16, 3, 7, 6), [(1, 16, 1, 4, 8), (1, 16, 2, 4, 4), (1, 16, 4, 4)])
    sequence = sequence_of(call_site(568, 568), call)
    assert sequence.grid == TokenGrid(4, 3, frames=3)
    assert sequence.picture == slice(512, 548)
    assert [group.grid for group in sequence.references] == [
        TokenGrid(2, 4),
        TokenGrid(2, 2, frames=2),
        TokenGrid(2, 2),
    ]
    assert sequence.references[-1].index == slice(564, 568)
