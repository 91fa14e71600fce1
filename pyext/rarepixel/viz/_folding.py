"""Batch normalisation with stored statistics as a part of the convolution before it: a pass over the pixels less."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class _Pair:
    """A convolution and the normalisation of what it gives, by their names."""

    convolution: str
    normalisation: str
    mean: Tensor
    inverse: Tensor  # of the standard deviation


class Folded:
    r"""A copy of a network whose convolutions do the work of the normalisations behind them.

    With stored statistics :math:`\gamma (W x + b - \mu) / \sigma + \beta` is a convolution, too, by
    :math:`W \gamma / \sigma` with the bias :math:`(b - \mu) \gamma / \sigma + \beta`.

    Args:
        model: in evaluation mode; the pairs in its ``nn.Sequential`` are folded, others stay.
        pairs: False folds none: a network may call the layers of an ``nn.Sequential`` one by one and use what is
            between them.

    Attributes:
        model: the copy.
    """

    def __init__(self, model: nn.Module, *, pairs: bool = True) -> None:
        self.model = copy.deepcopy(model)
        self._pairs: list[_Pair] = []
        self._values: dict[str, Tensor] = {}  # of pairs, where they do not move
        uses = Counter(id(one) for _, one in self.model.named_modules(remove_duplicate=False))
        for name, module in list(self.model.named_modules()):
            if not pairs or type(module) is not nn.Sequential:
                continue
            # All of them: a module that is there twice is but once among named_children.
            for (first, before), (second, after) in itertools.pairwise(module._modules.items()):
                assert before is not None
                assert after is not None
                alone = uses[id(before)] == uses[id(after)] == 1
                if alone and _is_pair(before, after):
                    prefix = f"{name}." if name else ""
                    self._fold(module, prefix + first, before, prefix + second, after, second)

    def _fold(
        self, parent: nn.Module, first: str, convolution: nn.Module, second: str, normalisation: nn.Module, child: str
    ) -> None:
        assert isinstance(normalisation, _NORMALISATIONS)
        assert normalisation.running_var is not None
        assert normalisation.running_mean is not None
        inverse = (normalisation.running_var.double() + normalisation.eps).rsqrt()
        self._pairs.append(_Pair(first, second, normalisation.running_mean.double(), inverse))
        for name, module in ((first, convolution), (second, normalisation)):
            self._values |= {f"{name}.{key}": value.detach() for key, value in module.named_parameters()}
        parent._modules[child] = nn.Identity()
        if convolution.bias is None:
            convolution.bias = nn.Parameter(torch.zeros_like(normalisation.running_mean))

    def weights(self, moved: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the copy's parameters are, where those of the network itself are ``moved``."""
        found = dict(moved)
        for pair in self._pairs:
            weight, bias = (self._popped(found, pair.convolution, key) for key in ("weight", "bias"))
            gamma, beta = (self._popped(found, pair.normalisation, key) for key in ("weight", "bias"))
            assert weight is not None
            scale = pair.inverse if gamma is None else pair.inverse * gamma
            shift = -pair.mean * scale if bias is None else (bias - pair.mean) * scale
            shift = shift if beta is None else shift + beta
            found[f"{pair.convolution}.weight"] = weight * scale.to(weight.dtype).reshape(
                -1, *(1,) * (weight.dim() - 1)
            )
            found[f"{pair.convolution}.bias"] = shift.to(weight.dtype)
        return found

    def _popped(self, moved: dict[str, Tensor], module: str, key: str) -> Tensor | None:
        name = f"{module}.{key}"
        return moved.pop(name, self._values.get(name))


def _is_pair(before: nn.Module, after: nn.Module) -> bool:
    has_hooks = any(one._forward_hooks or one._forward_pre_hooks for one in (before, after))
    return (
        type(before) in _CONVOLUTIONS
        and type(after) in _NORMALISATIONS
        and after.running_mean is not None
        and not has_hooks
    )
