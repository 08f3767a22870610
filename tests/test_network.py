from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from spikenm_compile.compiler import fold, transform
from spikenm_compile.errors import InputError
from spikenm_compile.network import load_network

HEADER = """import torch
from torch import nn
from spikenm_compile.neurons import LIF
def net():
    return nn.Sequential(nn.Linear(8, 16), LIF(), nn.Linear(16, 8), LIF(), nn.Linear(8, 4))
"""
MAKE = "def make():\n    torch.manual_seed(0)\n    return net(), torch.rand(4, 2, 8)\n"


def model_file(folder: Path, text: str, name: str = "my_net.py") -> str:
    """Write a model file; FILE.py:make. The text begins at line 6."""
    (folder / name).write_text(HEADER + text)
    return f"{folder / name}:make"


def test_the_carried_network_knows_its_digits() -> None:
    network = load_network(None, None)
    assert network.name == "digits"
    assert not network.model.training
    with torch.no_grad():
        assert network.model(network.example_inputs).shape == (32, 10)


def test_a_factory_gives_model_inputs_and_name(tmp_path: Path) -> None:
    network = load_network(model_file(tmp_path, "def make():\n    return net(), torch.ones(4, 2, 8).double()\n"), None)
    assert network.name == "Sequential"
    assert not network.model.training
    assert network.example_inputs.dtype == torch.float32
    assert network.example_inputs.shape == (4, 2, 8)


def test_a_model_file_may_import_its_neighbours_and_use_dataclasses(tmp_path: Path) -> None:
    (tmp_path / "a_neighbour.py").write_text("WIDTH = 8\n")
    text = """from __future__ import annotations
import dataclasses, torch
from torch import nn
from a_neighbour import WIDTH
@dataclasses.dataclass
class Options:
    width: int = WIDTH
def make():
    return nn.Linear(Options().width, 1), torch.ones(2, Options().width)
"""
    before = list(sys.path)
    (tmp_path / "my_net.py").write_text(text)
    assert load_network(f"{tmp_path / 'my_net.py'}:make", None).name == "Linear"
    assert sys.path == before


def test_a_model_file_named_like_a_package_takes_no_place(tmp_path: Path) -> None:
    import json

    load_network(model_file(tmp_path, MAKE, "json.py"), None)
    assert sys.modules["json"] is json


def test_what_a_model_file_prints_goes_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_network(model_file(tmp_path, f"print('loading')\n{MAKE}    print('never')\n"), None)
    assert capsys.readouterr() == ("", "loading\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def make():\n    return 1 / 0\n",
            r"stopped at line 7: ZeroDivisionError: division by zero; the factory takes",
        ),
        ("def make():\n    raise ValueError\n", r"line 7: ValueError: no message; .*; correct the file"),
        ("def make():\n    return LIF(tau=0.5)\n", r"line 7: InputError: LIF time constant tau=0\.5"),
        ("def make():\n    return nn.Linear(3, 4)(torch.ones(5))\n", r"line 7: RuntimeError: "),
        ("import no_such_module\n", r"line 6: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = (\n", r"line 6: SyntaxError: "),
        ("raise SystemExit('bye')\n", r"line 6: SystemExit: bye"),
        ("raise SystemExit(0)\n", r"line 6: SystemExit: 0"),
        (
            "def make(width):\n    return net()\n",
            r"stopped: TypeError: make\(\) missing 1 .*: 'width'; the factory takes nothing",
        ),
        ("make = 3\n", r"has no function 'make'; it has net$"),
        ("del net\n", r"has no function 'make'; it has none$"),
        ("def make():\n    return net()\n", r"make\(\) in .* returned Sequential; a pair \(model, example_inputs\) of"),
        ("def make():\n    return torch.ones(3), net()\n", r"returned \(Tensor, Sequential\); a pair"),
        ("def make():\n    return net(), [1.0]\n", r"returned \(Sequential, list\); a pair"),
        ("def make():\n    return net(), torch.ones(3), 1\n", r"returned \(Sequential, Tensor, int\); a pair"),
        ("def make():\n    pass\n", r"returned NoneType; a pair"),
    ],
)
def test_wrong_model_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_network(model_file(tmp_path, text), None)


@pytest.mark.parametrize("source", ["my_net.py", "my_net.py:", ":make", "my_net.py:a-b", "my_net:1", ""])
def test_sources_of_another_form(source: str) -> None:
    with pytest.raises(InputError, match=r"is not of the form FILE\.py:factory; write for example my_net\.py:make$"):
        load_network(source, None)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text(MAKE)
    for name, message in [
        ("gone.py", r"model file '.*gone\.py' does not exist; give FILE\.py:factory with a path"),
        (".", r"model file '.*' does not exist"),
        ("net.txt", r"model file '.*net\.txt' is not a Python file; give FILE\.py:factory"),
    ]:
        with pytest.raises(InputError, match=message):
            load_network(f"{tmp_path / name}:make", None)


def test_weights_replace_those_of_the_factory(tmp_path: Path) -> None:
    source = model_file(tmp_path, MAKE)
    changed = load_network(source, None).model
    torch.nn.init.constant_(changed[0].weight, 0.25)  # type: ignore[index]
    save_file(changed.state_dict(), tmp_path / "w.safetensors")
    loaded = load_network(source, tmp_path / "w.safetensors").model
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), changed.parameters(), strict=True))


def test_weights_that_are_not_folded_are_folded(tmp_path: Path) -> None:
    source = model_file(tmp_path, MAKE)
    network = load_network(source, None)
    transform(network.model, "1:8", example_inputs=network.example_inputs, report=None)
    save_file(network.model.state_dict(), tmp_path / "w.safetensors")
    expected = fold(network.model).state_dict()
    actual = load_network(source, tmp_path / "w.safetensors").model.state_dict()
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert int(torch.count_nonzero(actual["2.weight"])) <= 16 * 8 // 8


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    source = model_file(tmp_path, MAKE)
    save_file({"other": torch.zeros(3)}, tmp_path / "other.safetensors")
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pt")
    (tmp_path / "empty").touch()
    save = r"save one with safetensors\.torch\.save_file\(model\.state_dict\(\), \.\.\.\)$"
    for name, message in [
        ("other.safetensors", r"does not fit Sequential: Missing key\(s\).*; give the weights of this model$"),
        ("w.pt", rf"'.*w\.pt' is not a readable safetensors file \(.*\); {save}"),
        ("empty", rf"is not a readable safetensors file \(.*\); {save}"),
        ("gone", rf"'.*gone' does not exist; {save}"),
        (".", rf"is not a file; {save}"),
    ]:
        with pytest.raises(InputError, match=message):
            load_network(source, tmp_path / name)


def test_a_long_list_of_keys_is_cut(tmp_path: Path) -> None:
    save_file({f"a.rather.long.name.{i}": torch.zeros(1) for i in range(100)}, tmp_path / "w")
    with pytest.raises(InputError, match=r" …; give the weights") as caught:
        load_network(model_file(tmp_path, MAKE), tmp_path / "w")
    assert len(str(caught.value)) < 500


def test_weights_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--weights needs the model they belong to: give MODEL\.py:factory too"):
        load_network(None, tmp_path / "w")


def test_masks_of_a_layer_that_is_not_there(tmp_path: Path) -> None:
    save_file({"9.mask.logits": torch.zeros(3), "9.mask.nm": torch.tensor([1, 8])}, tmp_path / "w")
    with pytest.raises(InputError, match=r"does not fit Sequential: .*9.mask.*give the weights of this model$"):
        load_network(model_file(tmp_path, MAKE), tmp_path / "w")
