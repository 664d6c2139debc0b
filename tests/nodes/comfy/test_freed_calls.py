"""Of a call that was captured nothing lives on but its maps: on a GPU its tensors are gigabytes in a step."""

import gc

import pytest
import workflow

from i2am_pack.i2am_core.attention.intercept import Interceptor
from i2am_pack.nodes.comfy.attention_call import Arguments, AttentionCall
from i2am_pack.nodes.comfy.pending_call import LocatedCall, WatchedCall

OF_A_CALL = (Interceptor, Arguments, AttentionCall, WatchedCall, LocatedCall)


@pytest.fixture
def nothing_is_collected():
    """So that only what nobody refers to is freed, as long as Python does not look for rings of references."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def alive():
    return [x for x in gc.get_objects() if type(x) in OF_A_CALL]


def test_a_call_is_freed_at_once(nothing_is_collected):
    before = alive()  # what other tests have left
    graph = workflow.make(text_tokens=9)
    model, handle = graph.capture()
    latent = graph.sample(model, steps=2)["samples"]
    assert handle.find(latent).row_sums  # some were intercepted
    known = set(map(id, before))
    assert not [x for x in alive() if id(x) not in known]
