"""Run ONNX models with ONNX Runtime on the CPU: one time step, and the pair of models of an integer artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikenm_compile.artifact.code import StateSpec, read_onnx_code
from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.errors import ArtifactError, ToolError
from spikenm_compile.runtime.model import Floats, Model, State, Trace

Arrays = dict[str, npt.NDArray[Any]]

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(bool)": np.dtype(np.bool_),
}
"""ONNX Runtime's name of an input type -> element type."""


class OnnxSteps(Model):
    """An artifact with an ONNX model of one time step, loaded.

    Args:
        artifact: a checked artifact.
        step: file name of the model.
        states: its states.
        spikes: layers whose spikes it must give at each step.
        threads: threads that ONNX Runtime may use.

    Raises:
        ArtifactError: the model is not as it should be.
        ToolError: onnxruntime is missing or cannot load the model.
    """

    def __init__(
        self, artifact: Artifact, step: str, states: tuple[StateSpec, ...], spikes: tuple[str, ...], threads: int
    ) -> None:
        super().__init__(artifact)
        self._states = states
        names = {state.name for state in states}
        outputs = {"output", *(f"{name}_next" for name in names), *(f"spikes_{layer}" for layer in spikes)}
        self._step_session = Session(self.path / step, threads)
        self._step_session.require({"x", *names}, outputs)

    def _step(self, x_t: Floats, state: State) -> tuple[Floats, State]:
        output, after, _ = self._take_step(x_t, state, ())
        return output, after

    def _take_step(self, x_t: Floats, state: State, layers: tuple[str, ...]) -> tuple[Floats, State, Arrays]:
        """The output, the state after the step, and the spikes of `layers`."""
        num_steps = state.num_steps + 1
        wanted = ["output", *(f"{name}_next" for name in state.values), *(f"spikes_{layer}" for layer in layers)]
        found = self._step_session.run(wanted, {"x": x_t, **state.values}, num_steps)
        values = {name: found[f"{name}_next"] for name in state.values}
        spikes = {layer: found[f"spikes_{layer}"] for layer in layers}
        return found["output"], State(self.manifest.digest, num_steps, values, state.memory), spikes

    def _initial_state(self, batch: int) -> State:
        values: Arrays = {}
        for state in self._states:
            dtype = self._step_session.dtypes[state.name]
            values[state.name] = np.full((batch, *state.shape), state.init, dtype)
        return State(self.manifest.digest, 0, values, np.empty((batch, 0), np.uint8))


class OnnxModel(OnnxSteps):
    """An artifact with a pair of ONNX models, loaded.

    Args:
        artifact: a checked artifact whose code is of kind onnx.
        threads: threads that ONNX Runtime may use.

    Raises:
        ArtifactError: the code section or the models are not as they should be.
        ToolError: onnxruntime is missing or cannot load the models.
    """

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        code = read_onnx_code(artifact)
        super().__init__(artifact, code.step, code.states, (), threads)
        self._layers = code.spikes
        next_states = {f"{state.name}_next" for state in code.states}
        spikes = {f"spikes_{layer}" for layer in code.spikes}
        self._sequence_session = Session(self.path / code.sequence, threads)
        # A static input does not say T, so that the sequence has to be told.
        inputs = {"x"} if artifact.manifest.input.per_step else {"x", "num_steps"}
        self._sequence_session.require(inputs, {"output", *next_states, *spikes})

    def _sequence(self, x: Floats, num_steps: int, *, record: bool) -> Trace:
        states = [state.name for state in self._states] if record else []
        layers = self._layers if record else ()
        wanted = ["output", *(f"{name}_next" for name in states), *(f"spikes_{layer}" for layer in layers)]
        found = self._sequence_session.run(wanted, {"x": x}, num_steps)
        return Trace(
            output=found["output"],
            states={name: found[f"{name}_next"] for name in states},
            spikes={layer: found[f"spikes_{layer}"] for layer in layers},
        )


class Session:
    """One ONNX model in ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime = _import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self._path = path
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's own exceptions share no base class below this
            raise ToolError(
                f"onnxruntime {onnxruntime.__version__} cannot load {path} ({error}); "
                "install a newer onnxruntime or build the artifact again"
            ) from error
        inputs = self._session.get_inputs()
        self.dtypes = {i.name: _dtype(path, i.name, i.type) for i in inputs}
        self._num_steps_rank = next((len(i.shape) for i in inputs if i.name == "num_steps"), 0)

    def require(self, inputs: set[str], outputs: set[str]) -> None:
        """Check that the model takes `inputs`, and num_steps if it likes, and gives at least `outputs`."""
        given = {output.name for output in self._session.get_outputs()}
        taken = set(self.dtypes)
        wrong = sorted(inputs - taken) + sorted(taken - inputs - {"num_steps"}) + sorted(outputs - given)
        if wrong:
            raise ArtifactError(
                f"{self._path}: input or output '{wrong[0]}' does not fit the manifest; build the artifact again"
            )

    def run(self, wanted: list[str], feeds: Arrays, num_steps: int) -> Arrays:
        """The wanted outputs; `num_steps` is fed if the model takes it."""
        if "num_steps" in self.dtypes:
            feeds = {**feeds, "num_steps": np.full((1,) * self._num_steps_rank, num_steps, self.dtypes["num_steps"])}
        return dict(zip(wanted, self._session.run(wanted, feeds), strict=True))


def _dtype(path: Path, name: str, type_name: str) -> np.dtype[Any]:
    if type_name not in _DTYPES:
        raise ArtifactError(
            f"{path}: input '{name}' is a {type_name}; supported: {', '.join(_DTYPES)}; build the artifact again"
        )
    return _DTYPES[type_name]


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ToolError(
            f"onnxruntime cannot be imported ({error}); an ONNX artifact runs on it; "
            "install it with: pip install onnxruntime"
        ) from error
    return onnxruntime
