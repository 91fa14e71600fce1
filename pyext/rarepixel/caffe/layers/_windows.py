"""Kernel, stride and pad as a prototxt gives them: one number for all axes, one an axis, or ``_h`` and ``_w``."""

from __future__ import annotations

from typing import Any

from .._layer import LayerSpec

LARGEST = 2**20


def per_axis(
    spec: LayerSpec, message: Any, name: str, short: str | None, axes: int, default: int | None, least: int
) -> tuple[int, ...]:
    """One number for each spatial axis.

    Args:
        spec: the layer, for errors.
        message: where the fields are.
        name: the field for all axes.
        short: with ``_h`` and ``_w`` the fields of two axes; None if there are none.
        axes: how many.
        default: if no field is set; None: one has to be.
        least: the smallest number that makes sense.
    """
    value = getattr(message, name)
    given = list(value) if not isinstance(value, int) else [value] if message.HasField(name) else []
    shape = f"{name.removesuffix('_size')}_shape"
    if shape in message.DESCRIPTOR.fields_by_name and message.HasField(shape):
        if given:
            raise spec.error(f"expected either {name} or {shape}, got both")
        given = list(getattr(message, shape).dim)
    pair = [f"{short}_h", f"{short}_w"] if short is not None else []
    if any(message.HasField(field) for field in pair):
        if axes != 2 or given:
            raise spec.error(f"expected either {name} or {' and '.join(pair)} (of two axes), got both or {axes} axes")
        if default is None and not all(message.HasField(field) for field in pair):
            raise spec.error(f"expected both {' and '.join(pair)}, got one")
        given = [getattr(message, field) if message.HasField(field) else default for field in pair]
    if not given and default is not None:
        given = [default]
    if len(given) not in (1, axes):
        raise spec.error(f"expected 1 or {axes} numbers for {name}, got {len(given)}")
    for number in given:
        if not least <= number <= LARGEST:
            raise spec.error(f"expected {name} from {least} to {LARGEST}, got {number}")
    return tuple(given) * (axes if len(given) == 1 else 1)


def reach(kernel: int, dilation: int) -> int:
    """The extent of a kernel with its dilation."""
    return dilation * (kernel - 1) + 1


def dilation_of(spec: LayerSpec, message: Any, axes: int) -> tuple[int, ...]:
    """The dilation of each axis: by that name, or that of a fork (DeepLab's hole, Greentea's kstride)."""
    fields = message.DESCRIPTOR.fields_by_name
    given = [name for name in ("dilation", "kstride") if getattr(message, name)]
    given += [name for name in ("hole", "hole_h", "hole_w") if name in fields and message.HasField(name)]
    names = sorted({name[:4] for name in given})
    if len(names) > 1:
        raise spec.error(f"expected one of dilation, hole and kstride, got {' and '.join(given)}")
    if names == ["hole"]:
        return per_axis(spec, message, "hole", "hole", axes, 1, 1)
    return per_axis(spec, message, given[0] if given else "dilation", None, axes, 1, 1)
