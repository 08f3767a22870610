"""Kernels with one thread for each channel of each pixel: the frame that they share, reading and writing of one value.

A warp has the 32 channels of one unit, which is one word of spikes. Where spikes are written, lane i has the channel of
bit i, so that a ballot is the word; elsewhere lane i has channel i.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tvm import tirx

from spikenm_compile.lowering.cuda import device
from spikenm_compile.lowering.cuda.device import Body, Buffer, Expr, T
from spikenm_compile.lowering.cuda.generated import GeneratedKernel, Grid
from spikenm_compile.lowering.cuda.specs import Value
from spikenm_compile.lowering.cuda.tensors import UNIT, LevelBytes, Planes, SpikeWords, bit_of, channel_of

BLOCK = 256


@dataclass(frozen=True)
class Element:
    """One channel of one pixel."""

    body: Body
    b: Expr
    y: Expr
    x: Expr
    t: Expr
    """0 where a kernel loops over the steps itself."""
    c: Expr
    is_inside: Expr
    """The same for all lanes of a warp."""
    exists: Expr

    def read(self, name: str, tensor: Value | Planes, dtype: str, t: Expr | None = None) -> Expr:
        """This element of another tensor of the same size."""
        return self.read_at(name, tensor, dtype, self.y, self.x, self.c, self.t if t is None else t)

    def read_at(self, name: str, tensor: Value | Planes, dtype: str, y: Expr, x: Expr, c: Expr, t: Expr) -> Expr:
        """A value of another tensor."""
        return T.cast(read(self.body.buffers[name], tensor, self.body.batch, (self.b, y, x, t, c)), dtype)

    def write(self, out: Value | Planes, value: Buffer, t: Expr) -> None:
        """Write a value, of float32 or int32, at time t; all lanes of the warp come here."""
        target = self.body.buffers["out"]
        if isinstance(out, SpikeWords):
            word = device.variable("word", "uint32", device.ballot(tirx.all(self.exists, value[0] > 0)))
            at = out.at(self.b, self.y, self.x, t) + self.c // UNIT
            with device.when(tirx.EQ(self.body.thread % UNIT, 0), self.is_inside):
                device.store(target, at, word[0])
            return
        with device.when(self.exists):
            at = index(out, self.body.batch, (self.b, self.y, self.x, t, self.c))
            whole = T.cast(value[0], "int32") if isinstance(out, LevelBytes) else value[0]
            device.store(target, at, T.cast(whole, out.dtype))


def index(tensor: Value | Planes, batch: Expr, at: tuple[Expr, Expr, Expr, Expr, Expr]) -> Expr:
    """Index of the element of memory that holds the value of (b, y, x, t, c)."""
    b, y, x, t, c = at
    if isinstance(tensor, Planes):
        return tensor.plane(batch, b, t, c) + y * tensor.width + x
    first = tensor.at(b, y, x, t)
    return first + (c // UNIT if isinstance(tensor, SpikeWords) else c)


def read(buffer: Buffer, tensor: Value | Planes, batch: Expr, at: tuple[Expr, Expr, Expr, Expr, Expr]) -> Expr:
    """The value of (b, y, x, t, c), in the type of the tensor."""
    element = buffer[index(tensor, batch, at)]
    if isinstance(tensor, SpikeWords):
        return (element >> T.cast(bit_of(at[4] % UNIT), "uint32")) & T.uint32(1)
    return element


@contextmanager
def elements(
    name: str, params: dict[str, str], out: Value | Planes, *, loops_over_time: bool, number: str | None = None
) -> Iterator[Element]:
    """Open a kernel with a thread for each element of `out`; one for all steps where it loops over them itself."""
    steps = 1 if loops_over_time else out.steps
    lanes = out.units * UNIT
    count = out.height * out.width * steps * lanes
    with device.kernel(name, {**params, "out": out.dtype}, Grid(-(-count // BLOCK)), BLOCK, number=number) as body:
        item = body.tile * BLOCK + body.thread
        lane = item % UNIT
        c = item % lanes // UNIT * UNIT + (channel_of(lane) if isinstance(out, SpikeWords) else lane)
        t, pixel = item // lanes % steps, item // lanes // steps
        inside = item < count
        exists = tirx.all(inside, c < out.channels)
        yield Element(body, body.samples, pixel // out.width, pixel % out.width, t, c, inside, exists)


def build_elements(
    name: str, params: dict[str, str], out: Value | Planes, dtype: str, compute: Callable[[Element], Expr]
) -> GeneratedKernel:
    """Kernel that writes `compute` of each element, in int32 or float32."""
    with elements(name, params, out, loops_over_time=False) as element:
        value = device.variable("value", dtype, tirx.const(0, dtype))
        with device.when(element.exists):
            device.store(value, 0, compute(element))
        element.write(out, value, element.t)
    return element.body.kernel
