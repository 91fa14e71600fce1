"""From a prototxt to a net."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from . import _traps, layers
from ._alignment import Alignment
from ._blobs import check_known
from ._forks import HARMLESS, Unknown, as_values, refuse, warn, warn_ignored
from ._graph import Node, Placed, State, attribute, data_inputs, meeting, net_inputs, outputs, placed, with_last_uses
from ._layer import Budget, Factory, LayerSpec, Shape, is_data, is_own, is_sink, line_of, registered
from ._messages import NetFile, read_net
from ._old_forms import modern_aliases
from ._parameters import Sharing
from ._schema import CaffeError
from .net import CaffeNet
from .weights import copy_blobs, read_layers, stored_shapes

Path = str | os.PathLike[str]

assert layers  # imported for the types that it registers


def load_net(
    prototxt: Path | NetFile,
    weights: Path | Sequence[Path] | None = None,
    phase: str | None = "train",
    *,
    level: int = 0,
    stages: Iterable[str] = (),
    inputs: Mapping[str, Sequence[int | None]] | None = None,
    aliases: Mapping[str, str] | None = None,
    align_crops: bool = False,
    upsampling: str | None = None,
) -> CaffeNet:
    """Makes a Module of a net's prototxt, and gives it the weights of ``.caffemodel`` files.

    Layers that read data (``Input``, Python layers without bottoms, and types that end in ``Data``) become inputs:
    their tops are what ``forward`` takes. Weights go to layers of the same name; a layer without any begins as its
    fillers say, with numbers of torch's generator. Parameters with ``lr_mult: 0`` do not require a gradient. The
    Module is in training mode in the train phase, in evaluation mode in the test phase.

    Args:
        prototxt: the net; also one that is read already (of a solver).
        weights: a ``.caffemodel``, or several, of which later ones win.
        phase: ``"train"`` or ``"test"``; it and the next two decide which layers are there (``include``, ``exclude``).
            None: test for a deploy net (``input`` or Input layers, and no loss), else train.
        level: the level that rules ask about; 0: that of the net's own ``state``.
        stages: the stages that rules ask about, beside those of the net's own ``state``.
        inputs: shapes of inputs that the prototxt leaves open, None for a dimension that may be any size. Needed only
            if a layer's number of parameters depends on it and there are no weights.
        aliases: types to be read as others. HED, BTS-DSN and other forks have a class-balanced layer by the name of
            Caffe's plain one: ``{"SigmoidCrossEntropyLoss": "SigmoidWeightedCrossEntropyLoss"}``.
        align_crops: give Crop layers without an ``offset`` the offsets by which their bottoms lie on each other, as
            HED's fork does. In Caffe itself they have an offset of 0.
        upsampling: ``"bilinear"`` fills Deconvolution layers that would begin at 0 with bilinear interpolation, each
            channel from the one of its number alone, as the training scripts of FCN and HED do. Also those whose
            ``bilinear`` filler gives every channel the sum of all. Layers that get weights keep them.

    Warns:
        CaffeWarning: fields that only a fork of Caffe has are left out (of layers that read data); or the net is one
            that trains to nothing, or to something else than its authors', as it is: all-zero upsampling, Crop layers
            without offsets, the plain loss in a net like HED's, weights of which none has a place.

    Raises:
        CaffeError: something in a file cannot be read or carried over; file and line are named.
        ValueError: an unknown phase, input or kind of upsampling.
        OSError: a file cannot be opened.

    Example:
        >>> import pathlib, tempfile, torch
        >>> from rarepixel import caffe
        >>> prototxt = pathlib.Path(tempfile.mkdtemp()) / "net.prototxt"
        >>> _ = prototxt.write_text('''
        ...     layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [1, 3, 32, 32] } } }
        ...     layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        ...             convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
        ...     layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
        ... ''')
        >>> net = caffe.load_net(prototxt, phase="test")
        >>> net.conv1.weight.shape
        torch.Size([8, 3, 3, 3])
        >>> net(data=torch.zeros(1, 3, 32, 32))["conv1"].shape
        torch.Size([1, 8, 30, 30])
    """
    if phase not in ("train", "test", None):
        raise ValueError(f"phase: expected 'train' or 'test', got {phase!r}")
    if upsampling not in (None, "bilinear"):
        raise ValueError(f"upsampling: expected None or 'bilinear', got {upsampling!r}")
    file = prototxt if isinstance(prototxt, NetFile) else read_net(prototxt, aliases)
    paths = [weights] if isinstance(weights, str | os.PathLike) else list(weights or ())
    stored = [(path, read_layers(path)) for path in paths]
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
    for path, blobs in stored:
        shapes.update(stored_shapes(path, blobs))

    def built(phase: str) -> _Builder:
        return build(file, shapes, phase, level, stages, inputs, aliases, align_crops)

    builder = built(phase or "train")
    if phase is None:
        phase = "test" if builder.net.is_deploy else "train"
        builder = built(phase) if phase == "test" else builder
    net = builder.net
    net.loaded = tuple(copy_blobs(net, path, blobs) for path, blobs in stored)
    filled = {name for report in net.loaded for name in report.loaded}
    if upsampling is not None:
        _traps.fill_upsampling(net, filled)
    warn_ignored(file.path, builder.ignored)
    for text in builder.unread:
        warn(text)
    if phase == "train" or stored:  # a net to use gets its weights later
        _traps.warn_upsampling(net, file.path, filled)
    if net.loss_weights and phase == "train":
        _traps.warn_zero_chains(net, file.path, filled)
    _traps.warn_crops(builder.unaligned, file.path)
    _traps.warn_losses(net, file.path, builder.aliases)
    return net.train(phase == "train")


def build(
    file: NetFile,
    stored: Mapping[str, tuple[tuple[int, ...], ...]],
    phase: str,
    level: int = 0,
    stages: Iterable[str] = (),
    inputs: Mapping[str, Sequence[int | None]] | None = None,
    aliases: Mapping[str, str] | None = None,
    align_crops: bool = False,
) -> _Builder:
    """A net of a file, as :func:`load_net` is asked for it, without weights; and what there is to say of it.

    ``stored`` has the shapes of the blobs of layers in the weights to come.
    """
    given = file.message.state
    stages = (stages,) if isinstance(stages, str) else stages
    state = State(phase, level or given.level, frozenset((*stages, *given.stage)))
    builder = _Builder(file, state, stored, inputs or {}, modern_aliases(aliases or {}), align_crops)
    builder.build()
    return builder


class _Builder:
    """Makes the layers one after the other, with the shapes that come out of those before."""

    def __init__(
        self,
        file: NetFile,
        state: State,
        stored: Mapping[str, tuple[tuple[int, ...], ...]],
        inputs: Mapping[str, Sequence[int | None]],
        aliases: Mapping[str, str],
        align_crops: bool,
    ) -> None:
        self.file, self.state, self.stored, self.aliases = file, state, stored, aliases
        self.align_crops = align_crops
        self.layers: list[Placed] = []
        self.ignored: list[Unknown] = []  # fields that nobody reads
        self.unread: list[str] = []  # what is said of parameters of Python layers that nobody reads
        self.elsewhere: dict[str, str] = {}  # blobs that layers make which are not there in this state
        given = list(net_inputs(file))
        for layer in placed(file, state):
            if not layer.included:
                self.elsewhere.update(
                    (top, f"layer {layer.message.name!r} in {layer.where}") for top in layer.message.top
                )
            elif self._is_data(layer):
                given += data_inputs(layer.message, layer.where, layer.fork)
                self.ignored += layer.fork.unknown
            else:
                self.layers.append(layer)
        places: dict[str, str] = {}
        for blob in given:
            check_known(blob.shape, f"{blob.where}: input {blob.blob!r}")
            if blob.blob in places:
                before = line_of(places[blob.blob])
                expected = f"expected inputs of different names, got {blob.blob!r} twice, first in line {before}"
                raise CaffeError(f"{blob.where}: {expected}")
            places[blob.blob] = blob.where
        self.net = CaffeNet(file.message.name, given)
        self.net.stored_shapes = dict(stored)
        if unknown := inputs.keys() - self.net.inputs.keys():
            known = ", ".join(self.net.inputs) or "none"
            made = "".join(
                f"; {self.elsewhere[name]} makes {name!r}, which phase {state.phase} does not have"
                for name in sorted(unknown & self.elsewhere.keys())
            )
            raise ValueError(f"inputs: expected {known}, got {', '.join(sorted(unknown))}{made}")
        for name, shape in inputs.items():
            if not all(size is None or (isinstance(size, int) and size > 0) for size in shape):
                expected = "dimensions of at least 1, or None for any size"
                raise ValueError(f"inputs: {name}: expected {expected}, got {tuple(shape)}")
            self.net.inputs[name] = tuple(shape)
        self.shapes: dict[str, Shape] = dict(self.net.inputs)
        # Of each blob inputs that it comes from and of which not all is known; a few will do for an error.
        self.open: dict[str, dict[str, Shape]] = {
            name: {name: shape} for name, shape in self.shapes.items() if shape is None or None in shape[1:]
        }
        self.nodes: list[Node] = []
        self.made: list[tuple[Shape, ...]] = []
        self.budget = Budget()
        self.sharing = Sharing()
        self.alignment = Alignment(list(self.net.inputs))
        self.unaligned: list[tuple[LayerSpec, list[int] | None]] = []  # Crop layers cut at 0, and where they would be
        self.taken = {*dir(self.net), *vars(self.net)}  # no attribute may hide one that the Module has
        self.repeated: dict[str, int] = {}

    def _is_data(self, layer: Placed) -> bool:
        message = layer.message
        kind = self._kind(message)
        return is_data(kind, len(message.bottom), len(message.top), python=message.type == "Python")

    def _kind(self, layer: Any) -> str:
        kind = layer.python_param.layer if layer.type == "Python" else layer.type
        return self.aliases.get(kind, kind)

    def _tell_of_param_str(self, spec: LayerSpec, layer: Any, factory: Factory) -> None:
        """A Python layer by another name, whose parameters a layer of ours would not look at."""
        kind, given = layer.python_param.layer, layer.python_param.param_str
        reads = not is_own(factory) or getattr(factory, "reads_param_str", False)
        if layer.type == "Python" and given and spec.type != kind and not reads:
            self.unread.append(f"{spec.label}: an alias of {kind!r} does not read its param_str, {given[:200]!r}")

    def build(self) -> None:
        net = self.net
        self._check_types()
        for layer in self.layers:
            self._add(layer)
        net.outputs = tuple(outputs(self.nodes, net.loss_weights))
        net._nodes = tuple(with_last_uses(self.nodes, net.outputs))
        net._shapes = tuple(self.made)
        net._meets = {blob: met for blob, met in meeting(net._nodes, net).items() if blob in net.inputs}
        net.caffe_multipliers = self.sharing.multipliers(net)

    def _add(self, placed: Placed) -> None:
        layer = placed.message
        spec = self._spec(placed)
        factory = registered(spec.type)
        assert factory is not None
        self._own(placed, spec, factory)
        self._tell_of_param_str(spec, layer, factory)
        if spec.type in ("Crop", "AutoCrop"):
            spec = self._aligned(spec)
        module = factory(spec)
        name = attribute(spec.name, self.taken, self.repeated)
        self.taken.add(name)
        self.net.add_module(name, module)
        self.net.layer_names.setdefault(spec.name, name)
        self.sharing.add(spec, layer.param, module)
        self.alignment.add(spec, module)
        runs = not is_sink(spec.type)
        if runs:
            self._weigh(spec, layer, module)
        shapes = self._output_shapes(spec, module)
        for top, shape in zip(spec.tops, shapes, strict=True):
            self.shapes[top] = shape
            self.open[top] = dict(spec.open_inputs)
        if len(layer.propagate_down) not in (0, len(spec.bottoms)):
            raise spec.error(f"expected {len(spec.bottoms)} propagate_down, got {len(layer.propagate_down)}")
        detached = tuple(not down for down in layer.propagate_down)
        self.nodes.append(
            Node(spec.name, spec.type, layer.type, name, spec.bottoms, spec.tops, detached, spec.where, runs)
        )
        self.made.append(shapes)

    def _aligned(self, spec: LayerSpec) -> LayerSpec:
        """A Crop with the offsets of the net, where it has none and is to have them."""
        options, align = spec.message.crop_param, self.align_crops or spec.type == "AutoCrop"
        if options.offset or options.axis not in (2, -2):
            return spec
        try:
            offsets = self.alignment.offsets(spec)
        except CaffeError:
            if align:
                raise
            offsets = None
        if offsets is None or not align:
            self.unaligned.append((spec, offsets))
            return spec
        layer = type(spec.message).FromString(spec.message.SerializeToString())  # the file stays as it is
        layer.crop_param.offset.extend(offsets)
        return replace(spec, message=layer)

    def _spec(self, placed: Placed) -> LayerSpec:
        layer, kind = placed.message, self._kind(placed.message)
        tops = () if is_sink(kind) else tuple(layer.top)
        if not tops and kind.endswith("Loss"):  # Caffe makes up a blob, too
            tops = (attribute(layer.name or kind, self.shapes, self.repeated),)
        spec = LayerSpec(
            layer.name, kind, layer, tuple(layer.bottom), tops, (), self.state.phase, placed.where,
            self.stored.get(layer.name, ()), self.budget, as_values(placed.fork.unknown), self._open(layer.bottom),
        )  # fmt: skip
        for bottom in spec.bottoms:
            if bottom not in self.shapes:
                expected = f"expected a bottom that an input or a layer above makes, got {bottom!r}"
                if bottom in self.elsewhere:
                    expected += f"; {self.elsewhere[bottom]} makes it, which phase {self.state.phase} does not have"
                raise spec.error(expected)
        before: set[str] = set()
        for top in tops:
            if top in before:
                raise spec.error(f"expected tops of different names, got {top!r} twice")
            before.add(top)
            if top in self.shapes and top not in spec.bottoms:
                raise spec.error(f"expected a top of a new name or one of the bottoms, got {top!r}")
            if top in self.net.loss_weights:
                raise spec.error(f"expected a loss to stay as it is, got {top!r} made anew")
        return replace(spec, shapes=tuple(self.shapes[bottom] for bottom in spec.bottoms))

    def _open(self, bottoms: Iterable[str]) -> dict[str, Shape]:
        found: dict[str, Shape] = {}
        for bottom in bottoms:
            if len(found) < 4:
                found |= self.open.get(bottom, {})
        return found

    def _check_types(self) -> None:
        """All types that nobody registered, in one error."""
        unknown = [layer for layer in self.layers if registered(self._kind(layer.message)) is None]
        if not unknown:
            return
        first = unknown[0].message
        name, kind = first.name, self._kind(first)
        title = f"{first.type} layer {kind!r}" if first.type == "Python" else f"layer type {kind!r}"
        others: dict[str, str] = {}
        for layer in unknown:
            others.setdefault(self._kind(layer.message), line_of(layer.where))
        others.pop(kind)
        more = ", ".join(f"{other!r} (line {line})" for other, line in others.items())
        raise CaffeError(
            f"{unknown[0].where}: layer {name!r} ({kind}): {title} is not carried over; register a Module for it: "
            f"@rarepixel.caffe.register({kind!r}), called with a rarepixel.caffe.LayerSpec"
            + (f"; neither are {more}" if more else "")
        )

    def _own(self, placed: Placed, spec: LayerSpec, factory: Factory) -> None:
        """Fields that only a fork has: of a sink they do not matter, of a layer of ours they would be lost."""
        if not is_own(factory):
            return
        for unknown in placed.fork.unknown:
            if not is_sink(spec.type) and unknown.field.name not in HARMLESS:
                raise refuse(unknown, self.file.path)
            self.ignored.append(unknown)

    def _weigh(self, spec: LayerSpec, layer: Any, module: nn.Module) -> None:
        """Notes which tops count in the loss."""
        given = list(layer.loss_weight)
        if given and len(given) != len(spec.tops):
            raise spec.error(f"expected a loss_weight for each of {len(spec.tops)} tops, got {len(given)}")
        weights = given or [float(getattr(module, "loss_weight", 0.0))]
        for top, weight in zip(spec.tops, weights, strict=False):
            if weight:
                self.net.loss_weights[top] = weight

    def _output_shapes(self, spec: LayerSpec, module: nn.Module) -> tuple[Shape, ...]:
        infer = getattr(module, "output_shapes", None)
        if infer is None:
            return (None,) * len(spec.tops)
        given = infer(*spec.shapes)
        if not isinstance(given, Sequence):
            raise spec.error(f"expected output_shapes to return a tuple of shapes, got {given!r}")
        shapes = tuple(given)
        if len(shapes) != len(spec.tops):
            raise spec.error(f"expected output_shapes of {len(spec.tops)} tops, got {len(shapes)}")
        for shape in shapes:
            check_known(shape, spec.label)
        return shapes
