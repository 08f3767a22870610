"""What was trained is what is deployed: the integers of the last training step are those of the lowered graph."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from recurrent_networks import RECURRENT_MODELS
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.fx import GraphModule

from spikenm_compile import Pattern, compile_model, fold, load, lower, transform
from spikenm_compile.errors import InputError, PassError, PatternError
from spikenm_compile.learning import masked_layers
from spikenm_compile.learning.attach import learning_layers
from spikenm_compile.marks import trained_type
from spikenm_compile.network import Network, load_weights
from spikenm_compile.ops import IntConv2d
from spikenm_compile.training.evaluation import reset_neurons
from spikenm_compile.training.event_digits import EventDigitsNet
from spikenm_compile.weight_types import WEIGHT_TYPES, WeightType, quantize_weight, round_weight

STEPS = 5
CONVOLUTIONS = [f"block{i}.conv" for i in (1, 2, 3, 4)]


def network() -> EventDigitsNet:
    """Four convolutions whose batch norms have either sign, and a classifier."""
    torch.manual_seed(0)
    model = EventDigitsNet((8, 8, 16, 8), num_steps=3)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.normal_(norm.weight, 1.0, 2.0)
    return model


def events(seed: int = 0, batch: int = 4) -> Tensor:
    return (torch.rand(batch, 3, 2, 16, 16, generator=torch.Generator().manual_seed(seed)) < 0.2).float()


def train(model: nn.Module, steps: int = STEPS) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    labels = torch.arange(4)
    model.train()
    for step in range(steps):
        reset_neurons(model)
        optimizer.zero_grad()
        F.cross_entropy(model(events(step)), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    reset_neurons(model)


def integers(model: nn.Module, kinds: Mapping[str, WeightType]) -> dict[str, Tensor]:
    """Layer -> whole numbers that the forward pass of the next step would compute with; signs of batch norms undone."""
    found = {}
    for name, layer, learner in learning_layers(model):
        used = learner(layer.get_parameter("weight")).detach()
        q = quantize_weight(used, kinds[name])[0]
        norm = model.get_submodule(name.replace("conv", "norm")) if name in CONVOLUTIONS else None
        sign = 1.0 if norm is None else norm.get_parameter("weight").detach().sign().view(-1, 1, 1, 1)
        found[name] = (q * sign).to(torch.int8)
    return found


def deployed(lowered: GraphModule) -> dict[str, Tensor]:
    return {m.layer: m.weight for m in lowered.modules() if isinstance(m, IntConv2d)}


@pytest.mark.parametrize("pattern", ["2:4", "1:4@stagger", None])
@pytest.mark.parametrize("kind", WEIGHT_TYPES)
def test_the_integers_of_training_are_those_of_the_lowered_graph(pattern: str | None, kind: WeightType) -> None:
    model = network()
    transform(model, pattern, total_steps=STEPS, weight_type=kind, report=None)
    train(model)
    kinds: dict[str, WeightType] = {**dict.fromkeys((*CONVOLUTIONS, "classifier"), kind), "block1.conv": "int8"}
    trained = integers(model, kinds)
    assert trained.keys() == kinds.keys()
    found = deployed(lower(fold(model).eval(), events()))  # int8 is the default, and is not what they were trained as
    for name, expected in trained.items():
        assert torch.equal(found[name].view_as(expected), expected), name
        assert expected.abs().max() == WEIGHT_TYPES[kinds[name]]
    assert any((model.get_submodule(f"block{i}.norm").get_parameter("weight") < 0).any() for i in (1, 2, 3, 4))


def test_each_layer_may_have_its_own_type_and_the_report_shows_them() -> None:
    model, told = network(), list[str]()
    types = {"block3.conv": "int7", "block1.conv": "int4"}
    transform(model, "2:4", total_steps=10, weight_type="int4", weight_types=types, report=told.append)  # type: ignore[arg-type]
    fold(model)
    found = {name: trained_type(model.get_submodule(name)) for name in (*CONVOLUTIONS, "classifier")}
    assert found == {**dict.fromkeys((*CONVOLUTIONS, "classifier"), "int4"), "block3.conv": "int7"}
    assert "numbers" in told[0]
    assert "weights are rounded to whole numbers from step 7 on, and by fold" in told[0]


def test_a_report_without_whole_numbers_does_not_speak_of_them() -> None:
    told: list[str] = []
    transform(network(), report=told.append)
    assert "numbers" not in told[0].splitlines()[0]
    transform(network(), weight_type="int8", report=told.append)
    assert "weights become whole numbers by fold alone; give total_steps" in told[1]


def test_some_layers_alone() -> None:
    model = network()
    transform(model, None, weight_types={"block2.conv": "int4"}, report=None)
    assert [name for name, _, _ in learning_layers(model)] == ["block2.conv"]
    assert not list(masked_layers(model))
    with pytest.raises(PassError, match=r"'block2.conv' still learns its whole numbers; only folded"):
        lower(model, events())


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(PatternError, match=r"no layer can learn any masks .*'block2.conv': no pattern was asked for"):
        transform(network(), None)
    with pytest.raises(InputError, match=r"weight_types names 'block9', which is not a convolution or Linear"):
        transform(network(), weight_types={"block9": "int4"})
    with pytest.raises(InputError, match=r"cannot be trained as 'int3'; they can as int8, int7, int4"):
        transform(network(), weight_type="int3")  # type: ignore[arg-type]
    model = network()
    model.block3.conv.weight = model.block2.conv.weight = nn.Parameter(torch.randn(16, 16, 3, 3))
    tied = {"block3.conv": "int4"}
    with pytest.raises(InputError, match=r"'block3.conv' cannot learn int4 weights: shares its weight with layer 'bl"):
        transform(model, weight_types=tied)  # type: ignore[arg-type]
    model = network()
    transform(model, None, weight_type="int4", report=None)
    with pytest.raises(PassError, match=r"layer 'block1.conv' learns int8 weights already, and another pattern or oth"):
        transform(model, "2:4", report=None)


def test_weights_that_are_not_folded_yet_are_folded_as_they_were_trained(tmp_path: Path) -> None:
    model = network()
    transform(model, "1:4", total_steps=STEPS, weight_type="int4", report=None)
    train(model)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, tmp_path / "weights")
    other = Network(network().eval(), events(), "net")
    load_weights(other, tmp_path / "weights")
    fold(model)
    state = other.model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert [trained_type(other.model.get_submodule(name)) for name in CONVOLUTIONS] == ["int8", "int4", "int4", "int4"]
    assert other.model.get_submodule("block3.conv").nm_pattern == Pattern(1, 4)


def test_a_layer_that_is_split_keeps_the_integers_of_the_whole() -> None:
    """SpikingJelly's container reads its input and its previous spikes as one vector."""
    model = RECURRENT_MODELS["spikingjelly"]()
    spikes = (torch.rand(4, 3, 16, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    transform(model, None, weight_type="int4", example_inputs=spikes, report=None)
    whole = fold(model).eval().get_submodule("cell.rc").get_parameter("weight").detach()
    with torch.no_grad():
        whole[:, :32] /= 8.0  # the largest weights are those of the previous spikes
        whole.copy_(round_weight(whole, "int4"))
    expected = quantize_weight(whole, "int4")[0]
    found = deployed(lower(model, spikes))
    parts = torch.cat([found[f"cell.rc.{i}"].flatten(1) for i in (0, 1)], 1)
    assert torch.equal(parts, expected)
    assert found["cell.rc.0"].abs().max() < 7


def test_the_artifact_computes_what_the_folded_network_computes(tmp_path: Path) -> None:
    model = network()
    transform(model, "2:4", total_steps=STEPS, weight_type="int4", report=None)
    train(model)
    fold(model).eval()
    compile_model(model, events(), tmp_path / "artifact", report=None)
    x = events(9, 64)
    reset_neurons(model)
    with torch.no_grad():
        expected = model(x)
    actual = torch.from_numpy(load(tmp_path / "artifact").run(x.transpose(0, 1).contiguous().numpy()))
    assert (actual - expected).abs().median() < 1e-5
