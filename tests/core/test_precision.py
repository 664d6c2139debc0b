"""Products that must be in float32 are, whatever other packs have switched on; and their switches stay as they were."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from i2am_core import Logits, Positions, attribute, span
from i2am_core.attention import precision, rollout
from i2am_core.attention.logsumexp import chunked, is_trusted
from i2am_core.attention.precision import full_float32

aten = torch.ops.aten
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "addbmm", "matmul", "linear", "mv", "dot")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
MATMUL = {"cpu": torch.backends.mkldnn.matmul, "cuda": torch.backends.cuda.matmul}


def switched_by_name():
    torch.set_float32_matmul_precision("medium")


def switched_by_hand():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def switched_for_all():
    torch.backends.fp32_precision = "tf32"


def switched_as_ever():
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.mkldnn.matmul.fp32_precision = "tf32"


SWITCHES = [switched_by_name, switched_by_hand, switched_for_all, switched_as_ever]


def settings():
    return [torch.backends.fp32_precision, *(setting.fp32_precision for setting in MATMUL.values())]


@pytest.fixture(params=SWITCHES, ids=[switch.__name__ for switch in SWITCHES])
def switched(request):
    """Less than float32 is switched on; returns what the settings are then."""
    before = settings()
    request.param()
    yield settings()
    torch.set_float32_matmul_precision("highest")
    torch.backends.fp32_precision = before[0]
    for setting, value in zip(MATMUL.values(), before[1:], strict=True):
        setting.fp32_precision = value


class Products(TorchDispatchMode):
    """Keeps in what each product was made: its dtype, after autocast, and what PyTorch makes of float32."""

    def __init__(self):
        super().__init__()
        self.made = []

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        if operation.overloadpacket.__name__ in PRODUCTS:
            self.made.append((args[0].dtype, MATMUL["cpu"].fp32_precision))
        return operation(*args, **(kwargs or {}))


def of_attention(shift=0.0):
    g = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, n, 16, generator=g) for n in (40, 60))
    bias = torch.randn(1, 1, 40, 60, generator=g)
    bias[..., 20:] += shift  # another reference, which leaves next to nothing: row by row
    positions = Positions(scope=torch.ones(1, 40, dtype=torch.bool), pair_rows=torch.arange(3))
    return attribute(q, k, [span("reference", 0, count=20)], Logits(bias=bias), positions, 4000)


def of_a_resampler():
    g = torch.Generator().manual_seed(0)
    shapes = {
        "latents": (1, 4, 64),
        "proj_in.weight": (64, 32),
        "proj_out.weight": (48, 64),
        "layers.0.0.to_q.weight": (64, 64),
        "layers.0.0.to_kv.weight": (128, 64),
        "layers.0.0.to_out.weight": (64, 64),
        "layers.0.1.1.weight": (256, 64),
        "layers.0.1.3.weight": (64, 256),
    }
    norms = ["layers.0.0.norm1", "layers.0.0.norm2", "layers.0.1.0", "norm_out"]
    shapes |= {f"{norm}.{kind}": (48 if norm == "norm_out" else 64,) for norm in norms for kind in ("weight", "bias")}
    weights = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}
    return rollout.rollout(rollout.resample(weights, torch.randn(1, 17, 32, generator=g)).attentions)


MADE = {
    "by products": of_attention,
    "row by row": lambda: of_attention(200.0),
    "plain sums": lambda: chunked(torch.randn(1, 1, 8, 4), torch.randn(1, 1, 9, 4), 0.5),
    "a resampler": of_a_resampler,
}


@pytest.mark.parametrize("name", MADE)
def test_products_are_in_float32(switched, name):
    is_trusted.cache_clear()
    with torch.autocast("cpu", torch.bfloat16), Products() as products:
        MADE[name]()
    assert products.made
    assert set(products.made) == {(torch.float32, "ieee")}
    assert settings() == switched


def test_without_it_they_are_not(switched):
    with torch.autocast("cpu", torch.bfloat16), Products() as products:
        torch.randn(3, 3) @ torch.randn(3, 3)
    assert products.made == [(torch.bfloat16, switched[1])]
    assert switched[1] != "ieee"


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_the_switches_are_restored_also_after_an_error(switched, device):
    with full_float32(device):
        assert MATMUL[device.type].fp32_precision == "ieee"
        with full_float32(device):
            assert MATMUL[device.type].fp32_precision == "ieee"
        assert MATMUL[device.type].fp32_precision == "ieee"
    assert settings() == switched
    with pytest.raises(ValueError, match="of the body"), full_float32(device):
        raise ValueError("of the body")
    assert settings() == switched


@pytest.mark.parametrize("device", ["xpu", "mps", "privateuseone"])
def test_other_devices_lose_no_call(switched, device):
    with full_float32(torch.device(device)):
        assert device != "xpu" or MATMUL["cpu"].fp32_precision == "ieee"  # Intel's GPUs multiply by oneDNN, too
    assert settings() == switched


def test_a_wider_switch_is_still_followed():
    torch.backends.fp32_precision = "tf32"
    try:
        with full_float32(CUDA):
            pass
        assert MATMUL["cuda"].fp32_precision == "tf32"
        torch.backends.fp32_precision = "ieee"
        assert MATMUL["cuda"].fp32_precision == "ieee"
    finally:
        torch.backends.fp32_precision = "none"


def test_functions_of_older_versions_answer_as_before(switched):
    def answers():
        try:
            return torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision()
        except RuntimeError as error:  # of a switch that is set in both ways
            return str(error)

    before = answers()
    with full_float32(CUDA), full_float32(CPU):
        pass
    assert answers() == before


@pytest.mark.parametrize("before", ["medium", "high", "highest"])
def test_older_versions_have_one_switch(monkeypatch, before):
    monkeypatch.setattr(precision, "_settings", lambda: None)
    torch.set_float32_matmul_precision(before)
    try:
        with pytest.raises(ValueError, match="of the body"), full_float32(CUDA):
            assert torch.get_float32_matmul_precision() == "highest"
            raise ValueError("of the body")
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision("highest")
