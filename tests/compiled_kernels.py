"""Compiles the fused kernels for GPUs that need not be there, and prints what became of them as JSON."""

import json
import re
import sys

import triton
from triton import compiler
from triton.backends.compiler import GPUTarget

from i2am_core.attention import fused, fused_kernels

ADDRESSES = {"q": "*{0}", "k": "*{0}", "bias": "*{0}", "scope": "*i1", "pair_rows": "*i64"}
ADDRESSES |= {"row_counts": "*i32", "attended": "*i32", "far": "*i32", "lost": "*i32"}
COUNTS = ("first", "H", "N", "M", "A", "size", "blocks", "tiles", "heads", "columns_of_all")
STRIDE = re.compile(r"(q|k|bias|gain)_[bhnmd]")


def compiled(kernel, capability, dtype, head_size, **kind):
    options = fused.options(head_size, capability == 90, bool(kind.get("BIASED")))
    launch = fused.LAUNCH | {name: options.pop(name) for name in fused.LAUNCH if kernel is not fused_kernels.pairs}
    kind = options | {"UPCAST": False, "q_d": 1, "k_d": 1} | kind
    signature, constants, known = {}, {}, {}
    for number, name in enumerate(kernel.arg_names):
        if name in kind:
            signature[name], constants[(number,)] = "constexpr", kind[name]
        elif name == "scale":
            signature[name] = "fp32"
        elif name in COUNTS or STRIDE.fullmatch(name):
            signature[name] = "i32"
        else:
            signature[name] = ADDRESSES.get(name, "*fp32").format(dtype)
        if signature[name].startswith("*") or (STRIDE.fullmatch(name) and name not in kind):
            known[(number,)] = [["tt.divisibility", 16]]
    target = GPUTarget("cuda", capability, 32)
    binary = triton.compile(compiler.ASTSource(kernel, signature, constants, known), target=target, options=launch)
    return {
        "kernel": kernel.__name__,
        "capability": capability,
        "shared": binary.metadata.shared,
        "products": bool(re.search(r"(wgmma.mma_async|mma.sync).*\.f32\.(bf|f)16", binary.asm["ptx"])),
    }


def main():
    ampere, hopper = (80, "bf16", 128), (90, "bf16", 128)
    all_maps = {"OF_COLUMNS": True, "SCOPED": True}
    results = [
        compiled(fused_kernels.sums_by_total, *ampere, BIASED=False, **all_maps),
        compiled(fused_kernels.sums_by_maxima, *ampere, BIASED=False, **all_maps, ALL_KEYS=False, REPAIRS=True),
        compiled(fused_kernels.sums_by_maxima, *ampere, BIASED=True, **all_maps, ALL_KEYS=False, REPAIRS=False),
        compiled(fused_kernels.column_log_sums, *ampere, COLUMNS=fused.WIDE),
        compiled(fused_kernels.weights, *ampere, BIASED=True, SCOPED=True),
        compiled(fused_kernels.means, *ampere, COLUMNS=fused.WIDE, SCOPED=True),
        compiled(fused_kernels.pairs, *ampere, BIASED=True),
        compiled(fused_kernels.weights, *ampere[:2], 256, BIASED=True, SCOPED=True),
        compiled(fused_kernels.weights, *hopper, BIASED=False, SCOPED=False),
        compiled(fused_kernels.weights, *hopper, BIASED=False, SCOPED=True),
        compiled(fused_kernels.weights, *hopper[:2], 256, BIASED=False, SCOPED=True),
        compiled(fused_kernels.weights, *hopper, BIASED=True, SCOPED=True),
        compiled(fused_kernels.sums_by_total, *hopper, BIASED=False, **all_maps),
        compiled(fused_kernels.sums_by_maxima, *hopper, BIASED=True, **all_maps, ALL_KEYS=False, REPAIRS=False),
    ]
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
