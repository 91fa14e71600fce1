"""Weights: ``.caffemodel`` files to the layers of a net, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from ._blobs import blob_array, blob_shape, make_blob
from ._forks import some, warn
from ._messages import read_weights, write_message
from ._parameters import blobs_of
from ._schema import CaffeError, NetParameter
from .net import CaffeNet, LoadedWeights

Path = str | os.PathLike[str]
Layers = Mapping[str, Any]  # name -> LayerParameter with blobs


def load_weights(net: CaffeNet, path: Path) -> LoadedWeights:
    """Copies the blobs of a ``.caffemodel`` to the layers of the same names.

    Args:
        net: what :func:`rarepixel.caffe.load_net` made.
        path: the file.

    Warns:
        CaffeWarning: no layer of the file has the name of a layer with parameters.

    Raises:
        CaffeError: the file cannot be read, or has other numbers or shapes of blobs for a layer.
    """
    return copy_blobs(net, path, read_layers(path))


def save_weights(net: CaffeNet, path: Path) -> None:
    """Writes a net's parameters and running averages as a ``.caffemodel`` that Caffe and OpenCV read.

    Numbers are kept as they are: float64 as such, all others as float32, which holds every number of the half types.

    Args:
        net: what :func:`rarepixel.caffe.load_net` made.
        path: the file; it is replaced as a whole or not at all.
    """
    message = NetParameter(name=net.name)
    for node in net.nodes:
        layer = message.layer.add(name=node.name, type=node.message_type, bottom=node.bottoms, top=node.tops)
        for name, blob in blobs_of(net.get_submodule(node.attribute)):
            data = blob.detach().cpu()
            if data.dtype is not torch.float64:
                data = data.float()
            layer.blobs.append(make_blob(data.numpy(), f"layer {node.name!r}: {name}"))
    write_message(message, path)


def read_layers(path: Path) -> Layers:
    """The layers of a file that have blobs."""
    return {layer.name: layer for layer in read_weights(path).layer if layer.blobs}


def stored_shapes(path: Path, layers: Layers) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Shapes of all blobs; in old files always four numbers."""
    found = {}
    for name, layer in layers.items():
        found[name] = tuple(blob_shape(blob, _label(path, name, index)) for index, blob in enumerate(layer.blobs))
    return found


def _label(path: Path, name: str, index: int) -> str:
    return f"{os.fspath(path)}: layer {name!r}: blob {index}"


@torch.no_grad()
def copy_blobs(net: CaffeNet, path: Path, layers: Layers) -> LoadedWeights:
    """Copies blobs that are read already."""
    missing, loaded = [], []
    for name, attribute in net.layer_names.items():
        blobs = blobs_of(net.get_submodule(attribute))
        if name not in layers:
            missing += [name] if blobs else []
            continue
        stored = layers[name].blobs
        if len(stored) != len(blobs):
            held = ", ".join(f"{blob_name} {tuple(blob.shape)}" for blob_name, blob in blobs) or "none"
            where = f"{os.fspath(path)}: layer {name!r}"
            raise CaffeError(f"{where}: expected {len(blobs)} blobs ({held}), got {len(stored)}")
        for index, ((_, blob), source) in enumerate(zip(blobs, stored, strict=True)):
            blob.copy_(torch.from_numpy(blob_array(source, blob.shape, _label(path, name, index))))
        loaded.append(name)
    if not loaded and (layers or missing):
        stored, wanted = some(layers, 5) or "none with weights", some(missing, 5) or "none with weights"
        warn(f"{os.fspath(path)}: nothing is loaded: its layers ({stored}) are none of the net's ({wanted})")
    return LoadedWeights(loaded, missing, sorted(layers.keys() - net.layer_names.keys()))
