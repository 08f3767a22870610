"""Run an artifact that computes in float32: one ONNX model, of a time step or of the whole network."""

from __future__ import annotations

import numpy as np

from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.artifact.float_code import read_onnx_step_code, read_onnx_whole_code
from spikenm_compile.errors import InputError
from spikenm_compile.runtime.model import Floats, Model, State, Trace
from spikenm_compile.runtime.onnx import Arrays, OnnxSteps, Session


class OnnxStepModel(OnnxSteps):
    """An artifact of kind onnx-step, loaded: a sequence is one call for each step.

    Args:
        artifact: a checked artifact.
        threads: threads that ONNX Runtime may use.

    Raises:
        ArtifactError: the code section or the model is not as it should be.
        ToolError: onnxruntime is missing or cannot load the model.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        code = read_onnx_step_code(artifact)
        self._layers = tuple(code.spike_shapes)
        super().__init__(artifact, code.step, code.states, self._layers, threads)

    def _sequence(self, x: Floats, num_steps: int, *, record: bool) -> Trace:
        per_step = self.manifest.input.per_step
        state = self._initial_state(x.shape[int(per_step)])
        outputs: list[Floats] = []
        spikes: list[Arrays] = []
        for t in range(num_steps):
            output, state, emitted = self._take_step(x[t] if per_step else x, state, self._layers if record else ())
            outputs.append(output)
            spikes.append(emitted)
        output = np.stack(outputs) if self.manifest.output.per_step else outputs[-1]
        return Trace(output, state.values, {layer: np.stack([s[layer] for s in spikes]) for layer in spikes[0]})


class OnnxWholeModel(Model):
    """An artifact of kind onnx-whole, loaded: it runs whole sequences of its own T, and takes no single step.

    Args:
        artifact: a checked artifact.
        threads: threads that ONNX Runtime may use.

    Raises:
        ArtifactError: the code section or the model is not as it should be.
        ToolError: onnxruntime is missing or cannot load the model.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        super().__init__(artifact)
        code = read_onnx_whole_code(artifact)
        self._batch = code.batch
        self._session = Session(self.path / code.model, threads)
        self._session.require({"x"}, {"output"})

    def _sequence(self, x: Floats, num_steps: int, *, record: bool) -> Trace:
        self._check_sizes(x, num_steps)
        return Trace(self._session.run(["output"], {"x": x}, num_steps)["output"], {}, {})

    def _check_sizes(self, x: Floats, num_steps: int) -> None:
        name, batch = self.manifest.name, x.shape[int(self.manifest.input.per_step)]
        if num_steps != self.manifest.num_steps:
            raise InputError(
                f"'{name}' is run for {num_steps} steps; it was exported whole, for {self.manifest.num_steps} steps; "
                f"give it {self.manifest.num_steps} steps, or build it with an example of {num_steps}"
            )
        if self._batch not in (None, batch):
            raise InputError(
                f"'{name}' is run on {batch} samples; it was exported for batches of {self._batch}; fill the batch up "
                f"to {self._batch}, or build it with an example of {batch} samples"
            )

    def _step(self, x_t: Floats, state: State) -> tuple[Floats, State]:
        raise self._no_steps()

    def _initial_state(self, batch: int) -> State:
        raise self._no_steps()

    def _check_state(self, x_t: Floats, state: State) -> None:
        raise self._no_steps()

    def _no_steps(self) -> InputError:
        return InputError(
            f"'{self.manifest.name}' was exported whole because it cannot be cut into time steps; run() of whole "
            "sequences is supported; use run(x)"
        )
