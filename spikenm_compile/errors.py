"""Every error a user can cause. A message is one sentence: what was found, what is supported, what to do."""


class SpikenmError(Exception):
    """Base of all errors that this package raises on purpose."""


class PatternError(SpikenmError):
    """A sparsity pattern that cannot be read, or weights that do not hold it."""


class CaptureError(SpikenmError):
    """A model that cannot be captured, or whose time steps cannot be told apart."""


class PassError(SpikenmError):
    """A pass met a graph that it cannot lower."""


class TargetError(SpikenmError):
    """An unknown target, or a target that this machine cannot build for or run."""


class ToolError(SpikenmError):
    """A compiler or package that is missing or broken."""


class ArtifactError(SpikenmError):
    """An artifact that is incomplete, altered or of an unknown version."""


class CheckpointError(SpikenmError):
    """A checkpoint of a training that is incomplete, altered or belongs to another training."""


class DataError(SpikenmError):
    """Files of a data set that are missing, damaged or of another format."""


class InputError(SpikenmError):
    """Wrong input to a model, an artifact or the command line."""
