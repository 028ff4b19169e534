"""A second device where there is no GPU: `elsewhere`, whose tensors mix with a CPU's as little as a GPU's do.

    cd PROJECT && python .../tests/second_device.py train_teacher embed_items      # these stages, in this order

What it computes it computes on the CPU, with a GPU's rules: an operation over tensors of both is an error (but for a
scalar, for a copy, and for indices on the CPU), `.numpy()` is, and a module moved inside `inference_mode` can never be
trained again. What a GPU has beyond that (bfloat16 autocast, kernels of its own, several of them) it has not.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

aten = torch.ops.aten
COPIES = (aten.copy_.default, aten._to_copy.default)
INDEXES = (aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default)


class Backend(_DummyBackendModule):
    """What torch and accelerate ask of a device's module."""

    def set_device(self, device: Any) -> None: ...
    def synchronize(self, device: Any = None) -> None: ...
    def manual_seed(self, seed: int) -> None: ...  # its random numbers are the CPU's
    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return []


_setup_privateuseone_for_python_backend("elsewhere", backend_module=Backend())
ELSEWHERE = torch.device("elsewhere", 0)


class There(torch.Tensor):
    """A tensor of that device; `inner` is the CPU's that holds its values."""

    inner: torch.Tensor
    is_cuda = property(lambda self: True)
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> There:
        assert not isinstance(inner, There)
        shape, strides, start = inner.size(), inner.stride(), inner.storage_offset()
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, shape, strides=strides, storage_offset=start, dtype=inner.dtype, layout=inner.layout, device=ELSEWHERE
        )
        tensor.inner = inner
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def __repr__(self, **options: Any) -> str:
        return f"{self.inner!r} elsewhere"

    def untyped_storage(self) -> torch.UntypedStorage:  # safetensors asks for them
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def tolist(self) -> Any:
        return self.cpu().tolist()


_data = torch.Tensor.data


def _take(tensor: There, other: There) -> None:
    """`tensor.data = other`, by which averaged weights are swapped in and adapters merged."""
    tensor.inner = other.inner
    _data.__set__(tensor, other)  # type: ignore[attr-defined]


There.data = property(lambda tensor: _data.__get__(tensor), _take)  # type: ignore[attr-defined,assignment]


def computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What `func` gives, on the device where it should be. RuntimeError where a GPU would raise it."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    here = [tensor for tensor in tensors if not isinstance(tensor, There)]
    there = [tensor for tensor in tensors if isinstance(tensor, There)]
    if there and any(tensor.dim() for tensor in here) and not may_mix(func, args):
        of = [(tuple(tensor.shape), str(tensor.device)) for tensor in tensors]
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} of {of}")
    first_is_there = isinstance(next(iter(tree_leaves(args)), None), There)
    if there and not first_is_there and func._schema.is_mutable and func not in COPIES:
        raise RuntimeError(f"in place on a CPU tensor, by one elsewhere: {func}")
    asked = None if kwargs.get("device") is None else torch.device(kwargs["device"]).type
    args_here, kwargs_here = tree_map_only(There, lambda tensor: tensor.inner, (args, kwargs))
    if asked == ELSEWHERE.type:
        kwargs_here["device"] = torch.device("cpu")
    kwargs_here.pop("non_blocking", None)
    kwargs_here.pop("pin_memory", None)
    out = func(*args_here, **kwargs_here)
    stays = asked == ELSEWHERE.type if asked else first_is_there if func in COPIES else bool(there)
    if not stays:
        return out
    moved = tree_map_only(torch.Tensor, There, out)
    return return_and_correct_aliasing(func, args, kwargs, moved) if there else moved


def may_mix(func: Any, args: tuple[Any, ...]) -> bool:
    """Copies, and an index on the CPU into a tensor elsewhere whose new values are elsewhere or a scalar."""
    values = args[2] if func in INDEXES and len(args) > 2 else None
    reached = values is None or isinstance(values, There) or not values.dim()
    return func in COPIES or (func in INDEXES and isinstance(args[0], There) and reached)


class Placed(TorchDispatchMode):
    """Every operation goes through `computed`, those that make a tensor from nothing as well."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
            with self:  # inference_mode hands these over whole
                return func.decompose(*args, **(kwargs or {}))
        return computed(func, args, kwargs or {})


class Built(TorchFunctionMode):
    """`torch.tensor` fills below the dispatcher where it is told to: here it fills on the CPU, then copies."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        filled = func in (torch.tensor, torch.as_tensor) and kwargs.get("device") is not None
        if filled and torch.device(kwargs["device"]).type == ELSEWHERE.type:
            del kwargs["device"]
            return func(*args, **kwargs).to(ELSEWHERE)
        return func(*args, **kwargs)


def main(stages: list[str]) -> None:
    """Run stages of the project in the working directory."""
    import accelerate.state
    import transformers

    import pipeline.device

    chosen = property(lambda self: ELSEWHERE)
    accelerate.state.PartialState.default_device = chosen
    transformers.TrainingArguments.device = chosen
    pipeline.device.pick = lambda runtime: ELSEWHERE
    for stage in stages:
        with Built(), Placed():
            importlib.import_module(f"stages.{stage}").main()


if __name__ == "__main__":
    sys.path[0] = ""  # the project's code, not that beside this file
    main(sys.argv[1:])
