"""Run an artifact from Python with numpy only: no PyTorch, no TVM."""

from spikenm_compile.runtime.loader import load
from spikenm_compile.runtime.model import Model, State, Trace

__all__ = ["Model", "State", "Trace", "load"]
