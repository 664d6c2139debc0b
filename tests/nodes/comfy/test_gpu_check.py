"""scripts/gpu_check on a machine without CUDA: it says so, checks what it can, and fails where something is wrong."""

import os
import re
import subprocess
import sys
from pathlib import Path

import comfy

ROOT = Path(__file__).resolve().parents[3]
COMFYUI = Path(comfy.__path__[0]).parent
WITHOUT_CUDA = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def test_without_cuda_it_says_so_and_checks_what_it_can():
    out = subprocess.run([ROOT / "scripts/gpu_check"], env=WITHOUT_CUDA, capture_output=True, text=True)
    assert out.returncode == 0, out.stdout + out.stderr
    first, *lines = out.stdout.splitlines()
    assert re.fullmatch(r"There is no CUDA here: this PyTorch \(.+\) (finds no device|was built without it)\.", first)
    assert "maps as chosen: 3 of 3 calls agree" in lines
    assert "U-Net slice, 128 px, on the CPU: the picture is the same to the bit" in lines
    assert lines[-1] == "Nothing was disproved."
    times = re.findall(r"^(\d+) s: (.*)$", out.stderr, re.MULTILINE)
    assert [part for _, part in times] == ["proofs", "the picture of U-Net slice, 128 px, on the CPU"]
    assert 0 < int(times[0][0]) < int(times[1][0])
    if sys.platform == "linux":
        assert "fused kernel, sums in float32: 2 of 2 calls agree" in lines


def test_what_cannot_be_checked_is_said(tmp_path):
    nowhere = WITHOUT_CUDA | {"COMFYUI_PATH": str(tmp_path)}
    for given, env, said in (
        (["no such"], WITHOUT_CUDA, "no case of the table has 'no such' in its name: SD1.5, 512 px, 257 tokens; SDXL"),
        ([], nowhere, f"COMFYUI_PATH is {tmp_path}, which has no main.py: give the folder of a ComfyUI."),
    ):
        out = subprocess.run([ROOT / "scripts/gpu_check", *given], env=env, capture_output=True, text=True)
        assert out.returncode and said in out.stderr and "Traceback" not in out.stderr, out.stderr


# Kernels with wrong maps, a picture that capture changes, and a table of a small model: memory is asked of no card.
# Flux is made as since ComfyUI 0.3.76.
PLANTED = """
import dataclasses, sys
import gpu, proofs, sampling, torch
from comfy.ldm.flux import model as flux
from launched import Launched

@dataclasses.dataclass
class NewerParams(flux.FluxParams):
    txt_ids_dims: list = dataclasses.field(kw_only=True)

flux.FluxParams = NewerParams
sampling.model(sampling.flux_config(hidden_size=128, num_heads=1))

right, watch = gpu.fused.computed, gpu.watch
gpu.fused.computed = lambda c, size: {name: 1.001 * x for name, x in right(c, size).items()}

def changing(model, *settings):
    captured, handle = watch(model, *settings)
    captured.set_model_sampler_post_cfg_function(lambda args: 1.001 * args["denoised"])
    return captured, handle

torch.cuda.mem_get_info = lambda: (12e9, 24e9)
torch.cuda.max_memory_allocated = lambda: 3e9
torch.cuda.reset_peak_memory_stats = torch.cuda.empty_cache = lambda: None
counted = iter([Launched(*x) for x in [(2, 10), (4, 30), (2, 20), (24, 90)]])
Launched.by = lambda work: work() and next(counted)
proofs.ON_A_CPU = proofs.ON_A_CPU[:1]
gpu.ON_A_CPU = gpu.ON_A_CPU | dict(model_channels=64, context_dim=64)
small = gpu.unet(gpu.ON_A_CPU, 8, 16)
gpu.CASES = {"small": gpu.Case(lambda blocks: small, 1.05, cut=True)}
gpu.MORE_STEPS, gpu.RUN_STEPS = gpu.STEPS + 1, 2
on_a_cpu = gpu.on_a_cpu

def also_the_table(verdicts):
    gpu.watch = changing
    on_a_cpu(verdicts)
    gpu.watch = watch
    gpu.table("small", True, verdicts)

gpu.on_a_cpu = also_the_table
sys.exit(gpu.main())
"""


def test_what_is_wrong_is_named_and_the_exit_code_says_so():
    path = os.pathsep.join([str(ROOT / "benchmarks"), str(COMFYUI), *filter(None, sys.path)])
    command = [sys.executable, "-c", PLANTED]
    out = subprocess.run(command, env=WITHOUT_CUDA | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert out.returncode == 1, out.stdout + out.stderr
    wrong = [line for line in out.stdout.splitlines() if line.startswith("WRONG: ")]
    if sys.platform == "linux":
        assert any("fused kernel" in line and "is wrong by up to" in line for line in wrong)
    assert "WRONG: U-Net slice, 128 px, on the CPU: the picture differs with capture, pair maps, Effect" in wrong
    assert out.stdout.endswith("disproved.\n"), out.stderr
    assert "WRONG: small: the host waits 20 times more a step, not 4 at most" in wrong
    head, _, row = [line for line in out.stdout.splitlines() if line.startswith("|")]
    assert row.count("|") == head.count("|")
    assert row.split(" | ")[1] == "4 + 9" and row.split(" | ")[6:9] == ["2, 22", "20, 70", "3.0 GB"]
