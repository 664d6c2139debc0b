"""Attention calls of all kinds, as hypothesis draws them, and their maps from the definitions alone."""

import math

import torch
from hypothesis import strategies as st


def brute_force(q, k, columns, queries, scale, bias, scope, gain=None):
    """The maps of one reference for ``q [N, D]``, ``k [K, D]`` of one head, one number at a time."""
    gain = [1.0] * len(queries) if gain is None else [float(x) for x in gain]
    rows = [
        [
            float(q[i].double() @ k[j].double()) * scale + (0.0 if bias is None else float(bias[i, j]))
            for j in range(len(k))
        ]
        for i in queries
    ]

    def softmax(values):
        top = max(values)
        if top == -math.inf:
            return [0.0] * len(values)
        weights = [math.exp(v - top) for v in values]
        return [w / sum(weights) for w in weights]

    share = [[softmax(row)[j] * g for j in columns] for row, g in zip(rows, gain, strict=True)]
    rows = [row if g else [-math.inf] * len(row) for row, g in zip(rows, gain, strict=True)]
    paper = [softmax([row[j] for j in columns]) for row in rows]
    by_column = [softmax([row[j] for row in rows]) for j in columns]
    looking = [i for i, row in enumerate(paper) if sum(row) > 0]
    seen = [column for column in by_column if sum(column) > 0]

    def mean(table, chosen, m):
        return [sum(table[i][j] for i in chosen) / max(1, len(chosen)) for j in range(m)]

    m = len(columns)
    return {
        "r2g_share": [sum(row) for row in share],
        "r2g_paper": [sum(column[i] for column in seen) / max(1, len(seen)) for i in range(len(rows))],
        "g2r_share": mean(share, range(len(rows)), m),
        "g2r_paper": mean(paper, looking, m),
        "g2r_share_scope": mean(share, [i for i in range(len(rows)) if scope[i]], m),
        "g2r_paper_scope": mean(paper, [i for i in looking if scope[i]], m),
        "g2r_pairs": paper,
        "r2g_pairs": [[column[i] for column in by_column] for i in range(len(rows))],
    }


def logit_rounding(q, k, scale):
    """1e-5, and what float32 dot products of large vectors lose before any softmax."""
    size = (q.norm(dim=-1).max() * k.norm(dim=-1).max()).item() * (scale or q.shape[-1] ** -0.5)
    return 1e-5 + 4 * torch.finfo(torch.float32).eps * size


@st.composite
def calls(draw):
    batch, heads, dim = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.sampled_from([1, 4, 8]))
    rows, reference = draw(st.integers(1, 9)), draw(st.integers(1, 7))
    before, after = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    text = draw(st.integers(0, 3))  # query rows that are not picture
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    strength = draw(st.sampled_from([0.1, 1.0, 10.0]))
    q = torch.randn(batch, heads, text + rows, dim, generator=g) * strength
    k = torch.randn(batch, heads, before + reference + after, dim, generator=g) * strength
    bias = None
    kind = draw(st.sampled_from(["none", "bias", "mask", "row mask"]))
    shape = (batch, heads, q.shape[2], k.shape[2])
    if kind == "bias":
        bias = torch.randn(shape, generator=g)
    elif kind == "mask":
        bias = torch.rand(shape, generator=g) < 0.7
    elif kind == "row mask":
        bias = torch.rand(batch, 1, q.shape[2], 1, generator=g) < 0.7
    index = slice(before, before + reference)
    if draw(st.booleans()):
        index = torch.randperm(k.shape[2], generator=g)[:reference]
    scope = torch.rand(batch, rows, generator=g) < 0.5
    scale = draw(st.sampled_from([None, 0.3]))
    gain = None
    if draw(st.booleans()):
        gain = torch.randn(batch, rows, generator=g) * (torch.rand(batch, rows, generator=g) < 0.7)
    chunk_bytes = draw(st.sampled_from([1, 200, 10**9]))
    return q, k, index, reference, slice(text, text + rows), bias, scope, scale, gain, chunk_bytes


def additive(bias):
    return torch.zeros(bias.shape).masked_fill(~bias, -math.inf) if bias.dtype == torch.bool else bias
