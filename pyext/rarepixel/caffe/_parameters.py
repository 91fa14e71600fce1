"""The learned blobs of layers: their order, their multipliers, and which are shared."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ._layer import LayerSpec


def blobs_of(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The blobs of a layer that Caffe stores, by name, in its order."""
    names = getattr(module, "blob_names", None)
    if names is None:
        return list(module.named_parameters(remove_duplicate=False))
    found = []
    for name in names:
        owner, _, last = name.rpartition(".")
        found.append((name, getattr(module.get_submodule(owner), last)))
    return found


class Sharing:
    """Collects ``param`` of all layers: parameters of one name become one, with one pair of multipliers."""

    def __init__(self) -> None:
        self._owners: dict[str, tuple[Tensor, str]] = {}
        self._given: dict[int, dict[str, float]] = {}  # id of a parameter -> what is given for it

    def add(self, spec: LayerSpec, params: Any, module: nn.Module) -> None:
        """Notes the ``param`` of a layer."""
        blobs = blobs_of(module)
        if len(params) > len(blobs):
            raise spec.error(f"expected at most {len(blobs)} param, one a blob, got {len(params)}")
        for (name, blob), param in zip(blobs, params, strict=False):
            owner = self._shared(spec, module, name, blob, param) if param.name else blob
            if not isinstance(owner, nn.Parameter):
                continue  # running averages are not learned
            given = self._given.setdefault(id(owner), {})
            for field in ("lr_mult", "decay_mult"):
                if not param.HasField(field):
                    continue
                value = getattr(param, field)
                if given.setdefault(field, value) != value:
                    raise spec.error(f"param {param.name!r}: expected {field} {given[field]} as before, got {value}")

    def _shared(self, spec: LayerSpec, module: nn.Module, name: str, blob: Tensor, param: Any) -> Tensor:
        """Puts the blob of the first layer that has this name in place of a later layer's."""
        owner, label = self._owners.setdefault(param.name, (blob, spec.label))
        if owner is blob:
            return blob
        if owner.shape != blob.shape:
            also = " (share_mode PERMISSIVE, of other shapes, is not carried over)" if param.share_mode else ""
            shapes = f"{tuple(owner.shape)} as in {label}, got {tuple(blob.shape)}"
            raise spec.error(f"param {param.name!r}: expected shape {shapes}{also}")
        path, _, last = name.rpartition(".")
        setattr(module.get_submodule(path), last, owner)
        return owner

    def multipliers(self, net: nn.Module) -> dict[str, tuple[float, float]]:
        """Of each parameter ``lr_mult`` and ``decay_mult``. Those that are not to learn need no gradient."""
        found = {}
        for name, parameter in net.named_parameters():
            given = self._given.get(id(parameter), {})
            found[name] = (given.get("lr_mult", 1.0), given.get("decay_mult", 1.0))
            if found[name][0] == 0:
                parameter.requires_grad_(False)
        return found
