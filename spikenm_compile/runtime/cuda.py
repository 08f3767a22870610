"""Run an artifact on an NVIDIA GPU: the driver, numpy, and nothing else."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from spikenm_compile.artifact.cuda_code import CudaCode, binary_of, read_cuda_code
from spikenm_compile.artifact.directory import Artifact
from spikenm_compile.errors import InputError, TargetError
from spikenm_compile.runtime.cuda_driver import ELSEWHERE, LIBRARY, NEEDS, Device, Driver, Kernels, Stream
from spikenm_compile.runtime.cuda_session import Session, read_weights
from spikenm_compile.runtime.device_array import DeviceArray
from spikenm_compile.runtime.dlpack import CUDA, borrow
from spikenm_compile.runtime.model import Floats, Model, State, Trace

MAX_SESSIONS = 4
"""Batch sizes whose memory is kept."""


class CudaModel(Model):
    """A CUDA artifact, loaded: whole sequences of its own T, on its own stream, one CUDA graph for each batch size.

    Args:
        artifact: a checked artifact whose code is of kind cuda.
        device: number of the GPU.
        library: the driver.

    Raises:
        ArtifactError: the code section or the weights do not fit together.
        TargetError: no driver, no such GPU, or one that its kernels do not run on.
        ToolError: the artifact was built without a compiler, or the driver reports an error.
    """

    def __init__(self, artifact: Artifact, device: int = 0, library: str = LIBRARY) -> None:
        super().__init__(artifact)
        self._code = read_cuda_code(artifact)
        driver = Driver(library)
        self._device = Device(driver, device)
        _check_gpu(self.manifest.name, self._code, self._device)
        binary = binary_of(artifact, self._code)
        with self._device.current():
            self._kernels = Kernels(self._device, binary)
            for launch in self._code.launches:
                self._kernels.prepare(launch.kernel, launch.shared_bytes)
            self._stream = Stream(self._device)
            self._weights = read_weights(artifact, self._code, self._device, self._stream)
        self._sessions: dict[int, Session] = {}
        self._lock = threading.Lock()

    @property
    def device_name(self) -> str:
        """Name of the GPU."""
        return self._device.name

    def run_device(self, x: Any, out: DeviceArray | None = None) -> DeviceArray:
        """Run T steps on an input that lies on the GPU, without copying it; returns before the GPU has finished.

        Args:
            x: float32 [B, ...], or [T, B, ...] where `manifest.input.per_step`: a tensor of PyTorch, an array of CuPy,
                or anything else with DLPack, on this model's GPU.
            out: result of an earlier run on as many samples, to be overwritten.

        Returns:
            The output, for `torch.from_dlpack`, `cupy.from_dlpack` or `numpy()`.

        Raises:
            InputError: x or out has another device, dtype or shape.
        """
        borrowed = borrow(x, self._stream.handle)
        if borrowed.device != (CUDA, self._device.ordinal):
            raise InputError(
                f"the input does not lie on GPU {self._device.ordinal}, where '{self.manifest.name}' runs; "
                "move it there, or pass a numpy array to run()"
            )
        batch = self._batch_of(borrowed.shape)
        with self._lock, self._device.current():
            result = out or DeviceArray(self._device, self._stream, self._output_shape(batch))
            if result.shape != self._output_shape(batch):
                raise InputError(
                    f"out has shape {list(result.shape)}; {list(self._output_shape(batch))} is written; leave it out"
                )
            self._session(batch).start(borrowed.pointer, result.pointer, borrowed)
        return result

    def measure(self, x: Floats, runs: int) -> list[float]:
        """Microseconds of the GPU for each of `runs` runs on x, whose copy to the GPU is not counted.

        Raises:
            InputError: as for `run`.
        """
        x = self._check_array(x, per_step=self.manifest.input.per_step)
        batch = self._batch_of(x.shape)
        with self._lock, self._device.current():
            return self._session(batch).measure(x, np.empty(self._output_shape(batch), np.float32), runs)

    def measure_launches(self, batch: int, runs: int) -> list[tuple[str, str, float]]:
        """(layer, kernel's description, microseconds) of each kernel alone, for a batch that was run before.

        Raises:
            InputError: it was not.
        """
        with self._lock, self._device.current():
            if batch not in self._sessions:
                raise InputError(
                    f"no batch of {batch} samples was run; kernels work on what a run left; call run() first"
                )
            return self._sessions[batch].measure_launches(runs)

    def _sequence(self, x: Floats, num_steps: int, *, record: bool) -> Trace:
        if num_steps != self.manifest.num_steps:
            raise InputError(
                f"'{self.manifest.name}' is run for {num_steps} steps; its kernels take {self.manifest.num_steps} "
                f"steps at once; give it {self.manifest.num_steps} steps, or build it with an example of {num_steps}"
            )
        batch = x.shape[int(self.manifest.input.per_step)]
        with self._lock, self._device.current():
            session = self._session(batch)
            output = session.run_host(x, np.empty(self._output_shape(batch), np.float32))
            return Trace(output, session.states(), session.spikes(num_steps)) if record else Trace(output, {}, {})

    def _session(self, batch: int) -> Session:
        """The lock is held and the GPU is current."""
        if batch not in self._sessions:
            if len(self._sessions) == MAX_SESSIONS:
                self._stream.synchronize()
                del self._sessions[next(iter(self._sessions))]
            self._sessions[batch] = Session(self._device, self._stream, self._kernels, self._code, self._weights, batch)
        return self._sessions[batch]

    def _batch_of(self, shape: tuple[int, ...]) -> int:
        spec = self.manifest.input
        lead = (self.manifest.num_steps,) if spec.per_step else ()
        at = len(lead)
        if (
            len(shape) != at + 1 + len(spec.shape)
            or shape[:at] != lead
            or shape[at + 1 :] != spec.shape
            or not shape[at]
        ):
            expected = ", ".join([*map(str, lead), "B", *map(str, spec.shape)])
            raise InputError(f"the input has shape {list(shape)}; [{expected}] is expected; reshape it")
        return shape[at]

    def _output_shape(self, batch: int) -> tuple[int, ...]:
        spec = self.manifest.output
        return (*((self.manifest.num_steps,) if spec.per_step else ()), batch, *spec.shape)

    def _step(self, x_t: Floats, state: State) -> tuple[Floats, State]:
        raise self._no_steps()

    def _initial_state(self, batch: int) -> State:
        raise self._no_steps()

    def _check_state(self, x_t: Floats, state: State) -> None:
        raise self._no_steps()

    def _no_steps(self) -> InputError:
        return InputError(
            f"'{self.manifest.name}' was built for CUDA, whose kernels take {self.manifest.num_steps} steps at once; "
            "run() of whole sequences is supported; for single steps build for native or onnx"
        )


def _check_gpu(name: str, code: CudaCode, device: Device) -> None:
    """What is later than the first architecture runs: by machine code of its generation, or else by the first's PTX."""
    major, minor = device.capability
    if code.architectures and 10 * major + minor < int(code.architectures[0].removeprefix("sm_")):
        raise TargetError(
            f"'{name}' is built for {', '.join(code.architectures)} and later, and GPU {device.ordinal} is a "
            f"{device.name} of compute capability {major}.{minor}; {NEEDS}; {ELSEWHERE}"
        )
    version = device.driver.version()
    if version[0] < code.toolkit[0]:
        raise TargetError(
            f"the NVIDIA driver supports CUDA {version[0]}.{version[1]}, and '{name}' was compiled with CUDA "
            f"{code.toolkit[0]}.{code.toolkit[1]}; install a newer driver, or build it with CUDA {version[0]}"
        )
