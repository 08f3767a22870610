import pytest
from torch import nn
from torch.nn.utils import parametrizations

from spikenm_compile.learning import MaskOptions
from spikenm_compile.learning.choice import Choice, caution, format_choices, obstacle
from spikenm_compile.pattern import Pattern

layer = pytest.importorskip("spikingjelly.activation_based.layer")


@pytest.mark.parametrize(
    "module",
    [
        *(nn.Conv1d(8, 4, 3), nn.Conv2d(8, 4, 3), nn.Conv3d(8, 4, 3), nn.Linear(8, 4)),
        nn.Conv2d(16, 8, 3, groups=2),
        *(layer.Conv1d(8, 4, 3), layer.Conv2d(8, 4, 3), layer.Conv3d(8, 4, 3), layer.Linear(8, 4)),
    ],
)
def test_layers_that_can_hold_a_pattern(module: nn.Module) -> None:
    assert obstacle(module, Pattern(1, 8)) is None


def test_every_obstacle_has_its_sentence() -> None:
    pattern = Pattern(2, 4)
    assert obstacle(nn.Linear(17, 4), pattern) == "17 input channels do not split into groups of 4"
    depthwise = "grouped convolution with 1 channels per group does not split into groups of 4"
    assert obstacle(nn.Conv2d(8, 8, 3, groups=8), pattern) == depthwise
    assert obstacle(layer.WSConv2d(8, 4, 3), pattern) == "class WSConv2d uses its weight in its own way"
    assert obstacle(nn.Conv1d(8, 8, 3, groups=8), pattern) == depthwise
    assert obstacle(layer.WSLinear(8, 4), pattern) == "class WSLinear uses its weight in its own way"
    computed = "its weight is computed, not stored (weight norm, parametrization)"
    assert obstacle(parametrizations.weight_norm(nn.Linear(8, 4)), pattern) == computed


def test_the_table_names_layers_patterns_and_reasons() -> None:
    choices = [
        Choice("conv1", "Conv2d", (16, 1, 3, 3), None, "first layer: sees the input, not spikes"),
        Choice("conv2", "Conv2d", (32, 16, 3, 3), Pattern(2, 4), "between spiking neurons"),
    ]
    assert format_choices(choices).splitlines() == [
        "layer  kind    weight     weights  pattern  why",
        "-----  ------  ---------  -------  -------  ---------------------------------------",
        "conv1  Conv2d  16×1×3×3       144  dense    first layer: sees the input, not spikes",
        "conv2  Conv2d  32×16×3×3     4608  2:4      between spiking neurons",
        "1 of 2 layers learn a mask; 2448 of 4752 weights stay (51.5%)",
    ]


def test_slabs_do_not_straddle_the_groups_of_a_convolution() -> None:
    straddles = "grouped convolution with 6 outputs per group does not split into slabs of 4"
    assert obstacle(nn.Conv2d(16, 12, 3, groups=2), Pattern.parse("4:2:4")) == straddles
    assert obstacle(nn.Conv2d(16, 12, 3, groups=2), Pattern.parse("3:2:4")) is None
    assert obstacle(nn.Conv2d(16, 6, 3), Pattern.parse("4:2:4")) is None


def test_learned_masks_of_many_outputs_are_warned_of() -> None:
    def said(pattern: str, options: MaskOptions) -> str | None:
        return caution([Choice("conv2", "Conv2d", (32, 16, 3, 3), Pattern.parse(pattern), "")], options)

    sentence = said("8:2:4", MaskOptions())
    assert sentence is not None
    assert sentence.startswith("warning: up to 8 outputs share a mask in conv2; learned masks lose accuracy above 4;")
    assert said("8:2:4", MaskOptions(learner="asp")) is None
    assert said("4:2:4", MaskOptions()) is None
    assert said("2:4@stagger", MaskOptions()) is None
    assert caution([Choice("fc", "Linear", (8, 8), None, "")], MaskOptions()) is None
