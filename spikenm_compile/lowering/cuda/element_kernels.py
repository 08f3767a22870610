"""Quantisation, joins, conversions and the readout over time: one value from one or two others."""

from __future__ import annotations

from tvm import tirx

from spikenm_compile.lowering.cuda import device
from spikenm_compile.lowering.cuda.device import Expr, T
from spikenm_compile.lowering.cuda.elements import Element, build_elements, elements
from spikenm_compile.lowering.cuda.generated import GeneratedKernel
from spikenm_compile.lowering.cuda.specs import AccumulateSpec, ConvertSpec, JoinSpec, QuantizeSpec, ScalarSpec
from spikenm_compile.lowering.cuda.tensors import Planes, Reals
from spikenm_compile.lowering.kernels.values import apply


def build_quantize(spec: QuantizeSpec) -> GeneratedKernel:
    """Nearest level, ties to even, saturated; NaN becomes the lowest level."""
    low, high = (tirx.const(float(end), "float32") for end in (spec.levels.low, spec.levels.high))

    def quantized(element: Element) -> Expr:
        level = element.read("source", spec.source, "float32") / tirx.const(spec.levels.scale, "float32")
        rounded = device.variable("rounded", "float32", T.nearbyint(level))
        device.store(rounded, 0, tirx.Select(rounded[0] > low, rounded[0], low))
        return tirx.Select(rounded[0] < high, rounded[0], high)

    return build_elements(spec.name, {"source": "float32"}, spec.out, "float32", quantized)


def build_convert(spec: ConvertSpec) -> GeneratedKernel:
    """The same value, from a step on."""
    dtype = "float32" if isinstance(spec.out, Reals | Planes) else "int32"

    def converted(element: Element) -> Expr:
        return element.read("source", spec.source, dtype, element.t + spec.first)

    return build_elements(spec.name, {"source": spec.source.dtype}, spec.out, dtype, converted)


def build_join(spec: JoinSpec) -> GeneratedKernel:
    """Whole numbers in int32, else float32."""
    dtype = "float32" if isinstance(spec.out, Reals) else "int32"

    def joined(element: Element) -> Expr:
        a, b = element.read("source", spec.source, dtype), element.read("other", spec.other, dtype)
        return apply(spec.operation, a, b)

    params = {"source": spec.source.dtype, "other": spec.other.dtype}
    return build_elements(spec.name, params, spec.out, dtype, joined)


def build_scalar(spec: ScalarSpec) -> GeneratedKernel:
    """In float32."""
    parameter = "number" if spec.number is None else None
    params = {"source": spec.source.dtype}
    with elements(spec.name, params, spec.out, loops_over_time=False, number=parameter) as element:
        value = device.variable("value", "float32", T.float32(0))
        with device.when(element.exists):
            number = element.body.number if spec.number is None else tirx.const(spec.number, "float32")
            x = element.read("source", spec.source, "float32")
            device.store(value, 0, apply(spec.operation, *((x, number) if spec.is_left else (number, x))))
        element.write(spec.out, value, element.t)
    return element.body.kernel


def build_accumulate(spec: AccumulateSpec) -> GeneratedKernel:
    """Step after step, in order."""
    with elements(spec.name, {"source": spec.source.dtype}, spec.out, loops_over_time=True) as element:
        value = device.variable("value", "float32", T.float32(0))
        with device.when(element.exists):
            device.store(value, 0, element.read("out", spec.out, "float32"))
            with T.serial(0, spec.steps) as t:
                x = element.read("source", spec.source, "float32", t)
                device.store(value, 0, apply(spec.operation, value[0], x))
        element.write(spec.out, value, 0)
    return element.body.kernel
