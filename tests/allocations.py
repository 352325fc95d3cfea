"""How much memory operators ask for."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Notes the size of every storage that an operator makes while the `with` block runs; views make none.

    A sum of another type than what is added up first copies all of it to that type; the copy is noted, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes_bytes: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {
            value.untyped_storage().data_ptr() for value in tree_leaves((args, kwargs)) if torch.is_tensor(value)
        }
        for value in tree_leaves(result):
            if torch.is_tensor(value) and value.untyped_storage().data_ptr() not in given:
                self.sizes_bytes.append(value.untyped_storage().nbytes())
        if func.overloadpacket is torch.ops.aten.sum and result.dtype != args[0].dtype:
            self.sizes_bytes.append(args[0].numel() * result.element_size())
        return result
