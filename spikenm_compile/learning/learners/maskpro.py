"""MaskPro: draw N members of each group without replacement, and reinforce the draws of low loss.

    members i_1 … i_N of a group: p(i_k) = softmax over what is left of π / σ
    A  = (L - b) / s                          b, s: running mean and deviation of the loss L (`tell_loss`)
    g  = κ · A · r / RMS(r),   r = Σ_k (e_{i_k} - softmax_left(π / σ))     σ · ∂ log p / ∂π
    b ← β · b + (1 - β) · L

Source: the idea and the distribution are those of MaskPro (github.com/woodenchild95/Maskpro): linear space, policy
gradient with an exponential average of the loss (β = 0.99 there, against the loss of the first mask on the same batch),
for frozen weights of a language model. Here weights train along, the baseline is the average of the loss itself, and
the step is normalised. A single scalar for all groups of a network learns slowly: where gradients of the weights are
at hand, as in a training, the other learners are better.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from spikenm_compile.errors import InputError
from spikenm_compile.learning.logits import WeightLogits, rms
from spikenm_compile.learning.options import LearnerName
from spikenm_compile.learning.sampling import draw_gradient
from spikenm_compile.learning.sharding import whole

SMALLEST_DEVIATION = 1e-12


class MaskPro(WeightLogits):
    """`baseline` and `deviation` are b and s²; `tell_loss` has to be called before each optimiser step.

    Raises:
        InputError: at a step, where no loss was told.
    """

    name: ClassVar[LearnerName] = "maskpro"
    needs_loss: ClassVar[bool] = True

    baseline: Tensor
    deviation: Tensor

    def start(self, weight: Tensor) -> None:
        """Register the averages of the loss."""
        super().start(weight)
        self._heard: list[Tensor] = []
        for name in ("baseline", "deviation"):
            self.register_buffer(name, torch.zeros((), device=weight.device))

    def hear_loss(self, loss: Tensor) -> None:
        """Remember the loss of a part of this step's batch."""
        self._heard.append(loss.to(self.baseline))

    def logit_gradient(self, signal: Tensor, step: int) -> Tensor:
        """Reinforce the draw; what the backward pass found for the logits is not used."""
        if not self._heard:
            raise InputError(
                f"layer '{self.layer}' learns its mask from the loss, which it was not told; call "
                "spikenm_compile.learning.tell_loss(model, loss) before optimizer.step(), or take another learner"
            )
        advantage = self._advantage(torch.stack(self._heard).mean(), step)
        self._heard.clear()
        groups, logits, pattern = self.pattern.groups, whole(self.logits.detach()), self.pattern_at(step)
        if pattern is None:  # nothing was drawn
            return torch.zeros_like(signal)
        scores = self.options.schedule.logit_rate * logits / self.options.schedule.sigma(step)
        draw = draw_gradient(groups(scores), groups(self.perturbed(logits, step)), pattern.n)
        return self.pattern.ungroup(self.options.task_weight * advantage * draw / rms(draw))

    def _advantage(self, loss: Tensor, step: int) -> Tensor:
        """How much worse the loss is than usual, A; updates b and s. The first loss is the first baseline."""
        slow = self.options.baseline_decay if step > 0 else 0.0
        distance = loss - self.baseline if step > 0 else torch.zeros_like(loss)
        self.deviation.copy_(slow * self.deviation + (1.0 - slow) * distance.square())
        self.baseline.copy_(slow * self.baseline + (1.0 - slow) * loss)
        return distance / (self.deviation.sqrt() + SMALLEST_DEVIATION)
