"""Firing rates of single steps of a training, at no cost for the steps in between."""

from __future__ import annotations

from typing import Any

from spikenm_compile.learning.firing import FiringRates, firing_modules
from spikenm_compile.training.step import Job


class RateWatch:
    """Has hooks on the neurons of a model for the steps that are watched.

    A compiled model is left alone: it would be compiled anew for each change of its hooks.
    """

    def __init__(self, job: Job) -> None:
        self._model = job.model
        self._can_watch = job.settings.compile == "none" and any(firing_modules(job.model))
        self._rates: FiringRates | None = None

    def watch(self) -> None:
        """Measure from now on."""
        if self._can_watch:
            self._rates = FiringRates(self._model, training_only=True)

    def look(self) -> dict[str, Any]:
        """What the log says about firing rates since `watch`; empty where nothing was watched."""
        if self._rates is None:
            return {}
        rates = {name: float(rate.detach()) for name, rate in self._rates.take().items()}
        self.stop()
        return {"firing_rates": rates}

    def stop(self) -> None:
        """Take the hooks away."""
        if self._rates is not None:
            self._rates.remove()
            self._rates = None
