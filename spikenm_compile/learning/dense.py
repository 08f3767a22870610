"""A layer without a mask whose weight learns to be whole numbers: the first layer, the classifier, a dense network.

w̃ = w until the frozen tail, then and in evaluation q · s        ∂L/∂w = ∂L/∂w̃
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from spikenm_compile.learning.learner import WeightLearner
from spikenm_compile.learning.straight_through import straight_through


class DenseLearner(WeightLearner):
    """Keeps every weight."""

    def forward(self, weight: Tensor) -> Tensor:
        """The weight, rounded where it is time."""
        rounded = self.rounded(weight.detach(), weight)
        return weight if rounded is None else straight_through(weight, rounded)

    def folded(self, weight: Tensor) -> Tensor:
        """The rounded weight."""
        return self.at_fold(weight)

    def adapted(self, state_dict: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """A checkpoint of a training in floats has no count of steps for this layer: it goes on from its own."""
        return {f"{prefix}step": self.step, **super().adapted(state_dict, prefix)}

    def extra_repr(self) -> str:
        """The whole numbers, for print(model)."""
        return f"{self.options.weight_type}"
