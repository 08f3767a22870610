"""`python -m spikenm_compile demo | train | bits | build | tune | verify | inspect | doctor`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from spikenm_compile.console import run_command

EPILOG = (
    """Exit codes: 0 fine, 1 an error that the message explains (or a verification that failed), 2 wrong arguments."""
)


def make_parser() -> argparse.ArgumentParser:
    """The arguments of every command."""
    parser = argparse.ArgumentParser(
        prog="python -m spikenm_compile",
        description="Spiking networks, N:M sparse: train, verify and inspect.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help="train a small network dense and at 2:4, build it, prove it, time it")
    demo.add_argument("--out", type=Path, default=Path("out/digits"), metavar="DIR", help="where everything goes")
    demo.add_argument("--epochs", type=int, default=12, metavar="N", help="epochs of each training (default 12)")
    demo.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the split, the weights and the masks (default 0)"
    )
    demo.add_argument("--pattern", default="2:4", metavar="N:M", help="sparsity pattern (default 2:4)")
    train = commands.add_parser("train", help="train a network as a recipe (TOML) says, fold it, save its weights")
    train.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="see docs/recipes.md and examples/recipes")
    train.add_argument("--dry-run", action="store_true", help="show layers, patterns, memory and time; write nothing")
    train.add_argument("--out", type=Path, metavar="DIR", help="instead of the recipe's [output] dir")
    train.add_argument("--resume", action="store_true", help="go on from the checkpoint in that directory")
    train.add_argument(
        "--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="change the recipe: training.epochs=3"
    )
    bits = commands.add_parser("bits", help="show what the weights of a network lose as whole numbers, layer by layer")
    bits.add_argument("model", nargs="?", metavar="MODEL.py:factory", help="default: the carried digits network")
    bits.add_argument("--weights", type=Path, metavar="F.safetensors", help="the model's state_dict, folded or not")
    check = commands.add_parser("verify", help="prove an artifact against its reference")
    check.add_argument("artifact", type=Path, help="the directory that build wrote")
    check.add_argument(
        "model", nargs="?", metavar="MODEL.py:factory", help="also count spikes that differ from this float model"
    )
    check.add_argument("--weights", type=Path, metavar="F.safetensors", help="the model's state_dict")
    check.add_argument("--digits", action="store_true", help="run scikit-learn's 1797 digits too, and report accuracy")
    check.add_argument("--seed", type=int, default=0, metavar="N", help="of the fresh random inputs (default 0)")
    show = commands.add_parser("inspect", help="show what was done to each layer, and why")
    show.add_argument("artifact", type=Path, help="the directory that build wrote")
    show.add_argument("--json", action="store_true", help="print the manifest")
    _add_tune(commands.add_parser("tune", help="measure the kernels of a network's layers here, for build --tune-log"))
    commands.add_parser("doctor", help="show what this machine can build and run")
    commands.add_parser("build", help="the same as python -m spikenm_compile.build", add_help=False)
    return parser


def _add_tune(tune: argparse.ArgumentParser) -> None:
    """What the network is lowered with is given as to build."""
    tune.add_argument("model", nargs="?", metavar="MODEL.py:factory", help="default: the carried digits network")
    tune.add_argument("--weights", type=Path, metavar="F.safetensors", help="the model's state_dict, folded or not")
    tune.add_argument("--pattern", default="2:4", metavar="N:M", help="sparsity pattern of the weights (default 2:4)")
    tune.add_argument("--target", default="native", metavar="T", help="native, or a C library's (default native)")
    tune.add_argument("--weight-type", default="int8", metavar="W", help="int8, int7, int4 or auto (default int8)")
    tune.add_argument(
        "--log", type=Path, default=Path("tune.jsonl"), metavar="F.jsonl", help="added to; default tune.jsonl"
    )
    tune.add_argument("--rpc", metavar="HOST:PORT", help="measure on a board that runs TVM's RPC server, not here")
    tune.add_argument("--key", metavar="K", help="--rpc is a tracker: use a board of this key")


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["build"]:
        from spikenm_compile.build import main as build

        return build(words[1:])
    options = make_parser().parse_args(words)
    commands: dict[str, Callable[[argparse.Namespace], int]] = {
        "demo": _demo,
        "train": _train,
        "bits": _bits,
        "verify": _verify,
        "inspect": _inspect,
        "tune": _tune,
        "doctor": _doctor,
    }
    return run_command(lambda: commands[options.command](options))


def _demo(options: argparse.Namespace) -> int:
    from spikenm_compile.demo import run_demo

    print(run_demo(options.out, epochs=options.epochs, seed=options.seed, pattern=options.pattern))
    return 0


def _train(options: argparse.Namespace) -> int:
    from spikenm_compile.training.recipe_reader import read_recipe

    recipe = read_recipe(options.recipe, options.set, options.out)
    if options.dry_run:
        from spikenm_compile.training.recipe_plan import plan_recipe

        print(plan_recipe(recipe))
    else:
        from spikenm_compile.training.recipe_run import run_recipe

        if said := run_recipe(recipe, resume=options.resume):  # torchrun's other processes have nothing to say
            print(said)
    return 0


def _bits(options: argparse.Namespace) -> int:
    from spikenm_compile.bit_widths import report_on_itself
    from spikenm_compile.network import load_network

    network = load_network(options.model, options.weights)
    print(report_on_itself(network.model, network.example_inputs))
    return 0


def _verify(options: argparse.Namespace) -> int:
    from spikenm_compile.proof import prove

    proof = prove(options.artifact, options.model, options.weights, digits=options.digits, seed=options.seed)
    print(proof.text)
    return 0 if proof.passed else 1


def _inspect(options: argparse.Namespace) -> int:
    from spikenm_compile.artifact.directory import read_artifact
    from spikenm_compile.artifact.manifest import MANIFEST_NAME
    from spikenm_compile.report.layers import format_manifest

    artifact = read_artifact(options.artifact)
    if options.json:
        print((artifact.path / MANIFEST_NAME).read_text(), end="")
    else:
        print(format_manifest(artifact.manifest))
    return 0


def _tune(options: argparse.Namespace) -> int:
    from spikenm_compile.errors import InputError
    from spikenm_compile.network import load_network
    from spikenm_compile.tuning.board import BoardAddress
    from spikenm_compile.tuning.command import tune

    network = load_network(options.model, options.weights)
    if options.key is not None and options.rpc is None:
        raise InputError("--key names a board of a tracker and none is given; give --rpc HOST:PORT of the tracker too")
    board = None if options.rpc is None else BoardAddress.parse(options.rpc, options.key)
    about = {"target": options.target, "pattern": options.pattern, "weight_type": options.weight_type}
    print(tune(network, options.log, **about, board=board))
    return 0


def _doctor(_options: argparse.Namespace) -> int:
    from spikenm_compile.doctor import examine

    print(examine())
    return 0
