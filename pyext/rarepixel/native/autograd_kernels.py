"""What the dispatcher runs of an operator before its kernels: derivatives of both modes, and the samples of vmap.

As torch.library.register_autograd, which knows neither forward mode nor the transforms of torch.func. Being part of the
operator, it serves compiled code, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.forward_ad import _set_fwd_grad_enabled
from torch.autograd.function import _SingleLevelFunction

from .._transforms import is_transformed, refuse_derivative, tangent_of

Values = tuple[Any, ...]


def register_derivatives(
    operator: Any,
    setup_context: Callable[[Any, Values, tuple[Tensor, ...]], None],
    backward: Callable[..., Values],
    tangent: Callable[[Tensor, Values, tuple[Tensor, ...]], Tensor],
) -> None:
    """Makes an operator differentiable by its first argument.

    Args:
        operator: returns a tensor, or several, of which the first has derivatives.
        setup_context: keeps what backward needs, as in torch.library.register_autograd.
        backward: from a context and upstream gradients to a gradient for each argument.
        tangent: from the first argument's tangent, the arguments and the results to the first result's tangent.
    """
    names = [argument.name for argument in operator._schema.arguments]
    is_single = len(operator._schema.returns) == 1

    def several(results: Any) -> tuple[Tensor, ...]:
        return (results,) if is_single else tuple(results)

    # Of one level: an operator meets each transform that it is under by itself.
    class Formula(_SingleLevelFunction):
        @staticmethod
        def forward(ctx: Any, first: Tensor, keyset: Any, arguments: Values) -> tuple[Tensor, ...]:
            results = several(_inside_function(operator, keyset, first, *arguments[1:]))
            # With the tangent, if there is one: the gradient would have one, too.
            setup_context(ctx, arguments, results)
            return results

        @staticmethod
        def backward(ctx: Any, *upstream: Any) -> Values:
            return backward(ctx, *upstream)[0], None, None

    def differentiate(keyset: Any, *arguments: Any) -> Any:
        first, *others = arguments
        change = tangent_of(first)
        with_gradient = torch.is_grad_enabled()
        for name, other in zip(names[1:], others, strict=True):
            if _is_differentiable(other) and ((with_gradient and other.requires_grad) or tangent_of(other) is not None):
                refuse_derivative(name)
        if change is not None:
            first = forward_ad.unpack_dual(first, level=0).primal
        if with_gradient and first.requires_grad:
            with enable_single_level_autograd_function():
                results = Formula.apply(first, keyset, arguments)  # type: ignore[attr-defined]
        else:
            results = several(_below_autograd(operator, keyset, first, *others))
        if change is not None:
            changed = tangent(change, (first, *others), results)
            results = (forward_ad.make_dual(results[0], changed, level=0), *results[1:])
        return results[0] if is_single else tuple(results)

    _register(operator, differentiate)


def refuse_derivatives(operator: Any, refuse: Callable[[], None]) -> None:
    """Makes an operator of one result that cannot be differentiated; in reverse that is said where it is tried."""

    class Refusal(_SingleLevelFunction):
        @staticmethod
        def forward(ctx: Any, keyset: Any, *arguments: Any) -> Tensor:  # noqa: ARG004
            result: Tensor = _inside_function(operator, keyset, *arguments)
            return result

        @staticmethod
        def backward(ctx: Any, *upstream: Any) -> None:  # noqa: ARG004
            refuse()

    def differentiate(keyset: Any, *arguments: Any) -> Tensor:
        # Every loss.backward() comes here, where only code that is being compiled has tangents unseen.
        if (is_transformed() or type(arguments[0]) is not Tensor) and any(
            tangent_of(tensor) is not None for tensor in filter(_is_differentiable, arguments)
        ):
            refuse()
        if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in filter(_is_differentiable, arguments)):
            with enable_single_level_autograd_function():
                result: Tensor = Refusal.apply(keyset, *arguments)  # type: ignore[attr-defined]
        else:
            result = _below_autograd(operator, keyset, *arguments)
        return result

    _register(operator, differentiate)


def _is_differentiable(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.is_floating_point()


def _below_autograd(operator: Any, keyset: Any, *arguments: Any) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return operator.redispatch(keyset & torch._C._after_autograd_keyset, *arguments)


def _inside_function(operator: Any, keyset: Any, *arguments: Any) -> Any:
    # A Function switches derivatives off; but those of transforms further out are theirs.
    with torch.enable_grad(), _set_fwd_grad_enabled(True):
        return _below_autograd(operator, keyset, *arguments)


def _register(operator: Any, differentiate: Callable[..., Any]) -> None:
    _LIBRARY.impl(operator, differentiate, "Autograd", with_keyset=True)
    register_samples(operator)


def register_samples(operator: Any) -> None:
    """Lets an operator run on one sample of vmap after the other."""

    def one_by_one(info: Any, dimensions: Values, *arguments: Any) -> tuple[Any, Any]:
        def run(sample: int) -> Any:
            return operator(
                *(
                    argument.select(dimension, sample) if isinstance(dimension, int) else argument
                    for argument, dimension in zip(arguments, dimensions, strict=True)
                )
            )

        if info.batch_size == 0:
            raise ValueError("vmap: expected at least one sample, got none")
        results = [run(sample) for sample in range(info.batch_size)]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])

    torch.library.register_vmap(operator, one_by_one, lib=_LIBRARY)


_LIBRARY = torch.library.Library("rarepixel", "FRAGMENT")
