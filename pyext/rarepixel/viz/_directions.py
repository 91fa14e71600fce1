"""Directions in the space of a network's weights, in which its loss is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]
Values = npt.NDArray[np.float64]
Checkpoint = tuple[str, Mapping[str, Tensor]]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def trained_weights(model: nn.Module) -> Weights:
    """The parameters that are trained, detached.

    Raises:
        ValueError: there are none, all are frozen, or one has a NaN.
    """
    named = dict(model.named_parameters())
    if not named:
        raise ValueError(f"model: expected one with parameters, got {type(model).__name__} without any")
    found = {name: value.detach() for name, value in named.items() if value.requires_grad}
    if not found:
        raise ValueError(
            f"model: expected parameters that are trained, got {len(named)} that are all frozen; "
            "model.requires_grad_(True) frees them"
        )
    check_finite("model", found)
    return found


def check_finite(what: str, weights: Mapping[str, Tensor]) -> None:
    """Refuses weights with NaN or infinity, by name."""
    for name, value in weights.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            bad = int((~value.isfinite()).sum())
            raise ValueError(
                f"{what}: expected finite weights, got {bad} of {value.numel()} in {name} that are NaN or infinite; "
                "choose a checkpoint from before the training broke"
            )


def checked_checkpoints(what: str, checkpoints: Sequence[Checkpoint], model: nn.Module) -> list[Checkpoint]:
    """Checkpoints of the model, without NaN; ``what`` is the argument that they are."""
    own = dict(model.named_parameters())
    for number, one in enumerate(checkpoints):
        if not isinstance(one, tuple) or len(one) != 2 or not isinstance(one[1], Mapping):
            raise TypeError(f"{what}: expected checkpoints (name, state dict), got {type(one).__name__} at {number}")
        name, state = one
        for parameter, value in own.items():
            if parameter not in state or state[parameter].shape != value.shape:
                got = f"{tuple(state[parameter].shape)}" if parameter in state else "none"
                raise ValueError(
                    f"{what}: expected checkpoints of {type(model).__name__}, with {parameter} of shape "
                    f"{tuple(value.shape)}, got {got} in {name}"
                )
        check_finite(f"{what}: {name}", {parameter: state[parameter] for parameter in own})
    return [(str(name), state) for name, state in checkpoints]


def random_direction(model: nn.Module, weights: Weights, generator: torch.Generator) -> Weights:
    r"""A filter-normalised random direction.

    Li, Xu, Taylor, Studer and Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018, section 4:

    .. math:: d_{i,j} \leftarrow \frac{d_{i,j}}{\lVert d_{i,j} \rVert} \lVert \theta_{i,j} \rVert

    for filter j of layer i, with Gaussian d. A filter is what makes one output channel; of a transposed convolution,
    too, whose weights have these along their second axis. Biases, and weights and biases of normalisation layers, do
    not move, as in the authors' programs.

    Args:
        model: whose layers they are.
        weights: those that move, the centre.
        generator: of random numbers, on the CPU.
    """
    transposed = {f"{name}.weight": module for name, module in model.named_modules() if isinstance(module, _TRANSPOSED)}
    direction = {}
    for name, value in weights.items():
        if value.dim() <= 1:
            direction[name] = torch.zeros_like(value)
            continue
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        groups = transposed[name].groups if name in transposed else 0
        direction[name] = _like_filters(drawn, value.detach().cpu().double(), groups).to(value)
    return direction


def _like_filters(drawn: Tensor, value: Tensor, groups: int) -> Tensor:
    """Each filter of ``drawn`` as long as that of ``value``; ``groups`` of a transposed convolution, else 0."""
    # (groups, channels in, channels out, *kernel), where a transposed convolution has its filters along axis 2.
    split = (groups, -1) if groups else (1, 1, value.shape[0])
    size, axis = value.shape, 2
    drawn, value = (one.reshape(*split, *one.shape[1:]) for one in (drawn, value))
    axes = [one for one in range(value.dim()) if one not in (0, axis)]
    lengths: Tensor = value.square().sum(axes, keepdim=True).sqrt() / drawn.square().sum(axes, keepdim=True).sqrt()
    return (drawn * lengths).reshape(size)


@dataclass(frozen=True)
class Plane:
    """The plane, or line, through the last checkpoint of a training along its principal components.

    Attributes:
        directions: of length 1.
        places: of each checkpoint, (checkpoints, directions).
        distances: from each checkpoint to the plane.
        variance: the share of the variance of the checkpoints that each direction holds.
    """

    directions: list[Weights]
    places: Values
    distances: Values
    variance: Values


def principal_plane(trajectory: Sequence[Weights], dims: int) -> Plane:
    r"""The first principal components of a training's weights.

    As in section 7.2 of Li et al. (2018): of the differences of all checkpoints to the last one. With
    :math:`M` the differences less their mean, the components are eigenvectors of :math:`M^T M`, found through the small
    matrix :math:`M M^T`, in double.

    Args:
        trajectory: weights of each checkpoint, in their order.
        dims: 1 or 2.

    Raises:
        ValueError: fewer checkpoints than ``dims + 1`` that differ.
    """
    last, count = trajectory[-1], len(trajectory)
    if count < dims + 1:
        raise ValueError(
            f"directions: expected at least {dims + 1} checkpoints for {_counted(dims)}, got {count}; a training keeps "
            "them with snapshots in its recipe, and two of them make a line (dims=1)"
        )

    def differences(name: str) -> Tensor:
        rows = [(one[name].double() - last[name].double()).flatten() for one in trajectory]
        return torch.stack(rows)

    products = sum(torch.einsum("ip,jp->ij", part, part) for part in map(differences, last))
    assert isinstance(products, Tensor)
    centring = torch.eye(count, dtype=torch.float64) - 1 / count
    products = products.cpu()
    spread, vectors = torch.linalg.eigh(centring @ products @ centring)
    spread, vectors = spread.flip(0).clamp(min=0), vectors.flip(1)
    whole = float(spread.sum())
    if float(spread[dims - 1]) <= 1e-12 * max(whole, float(products.diagonal().max())) or whole == 0:
        kept = int((spread > 1e-12 * whole).sum()) if whole > 0 else 0
        raise ValueError(
            f"directions: expected checkpoints that span {_counted(dims)}, got {count} that span {kept} "
            f"dimension{'s' * (kept != 1)}"
        )
    # Of unit length: the direction is the checkpoints' combination with these coefficients.
    coefficients = centring @ vectors[:, :dims] / spread[:dims].sqrt()
    directions = []
    for column in coefficients.unbind(dim=1):
        found = {name: column.to(value.device) @ differences(name) for name, value in last.items()}
        directions.append({name: value.reshape(last[name].shape).to(last[name]) for name, value in found.items()})
    places = products @ coefficients
    distances = (products.diagonal() - places.square().sum(dim=1)).clamp(min=0).sqrt()
    # Signs of eigenvectors are anybody's: the training begins at the left, and below.
    signs = torch.where(places[0] > 0, -1.0, 1.0)
    directions = [
        {name: float(sign) * value for name, value in one.items()} for one, sign in zip(directions, signs, strict=True)
    ]
    return Plane(directions, (places * signs).numpy(), distances.numpy(), (spread[:dims] / whole).numpy())


def _counted(dims: int) -> str:
    return "a plane" if dims == 2 else "a line"
