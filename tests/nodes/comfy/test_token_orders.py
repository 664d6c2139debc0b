"""Where text and reference are among the keys of each tiny model: the columns that change with the one or the other.

Measured at the first call whose keys are all tokens together, before any of them has seen the others. Refiners, which
see only text or only references, come before it.
"""

import pytest
import torch
from oracle import Oracle
from this_core import HUNYUAN_TEXT_FIRST
from tiny_graphs import GRAPHS

TEXT_AND_REFERENCE = {
    # graph: call, keys, columns of the text, columns of the reference
    "flux_kontext": (0, 33, [(0, 7)], [(19, 33)]),
    "flux_redux": (0, 748, [(0, 7)], [(7, 736)]),
    "flux_redux_bias": (0, 748, [(0, 7)], [(7, 736)]),
    "flux_uso": (0, 219, [(192, 199)], [(0, 192), (211, 219)]),
    "flux2_edit": (0, 538, [(505, 512)], [(524, 538)]),
    "qwen_edit": (0, 33, [(0, 7)], [(19, 33)]),
    "omnigen2_edit": (3, 33, [(0, 7)], [(7, 21)]),
    "hidream_e1": (0, 45, [(24, 31)], [(3, 6), (9, 12), (15, 18), (21, 24)]),
    "sd15_reference_only": (0, 128, [], [(64, 128)]),
    "wan_phantom": (0, 24, [], [(12, 24)]),
    "wan_fun_reference": (0, 18, [], [(0, 6)]),
    "wan_vace": (2, 18, [], [(0, 6)]),  # the first call of the control branch; the main one comes before it
    "hunyuan_video_custom": (2, 27, [(18, 27)], [(0, 6)]),
    "hunyuan_video_replace": (2, 21, [(12, 21)], [(0, 6)]),
    "hunyuan_video_i2v": (2, 21, [(12, 21)], [(0, 6)]),
    "hunyuan_video_15": (2, 791, [(782, 791)], [(0, 24), (48, 777)]),
}
TEXT_FIRST = {
    # Since ComfyUI 0.14 the video is last in HunyuanVideo; what is among its own tokens, and the text, stays in order.
    "hunyuan_video_custom": (2, 27, [(0, 9)], [(9, 15)]),
    "hunyuan_video_replace": (2, 21, [(0, 9)], [(9, 15)]),
    "hunyuan_video_i2v": (2, 21, [(0, 9)], [(9, 15)]),
    "hunyuan_video_15": (2, 791, [(734, 743)], [(0, 729), (743, 767)]),
}
if HUNYUAN_TEXT_FIRST:
    TEXT_AND_REFERENCE |= TEXT_FIRST
TEXT = {"lumina2_text": (2, 19, [(0, 7)]), "z_image_text": (2, 64, [(0, 32)])}
SEPARATE = {
    # graph: keys of self-attention, of CLIP and of text, in the order of the calls
    "wan_i2v": (12, 257, 9),
    "wan_flf2v": (12, 514, 9),
}


def keys_of(graph):
    """Keys ``[H, K, D]`` of the positive conditioning, of each call of the first forward."""
    oracle = Oracle()
    graph.sample(oracle.on(graph.model), steps=1)
    assert oracle.forwards[0].cond_or_uncond[-1] == 0
    return [call.k[-1] for call in oracle.of(0)]


def with_other_text(graph):
    """Only the tokens: a pooled text would change every token through modulation."""
    tokens = graph.positive[0][0].clone()
    tokens[:, : graph.text_tokens] *= -1
    graph.positive[0][0] = tokens
    return graph


def changed(name, call, other):
    """The columns of a call that are not the same in another graph, as ranges."""
    before, after = keys_of(GRAPHS[name]())[call], keys_of(other)[call]
    columns = (before != after).any(-1).any(0).int()
    edges = torch.diff(columns, prepend=columns.new_zeros(1), append=columns.new_zeros(1)).nonzero().flatten()
    return before.shape[1], [tuple(edge) for edge in edges.reshape(-1, 2).tolist()]


@pytest.mark.parametrize("name", TEXT_AND_REFERENCE)
def test_the_columns_of_a_reference(name):
    call, keys, _, reference = TEXT_AND_REFERENCE[name]
    assert changed(name, call, GRAPHS[name](reference=32)) == (keys, reference)


@pytest.mark.parametrize("name", [*TEXT_AND_REFERENCE, *TEXT])
def test_the_columns_of_the_text(name):
    call, keys, text, *_ = (TEXT_AND_REFERENCE | TEXT)[name]
    assert changed(name, call, with_other_text(GRAPHS[name]())) == (keys, text)


@pytest.mark.parametrize(
    ("name", "call", "second"),
    [
        ("flux_kontext", 0, (27, 33)),
        ("qwen_edit", 0, (27, 33)),
        ("flux2_edit", 0, (532, 538)),
        ("omnigen2_edit", 2, (8, 14)),  # the refiner of the references, in which they see each other
    ],
)
def test_references_are_in_the_order_of_their_nodes(name, call, second):
    graph = GRAPHS[name]()
    latents = list(graph.positive[0][1]["reference_latents"])
    graph.positive[0][1]["reference_latents"] = [latents[0], -latents[1]]
    assert changed(name, call, graph)[1] == [second]


@pytest.mark.parametrize("name", SEPARATE)
def test_separate_calls_for_clip_and_text(name):
    _, clip, text = SEPARATE[name]
    assert [k.shape[1] for k in keys_of(GRAPHS[name]())] == [*SEPARATE[name]] * 2
    assert changed(name, 1, GRAPHS[name](reference=32)) == (clip, [(0, clip)])
    assert changed(name, 2, GRAPHS[name](reference=32)) == (text, [])
    assert changed(name, 2, with_other_text(GRAPHS[name]())) == (text, [(0, text)])
