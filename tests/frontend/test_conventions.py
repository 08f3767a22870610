"""What users of each library are used to holds while masks are learned and after they are folded."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from frontend.conventions import (
    LIBRARIES,
    STAGES,
    STATES,
    inputs,
    make,
    through,
    train_step,
    transformed,
    values,
)
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

import spikenm_compile
from spikenm_compile.learning import masked_layers

TABLE = [(name, stage) for name in LIBRARIES for stage in STAGES]
MASK_KEYS = ("logits", "credit", "step", "nm")


@torch.no_grad()
def evaluated(model: nn.Module, x: Tensor | None = None) -> Tensor:
    out: Tensor = model.eval()(inputs() if x is None else x)
    return out.clone()


@pytest.mark.parametrize("name", LIBRARIES)
def test_transform_adds_the_keys_of_masks_only_and_fold_takes_them_away(name: str) -> None:
    plain = make(name)
    before, parameters = values(plain), dict(plain.named_parameters())
    model = spikenm_compile.transform(plain, "2:4", example_inputs=inputs(), report=None)
    added = [f"{layer}.mask.{key}" for layer in LIBRARIES[name].masked for key in MASK_KEYS]
    assert [key for key in values(model) if key not in added] == list(before)
    assert {*values(model)} == {*before, *added}
    assert all(model.get_parameter(key) is parameter for key, parameter in parameters.items())
    result = model.load_state_dict(before, strict=False)
    assert [key for key in result.missing_keys if not key.endswith(STATES)] == added
    assert result.unexpected_keys == []
    train_step(model, name)
    spikenm_compile.fold(model)
    assert list(values(model)) == list(before)
    assert all(model.get_parameter(key) is parameter for key, parameter in parameters.items())
    assert make(name).load_state_dict(values(model), strict=False).unexpected_keys == []


@pytest.mark.parametrize("name", LIBRARIES)
def test_captured_keys_are_the_models(name: str) -> None:
    assert list(values(STAGES["captured"](name))) == list(values(make(name)))


@pytest.mark.parametrize(("name", "stage"), TABLE)
def test_the_librarys_reset_reaches_the_model(name: str, stage: str) -> None:
    model, library = STAGES[stage](name), LIBRARIES[name]
    library.reset(model)
    first, second = evaluated(model), evaluated(model)
    assert torch.equal(first, second) is not library.keeps_state
    library.reset(model)
    assert torch.equal(evaluated(model), first)


@pytest.mark.parametrize(("name", "stage"), TABLE)
def test_to_another_type_and_back(name: str, stage: str) -> None:
    model, reset = STAGES[stage](name), LIBRARIES[name].reset
    reset(model)
    first = evaluated(model)
    model.to(torch.float64)  # with the states of the first call
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    reset(model)
    if LIBRARIES[name].runs_in_float64:
        assert evaluated(model, inputs().double()).dtype is torch.float64
    model.to(torch.float32)
    reset(model)
    assert torch.equal(evaluated(model), first)


@pytest.mark.parametrize(("name", "stage"), TABLE)
def test_train_and_eval_reach_every_module(name: str, stage: str) -> None:
    model = STAGES[stage](name)
    for mode in (False, True):
        assert model.train(mode) is model
        assert all(module.training is mode for module in model.modules())


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_deep_copy_learns_masks_of_its_own(name: str) -> None:
    model, library = transformed(name), LIBRARIES[name]
    train_step(model, name)
    before = copy.deepcopy(values(model))
    twin = copy.deepcopy(model)
    first = library.masked[0]
    assert type(twin.get_submodule(first)) is type(model.get_submodule(first))
    assert torch.equal(evaluated(twin), evaluated(model))
    library.reset(model)
    if not library.resets_copies:
        twin = copy.deepcopy(model)  # with empty states
    train_step(twin.train(), name)
    assert all(torch.equal(value, before[key]) for key, value in values(model).items())
    logits = f"{first}.mask.logits"
    assert not torch.equal(values(twin)[logits], before[logits])
    assert int(values(twin)[f"{first}.mask.step"]) == 2
    spikenm_compile.fold(twin)
    assert [layer for layer, _, _ in masked_layers(model)] == [*library.masked]


def copies(name: str, stage: str, way: str) -> nn.Module | None:
    """A copy, None where Python cannot pickle what the library made."""
    model = STAGES[stage](name)
    try:
        return through(model, way)
    except (AttributeError, pickle.PicklingError):  # a function inside a function, and a class without a name
        return None


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "torch.save"])
@pytest.mark.parametrize(("name", "stage"), TABLE)
def test_what_can_be_pickled_still_can(name: str, stage: str, way: str) -> None:
    assert (copies(name, "plain", way) is not None) is (LIBRARIES[name].pickles or way == "deepcopy")
    copied = copies(name, stage, way)
    if LIBRARIES[name].pickles or way == "deepcopy":
        assert copied is not None
        assert torch.equal(evaluated(copied), evaluated(STAGES[stage](name)))


@pytest.mark.parametrize(("name", "stage"), TABLE)
def test_a_state_dict_is_saved_and_loaded(name: str, stage: str, tmp_path: Path) -> None:
    model, other = STAGES[stage](name), STAGES[stage](name)
    if stage != "folded":
        train_step(model, name)
    torch.save(values(model), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True), strict=False)
    LIBRARIES[name].reset(model)
    LIBRARIES[name].reset(other)
    assert torch.equal(evaluated(other), evaluated(model))


def same_values(one: nn.Module, other: nn.Module, *, exact: bool) -> bool:
    """Whether all parameters and buffers are the same; `exact`: to the last bit."""
    before, after = values(one), values(other)
    return before.keys() == after.keys() and all(
        torch.equal(value, after[key]) if exact else torch.allclose(value, after[key], rtol=0, atol=1e-6)
        for key, value in before.items()
    )


@pytest.mark.parametrize("stage", [pytest.param("captured", marks=pytest.mark.long), "transformed"])
@pytest.mark.parametrize("name", LIBRARIES)
def test_a_compiled_training_step_is_the_eager_one(name: str, stage: str) -> None:
    torch._dynamo.reset()
    eager, compiled = STAGES[stage](name), STAGES[stage](name)
    train_step(eager, name)
    train_step(compiled, name, torch.compile(compiled, backend="aot_eager"))
    # compiled gradients of norse's plain models differ in the last bit too
    assert same_values(eager, compiled, exact=name != "norse")


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.parametrize(("name", "stage"), TABLE)
@pytest.mark.usefixtures("process_group")
def test_distributed_data_parallel_trains_and_resets(name: str, stage: str) -> None:
    alone, inside = STAGES[stage](name), STAGES[stage](name)
    wrapped = DistributedDataParallel(inside)
    train_step(alone, name)
    train_step(wrapped, name)
    assert same_values(alone, inside, exact=True)
    LIBRARIES[name].reset(wrapped)
    first = evaluated(wrapped)
    if LIBRARIES[name].resets_nested:
        LIBRARIES[name].reset(wrapped)
        assert torch.equal(evaluated(wrapped), first)


RANK = """
import sys
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
import spikenm_compile
from spikenm_compile.learning import MaskOptions, Schedule
from spikenm_compile.neurons import LIF

rank, folder = int(sys.argv[1]), sys.argv[2]
distributed.init_process_group("gloo", store=distributed.FileStore(folder + "/store", 2), rank=rank, world_size=2)
torch.manual_seed(rank)  # so that weights, and logits made of them, differ until the wrapper makes them one
model = nn.Sequential(nn.Linear(8, 16), LIF(v_threshold=0.1), nn.Linear(16, 8), LIF(v_threshold=0.1))
spikenm_compile.transform(model, "2:4", options=MaskOptions(Schedule(noise=1.0)), report=None)
wrapped = DistributedDataParallel(model)
optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-2)
masks = []
for _ in range(3):
    optimizer.zero_grad()
    wrapped(torch.rand(2, 4, 8) * 3).square().sum().backward()  # other data on each rank
    masks.append((model[2].mask(torch.ones(8, 16)) != 0).detach())
    optimizer.step()
    model[1].reset(), model[3].reset()
torch.save({"masks": masks, "state": model.state_dict()}, f"{folder}/{rank}.pt")
distributed.destroy_process_group()
"""


def test_two_ranks_learn_the_same_masks(tmp_path: Path) -> None:
    ranks = [subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)]) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one["masks"], other["masks"], strict=True))
    assert not torch.equal(one["masks"][0], one["masks"][1])
    assert all(torch.equal(value, other["state"][key]) for key, value in one["state"].items())
