"""Models by name, and what all of them have in common."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.networks.nets.dynunet import DynUNet
from torch import Tensor, nn

from .._specs import Spec, SpecLike, call, find, parse
from .red_seg import red_seg
from .segment_net import SegmentNet
from .small_unet import SmallUNet
from .unets import DeepDynUNet, attention_unet, bare, basic_unet, dynunet, segresnet, unet

MODELS: dict[str, Callable[..., nn.Module]] = {
    "red_seg": red_seg,
    "segment_net": SegmentNet,
    "small_unet": SmallUNet,
    "unet": unet,
    "basic_unet": basic_unet,
    "dynunet": dynunet,
    "attention_unet": attention_unet,
    "segresnet": segresnet,
}
"""What :func:`make` knows by a short name."""

# What other packages call the numbers of channels.
_IN_CHANNELS = ("in_channels", "in_chans", "n_channels")
_OUT_CHANNELS = ("out_channels", "out_chans", "num_classes", "n_classes", "classes")
_Convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def make(
    spec: SpecLike | Spec,
    *,
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    classes: Sequence[str] | None = None,
) -> nn.Module:
    """Makes a model of its name and options.

    A model gets of the arguments below those that it takes and that its options do not say otherwise. Classes from
    other packages get the number of channels also as ``in_chans``, ``n_channels``, ``num_classes``, ``n_classes`` and,
    where that is a number there, ``classes``. MONAI's ``DynUNet`` comes as a :class:`DeepDynUNet`.

    Args:
        spec: a name of :data:`rarepixel.models.MODELS` or the import path of a class or function, with options:
            ``"segment_net:width=0.25"``, ``{"red_seg": {"lesions": {"MA": [2, 3, 4, 5]}}}``,
            ``"monai.networks.nets.BasicUNet"``.
        in_channels: of the image.
        out_channels: of the logits.
        spatial_dims: of the image.
        classes: their names, in the order of the logits; Red-Seg makes a branch of each.

    Returns:
        The model, in training.

    Raises:
        ValueError: no such name, an option that the model does not take or refuses, or more dimensions than it has.
        TypeError: what the path names makes no Module.
        ImportError: an import path that leads nowhere.

    Example:
        >>> from rarepixel import models
        >>> model = models.make("small_unet:widths=[4, 8]", in_channels=3, out_channels=2)
        >>> model(torch.zeros(1, 3, 8, 8)).shape
        torch.Size([1, 2, 8, 8])
    """
    named = parse("model", spec)
    made = find("model", named, MODELS)
    takes = inspect.signature(made).parameters
    given: dict[str, Any] = {"spatial_dims": spatial_dims, "classes": classes}
    if named.name in MODELS:
        if "spatial_dims" not in takes and spatial_dims != 2:
            raise ValueError(f"model {named.name}: expected spatial_dims=2, got {spatial_dims}")
        given |= {"in_channels": in_channels, "out_channels": out_channels}
    else:
        given |= dict.fromkeys(_IN_CHANNELS, in_channels)
        given |= {name: out_channels for name in _OUT_CHANNELS if name != "classes" or _is_number(takes.get(name))}
    model = call("model", named, made, **given)
    if not isinstance(model, nn.Module):
        raise TypeError(f"model {named.name}: expected a torch.nn.Module, got {type(model).__name__}")
    return DeepDynUNet(model) if isinstance(model, DynUNet) else model


def logits_of(model: nn.Module, outputs: Any) -> Tensor:
    r"""The logits of what a model returned.

    Args:
        model: the model; it may be in a wrapper such as DistributedDataParallel.
        outputs: what it returned: if it has a method ``logits``, what that takes; else a tensor, or a list or tuple of
            tensors, whose first is taken.

    Returns:
        (N, C, \*spatial).

    Raises:
        TypeError: something else.
    """
    logits = getattr(bare(model), "logits", None)
    if callable(logits):
        found = logits(outputs)
    elif isinstance(outputs, (list, tuple)) and outputs:
        found = outputs[0]
    else:
        found = outputs
    if not isinstance(found, Tensor):
        name = type(bare(model)).__name__
        raise TypeError(
            f"outputs: expected a tensor or a list of tensors of {name}, or that it has a method logits(outputs) that "
            f"makes a tensor of them, got {type(found).__name__}"
        )
    return found


@torch.no_grad()
def start_at_prior(model: nn.Module, prevalence: float | Sequence[float] | Tensor, *, softmax: bool = False) -> None:
    r"""Sets the last biases of a model so that its probabilities start near the share of each class.

    Lin et al., "Focal loss for dense object detection", ICCV 2017, section 4.1. Otherwise every pixel starts near one
    half (or one over the classes), and the first steps only teach that nearly all pixels are background.

    .. math::
        b_c = \log \frac{p_c}{1 - p_c}, \qquad \text{before a softmax } b_c = \log p_c .

    The weights stay as they are: outputs scatter around this start.

    Args:
        model: one of :data:`rarepixel.models.MODELS`, or another. It has a method ``start_at(biases)``, or an attribute
            ``heads``, the convolutions that make its outputs; else its last convolution that has a bias and as many
            channels as there are classes is taken, in the order in which it was made.
        prevalence: the share of the pixels of each class, between 0 and 1; a number: of the one class.
        softmax: the channels are classes of a softmax, of which the shares, that of the background too, sum to 1.

    Raises:
        ValueError: a share that is not between 0 and 1, shares of a softmax that do not sum to 1, or not as many as the
            model has outputs; no such convolution.
    """
    shares = torch.as_tensor(prevalence, dtype=torch.float64, device="cpu").reshape(-1)
    if not shares.numel() or not bool(((shares > 0) & (shares < 1)).all()):
        raise ValueError(f"prevalence: expected shares above 0 and below 1, got {prevalence}")
    if softmax and not math.isclose(shares.sum().item(), 1, abs_tol=1e-6):
        raise ValueError(f"prevalence: expected shares of a softmax that sum to 1, got {prevalence}")
    biases = shares.log() if softmax else shares.logit()
    model = bare(model)
    start_at = getattr(model, "start_at", None)
    if callable(start_at):
        start_at(biases)
        return
    for head in _heads(model, len(biases)):
        head.get_parameter("bias").copy_(biases)


def _heads(model: nn.Module, channels: int) -> list[nn.Module]:
    """The convolutions that make the outputs."""
    name = type(model).__name__
    heads = getattr(model, "heads", None)
    if heads is None:
        made = [layer for layer in model.modules() if isinstance(layer, _Convolution)]
        heads = [layer for layer in made if layer.out_channels == channels and layer.bias is not None][-1:]
        if not heads:
            raise ValueError(
                f"model: expected a convolution with a bias and {channels} outputs, one for each number of prevalence, "
                f"or an attribute heads, got {name}, which has none"
            )
    for head in heads:
        if head.out_channels != channels:
            raise ValueError(f"prevalence: expected {head.out_channels} numbers for {name}, got {channels}")
    return [*heads]


def _is_number(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and (isinstance(parameter.default, int) or parameter.annotation in (int, "int"))
