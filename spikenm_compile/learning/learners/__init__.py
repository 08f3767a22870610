"""The learners: name -> class. To add one: a file here, its name in options.LearnerName, a line in `LEARNERS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from spikenm_compile.learning.learners.asp import ASP
from spikenm_compile.learning.learners.maskllm import MaskLLM
from spikenm_compile.learning.learners.maskpro import MaskPro
from spikenm_compile.learning.learners.phase import PhaseMask
from spikenm_compile.learning.learners.random import RandomMask
from spikenm_compile.learning.learners.spikenm import SpikeNM
from spikenm_compile.learning.learners.spre import SpRe
from spikenm_compile.learning.learners.sr_ste import SRSTE
from spikenm_compile.learning.learners.staggered import Staggered
from spikenm_compile.learning.learners.subp import SUBP
from spikenm_compile.learning.mask import MaskLearner
from spikenm_compile.learning.options import LearnerName, MaskOptions
from spikenm_compile.pattern import Pattern

LEARNERS: Mapping[LearnerName, type[MaskLearner]] = {
    "spikenm": SpikeNM,
    "maskllm": MaskLLM,
    "maskpro": MaskPro,
    "sr-ste": SRSTE,
    "asp": ASP,
    "random": RandomMask,
    "staggered": Staggered,
    "spre": SpRe,
    "subp": SUBP,
    "phase": PhaseMask,
}


def pattern_for(pattern: Pattern, options: MaskOptions) -> Pattern:
    """The pattern that is learned where `pattern` is asked for: the learner `staggered` makes a staggered one of it."""
    return replace(pattern, staggered=True) if options.learner == "staggered" else pattern


def learner_class(pattern: Pattern, options: MaskOptions) -> type[MaskLearner]:
    """Who learns masks of `pattern`; a staggered pattern has one learner, whatever the options say."""
    return LEARNERS["staggered" if pattern.staggered else options.learner]


def make_learner(weight: Tensor, pattern: Pattern, options: MaskOptions | None, layer: str) -> MaskLearner:
    """The learner of the mask of `weight` [O, I, *kernel].

    Raises:
        PatternError: the learner cannot learn this pattern.
    """
    options = options or MaskOptions()
    asked = pattern_for(pattern, options)
    return learner_class(asked, options)(weight, asked, options, layer)
