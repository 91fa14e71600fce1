"""What a prototxt says about a net before any layer is made: rules, inputs, names, outputs."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from torch import nn

from ._forks import Fork, as_values
from ._layer import Layer, Shape
from ._messages import NetFile
from ._parameters import blobs_of
from ._schema import CaffeError

_TRAIN = 0  # of Phase


class State(NamedTuple):
    """What the rules of layers ask about."""

    phase: str
    level: int = 0
    stages: frozenset[str] = frozenset()

    def meets(self, rule: Any) -> bool:
        """Whether a ``NetStateRule`` holds."""
        return (
            not (rule.HasField("phase") and (rule.phase == _TRAIN) != (self.phase == "train"))
            and not (rule.HasField("min_level") and self.level < rule.min_level)
            and not (rule.HasField("max_level") and self.level > rule.max_level)
            and self.stages.issuperset(rule.stage)
            and self.stages.isdisjoint(rule.not_stage)
        )


class Input(NamedTuple):
    """A blob that is given to the net."""

    blob: str
    shape: Shape
    layer: str  # whose top it is; empty if the net itself names it
    type: str
    where: str = ""  # file and line


@dataclass(frozen=True)
class Node:
    """A layer and its place in the net.

    Args:
        name: its name in the prototxt.
        type: its type; of a Python layer the class that it names.
        message_type: its type as it stands in the prototxt.
        attribute: the name of its Module.
        bottoms: names of the blobs that it reads.
        tops: names of the blobs that it makes.
        detached: whether no gradient goes to each bottom (``propagate_down: false``).
        where: file and line.
        runs: whether it is computed; sinks are not.
        last: blobs that nobody needs after it.
    """

    name: str
    type: str
    message_type: str
    attribute: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    detached: tuple[bool, ...]
    where: str
    runs: bool = True
    last: tuple[str, ...] = ()


class Placed(NamedTuple):
    """A layer of a file."""

    message: Any
    where: str  # file and line
    fork: Fork
    included: bool  # in the state that was asked about


def placed(net: NetFile, state: State) -> Iterator[Placed]:
    """The layers of a file, each with whether a state has it."""
    for layer, line, fork in zip(net.message.layer, net.lines, net.forks, strict=True):
        where = f"{net.path}:{line}"
        if layer.include and layer.exclude:
            raise CaffeError(f"{where}: layer {layer.name!r}: expected include or exclude rules, got both")
        met = any(map(state.meets, layer.include)) if layer.include else not any(map(state.meets, layer.exclude))
        yield Placed(layer, where, fork, met)


def net_inputs(net: NetFile) -> Iterator[Input]:
    """The inputs that the net itself names, by ``input`` with ``input_shape`` or ``input_dim``."""
    names, message, where = list(net.message.input), net.message, f"{net.path}:1"
    if message.input_shape and message.input_dim:
        raise CaffeError(f"{where}: expected input_shape or input_dim, got both")
    if message.input_dim and len(message.input_dim) != 4 * len(names):
        raise CaffeError(f"{where}: expected 4 input_dim for each of {len(names)} input, got {len(message.input_dim)}")
    if len(message.input_shape) not in (0, 1, len(names)):
        got = len(message.input_shape)
        raise CaffeError(f"{where}: expected an input_shape for each of {len(names)} input, got {got}")
    for index, name in enumerate(names):
        shape: Shape = None
        if message.input_dim:
            shape = tuple(message.input_dim[4 * index : 4 * index + 4])
        elif message.input_shape:
            shape = tuple(message.input_shape[index % len(message.input_shape)].dim)
        yield Input(name, _known(shape), "", "Input", f"{net.path}:{net.input_lines[index]}")


def data_inputs(layer: Any, where: str, fork: Fork) -> Iterator[Input]:
    """The tops of a data layer, with as much of their shapes as it says."""
    shapes = list(layer.input_param.shape)
    if layer.type == "Input" and len(shapes) not in (1, len(layer.top)):
        raise CaffeError(f"{where}: layer {layer.name!r}: expected 1 shape or {len(layer.top)}, got {len(shapes)}")
    for index, top in enumerate(layer.top):
        if shapes:
            shape: Shape = tuple(shapes[min(index, len(shapes) - 1)].dim)
        else:
            shape = _image_shape(layer, as_values(fork.unknown)) if index == 0 else None
        yield Input(top, _known(shape), layer.name, layer.type, where)


def _known(shape: Shape) -> Shape:
    """A shape whose zeros, written where a size is left open, are unknown."""
    return None if shape is None else tuple(size or None for size in shape)


def _image_shape(layer: Any, unknown: Mapping[str, Any]) -> Shape:
    """What a data layer says about the images that it reads; Python layers say nothing."""
    if layer.type == "MemoryData":
        memory = layer.memory_data_param
        if memory.dim:
            return tuple(memory.dim)
        return memory.batch_size, memory.channels, memory.height, memory.width
    transform = layer.transform_param
    channels = len(transform.mean_value) if len(transform.mean_value) > 1 else 0
    kinds = [name for name in ("image_data_param", "data_param", "window_data_param") if layer.HasField(name)]
    if not kinds:
        # A fork's reader of images (dense_image_data_param) reads them in colour, as Caffe's does.
        of_fork = [options for name, options in unknown.items() if name.endswith("image_data_param")]
        if not of_fork or not isinstance(of_fork[0], dict):
            return None
        return 0, channels or (3 if of_fork[0].get("is_color", True) else 1), 0, 0
    of_files, options = kinds[0] == "image_data_param", getattr(layer, kinds[0])
    if of_files and not channels:
        channels = 3 if options.is_color else 1
    if transform.force_gray or transform.force_color:
        channels = 1 if transform.force_gray else 3
    height = transform.crop_height or transform.crop_size or (options.new_height if of_files else 0)
    width = transform.crop_width or transform.crop_size or (options.new_width if of_files else 0)
    return options.batch_size, channels, height, width


def attribute(name: str, taken: Container[str], repeated: dict[str, int]) -> str:
    """The name of a layer as a Python attribute: letters, digits and underscores, and not taken.

    A name that is taken gets an underscore, and further ones numbers; ``repeated`` counts them.
    """
    safe = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    safe = f"_{safe}" if safe[0].isdigit() else safe
    found = safe
    while found in taken:
        repeated[safe] = repeated.get(safe, 0) + 1
        found = f"{safe}_" if repeated[safe] == 1 else f"{safe}_{repeated[safe]}"
    return found


def outputs(nodes: Iterable[Node], losses: Mapping[str, float]) -> list[str]:
    """The blobs that layers make and nobody reads, and those that count in the loss."""
    made: dict[str, None] = {}
    for node in nodes:
        for bottom in node.bottoms:
            # What a sink other than Silence writes or measures is what the net is for.
            if bottom not in losses and (node.runs or node.type == "Silence"):
                made.pop(bottom, None)
        made.update(dict.fromkeys(node.tops))
    return list(made)


def with_last_uses(nodes: list[Node], kept: Iterable[str]) -> list[Node]:
    """The nodes, each with the blobs that nobody reads after it."""
    seen = set(kept)
    done = []
    for node in reversed(nodes):
        last = tuple(dict.fromkeys(name for name in (*node.bottoms, *node.tops) if name not in seen))
        seen.update(last)
        done.append(replace(node, last=last))
    return done[::-1]


class Met(NamedTuple):
    """What an input is computed with."""

    blob: str  # the name of a layer's own blob
    promoted: bool  # whether whole numbers become floating ones before


def meeting(nodes: Sequence[Node], net: nn.Module) -> dict[str, Met]:
    """Of blobs that a layer computes with that has blobs of its own, at once or after other layers, one of these.

    Labels and indices meet none: they may be of any dtype.
    """
    found: dict[str, Met] = {}
    for node in reversed(nodes):
        module = net.get_submodule(node.attribute)
        own = blobs_of(module)
        after = next((found[top] for top in node.tops if top in found), None)
        met = Met(f"{node.attribute}.{own[0][0]}", promoted=False) if own else after
        for top in node.tops:
            found.pop(top, None)
        if met is not None and isinstance(module, Layer):
            met = met._replace(promoted=met.promoted or module.promotes)
            found.update(dict.fromkeys(module.computed(node.bottoms), met))
    return found
