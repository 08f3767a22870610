"""Learning N:M masks while a model trains: learners on layers, their schedule, and folding them into the weights.

Importing this package installs the optimiser hook that finishes mask gradients (see `optimizer`).
"""

from spikenm_compile.learning.activity import ActivityTarget
from spikenm_compile.learning.attach import attach_mask, detach_mask, learner_of, masked_layers
from spikenm_compile.learning.choice import Choice, format_choices
from spikenm_compile.learning.firing import FiringRates
from spikenm_compile.learning.fold import fold_masks
from spikenm_compile.learning.loss import tell_loss
from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.optimizer import param_groups
from spikenm_compile.learning.options import LEARNER_NAMES, MaskOptions
from spikenm_compile.learning.schedule import LOGIT_SPEED, Schedule
from spikenm_compile.learning.sensitivity import calibration_loss

__all__ = [
    "LEARNER_NAMES",
    "LOGIT_SPEED",
    "ActivityTarget",
    "Choice",
    "FiringRates",
    "MaskLearner",
    "MaskOptions",
    "Schedule",
    "attach_mask",
    "calibration_loss",
    "detach_mask",
    "fold_masks",
    "format_choices",
    "learner_of",
    "masked_layers",
    "param_groups",
    "tell_loss",
]
