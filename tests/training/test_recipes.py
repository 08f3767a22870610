"""Recipes: those that come along, what a wrong one is told, and a whole training from the command line."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
import torch
from cli_fixtures import the_error
from safetensors.torch import load_file
from torch import Tensor

from spikenm_compile.cli import main
from spikenm_compile.errors import InputError, PatternError
from spikenm_compile.marks import trained_type
from spikenm_compile.network import load_network
from spikenm_compile.pattern import Pattern
from spikenm_compile.training import estimate
from spikenm_compile.training.datasets.registry import DATASETS
from spikenm_compile.training.recipe import Recipe
from spikenm_compile.training.recipe_data import load_samples, scaled, shifted, task_of
from spikenm_compile.training.recipe_plan import duration, plan_recipe, size
from spikenm_compile.training.recipe_reader import read_recipe
from spikenm_compile.training.recipe_run import to_toml

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"
TINY: dict[str, tuple[str, ...]] = {
    "digits": (),
    "event-digits": ("network.width=8",),
    "gestures": ("training.batch_size=8",),
    "cifar10-vgg16": ("network.width=4",),
    "cifar10-resnet18": ("network.width=4", "data.size=16"),
    "cifar10-resnet19": ("network.width=4", "network.hidden=16", "data.size=16"),
    "cifar100-resnet19": ("network.width=4", "network.hidden=16", "data.size=16"),
    "cifar10-spikformer": ("network.embed_dims=32", "network.num_heads=4", "network.depths=1", "data.size=16"),
    "cifar10dvs-vgg": ("network.width=4", "data.size=16", "data.steps=2"),
    "cifar10dvs-sew": ("network.width=4", "data.size=16", "data.steps=2"),
    "dvs128gesture-sew": ("network.width=4", "data.size=16", "data.steps=2"),
    "n-mnist-vgg": ("network.width=4", "data.steps=2"),
    "shd-mlp": ("network.hidden=[32, 32]", "data.steps=4"),
    "tiny-imagenet-resnet18": ("network.width=4", "data.size=16"),
}
"""Changes that make a recipe quick."""


@pytest.mark.parametrize("name", TINY)
def test_a_recipe_that_comes_along_can_be_planned(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(estimate, "QUICK_SECONDS", 0.0)
    changes = [word for change in TINY[name] for word in ("--set", change)]
    assert main(["train", str(RECIPES / f"{name}.toml"), "--dry-run", *changes]) == 0
    plan = capsys.readouterr().out
    kind = DATASETS[read_recipe(RECIPES / f"{name}.toml").data.name]
    assert f"{kind.num_classes} classes" in plan
    assert "learn a mask" in plan
    assert "activations and gradients" in plan
    assert ("no files are needed" in plan) == (kind.source is None)
    assert not list(tmp_path.iterdir())


def test_every_recipe_is_tested_and_says_where_its_numbers_come_from() -> None:
    paths = {path.stem: path for path in RECIPES.glob("*.toml")}
    assert paths.keys() == TINY.keys()
    for path in paths.values():
        text = path.read_text()
        assert text.startswith("# ")
        assert "our choice" in text.partition("[data]")[0].replace("\n# ", " ")


RECIPE = """# a recipe
[data]
name = "digits"
steps = 2

[network]
name = "digits"

[mask]
pattern = "2:4"
noise = 0

[mask.layers]
"block4.conv" = "1:4"
"classifier" = "dense"

[training]
epochs = 1
batch_size = 128
"""


def written(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "r.toml"
    path.write_text(text)
    return path


def test_a_recipe_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(
        written(tmp_path), ["training.lr=0.5", "data.seed=3", "mask.learner=asp", "mask.layers.x.y=1:8"]
    )
    assert (recipe.data.name, recipe.data.steps, recipe.data.seed) == ("digits", 2, 3)
    assert (recipe.mask.pattern, recipe.mask.options.learner) == (Pattern(2, 4), "asp")
    assert recipe.mask.options.schedule.noise == 0.0
    assert recipe.mask.layers == {"block4.conv": Pattern(1, 4), "classifier": None, "x.y": Pattern(1, 8)}
    assert (recipe.training.epochs, recipe.training.batch_size, recipe.training.lr) == (1, 128, 0.5)
    assert recipe.out == Path("out/r")
    assert read_recipe(recipe.path, out=Path("o")).out == Path("o")
    assert read_recipe(recipe.path, ["network.name=my_net.py:make"]).network.is_file
    assert tomllib.loads(to_toml(recipe.tables)) == recipe.tables


def test_whole_numbers_of_a_recipe(tmp_path: Path) -> None:
    numbers = ["mask.weight_type=int4", "mask.weight_types.classifier=int7"]
    mask = read_recipe(written(tmp_path), numbers).mask
    assert (mask.options.weight_type, mask.weight_types) == ("int4", {"classifier": "int7"})
    assert not mask.is_empty
    dense = ["mask.pattern=dense", "mask.layers={}"]
    assert read_recipe(written(tmp_path), dense).mask.is_empty
    assert not read_recipe(written(tmp_path), [*dense, "mask.weight_type=int8"]).mask.is_empty
    with pytest.raises(InputError, match=r"weight_type = 'int5' is not 'int8' or 'int7' or 'int4'; write weight_type"):
        read_recipe(written(tmp_path), ["mask.weight_type=int5"])
    with pytest.raises(
        InputError, match=r"\[mask.weight_types\]: classifier = 'int5' is not 'int8' or 'int7' or 'int4'"
    ):
        read_recipe(written(tmp_path), ["mask.weight_types.classifier=int5"])


def test_a_dense_network_trains_in_whole_numbers_and_is_built_from_its_recipe(tmp_path: Path) -> None:
    recipe = written(tmp_path, RECIPE.partition("[mask]")[0] + RECIPE[RECIPE.index("[training]") :])
    out, changes = tmp_path / "run", ["mask.pattern=dense", "mask.weight_type=int4", "training.batch_size=700"]
    assert main(["train", str(recipe), "--out", str(out), *(w for c in changes for w in ("--set", c))]) == 0
    model = load_network(str(out / "recipe.toml"), None).model
    found = {name: trained_type(module) for name, module in model.named_modules() if hasattr(module, "weight")}
    assert {found.pop(name) for name in list(found) if "norm" in name} == {None}
    assert found == {"block1.conv": "int8", **dict.fromkeys(list(found)[1:], "int4")}
    load_file(out / "weights.safetensors")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "epochs = 1",
            "epoch = 1",
            r"r.toml', line 18, \[training\] has no key 'epoch'; did you mean 'epochs'\?; it ta",
        ),
        (
            "epochs = 1",
            'epochs = "1"',
            r"line 18, \[training\]: epochs = '1' is not a whole number; write epochs = a wh",
        ),
        ("epochs = 1", "epochs = 0", r"line 17, \[training\]: epochs=0 is not a setting"),
        (
            "[training]",
            "[traning]",
            r"line 17, \[traning\] is not a table of a recipe; did you mean 'training'\?; it has",
        ),
        ("noise = 0", "nois = 0", r"line 11, \[mask\] has no key 'nois'; did you mean 'noise'"),
        ("noise = 0", "noise = -1", r"line 9, \[mask\]: noise=-1.0 and eid"),
        ("noise = 0", 'learner = "spikemn"', r"line 11, \[mask\]: learner = 'spikemn' is not 'spikenm' or "),
        (
            'name = "digits"',
            'name = "digit"',
            r"line 3, \[data\] needs the name of a data set and names 'digit'; did yo",
        ),
        (
            'name = "digits"\nsteps',
            "steps",
            r"line 2, \[data\] needs the name of a data set and names none; use one of d",
        ),
        ("steps = 2", "steps = true", r"line 4, \[data\]: steps = True is not a whole number"),
        ("steps = 2", 'encoder = "rat"', r"line 4, \[data\]: encoder = 'rat' is not 'direct' or 'rate' or 'latency'"),
        (
            '[network]\nname = "digits"',
            '[network]\nname = "vgg"',
            r"line 7, \[network\] needs the name of a network and",
        ),
        (
            '[network]\nname = "digits"',
            '[network]\nname = "vgg11"\nwidht = 2',
            r"line 8, \[network\] has no key 'widht'",
        ),
        (
            '[network]\nname = "digits"',
            '[network]\nname = "a.py:f"\nwidth = 2',
            r"line 8, \[network\] has no key 'width'",
        ),
        ("epochs = 1", "epochs = ", r"r.toml' is not TOML: Invalid value \(at line 18, column 10\); correct that line"),
        ("[data]", "data = 3\n[date]", r"line 2, \[date\] is not a table|\[data\] is not a table"),
    ],
)
def test_a_mistake_is_one_sentence_with_its_line(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in RECIPE
    with pytest.raises(InputError, match=message) as caught:
        read_recipe(written(tmp_path, RECIPE.replace(before, after, 1)))
    assert "\n" not in str(caught.value)


def test_a_pattern_that_cannot_be_read_has_its_line(tmp_path: Path) -> None:
    with pytest.raises(PatternError, match=r"line 14, \[mask.layers\]: pattern 'four' is not .*; or 'dense'"):
        read_recipe(written(tmp_path, RECIPE.replace('"1:4"', '"four"')))


@pytest.mark.parametrize("change", ["epochs=3", "training.epochs", "data.name.x=3"])
def test_changes_have_a_form(tmp_path: Path, change: str) -> None:
    with pytest.raises(InputError, match=f"--set {change}"):
        read_recipe(written(tmp_path), [change])


def test_a_recipe_that_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "nowhere.toml"]) == 1
    assert the_error(capsys) == "recipe 'nowhere.toml' is not a file; give a TOML file, examples/recipes has some"


def changed(tmp_path: Path, *changes: str) -> Recipe:
    return read_recipe(written(tmp_path), changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("data.name=gestures", "data.encoder=rate"), "'gestures' has time already, and encoders are for images"),
        (("data.name=gestures",), "'gestures' has 16 steps; leave steps = 2 out"),
        (("data.frames=time",), "'digits' is not cut into frames"),
    ],
)
def test_data_that_do_not_go_together(tmp_path: Path, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task_of(changed(tmp_path, *changes).data)


def test_encoders_make_steps_of_images(tmp_path: Path) -> None:
    plain = load_samples(changed(tmp_path), "test")
    for encoder in ("rate", "latency"):
        recipe = changed(tmp_path, f"data.encoder={encoder}", "data.steps=5")
        assert task_of(recipe.data).has_time
        samples = load_samples(recipe, "test")
        spikes, label = samples[3]
        assert isinstance(spikes, Tensor)
        assert spikes.shape == (5, 1, 8, 8)
        assert set(spikes.flatten().tolist()) == {0.0, 1.0}
        assert label == int(plain[3][1])
        assert torch.equal(spikes, samples[3][0])
    drawn = load_samples(changed(tmp_path, "data.encoder=rate", "data.steps=5"), "train")
    assert not torch.equal(drawn[0][0], drawn[0][0])


def test_samples_are_scaled_and_shifted(tmp_path: Path) -> None:
    recipe = changed(tmp_path, "data.size=4", "data.augment=shift")
    assert task_of(recipe.data).sample == (1, 4, 4)
    assert load_samples(recipe, "train")[0][0].shape == (1, 4, 4)
    x = torch.arange(64.0).view(1, 8, 8) + 1
    assert torch.equal(scaled(x, 1), x.mean().view(1, 1, 1))
    torch.manual_seed(0)
    seen = {tuple(shifted(x, flips=False)[0, 4, 2:6].tolist()) for _ in range(60)}
    assert len(seen) == 9
    assert any(shifted(x, flips=True)[0, 4, 4] > shifted(x, flips=False)[0, 4, 5] for _ in range(20))
    still, moved = (load_samples(changed(tmp_path, f"data.augment={how}"), "test") for how in ("none", "shift"))
    assert torch.equal(still[0][0], moved[0][0])


def test_a_dense_recipe_has_no_masks(tmp_path: Path) -> None:
    plan = plan_recipe(changed(tmp_path, "mask.pattern=dense", "mask.layers.block4.conv=dense"))
    assert "masks     none: every layer is dense" in plan
    partly = plan_recipe(changed(tmp_path, "mask.pattern=dense"))
    assert "1 of 5 layers learn a mask" in partly


def test_numbers_have_units() -> None:
    assert [size(n) for n in (12, 1234, 5.6e7, 7e15)] == ["12 B", "1.23 kB", "56 MB", "7000 TB"]
    assert [duration(s) for s in (0.012, 3, 90, 7200, 9e7)] == ["12 ms", "3 s", "1.5 min", "2 h", "1042 days"]


def test_a_training_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = written(tmp_path), tmp_path / "out"
    assert main(["train", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "3 of 5 layers learn a mask" in said
    assert f"build it: python -m spikenm_compile build {out}/recipe.toml --pattern 2:4 --target native" in said
    weights = load_file(out / "weights.safetensors")
    assert Pattern(2, 4).holds(weights["block2.conv.weight"])
    assert Pattern(1, 4).holds(weights["block4.conv.weight"])
    network = load_network(str(out / "recipe.toml"), None)
    assert network.name == "out"
    assert torch.equal(network.model.state_dict()["block2.conv.weight"], weights["block2.conv.weight"])
    assert network.example_inputs.shape == (32, 1, 8, 8)
    assert network.model.get_submodule("block4.conv").nm_pattern == Pattern(1, 4)
    assert main(["build", str(out / "recipe.toml"), "--dry-run", "--json"]) == 0
    layers = {layer["name"]: layer for layer in json.loads(capsys.readouterr().out)}
    assert layers["block4.conv"]["pattern"] == "1:4"
    assert main(["train", str(path), "--out", str(out)]) == 1
    assert "holds a training at step 11" in capsys.readouterr().err
    assert main(["train", str(path), "--out", str(out), "--resume"]) == 0
