"""The per-layer table of an artifact: what was done to each layer, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from spikenm_compile.artifact.manifest import LayerReport, Manifest
from spikenm_compile.report.memory import format_memory
from spikenm_compile.report.table import format_table


@dataclass(frozen=True)
class _Column:
    """Something that is known of some layers."""

    name: str
    value: Callable[[LayerReport], str]
    """Empty where it is not known."""


_MEASURED = (
    _Column("active", lambda layer: "" if layer.density is None else f"{100 * layer.density:.1f} %"),
    _Column("µs", lambda layer: "" if layer.microseconds is None else f"{layer.microseconds:.1f}"),
)


def format_layers(layers: Sequence[LayerReport]) -> str:
    """One row per layer with weights, and their sums; columns of what is known of some layer only."""
    measured = [column for column in _MEASURED if any(column.value(layer) for layer in layers)]
    names = ("layer", "kind", "weight", "pattern", "non-zeros", "packed B", "float32 B")
    header = (*names, *(column.name for column in measured), "kernel", "why")
    rows = [
        (
            layer.name,
            layer.kind,
            "×".join(map(str, layer.shape)),
            layer.pattern or "dense",
            layer.nonzeros,
            layer.bytes_packed,
            layer.bytes_dense,
            *(column.value(layer) or "-" for column in measured),
            layer.kernel,
            layer.why,
        )
        for layer in layers
    ]
    packed, dense = sum(layer.bytes_packed for layer in layers), sum(layer.bytes_dense for layer in layers)
    sparse = sum(layer.pattern is not None for layer in layers)
    ratio = f", {dense / packed:.1f}× below float32" if packed and packed != dense else ""
    total = f"{sparse} of {len(layers)} layers sparse; {packed} bytes packed{ratio}"
    savings = [f"{layer.name}: {layer.savings} of its time" for layer in layers if layer.savings]
    return "\n".join([format_table(header, rows), total, *savings])


def format_why(why: str | None) -> list[str]:
    """Lines that say that something is computed in float32, and what stopped the integer path; none where it is not."""
    if why is None:
        return []
    return ["arithmetic float32, as PyTorch up to rounding, not bit for bit", f"because: {why}"]


def _format_cuda(manifest: Manifest) -> list[str]:
    """What the kernels are compiled for, or why they are not."""
    code = manifest.code
    if code["kind"] != "cuda":
        return []
    launches, architectures = code["launches"], code["architectures"]
    assert isinstance(launches, list)
    assert isinstance(architectures, list)
    compiled = f"machine code for {', '.join(architectures)}" if architectures else f"NOT compiled: {code['missing']}"
    return [f"{len(launches)} kernel launches for all {manifest.num_steps} steps; {compiled}"]


def format_manifest(manifest: Manifest) -> str:
    """What `inspect` prints."""
    whole = ["runs whole sequences of this T only"] if manifest.is_whole else []
    size, out = list(manifest.input.shape), list(manifest.output.shape)
    time = "another input at each step" if manifest.input.per_step else "the same input at each step"
    lines = [
        f"{manifest.name}: {size} -> {out}, T={manifest.num_steps}, {time}, input as {manifest.input.levels}",
        f"target {manifest.target}, pattern {manifest.pattern or 'none'}, built by {manifest.producer}",
        *format_why(manifest.why),
        *whole,
        *_format_cuda(manifest),
        "",
        format_layers(manifest.layers),
        *([memory] if (memory := format_memory(manifest.code)) else []),
        "",
        f"files: {', '.join(sorted(manifest.files))}",
    ]
    return "\n".join(lines)
