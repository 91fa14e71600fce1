"""A net as a Module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ._graph import Input, Met, Node
from ._layer import Layer, Shape, shown
from ._parameters import blobs_of
from ._schema import CaffeError


class LayerRow(NamedTuple):
    """One line of :meth:`CaffeNet.table`."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    shapes: tuple[Shape, ...]  # of the tops, as far as they are known
    parameters: int  # shared ones with the first layer that has them


class LoadedWeights(NamedTuple):
    """What :func:`rarepixel.caffe.load_weights` did, by names of layers."""

    loaded: list[str]
    missing: list[str]  # layers with parameters that the file does not have; they stay as they were
    unused: list[str]  # layers of the file that the net does not have


class CaffeNet(nn.Module):
    """A net of Caffe's as a Module; :func:`load_net` makes it.

    Every layer is a submodule of its name in the prototxt: ``net.conv1_1.weight``. What cannot stand in an attribute
    (slashes, dots, dashes) becomes an underscore, and a name that a Module has already (``loss``, ``type``) gets one at
    its end; :meth:`layer` takes the name as it is in the file.

    Attributes:
        name: the net's own.
        inputs: the blobs to give, with as much of their shapes as the prototxt says.
        outputs: the blobs that :meth:`forward` returns.
        loss_weights: what each loss among them counts.
        caffe_multipliers: of each parameter ``lr_mult`` and ``decay_mult``, by its name in ``named_parameters()``.
        layer_names: the attribute of each layer's name.
        given: of each input where the prototxt names it.
        stored_shapes: of the blobs of layers in the weights that the net was built for.
        loaded: which layers got weights, for each file that :func:`load_net` was given.
    """

    def __init__(self, name: str, inputs: Sequence[Input]) -> None:
        super().__init__()
        self.name = name
        self.inputs: dict[str, Shape] = {}
        for given in inputs:
            self.inputs[given.blob] = given.shape
        self.outputs: tuple[str, ...] = ()
        self.loss_weights: dict[str, float] = {}
        self.caffe_multipliers: dict[str, tuple[float, float]] = {}
        self.layer_names: dict[str, str] = {}
        self.loaded: tuple[LoadedWeights, ...] = ()
        self.given = tuple(inputs)
        self._nodes: tuple[Node, ...] = ()
        self._meets: dict[str, Met] = {}  # of each input that is computed with parameters one of these
        self._shapes: tuple[tuple[Shape, ...], ...] = ()
        self.stored_shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def layer(self, name: str) -> nn.Module:
        """The layer of a name in the prototxt.

        Raises:
            KeyError: there is none.
        """
        return self.get_submodule(self.layer_names[name])

    def forward(self, blobs: Mapping[str, Tensor] | Tensor | None = None, /, **named: Tensor) -> dict[str, Tensor]:
        """Computes the outputs: blobs that no layer reads, and losses (each by itself, not weighted).

        Args:
            blobs: the inputs by name; those that no layer reads may be left out. Of a net that needs one, that one.
            named: the same as keyword arguments.

        Raises:
            ValueError: an input is missing or unknown, or a layer got shapes that it does not take.
            TypeError: an input is no tensor, or not of the dtype of the parameters that it meets.
        """
        if blobs is not None and not isinstance(blobs, Mapping):
            blobs = {self._only_input(blobs, named): blobs}
        values = {**(blobs or {}), **named}
        self._check_inputs(values)
        for node in self._nodes:
            if not node.runs:
                continue  # what it takes is not an output, and need not be given
            bottoms = [values[name] for name in node.bottoms]
            if any(node.detached):
                bottoms = [blob.detach() if cut else blob for blob, cut in zip(bottoms, node.detached, strict=True)]
            tops = self._call(node, bottoms)
            made = (tops,) if isinstance(tops, Tensor) else tuple(tops)
            if len(made) != len(node.tops):
                raise CaffeError(f"layer {node.name!r} ({node.type}): expected {len(node.tops)} tops, got {len(made)}")
            values.update(zip(node.tops, made, strict=True))
            for name in node.last:
                del values[name]
        return {name: values[name] for name in self.outputs}

    @property
    def is_deploy(self) -> bool:
        """Whether the net is one to use and not to train, which reads no data and has no loss."""
        return not self.loss_weights and all(given.type == "Input" for given in self.given)

    def _call(self, node: Node, bottoms: list[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """The tops of a layer. What PyTorch says of a layer of Caffe's does not say which it is."""
        module = getattr(self, node.attribute)
        if torch.compiler.is_compiling() or not isinstance(module, Layer):
            return module(*bottoms)  # type: ignore[no-any-return]
        try:
            return module(*bottoms)  # type: ignore[no-any-return]
        except torch.OutOfMemoryError:
            raise
        except (IndexError, RuntimeError, TypeError) as error:
            got = ", ".join(
                f"{name} {tuple(blob.shape)} {blob.dtype}" for name, blob in zip(node.bottoms, bottoms, strict=True)
            )
            raise CaffeError(f"{module.label}: {str(error)[:500]}; got {got}") from error

    def _only_input(self, given: Any, named: Mapping[str, Tensor]) -> str:
        """The name of an input that is given without one."""
        needed, got = sorted(self.needed_inputs()), _kind(given)
        if len(needed) != 1 or named:
            also = f" beside {', '.join(sorted(named))}" if named else ""
            raise ValueError(f"blobs: expected a dict of {', '.join(needed) or 'no inputs'}, got {got}{also}")
        return needed[0]

    def _check_inputs(self, values: Mapping[str, Tensor]) -> None:
        # Of sets alone: torch 2.10 compiles no arithmetic of keys.
        needed, given = self.needed_inputs(), set(values)
        missing, unknown = needed - given, given - set(self.inputs)
        if missing or unknown:
            raise ValueError(
                f"blobs: expected {', '.join(sorted(needed))}, got {', '.join(sorted(values)) or 'none'}"
                + "".join(f"; {name!r} is {self._place(name)}" for name in sorted(missing))
            )
        for name in needed:
            value, met = values[name], self._meets.get(name)
            if not isinstance(value, Tensor):
                got = _kind(value)
                more = "; torch.from_numpy makes one of it" if got == "numpy.ndarray" else ""
                raise TypeError(f"blobs: {name} ({self._place(name)}): expected a torch.Tensor, got {got}{more}")
            if met is None or (met.promoted and not value.is_floating_point()):
                continue
            dtype = attrgetter(met.blob)(self).dtype
            if dtype != value.dtype and not torch.is_autocast_enabled(value.device.type):
                expected = f"{dtype}, as of {met.blob}, which it meets"
                raise TypeError(f"blobs: {name} ({self._place(name)}): expected {expected}, got {value.dtype}")

    def _place(self, name: str) -> str:
        """Where an input comes from in the file."""
        given = next(given for given in self.given if given.blob == name)
        layer = f" of layer {given.layer!r} ({given.type})" if given.layer else ""
        return f"an input{layer} in {given.where}" if given.where else "an input"

    def needed_inputs(self) -> set[str]:
        """The inputs that a layer reads (other than sinks such as Silence)."""
        read = (node.bottoms for node in self._nodes if node.runs)
        return {name for names in read for name in names if name in self.inputs}

    def loss(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """The loss that Caffe minimizes: the sum of all losses times their ``loss_weight``.

        Args:
            outputs: what :meth:`forward` returned.

        Raises:
            ValueError: the net has no losses.
        """
        if not self.loss_weights:
            raise ValueError(f"net: expected a net with losses, got {self.name!r} without")
        terms = [weight * outputs[name].sum() for name, weight in self.loss_weights.items()]
        return torch.stack(terms).sum()

    def table(self) -> list[LayerRow]:
        """One row a layer, data layers included; nothing is computed."""
        rows = [
            LayerRow(given.layer or given.blob, given.type, (), (given.blob,), (self.inputs[given.blob],), 0)
            for given in self.given
        ]
        seen: set[int] = set()
        for node, shapes in zip(self._nodes, self._shapes, strict=True):
            blobs = [blob for _, blob in blobs_of(getattr(self, node.attribute)) if id(blob) not in seen]
            seen.update(map(id, blobs))
            count = sum(blob.numel() for blob in blobs)
            rows.append(LayerRow(node.name, node.type, node.bottoms, node.tops, shapes, count))
        return rows

    def describe(self) -> str:
        """The table in words."""
        heading = ("layer", "type", "bottoms", "tops", "shapes", "parameters")
        lines = [heading]
        total = 0
        for row in self.table():
            total += row.parameters
            shapes = " ".join(map(shown, row.shapes))
            count = f"{row.parameters:,}" if row.parameters else ""
            lines.append((row.name, row.type, " ".join(row.bottoms), " ".join(row.tops), shapes, count))
        lines.append(("total", "", "", "", "", f"{total:,}"))
        widths = [max(len(line[column]) for line in lines) for column in range(len(heading))]
        return "\n".join(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The layers in their order."""
        return self._nodes


def _kind(value: Any) -> str:
    """A type in words."""
    module = type(value).__module__
    return type(value).__qualname__ if module == "builtins" else f"{module}.{type(value).__qualname__}"
