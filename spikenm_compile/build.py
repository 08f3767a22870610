"""`python -m spikenm_compile.build`: a trained network to an artifact."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from spikenm_compile.console import Advance, progress, run_command
from spikenm_compile.errors import InputError
from spikenm_compile.targets import TARGETS

if TYPE_CHECKING:
    from spikenm_compile.network import Network
    from spikenm_compile.pattern import Pattern
    from spikenm_compile.targets.base import Target

DESCRIPTION = (
    """Build an artifact from a trained spiking network. Without MODEL: the digits network that the package carries."""
)
EPILOG = """MODEL is FILE.py:factory, whose factory takes nothing and returns (model, example_inputs), or recipe.toml
from a directory where `python -m spikenm_compile train` has left it beside weights.
Exit codes: 0 built, 1 an error that the message explains, 2 wrong arguments."""


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m spikenm_compile.build",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help="the network; default: the carried digits network")
    parser.add_argument("--weights", type=Path, metavar="F.safetensors", help="the model's state_dict, folded or not")
    parser.add_argument("--pattern", default="2:4", metavar="N:M", help="sparsity pattern of the weights (default 2:4)")
    parser.add_argument(
        "--target", default="native", metavar="T", help=f"what to build for: {', '.join(TARGETS)} (default native)"
    )
    parser.add_argument(
        "--arithmetic",
        default="auto",
        metavar="A",
        help="int8: whole numbers or an error; float32: as PyTorch (target onnx); auto: whole numbers if it has them",
    )
    parser.add_argument(
        "--weight-type",
        default="int8",
        metavar="W",
        help="int8, int7, int4: of layers that read spikes; auto: the smallest that is close to the weights",
    )
    parser.add_argument(
        "--tune-log", type=Path, metavar="F.jsonl", help="choose kernels by the times that tune has logged there"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the artifact's directory (default out/NAME-TARGET)")
    parser.add_argument("--emit-ir", type=Path, metavar="DIR", help="write the text of every compiler level there")
    parser.add_argument("--dry-run", action="store_true", help="show the per-layer plan and build nothing")
    parser.add_argument("--json", action="store_true", help="print the manifest (or the plan) as JSON")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = make_parser().parse_args(arguments)
    return run_command(lambda: build(options))


def build(options: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        SpikenmError: whatever is wrong with the arguments, the network, or this machine.
    """
    from spikenm_compile.network import load_network
    from spikenm_compile.pattern import Pattern
    from spikenm_compile.targets import get_target

    target, pattern = get_target(options.target), Pattern.parse(options.pattern)
    network = load_network(options.model, options.weights)
    out = options.out or Path("out") / f"{network.name.lower()}-{target.name}"
    _check_apart(options.emit_ir, out)
    if options.dry_run:
        print(_plan(network, pattern, target, options))
    else:
        print(_package(network, pattern, target, out, options))
    return 0


def _plan(network: Network, pattern: Pattern, target: Target, options: argparse.Namespace) -> str:
    """What would be built."""
    from spikenm_compile.planning import Request, capture_folded, make_plan
    from spikenm_compile.report.layers import format_layers, format_why

    with progress("plan") as advance:
        emit = _Emitter(options.emit_ir, advance)
        captured = capture_folded(network.model, network.example_inputs, emit)
        request = Request(
            captured,
            network.example_inputs,
            pattern,
            target.name,
            arithmetic=options.arithmetic,
            weight_type=options.weight_type,
            tune_log=options.tune_log,
            emit=emit,
        )
        plan = make_plan(request)
    if options.json:
        return json.dumps([asdict(report) for report in plan.layers], indent=2)
    return "\n".join([*format_why(plan.why), format_layers(plan.layers)])


def _package(network: Network, pattern: Pattern, target: Target, out: Path, options: argparse.Namespace) -> str:
    """Build it; what was built."""
    from spikenm_compile.artifact.manifest import MANIFEST_NAME
    from spikenm_compile.compiler import compile_model
    from spikenm_compile.report.layers import format_manifest

    with progress("build") as advance:
        artifact = compile_model(
            network.model,
            network.example_inputs,
            out,
            target=target.name,
            pattern=pattern,
            arithmetic=options.arithmetic,
            weight_type=options.weight_type,
            tune_log=options.tune_log,
            name=network.name,
            emit=_Emitter(options.emit_ir, advance),
            report=None,  # what is printed of the manifest says it
        )
    if options.json:
        return (artifact.path / MANIFEST_NAME).read_text().removesuffix("\n")
    return f"{format_manifest(artifact.manifest)}\nartifact: {out}"


def _check_apart(emit_ir: Path | None, out: Path) -> None:
    """An artifact holds what the compiler wrote and no more, so the text of the levels goes elsewhere."""
    if emit_ir is not None and emit_ir.resolve().is_relative_to(out.resolve()):
        raise InputError(
            f"--emit-ir '{emit_ir}' lies in the artifact '{out}', which holds nothing else; give another directory"
        )


class _Emitter:
    """Counts the levels, and writes them if asked to."""

    def __init__(self, directory: Path | None, advance: Advance) -> None:
        self.directory, self.advance, self.count = directory, advance, 0

    def __call__(self, name: str, text: str) -> None:
        """Take one level."""
        self.advance(Path(name).stem)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / f"{self.count:02d}-{name}").write_text(text)
        self.count += 1


if __name__ == "__main__":
    sys.exit(main())
