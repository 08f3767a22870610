"""Run an artifact from Python with numpy only: no PyTorch, no TVM."""

from spikenm_compile.runtime.loader import load
from spikenm_compile.runtime.model import Model, State, Trace
from spikenm_compile.runtime.stream import EVENT, Stream

__all__ = ["EVENT", "Model", "State", "Stream", "Trace", "load"]
