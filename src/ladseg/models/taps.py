"""Read a feature map inside a network, by the path of the module that computes it."""

import difflib
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from ladseg.errors import ModelError


class Tap:
    """Keeps the last output of one module of a network.

    Args:
        network: The network.
        path: The module's name in ``network.named_modules()``, such as ``"backbone.layer4"``.

    Raises:
        ModelError: There is no such module; the nearest paths are named.
    """

    def __init__(self, network: nn.Module, path: str) -> None:
        modules = dict(network.named_modules())
        modules.pop("")
        if path not in modules:
            near = ", ".join(difflib.get_close_matches(path, modules, n=3, cutoff=0.0))
            raise ModelError(f"features '{path}' is not a module of {type(network).__name__}; nearest: {near}")
        self.path = path
        self._last: Any = None
        modules[path].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._last = output

    def take(self) -> Tensor:
        """Return the map ``(N, D, h, w)`` of the last forward pass, and release it.

        Raises:
            ModelError: The module did not run, or its output is not a feature map.
        """
        value, self._last = self._last, None
        if isinstance(value, tuple | list) and value:
            value = value[-1]
        if not isinstance(value, Tensor) or value.ndim != 4:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ModelError(f"features '{self.path}' gives {shape}, not a feature map (N, D, h, w)")
        return value


def deepest_map(network: nn.Module, run: Callable[[], object]) -> str | None:
    """Find the module whose output is the network's deepest feature map.

    Args:
        network: The network.
        run: Makes one forward pass through it.

    Returns:
        The path of the module whose map has the most channels among those of the smallest size above one position; of
        several, the last. None if no module gives a feature map.
    """
    found: dict[str, tuple[int, int]] = {}

    def note(path: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            found.pop(path, None)
            found[path] = (-output[0, 0].numel(), output.shape[1])

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, path=path: note(path, output))
        for path, module in network.named_modules()
        if path
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return max(reversed(found), key=lambda path: found[path]) if found else None
