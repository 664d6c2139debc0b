"""Nothing as large as queries x keys is ever held: every tensor that an attribution makes is looked at."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from i2am_core import attribute, span

MB = 2**20


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation gave out of new memory."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("text", "reference"), [(77, 3000), (0, 3000), (3000, 64)])
def test_no_matrix_of_queries_and_keys(text, reference, masked):
    queries, heads = 2000, 4
    q, k = torch.randn(1, heads, queries, 16), torch.randn(1, heads, text + reference, 16)
    bias = torch.zeros(1, 1, 1, text + reference) if masked else None
    with Largest() as largest:
        attribute(q, k, [span("reference", text, count=reference)], bias=bias, chunk_bytes=8 * MB)
    matrix = 4 * heads * queries * (text + reference)
    assert matrix > 90 * MB or reference == 64
    assert largest.bytes <= 34 * MB < matrix  # the plain log-sum-exp reads up to 32 MB at a time


def test_pair_maps_are_the_only_thing_that_grows_with_both():
    q, k = torch.randn(1, 4, 2000, 16), torch.randn(1, 4, 1000, 16)
    with Largest() as largest:
        attribute(q, k, [span("reference", 0, count=1000)], pair_rows=torch.arange(500), chunk_bytes=8 * MB)
    assert largest.bytes <= 16 * MB


def test_the_hook_sees_what_it_should():
    with Largest() as largest:
        torch.randn(4, 2000, 16) @ torch.randn(4, 16, 3000)
    assert largest.bytes == 4 * 4 * 2000 * 3000
