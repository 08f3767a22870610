"""Maximum and sum of what lies under a window; only pixels inside the image count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tvm import tirx

from spikenm_compile.errors import PassError
from spikenm_compile.lowering.cuda import device
from spikenm_compile.lowering.cuda.device import Expr, T
from spikenm_compile.lowering.cuda.elements import BLOCK, elements
from spikenm_compile.lowering.cuda.generated import GeneratedKernel, Grid
from spikenm_compile.lowering.cuda.specs import PoolSpec
from spikenm_compile.lowering.cuda.tensors import Reals, SpikeWords
from spikenm_compile.lowering.layout import Geometry


def build_pool(spec: PoolSpec) -> GeneratedKernel:
    """The maximum of spikes is their OR, word by word.

    Raises:
        PassError: a sum that is not of whole numbers.
    """
    if spec.kind == "sum" and Reals in (type(spec.source), type(spec.out)):
        raise PassError(
            f"kernel '{spec.name}' sums real numbers under a window; sums of spikes and levels are supported; pool "
            f"spikes instead"
        )
    if spec.kind == "max" and isinstance(spec.source, SpikeWords) and isinstance(spec.out, SpikeWords):
        return _max_of_words(spec, spec.source, spec.out)
    return _of_elements(spec)


def _max_of_words(spec: PoolSpec, source: SpikeWords, out: SpikeWords) -> GeneratedKernel:
    count = out.height * out.width * out.pixel
    grid = Grid(-(-count // BLOCK))
    with device.kernel(spec.name, {"source": source.dtype, "out": out.dtype}, grid, BLOCK) as body:
        item = body.tile * BLOCK + body.thread
        word, t, pixel = item % out.units, item // out.units % out.steps, item // out.pixel
        row, column = pixel // out.width, pixel % out.width
        with device.when(item < count):
            pooled = device.variable("pooled", "uint32", T.uint32(0))
            with _window(spec.geometry, source.height, source.width, row, column) as (y, x):
                at = source.at(body.samples, y, x, t) + word
                device.store(pooled, 0, pooled[0] | body.buffers["source"][at])
            device.store(body.buffers["out"], out.at(body.samples, row, column, t) + word, pooled[0])
    return body.kernel


def _of_elements(spec: PoolSpec) -> GeneratedKernel:
    dtype = "int32" if spec.kind == "sum" else "float32"
    first = 0 if spec.kind == "sum" else -float("inf")
    source = spec.source
    with elements(spec.name, {"source": source.dtype}, spec.out, loops_over_time=False) as element:
        value = device.variable("value", dtype, tirx.const(first, dtype))
        window = _window(spec.geometry, source.height, source.width, element.y, element.x)
        with device.when(element.exists), window as (y, x):
            under = element.read_at("source", source, dtype, y, x, element.c, element.t)
            found = device.variable("found", dtype, under)
            larger = tirx.Select(found[0] > value[0], found[0], value[0])
            device.store(value, 0, value[0] + found[0] if spec.kind == "sum" else larger)
        element.write(spec.out, value, element.t)
    return element.body.kernel


@contextmanager
def _window(g: Geometry, height: int, width: int, row: Expr, column: Expr) -> Iterator[tuple[Expr, Expr]]:
    """Loop over the pixels of the image under an output pixel."""
    with T.serial(0, g.kernel[0]) as ky, T.serial(0, g.kernel[1]) as kx:
        y = row * g.stride[0] + ky * g.dilation[0] - g.padding[0]
        x = column * g.stride[1] + kx * g.dilation[1] - g.padding[1]
        with device.when(y >= 0, y < height, x >= 0, x < width):
            yield y, x
