"""What a distributed training needs: means over its processes, and tensors that it keeps in parts (DTensor).

FSDP2 leaves parameters and gradients in parts between steps. Before an optimiser's step masks are worked out on whole
tensors, one layer at a time and the same in every process, so that credits, normalisation and slabs are those of a
training in one process; each process then writes its own rows. Plain tensors go through unchanged.
"""

from __future__ import annotations

import torch.distributed
from torch import Tensor


def mean_over_processes(value: Tensor) -> Tensor:
    """Mean of `value`, which is overwritten, over the processes of a distributed training; `value` itself in one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return value


def whole(tensor: Tensor) -> Tensor:
    """The tensor with all its parts; a collective call where it is kept in parts."""
    gather = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def local(tensor: Tensor) -> Tensor:
    """The part that this process keeps, sharing its memory."""
    own = getattr(tensor, "to_local", None)
    return tensor if own is None else own()


def rows_of(values: Tensor, like: Tensor) -> Tensor:
    """The part of the whole `values` that this process keeps of `like`, a tensor of the same whole shape."""
    if not hasattr(like, "full_tensor"):
        return values
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    assert isinstance(like, DTensor)
    shape, offset = compute_local_shape_and_global_offset(like.shape, like.device_mesh, like.placements)
    return values[tuple(slice(first, first + size) for first, size in zip(offset, shape, strict=True))]
