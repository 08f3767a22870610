"""Latency of the digits network, batch 1, one thread: our artifacts, ONNX Runtime fp32 and torch eager in one run.

Exit status 1 if the native artifact is less than 3 times as fast as torch eager or slower than ONNX Runtime fp32.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from spikenm_compile import compile_model
from spikenm_compile.demo import compare_latency
from spikenm_compile.network import carried_network
from spikenm_compile.report.table import format_table
from spikenm_compile.training.digits import all_digits

OVER_EAGER, OVER_ONNX_RUNTIME = 3.0, 1.0


def main() -> int:
    torch.set_num_threads(1)
    network = carried_network()
    with TemporaryDirectory() as scratch:
        artifacts = [
            compile_model(network.model, network.example_inputs, Path(scratch) / target, target=target)
            for target in ("native", "onnx")
        ]
        latencies = compare_latency(network.model, artifacts, all_digits()[0])
    native = latencies["native"].median
    rows = [(name, str(latency), f"{latency.median / native:.1f}×") for name, latency in latencies.items()]
    print(format_table(("digits, T=4, batch 1", "median (10-90 %)", "over native"), rows))
    eager, onnx_runtime = latencies["torch eager"].median / native, latencies["ONNX Runtime fp32"].median / native
    if eager < OVER_EAGER or onnx_runtime < OVER_ONNX_RUNTIME:
        print(f"FAIL: at least {OVER_EAGER}× over torch eager and {OVER_ONNX_RUNTIME}× over ONNX Runtime are wanted")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
