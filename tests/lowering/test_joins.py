from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from spikenm_compile.lowering import tir
from spikenm_compile.lowering.kernels.joins import build_join
from spikenm_compile.lowering.kernels.values import Operand
from spikenm_compile.lowering.layout import Floats
from spikenm_compile.targets.cpu import CPUS, Cpu, cpu_flags
from spikenm_compile.targets.linker import find_compiler

HERE = [cpu for cpu in CPUS if cpu.features and cpu_flags().issuperset(cpu.features)]
VALUES = np.array([0.0, 1.0, -1.0, 3e38, np.inf, -np.inf, np.nan, -np.nan], np.float32)


@pytest.mark.skipif(find_compiler() is None, reason="no C compiler is installed")
@pytest.mark.parametrize("cpu", HERE, ids=lambda cpu: cpu.name)
def test_a_maximum_is_not_a_number_where_one_side_is_not(cpu: Cpu, tmp_path: Path) -> None:
    left, right = (np.ascontiguousarray(grid.ravel()) for grid in np.meshgrid(VALUES, VALUES))
    layout = Floats(1, 1, left.size)
    functions = build_join("join", "maximum", Operand(layout, False), Operand(layout, False), layout)
    tir.write_object(tir.compile_functions(functions, cpu.tvm_target), tmp_path / "join.o")
    subprocess.run([str(find_compiler()), "-shared", "-o", tmp_path / "join.so", tmp_path / "join.o"], check=True)
    out = np.empty_like(left)
    join = ctypes.CDLL(str(tmp_path / "join.so")).join
    assert join(*(ctypes.c_void_p(a.ctypes.data) for a in (left, right, out)), 1) == 0
    expected = torch.maximum(torch.from_numpy(left), torch.from_numpy(right)).numpy()
    assert np.array_equal(out, expected, equal_nan=True)
