"""Masks as bits: what a step keeps of a mask between its forward passes is 1/32 of a float for each weight.

Number k · P + p of a mask of 8 · P numbers is bit k of byte p, so that packing is one matrix product and unpacking a
shift of rows. The last row is filled up with zeros.
"""

from __future__ import annotations

import torch
from torch import Tensor

BITS = 8


def pack(mask: Tensor) -> Tensor:
    """Bytes [P] of a mask of 0.0 and 1.0."""
    numbers, short = mask.flatten(), -mask.numel() % BITS
    rows = (torch.nn.functional.pad(numbers, (0, short)) if short else numbers).view(BITS, -1)
    values = torch.tensor([2.0**k for k in range(BITS)], dtype=mask.dtype, device=mask.device)
    return (values @ rows).to(torch.uint8)


def unpack(packed: Tensor, like: Tensor) -> Tensor:
    """The mask that was packed, in shape and dtype of `like`."""
    places = torch.arange(BITS, dtype=torch.uint8, device=packed.device).unsqueeze(1)
    bits = (packed >> places) & 1
    return bits.flatten()[: like.numel()].view(like.shape).to(like.dtype)
