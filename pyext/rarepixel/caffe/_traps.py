"""Nets that load and are not what their authors trained: what is said about them, and what fills the upsampling."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import nn

from ._forks import some, warn
from ._graph import Node
from ._layer import LayerSpec, line_of
from .layers.convolution import Convolution, Deconvolution
from .layers.dense import InnerProduct
from .net import CaffeNet

_HED = {"SigmoidCrossEntropyLoss": "SigmoidWeightedCrossEntropyLoss"}


def _upsampling(net: CaffeNet, filled: Container[str]) -> Iterator[tuple[Node, Deconvolution]]:
    """The Deconvolution layers that got no weights."""
    for node in net.nodes:
        module = net.get_submodule(node.attribute)
        if isinstance(module, Deconvolution) and node.name not in filled:
            yield node, module


def fill_upsampling(net: CaffeNet, filled: Container[str]) -> None:
    """Bilinear interpolation, channel by channel, for upsampling layers that are all zero or mix the channels."""
    for _, module in _upsampling(net, filled):
        if module.enlarges() and (module.mixes_channels() or not module.weight.any()):
            module.fill_bilinear()


def warn_upsampling(net: CaffeNet, path: Path, filled: Container[str]) -> None:
    """Warns of Deconvolution layers through which nothing passes, and of those that give all channels one sum."""
    zero, stuck, mixing = [], [], []
    for node, module in _upsampling(net, filled):
        if not module.weight.any():
            if module.enlarges():
                zero.append(node)
            elif not module.weight.requires_grad:
                stuck.append(node)
        elif module.mixes_channels() and _is_sum(module):
            mixing.append(node)
    if zero:
        warn(
            f"{path}: the weights of Deconvolution layers {_named(zero)} begin at 0, so that nothing passes them, and "
            "no gradient comes through; scripts of their authors fill such layers (net surgery): load_net(..., "
            "upsampling='bilinear'), weights, or a filler"
        )
    if stuck:
        warn(
            f"{path}: the weights of Deconvolution layers {_named(stuck)} are 0 and do not learn (lr_mult: 0), so that "
            "nothing passes them; they need weights or a filler"
        )
    if mixing:
        warn(
            f"{path}: the bilinear filler of Deconvolution layers {_named(mixing)} fills every pair of channels, so "
            "that each channel that comes out is the sum of all; load_net(..., upsampling='bilinear') interpolates "
            "each by itself where as many go in as come out, as does group: num_output"
        )


_KEEPS_ZERO = (
    *("ReLU", "PReLU", "ReLU6", "ELU", "TanH", "AbsVal", "Swish", "LRN", "MVN", "BatchNorm", "BN", "Normalize"),
    *("Scale", "Pooling", "PoolingND", "NdPooling", "Dropout", "SpatialDropout", "Split", "Slice", "Concat"),
    *("Eltwise", "Crop", "AutoCrop", "Flatten", "Reshape", "Permute", "ShuffleChannel", "Interp", "Upsample"),
)


def _adds_nothing(module: nn.Module) -> bool:
    """Whether the summand of a layer is 0."""
    summands = (getattr(module, name, None) for name in ("bias", "shift"))
    return not any(summand is not None and bool(summand.any()) for summand in summands)


def warn_zero_chains(net: CaffeNet, path: Path, filled: Container[str]) -> None:
    """Warns of layers of zeros that get nothing but zeros, from layers like them: no gradient gets into any."""
    zeros: dict[str, set[str]] = {}  # of blobs that are 0 the layers that make them so
    chained: set[str] = set()
    for node in net.nodes:
        module = net.get_submodule(node.attribute)
        makers = [zeros.get(bottom, set()) for bottom in node.bottoms]
        if node.type in ("Crop", "AutoCrop", "Upsample"):
            makers = makers[:1]  # the second gives size or places
        found: set[str] = set()
        if isinstance(module, Convolution | Deconvolution | InnerProduct):
            if node.name not in filled and not module.weight.any() and _adds_nothing(module):
                found = {node.attribute}
                if makers[0]:
                    chained |= found | makers[0]
        elif node.type in _KEEPS_ZERO and all(makers) and _adds_nothing(module):
            found = set().union(*makers)
        zeros.update(dict.fromkeys(node.tops, found))
    if chained:
        zero = [node for node in net.nodes if node.attribute in chained]
        warn(
            f"{path}: the weights of {len(zero)} layers that follow each other begin at 0, so that no gradient gets "
            f"into them: {_named(zero)}; such nets begin from other weights, load_net(..., weights=...), or fillers"
        )


def _is_sum(module: Deconvolution) -> bool:
    """Whether the channels that come out are all the same."""
    return module.weight.shape[1] > 1 and bool((module.weight == module.weight[:1, :1]).all())


def warn_crops(crops: Sequence[tuple[LayerSpec, list[int] | None]], path: Path) -> None:
    """Warns of Crop layers without offsets, where 0 is not where their bottoms lie on each other."""
    off = []
    for spec, offsets in crops:
        first, second = (*spec.shapes, None, None)[:2]
        same = first is not None and second is not None and first[2:] == second[2:] and None not in first[2:]
        if same or (offsets is not None and not any(offsets)):
            continue
        aligned = "the net does not say where its bottoms lie"
        if offsets is not None:
            aligned = f"{', '.join(map(str, offsets))} aligns it"
        off.append(f"{spec.name!r} (line {line_of(spec.where)}; {aligned})")
    if off:
        warn(
            f"{path}: Crop layers without an offset cut at 0, as in Caffe: {some(off, 10)}; in HED's fork and others "
            "they follow from the net: load_net(..., align_crops=True)"
        )


def warn_losses(net: CaffeNet, path: Path, aliases: Mapping[str, str]) -> None:
    """Warns of the plain cross-entropy in a net like HED's, whose fork has its own under that name."""
    plain = [node for node in net.nodes if node.type in _HED and node.message_type not in aliases]
    labels = [node.bottoms[1] for node in plain]
    of_hed = any("labelmap" in given.type.lower() for given in net.given)
    if plain and (of_hed or len(set(labels)) < len(labels)):
        warn(
            f"{path}: SigmoidCrossEntropyLoss layers {_named(plain)} are Caffe's plain cross-entropy here; in the fork "
            f"of HED, like which this net looks, that type is the class-balanced one: load_net(..., aliases={_HED}); "
            "to keep the plain one, make it an alias of itself"
        )


def _named(nodes: Iterable[Node]) -> str:
    return some((f"{(node.name or node.type)!r} (line {line_of(node.where)})" for node in nodes), 10)
