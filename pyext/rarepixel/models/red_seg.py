"""Red-Seg: VGG-16 with a branch of supervised side outputs for each lesion."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Path = str | os.PathLike[str]

LESIONS: dict[str, tuple[int, ...]] = {"MA": (2, 3, 4), "HE": (3, 4, 5)}
"""Levels of the paper's branches: microaneurysms and haemorrhages."""

# Channels of the convolutions of each level.
_WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
# Where torchvision's VGG-16 has them, ReLU and pooling being counted.
_TORCHVISION = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))


class RedSeg(nn.Module):
    r"""Red-Seg: the convolutions of VGG-16 and for each lesion a branch of side outputs that are fused.

    Guo et al., Red-Seg, Journal of Software 2021.

    The trunk is the 13 convolutions of 3×3 of VGG-16, in five levels with maximum pooling between them (table 1). A
    branch has, of the last features :math:`f_l` of each of its levels :math:`l`, a side output: a convolution of 1×1
    with one channel, enlarged bilinearly to the size of the image; and their fusion,

    .. math::
        s_l = U_{2^{l-1}}(w_l \cdot f_l + b_l), \qquad s = b + \sum_l v_l \, s_l, \qquad v_l = 1/n \text{ at first}.

    All are logits, and in the paper all are supervised: with its two branches of three levels there are eight losses
    (:class:`rarepixel.DeepSupervision` adds up those of a branch).

    This is the net of ``examples/caffe/red_seg/train.prototxt``, which was written after the paper's table since no
    code is published: with the same weights it computes the same, to rounding. ``state_dict()`` has the names of
    :func:`rarepixel.caffe.load_net`'s, those of lesions in lower case. As in Caffe, pooling keeps what is left over at
    the lower and right border, and enlarging goes on beyond the outermost pixels to 0; :math:`U` is a transposed
    convolution whose weights are a buffer and are not trained.

    Note:
        What an image has to look like is decided by the weights. Those from Caffe take BGR from 0 to 255, of which the
        mean of each channel is subtracted (VGG's 103.939, 116.779 and 123.68). Those from torchvision take RGB from 0
        to 1, minus (0.485, 0.456, 0.406) and then divided by (0.229, 0.224, 0.225).

    Note:
        The trunk ends at the deepest level that a branch uses.

    Args:
        lesions: the levels, from 1 to 5, of the side outputs of each lesion. By default the paper's, ``{"MA": (2, 3,
            4), "HE": (3, 4, 5)}``; its table 5 compares (2, 3, 4), (2, 3, 4, 5) and (1, 2, 3, 4) for MA.
        pretrained: weights to start from: a ``state_dict`` of torchvision's ``vgg16`` or the path of one (read with
            ``weights_only=True``), of which the convolutions are taken, or the path of a ``.caffemodel``, which needs
            ``rarepixel[caffe]``. Of a caffemodel that has layers of this net's branches (``score_ma2``, ``fuse_ma``)
            everything is taken, of one that has none, such as VGG-16's own, the trunk. None: the trunk starts as by He
            et al. (ICCV 2015). Without weights for them, convolutions of side outputs start at a standard deviation of
            0.01.
        in_channels: of the image.

    Shape:
        - image: (N, in_channels, H, W) of any size.
        - output: a dict with, for each lesion, a list of logits (N, 1, H, W): its side outputs in the order of the
          levels, and last the fused one.

    Raises:
        TypeError: ``lesions`` or ``pretrained`` is something else.
        ValueError: no lesion or no level, one that does not exist or comes twice; weights that are missing, of another
            shape, or in a file that cannot be read. The text names the layer.
        OSError: the file cannot be opened.

    Example:
        >>> model = RedSeg(lesions={"MA": (1, 2)})
        >>> outputs = model(torch.zeros(1, 3, 9, 13))
        >>> [tuple(side.shape) for side in outputs["MA"]]
        [(1, 1, 9, 13), (1, 1, 9, 13), (1, 1, 9, 13)]
        >>> model.logits(outputs).shape
        torch.Size([1, 1, 9, 13])
    """

    stride = 1
    """Images of any size are taken."""

    def __init__(
        self,
        lesions: Mapping[str, Sequence[int]] | None = None,
        pretrained: Mapping[str, Tensor] | Path | None = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        if isinstance(in_channels, bool) or not isinstance(in_channels, int) or in_channels < 1:
            raise ValueError(f"in_channels: expected an integer of at least 1, got {in_channels!r}")
        self.in_channels = in_channels
        self.lesions = _check_lesions(LESIONS if lesions is None else lesions)
        deepest = max(max(levels) for levels in self.lesions.values())
        channels = in_channels
        for level, widths in enumerate(_WIDTHS[:deepest], 1):
            for number, width in enumerate(widths, 1):
                self.add_module(f"conv{level}_{number}", nn.Conv2d(channels, width, 3, padding=1))
                channels = width
        for lesion, levels in self.lesions.items():
            name = lesion.lower()
            for level in levels:
                self.add_module(f"score_{name}{level}", nn.Conv2d(_WIDTHS[level - 1][-1], 1, 1))
                if level > 1:
                    self.add_module(f"up_{name}{level}", Upsampling(2 ** (level - 1)))
            self.add_module(f"fuse_{name}", nn.Conv2d(len(levels), 1, 1))
        self._initialize()
        if pretrained is not None:
            self._load(pretrained)

    def forward(self, image: Tensor) -> dict[str, list[Tensor]]:
        """The logits of every side output of each lesion, and last their fusion."""
        if image.dim() != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f"image: expected shape (N, {self.in_channels}, H, W), got {tuple(image.shape)}")
        features = self._features(image)
        outputs = {}
        for lesion, levels in self.lesions.items():
            name = lesion.lower()
            sides = []
            for level in levels:
                side: Tensor = self.get_submodule(f"score_{name}{level}")(features[level - 1])
                if level > 1:
                    side = self.get_submodule(f"up_{name}{level}")(side, image.shape[-2:])
                sides.append(side)
            outputs[lesion] = [*sides, self.get_submodule(f"fuse_{name}")(torch.cat(sides, dim=1))]
        return outputs

    def logits(self, outputs: Mapping[str, Sequence[Tensor]]) -> Tensor:
        """The fused logits of all lesions.

        Args:
            outputs: what :meth:`forward` returned.

        Returns:
            (N, lesions, H, W), in the order of the lesions.
        """
        return torch.cat([outputs[lesion][-1] for lesion in self.lesions], dim=1)

    @torch.no_grad()
    def start_at(self, log_odds: Tensor) -> None:
        """Sets the biases of the side outputs so that they and their fusion start near given logits.

        Within 2 ** (level - 1) pixels of the border they start nearer to 0, since enlarging goes to 0 there.

        Args:
            log_odds: one number a lesion, shape (lesions,).
        """
        if log_odds.shape != (len(self.lesions),):
            raise ValueError(
                f"prevalence: expected one number for each of {', '.join(self.lesions)}, got {log_odds.numel()}"
            )
        for (lesion, levels), start in zip(self.lesions.items(), log_odds.tolist(), strict=True):
            fuse = self.get_submodule(f"fuse_{lesion.lower()}")
            for level in levels:
                nn.init.constant_(self.get_submodule(f"score_{lesion.lower()}{level}").get_parameter("bias"), start)
            # Of weights that are loaded, whose sum is not 1.
            nn.init.constant_(fuse.get_parameter("bias"), start * (1 - fuse.get_parameter("weight").sum().item()))

    def _features(self, image: Tensor) -> list[Tensor]:
        """The last features of each level."""
        found: list[Tensor] = []
        for level, names in enumerate(self._trunk(), 1):
            features = image if level == 1 else F.max_pool2d(found[-1], 2, ceil_mode=True)
            for name in names:
                features = F.relu(self.get_submodule(name)(features), inplace=True)
            found.append(features)
        return found

    def _trunk(self) -> list[list[str]]:
        """Names of the convolutions of each level."""
        levels = range(1, 1 + max(max(levels) for levels in self.lesions.values()))
        return [[f"conv{level}_{number + 1}" for number in range(len(_WIDTHS[level - 1]))] for level in levels]

    def _initialize(self) -> None:
        """As the prototxt's fillers: msra, gaussian of 0.01 and constant."""
        for name, layer in self.named_children():
            if isinstance(layer, nn.Conv2d):
                if name.startswith("conv"):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                elif name.startswith("score_"):
                    nn.init.normal_(layer.weight, std=0.01)
                else:
                    nn.init.constant_(layer.weight, 1 / layer.in_channels)
                nn.init.zeros_(layer.get_parameter("bias"))

    def _load(self, pretrained: Mapping[str, Tensor] | Path) -> None:
        if isinstance(pretrained, Mapping):
            self._load_torchvision(pretrained, "pretrained")
        elif not isinstance(pretrained, (str, os.PathLike)):
            expected = "a state_dict of torchvision's vgg16, the path of one or of a .caffemodel, or None"
            raise TypeError(f"pretrained: expected {expected}, got {type(pretrained).__name__}")
        elif os.fspath(pretrained).endswith(".caffemodel"):
            self._load_caffemodel(pretrained)
        else:
            self._load_torchvision(_read_state(pretrained), f"pretrained {os.fspath(pretrained)}")

    @torch.no_grad()
    def _load_torchvision(self, state: Mapping[str, Tensor], where: str) -> None:
        for names, numbers in zip(self._trunk(), _TORCHVISION, strict=False):
            for name, number in zip(names, numbers, strict=True):
                for kind, parameter in self.get_submodule(name).named_parameters():
                    key = f"features.{number}.{kind}"
                    _copy(parameter, state, key, f"{where}: {name}", "torchvision's vgg16 (not vgg16_bn)")

    @torch.no_grad()
    def _load_caffemodel(self, path: Path) -> None:
        from ..caffe._blobs import blob_array
        from ..caffe.weights import read_layers

        layers = read_layers(path)
        branches = [name for name, _ in self.named_children() if not name.startswith("conv")]
        taken = [name for names in self._trunk() for name in names]
        if any(name in layers for name in branches if name.startswith(("score_", "fuse_"))):
            taken += branches
        for name in taken:
            where = f"pretrained {os.fspath(path)}: layer {name!r}"
            layer = self.get_submodule(name)
            blobs = [*layer.parameters(), *layer.buffers()]
            if name not in layers:
                raise ValueError(f"{where}: expected its weights, got a file with {_some(layers)}")
            stored = layers[name].blobs
            if len(stored) != len(blobs):
                raise ValueError(f"{where}: expected {len(blobs)} blobs, got {len(stored)}")
            for number, (blob, source) in enumerate(zip(blobs, stored, strict=True)):
                blob.copy_(torch.from_numpy(blob_array(source, blob.shape, f"{where}: blob {number}")))


class Upsampling(nn.Module):
    """Enlarges one channel bilinearly, as Caffe's Deconvolution and Crop do: beyond its pixels there are zeros.

    Args:
        stride: how many times; even.
    """

    weight: Tensor  # [1, 1, 2 * stride, 2 * stride]

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride
        ramp = 1 - (torch.arange(2 * stride, dtype=torch.float64) - (2 * stride - 1) / 2).abs() / stride
        self.register_buffer("weight", (ramp[:, None] * ramp)[None, None].to(torch.get_default_dtype()))

    def forward(
        self,
        x: Tensor,  # [N, 1, h, w]
        size: Sequence[int],  # at most h and w times the stride
    ) -> Tensor:
        """X at a larger size; what lies beyond on the right and below is cut off."""
        height, width = size
        return F.conv_transpose2d(x, self.weight, stride=self.stride, padding=self.stride // 2)[..., :height, :width]


def red_seg(
    lesions: Mapping[str, Sequence[int]] | None = None,
    pretrained: Mapping[str, Tensor] | Path | None = None,
    in_channels: int = 3,
    out_channels: int | None = None,
    classes: Sequence[str] | None = None,
) -> RedSeg:
    """Red-Seg with a branch for each of some classes.

    Args:
        lesions: levels of classes, for those of ``classes`` that are to have others than the default: the paper's for
            MA (2, 3, 4) and HE (3, 4, 5), and (3, 4, 5) for every other class. Without ``classes``, all branches.
        pretrained: as of :class:`RedSeg`.
        in_channels: of the image.
        out_channels: how many branches there have to be, if it is given.
        classes: names of the classes, in the order of the logits' channels.

    Raises:
        ValueError: as of :class:`RedSeg`; ``lesions`` has a class that ``classes`` has not; there are more or fewer
            branches than ``out_channels``.
    """
    if classes is not None:
        if isinstance(classes, str):
            raise TypeError(f"classes: expected a sequence of names, got {classes!r}")
        if len(set(classes)) < len(classes):
            raise ValueError(f"classes: expected different names, got {', '.join(classes)}")
        own = {} if lesions is None else _check_lesions(lesions)
        chosen = dict.fromkeys(classes, (3, 4, 5)) | LESIONS | own
        unknown = [name for name in own if name not in classes]
        if unknown:
            raise ValueError(f"lesions: expected levels of classes {', '.join(classes)}, got {unknown[0]!r}")
        lesions = {name: chosen[name] for name in classes}
    branches = LESIONS if lesions is None else lesions
    if out_channels is not None and out_channels != len(branches):
        names = ", ".join(map(str, branches))
        raise ValueError(f"out_channels: expected {len(branches)}, one a lesion ({names}), got {out_channels}")
    return RedSeg(branches, pretrained, in_channels)


def _check_lesions(lesions: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
    if not isinstance(lesions, Mapping):
        raise TypeError(f"lesions: expected a mapping of names to levels, got {type(lesions).__name__}")
    if not lesions:
        raise ValueError("lesions: expected at least one, got none")
    found: dict[str, tuple[int, ...]] = {}
    seen: dict[str, str] = {}
    for name, levels in lesions.items():
        # The names of modules are made of them.
        if not isinstance(name, str) or not name or "." in name:
            raise ValueError(f"lesions: expected names without dots, got {name!r}")
        if name.lower() in seen:
            raise ValueError(
                f"lesions: expected names that differ in more than case, got {seen[name.lower()]!r}, {name!r}"
            )
        seen[name.lower()] = name
        expected = f"lesions: expected a list of different levels from 1 to 5 for {name!r}"
        if isinstance(levels, str) or not isinstance(levels, Sequence):
            raise TypeError(f"{expected}, got {levels!r}")
        if not levels or len(set(levels)) < len(levels) or not all(_is_level(level) for level in levels):
            raise ValueError(f"{expected}, got {list(levels)}")
        found[name] = tuple(levels)
    return found


def _is_level(level: Any) -> bool:
    return isinstance(level, int) and not isinstance(level, bool) and 1 <= level <= len(_WIDTHS)


def _copy(parameter: Tensor, state: Mapping[str, Any], key: str, where: str, of_what: str) -> None:
    if key not in state:
        raise ValueError(f"{where}: expected {key} of {of_what}, got {_some(state)}")
    source = state[key]
    got = tuple(source.shape) if isinstance(source, Tensor) else type(source).__name__
    if got != tuple(parameter.shape):
        raise ValueError(f"{where}: expected {key} of shape {tuple(parameter.shape)}, got {got}")
    parameter.copy_(source)


def _read_state(path: Path) -> Mapping[str, Tensor]:
    expected = f"pretrained {os.fspath(path)}: expected a state_dict of torchvision's vgg16"
    load: Callable[..., Any] = torch.load
    try:
        state = load(path, map_location="cpu", weights_only=True)
    except (EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{expected}: {str(error)[:300]}") from error
    if not isinstance(state, Mapping):
        raise ValueError(f"{expected}, got {type(state).__name__}")
    return state


def _some(names: Mapping[str, Any]) -> str:
    shown = [str(name) for name in names][:5]
    return ", ".join([*shown, "..."] if len(names) > len(shown) else shown) or "nothing"
