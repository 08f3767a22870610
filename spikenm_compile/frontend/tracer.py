"""A torch.fx tracer that evaluates every node on fake tensors, so that python control flow on shapes can be traced."""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.func import functional_call
from torch.fx import Graph, Node, Proxy, Tracer
from torch.utils import _pytree as pytree

from spikenm_compile.errors import CaptureError
from spikenm_compile.frontend.adapters import is_neuron, layer_types, recorded_by_libraries, returned
from spikenm_compile.frontend.layers import DROPOUTS, STANDARD_LAYERS
from spikenm_compile.frontend.location import LOCATION, Location, called_from
from spikenm_compile.frontend.proxy import VALUE, ShapeProxy, Sizes, is_real, is_unknown, value_of
from spikenm_compile.frontend.recording import (
    AutogradFunction,
    StateCall,
    call_initial,
    recorded_functions,
    recorded_resets,
)
from spikenm_compile.frontend.snapshot import TrainingFlag, restored

"""Folders of code that is not the user's."""
_UNKNOWN_VALUE = (DataDependentOutputException, DynamicOutputShapeException, UnsupportedFakeTensorException)
_FACTORIES = (torch.zeros, torch.ones, torch.empty, torch.full, torch.rand, torch.randn)
"""Functions that take sizes: C code does not see the proxy in a size and would make a constant."""
_REMOVABLE = (operator.getitem, operator.mul, operator.add, operator.floordiv, operator.sub, getattr)


class ShapeTracer(Tracer):
    """Traces one model.

    Args:
        stateful: modules that keep values between calls; they and the standard layers stay one node each.
    """

    proxy_buffer_attributes = True  # so that `self.buffer.add_(1)` is recorded and not run

    def __init__(self, stateful: tuple[type[nn.Module], ...]) -> None:
        super().__init__(autowrap_functions=_FACTORIES)
        self._autowrap_search.append(torch)  # fx patches them where it searches: in the namespace they are called from
        self.stateful = stateful
        self.leaves = (*stateful, *STANDARD_LAYERS, *layer_types(), AutogradFunction, StateCall)
        self.mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.inputs: Mapping[str, Any] = {}
        self.module_stack_names: list[str] = []
        self._evaluating = False
        self._fakes: dict[int, tuple[Tensor, Tensor]] = {}

    def record(self, model: nn.Module, inputs: Mapping[str, Tensor | None]) -> Graph:
        """Trace `model`. `inputs` maps names of forward's arguments to examples, None where there is no example."""
        self.inputs = {name: self._fake(x) for name, x in inputs.items()}
        with (
            recorded_resets(model, self.stateful, lambda: not self._evaluating, self._record_call),
            recorded_by_libraries(model, lambda: not self._evaluating, self._record_call),
            recorded_functions(lambda: not self._evaluating, self._record_function),
        ):
            graph = self.trace(model)
        graph._tracer_cls = None  # unpickling a GraphModule traces its code again, which the plain tracer can do
        for node in graph.nodes:
            node.meta.pop("is_wrapped", None)  # else the generated code breaks later traces: wrap("torch.zeros")
            node.type = None  # an annotation that is a string cannot be pickled with the generated code
        graph.eliminate_dead_code(is_impure_node=lambda node: not _is_removable(node))
        return graph

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Stateful modules and standard layers, by isinstance."""
        return isinstance(m, self.leaves)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Placeholders for the inputs only: other arguments of forward keep their python defaults."""
        for module in self.root.modules():
            if not self.is_leaf_module(module, ""):
                module.__dict__["training"] = TrainingFlag(module.training)
        return root_fn, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in self.inputs)]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """As fx does, but inert while a node is evaluated: fx patches `nn.Module.__call__` for everybody."""
        if self._evaluating:
            return forward(*args, **kwargs)
        if m not in (self.submodule_paths or {}):
            return self._call_new_module(m, forward, args, kwargs)
        self.module_stack_names.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.module_stack_names.pop()
        return result

    def _call_new_module(
        self, module: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A module that forward makes as it runs: harmless where it has nothing to keep."""
        if not self.is_leaf_module(module, ""):
            return forward(*args, **kwargs)
        kind = type(module).__name__
        keeps = isinstance(module, (*self.stateful, *DROPOUTS)) or next(module.parameters(), None) is not None
        if keeps or kwargs:
            raise CaptureError(
                f"forward makes a {kind} anew at each call; layers without weights and state may be made there; make "
                "it in __init__ and call it in forward"
            )
        return self._record_new_module(module, f"_{kind.lower()}", args)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """As fx does, but inert while a node is evaluated.

        Raises:
            CaptureError: a state is read out of its neuron: the graph would hold its value at one moment only.
        """
        if self._evaluating:
            return attr_val
        if isinstance(attr_val, Tensor):
            self._refuse_state(attr, attr_val)
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def _refuse_state(self, attribute: str, value: Tensor) -> None:
        for name, module in self.root.named_modules():
            is_state = attribute in module._non_persistent_buffers_set and module._buffers[attribute] is value
            if is_state and isinstance(module, self.stateful):
                raise CaptureError(
                    f"forward reads the state '{attribute}' of neuron '{name}' ({type(module).__name__}) from the "
                    "outside; what a call of the neuron returns can be used; let it return its state (output=True)"
                )

    def create_arg(self, a: Any) -> Any:
        """As fx does; a shape becomes a plain tuple, which generated code can hold."""
        return super().create_arg(tuple(a) if isinstance(a, Sizes) else a)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Callable[[Node], Proxy] | None = None,
    ) -> Any:
        """Record a call and find the shape of what it gives."""
        if target is torch.nn.functional.dropout and isinstance(kwargs.get("training"), TrainingFlag):
            return self._record_dropout(args, kwargs)
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        proxy.node.meta[LOCATION] = self._location()
        with self._evaluation():
            value = self._evaluate(kind, target, args, kwargs)
        if value is None:
            return proxy
        proxy.node.meta[VALUE] = value
        return ShapeProxy(proxy.node, self)

    def _location(self) -> Location:
        path = self.module_stack_names[-1] if self.module_stack_names else ""
        return called_from(path, type(self.root.get_submodule(path)).__name__, ShapeTracer.record.__code__)

    @contextlib.contextmanager
    def _evaluation(self) -> Iterator[None]:
        before, self._evaluating = self._evaluating, True
        try:
            with torch.no_grad(), self.mode:
                yield
        finally:
            self._evaluating = before

    def _evaluate(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if kind == "placeholder":
            return self.inputs[target]
        if kind == "get_attr":
            return self._fake(operator.attrgetter(target)(self.root))
        if kind == "output" or any(map(is_unknown, pytree.tree_leaves((args, kwargs)))):
            return None
        values, named = pytree.tree_map(lambda a: self._fake(value_of(a)), (args, kwargs))
        try:
            if kind == "call_function":
                return target(*values, **named)
            if kind == "call_method":
                return getattr(values[0], target)(*values[1:], **named)
            return self._evaluate_module(self.root.get_submodule(target), values, named)
        except _UNKNOWN_VALUE:
            return None

    def _evaluate_module(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        if isinstance(module, StateCall):
            return self._evaluate_state_call(module)
        if is_neuron(module):
            x: Tensor = args[0] if args else next(iter(kwargs.values()))
            result = returned(module, x.clone(), lambda _: x.clone())
            if result is not None:
                return result
        fakes = {name: self._fake(t) for name, t in (*module.named_parameters(), *module.named_buffers())}
        with restored(module):
            try:
                return functional_call(module, fakes, args, kwargs)
            except Exception:
                if isinstance(module, STANDARD_LAYERS):
                    raise
                return None  # foreign code need not work on fake tensors; only who needs this shape will complain

    @staticmethod
    def _evaluate_state_call(call: StateCall) -> Any:
        """Only a call that returns the first states has a value."""
        if call.function is not call_initial:
            return None
        with restored(call.arguments[0]):
            return call()

    def _fake(self, value: Any) -> Any:
        """Fake tensor of a real one, always the same; anything else as it is."""
        if isinstance(value, TrainingFlag):
            return bool(value)
        if not is_real(value):
            return value
        if id(value) not in self._fakes:
            self._fakes[id(value)] = (value, self.mode.from_tensor(value.detach(), static_shapes=True))
        return self._fakes[id(value)][1]

    def _record_call(self, function: Any, args: tuple[Any, ...]) -> Any:
        call = StateCall(function, args, self.path_of_module(args[0]))
        return self._record_new_module(call, f"_{function.__name__}", ())

    def _record_function(self, function: Any, args: tuple[Any, ...]) -> Any:
        return self._record_new_module(AutogradFunction(function), f"_function_{function.__name__}", args)

    def _record_dropout(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """`F.dropout(x, p, self.training)` as nn.Dropout: the flag would be frozen as it is now."""
        p = kwargs.get("p", args[1] if len(args) > 1 else 0.5)
        layer = nn.Dropout(p).train(bool(self.root.training))
        return self._record_new_module(layer, "_dropout", args[:1] or (kwargs["input"],))

    def _record_new_module(self, module: nn.Module, name: str, args: tuple[Any, ...]) -> Any:
        unique = self.get_fresh_qualname(name)
        # a new dictionary: forward may be going through the modules right now, to reset them all
        self.root.__dict__["_modules"] = {**self.root._modules, unique: module}
        return self.create_proxy("call_module", unique, args, {})


def _is_removable(node: Node) -> bool:
    """Only sizes may vanish: any other node can change a state although its value is unused."""
    if node.op == "call_method":
        return node.target == "size"
    if node.op == "get_attr":
        return True
    if node.op != "call_function" or node.target not in _REMOVABLE:
        return False
    return not isinstance(node.meta.get(VALUE), Tensor) or node.target is operator.getitem
