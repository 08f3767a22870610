"""`python -m spikenm_compile.build`: a trained network to an artifact."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from spikenm_compile.console import progress, run_command
from spikenm_compile.targets import TARGETS

DESCRIPTION = (
    """Build an artifact from a trained spiking network. Without MODEL: the digits network that the package carries."""
)
EPILOG = """MODEL is FILE.py:factory; the factory takes nothing and returns (model, example_inputs).
Exit codes: 0 built, 1 an error that the message explains, 2 wrong arguments."""
NUM_LEVELS = 13
"""Levels of the compiler that the progress bar counts."""


def make_parser() -> argparse.ArgumentParser:
    """The arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m spikenm_compile.build",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", metavar="MODEL.py:factory", help="the network; default: the carried digits network"
    )
    parser.add_argument("--weights", type=Path, metavar="F.safetensors", help="the model's state_dict, folded or not")
    parser.add_argument("--pattern", default="2:4", metavar="N:M", help="sparsity pattern of the weights (default 2:4)")
    parser.add_argument(
        "--target", default="native", metavar="T", help=f"what to build for: {', '.join(TARGETS)} (default native)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the artifact's directory (default out/NAME-TARGET)")
    parser.add_argument("--emit-ir", type=Path, metavar="DIR", help="write the text of every compiler level there")
    parser.add_argument("--dry-run", action="store_true", help="show the per-layer plan and write nothing")
    parser.add_argument("--json", action="store_true", help="print the manifest (or the plan) as JSON")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = make_parser().parse_args(arguments)
    return run_command(lambda: build(options))


def build(options: argparse.Namespace) -> int:
    """Run the command."""
    from spikenm_compile.compiler import lower
    from spikenm_compile.network import load_network
    from spikenm_compile.package import layer_reports, write_package
    from spikenm_compile.pattern import Pattern
    from spikenm_compile.report.layers import format_layers, format_manifest
    from spikenm_compile.targets import get_target

    target, pattern = get_target(options.target), Pattern.parse(options.pattern)
    network = load_network(options.model, options.weights, options.pattern)
    with progress("build", NUM_LEVELS) as advance:
        emit = _Emitter(options.emit_ir, advance)
        lowered = lower(network.model, network.example_inputs, pattern=pattern, target=target.name, emit=emit)
        if options.dry_run:
            reports = layer_reports(lowered)
            print(_json(reports) if options.json else format_layers(reports))
            return 0
        out = options.out or Path("out") / f"{network.name.lower()}-{target.name}"
        artifact = write_package(
            lowered, target, out, name=network.name, pattern=pattern, samples=network.example_inputs, emit=emit
        )
    if options.json:
        print((artifact.path / "manifest.json").read_text(), end="")
    else:
        print(format_manifest(artifact.manifest))
        print(f"artifact: {out}")
    return 0


class _Emitter:
    """Counts the levels, and writes them if asked to."""

    def __init__(self, directory: Path | None, advance) -> None:  # type: ignore[no-untyped-def]
        self.directory, self.advance, self.count = directory, advance, 0

    def __call__(self, name: str, text: str) -> None:
        """Take one level."""
        self.advance(Path(name).stem)
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / f"{self.count:02d}-{name}").write_text(text)
        self.count += 1


def _json(reports: object) -> str:
    from dataclasses import asdict

    return json.dumps([asdict(report) for report in reports], indent=2)  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
