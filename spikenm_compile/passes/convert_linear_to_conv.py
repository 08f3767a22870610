"""One kind of layer: a linear layer is a convolution whose kernel is as large as its input.

PyTorch flattens [C, H, W] to C·H·W with the channel outermost, so that the weight [O, C·H·W] viewed as [O, C, H, W]
is the kernel, and no value moves. Afterwards every value is [channels, height, width].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn
from torch.fx import GraphModule, Node

from spikenm_compile.errors import PassError
from spikenm_compile.graph import (
    PER_STEP,
    REGION,
    ROLE,
    SHAPE,
    Region,
    Role,
    add_module,
    clean_up,
    module_of,
    output_node,
    result,
)
from spikenm_compile.marks import copy_marks
from spikenm_compile.passes.base import Pass
from spikenm_compile.passes.convert_conv1d_to_conv2d import ConvertConv1dToConv2d
from spikenm_compile.passes.fold_batchnorm import FoldBatchNorm


@dataclass(frozen=True)
class ConvertLinearToConv(Pass):
    """Turn Flatten and Linear into Conv2d; the model's output keeps the user's shape.

    Given:
        %flatten: [B, 512] = Flatten[flatten](%spikes: [B, 32, 4, 4])
        %fc: [B, 10] = Linear[fc](%flatten)

    Result:
        %fc: [B, 10, 1, 1] = Conv2d[fc](%spikes)     kernel 4 × 4
        %output: [B, 10] = Flatten[output](%fc)

    Declines: vectors at the border that already have the user's shape: the input, and what the model returns.
    Errors: a flattened map that something other than a linear layer reads; a linear layer on anything but vectors.
    """

    name: ClassVar[str] = "convert-linear-to-conv"
    runs_after: ClassVar[tuple[type[Pass], ...]] = (FoldBatchNorm, ConvertConv1dToConv2d)

    def apply(self, graph_module: GraphModule) -> bool:
        """Every value with one dimension gets two more of size 1."""
        vectors = [n for n in graph_module.graph.nodes if _is_vector(n) and not _is_border(graph_module, n)]
        for node in graph_module.graph.nodes:
            _check_linear(graph_module, node)
        if not vectors:
            return False
        returns_vector = _is_vector(result(graph_module))
        for node in vectors:
            _convert(graph_module, node)
        if returns_vector and not _is_vector(result(graph_module)):
            _flatten_output(graph_module)
        clean_up(graph_module)
        return True


def _is_vector(node: Node) -> bool:
    return len(node.meta.get(SHAPE, ())) == 1


def _is_border(graph_module: GraphModule, node: Node) -> bool:
    """Whether a vector is where the user's shape meets ours."""
    is_input = node.op == "placeholder" and node.meta[ROLE] is Role.INPUT
    if not is_input and not isinstance(module_of(graph_module, node), nn.Flatten):
        return False
    return all(user.op == "output" or isinstance(module_of(graph_module, user), nn.Unflatten) for user in node.users)


def _check_linear(graph_module: GraphModule, node: Node) -> None:
    source = node.args[0] if node.args else None
    if not isinstance(module_of(graph_module, node), nn.Linear) or not isinstance(source, Node) or _is_vector(source):
        return
    raise PassError(
        f"linear layer '{node.name}' reads values of shape {list(source.meta[SHAPE])}; a linear layer reads vectors "
        f"or flattened maps here, so flatten its input first"
    )


def _convert(graph_module: GraphModule, node: Node) -> None:
    module = module_of(graph_module, node)
    if node.op == "placeholder" and node.meta[ROLE] is Role.INPUT:
        _unflatten(graph_module, node, Region.STEP if node.meta[PER_STEP] else Region.BEFORE)
    elif isinstance(module, nn.Flatten):
        _convert_flatten(graph_module, node)
    else:
        if isinstance(module, nn.Linear):
            source = node.args[0]
            assert isinstance(source, Node)
            graph_module.set_submodule(str(node.target), as_conv(module, source.meta[SHAPE]))
        node.meta[SHAPE] = (*node.meta[SHAPE], 1, 1)


def as_conv(linear: nn.Linear, shape: tuple[int, int, int]) -> nn.Conv2d:
    """The convolution of maps [C, H, W] = `shape` that equals `linear` on the flattened map."""
    conv = nn.Conv2d(shape[0], linear.out_features, (shape[1], shape[2]), bias=linear.bias is not None)
    conv.weight = nn.Parameter(linear.weight.detach().view(-1, *shape), False)
    if linear.bias is not None:
        conv.bias = nn.Parameter(linear.bias.detach(), False)
    conv.linear_input = shape  # type: ignore[assignment]
    copy_marks(linear, conv)
    return conv


def _convert_flatten(graph_module: GraphModule, node: Node) -> None:
    source = node.args[0]
    assert isinstance(source, Node)
    if len(source.meta[SHAPE]) != 3:
        _unflatten(graph_module, node, node.meta[REGION])
        return
    height, width = source.meta[SHAPE][1:]
    others = [u.name for u in node.users if not isinstance(module_of(graph_module, u), nn.Linear)]
    if others and (height, width) != (1, 1):
        raise PassError(
            f"'{node.name}' flattens a {height}×{width} map that '{others[0]}' reads; only linear layers can read a "
            f"flattened map here, so move the flatten right before the linear layer"
        )
    node.replace_all_uses_with(source)
    graph_module.graph.erase_node(node)


def _unflatten(graph_module: GraphModule, node: Node, region: Region) -> None:
    """Make [N, 1, 1] of a vector [N] that stays."""
    shape = (*node.meta[SHAPE], 1, 1)
    with graph_module.graph.inserting_after(node):
        new = graph_module.graph.call_module(add_module(graph_module, "unflatten", nn.Unflatten(1, shape)))
    node.replace_all_uses_with(new)
    new.args = (node,)
    new.meta = {SHAPE: shape, REGION: region}


def _flatten_output(graph_module: GraphModule) -> None:
    returned, output = result(graph_module), output_node(graph_module)
    with graph_module.graph.inserting_before(output):
        flat = graph_module.graph.call_module(add_module(graph_module, "output", nn.Flatten(1)), (returned,))
    channels, height, width = returned.meta[SHAPE]
    flat.meta = {SHAPE: (channels * height * width,), REGION: returned.meta[REGION]}
    output.args = ((flat, output.args[0][1]),)  # type: ignore[index]
