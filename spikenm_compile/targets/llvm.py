"""Whether TVM's LLVM knows a CPU: asked beforehand, since it only prints about unknown names and may then abort."""

from __future__ import annotations

from spikenm_compile.errors import TargetError
from spikenm_compile.targets.cpu import Cpu


def check_llvm(cpu: Cpu) -> None:
    """Make sure that LLVM can compile for `cpu` with all of its features.

    Raises:
        TargetError: this LLVM knows no such CPU, or the CPU has not what the description asks for.
    """
    import tvm

    if not tvm.get_global_func("target.llvm_is_valid_cpu")(cpu.mcpu, cpu.triple):
        raise TargetError(
            f"target '{cpu.name}' is compiled for '{cpu.mcpu}', which LLVM does not know for {cpu.triple}; "
            "CPUs that `llc -mcpu=help` lists are supported; correct the description in targets/cpu.py"
        )
    has_feature, tvm_target = tvm.get_global_func("target.llvm_cpu_has_feature"), tvm.target.Target(cpu.tvm_target)
    for feature in (attribute.removeprefix("+") for attribute in cpu.mattr):
        if not has_feature(feature, tvm_target):
            raise TargetError(
                f"target '{cpu.name}' asks for the feature '{feature}', which LLVM does not know for {cpu.triple}; "
                "features that `llc -mattr=help` lists are supported; correct the description in targets/cpu.py"
            )
