"""A loss's compiled operators on the Python side: fake kernels, the check for invalid pixels, autograd. Written once.

A loss ``name`` has the operators ``name``, which autograd sees; ``name_cpu``, its C++ kernel on the CPU, which also
returns how many pixels are invalid, by their labels or otherwise; ``name_backward``; and for some ``name_settle``
(csrc/operators.h). Everything that autograd has to hand from forward to backward is found by its name in their schemas.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from operator import itemgetter
from typing import Any, cast

import torch
import torch.compiler.config
from torch import Tensor

from .._invalid_labels import pixels_that_count, raise_invalid_labels
from .._options import raise_invalid_weights
from .._transforms import is_recorded, is_transformed
from .._validation import BALANCES, REDUCTIONS, Inputs
from ..stats import COUNTS
from .autograd_kernels import refuse_derivatives, register_derivatives
from .one_versus_rest import one_versus_rest

Values = tuple[Any, ...]


def encode_inputs(inputs: Inputs) -> tuple[Tensor, Tensor, Tensor | None, int | None, int, int, Tensor | None]:
    """Inputs as the operators' first arguments."""
    if inputs.one_versus_rest:
        inputs = one_versus_rest(inputs)
    return (
        inputs.logits,
        inputs.target,
        inputs.mask,
        inputs.ignore_index,
        BALANCES.index(inputs.balance),
        REDUCTIONS.index(inputs.reduction),
        inputs.weight,
    )


def _decode_inputs(arguments: Values) -> Inputs:
    logits, target, mask, ignore_index, balance, reduction, weight = arguments[:7]
    return Inputs(logits, target, mask, ignore_index, BALANCES[balance], REDUCTIONS[reduction], weight=weight)


def _tell_caches(name: str, tables: str) -> None:
    """Makes what the compiler keeps on disk depend on the tables' layout, which is built into it but not seen."""
    torch.compiler.config.cache_key_tag += f" rarepixel.{name}={zlib.crc32(tables.encode()):08x}"


class TableLayout:
    """What the columns of a table of regions are, as the library tells it."""

    def __init__(self, text: str) -> None:
        places = {name: int(place) for name, place in (part.split("=") for part in text.split())}
        self.width = places.pop("columns")
        self.number_of_sums = places["invalid"]  # the column behind the sums
        self.places = places


class Columns:
    """A table's columns by their names, each in the shape of the regions."""

    def __init__(self, layout: TableLayout, rows: Tensor) -> None:
        self._places = layout.places
        self._rows = rows  # [*regions, width]

    def __getitem__(self, name: str) -> Tensor:
        return self._rows[..., self._places[name]]


class RegionOperator:
    """The operators of one loss; calling it runs them with autograd. A loss that needs more overrides a method.

    The first arguments of ``name`` are always (logits, target, mask, ignore_index, balance, reduction, weight), its
    first results (loss, table of regions).

    Args:
        name: the operator's name.
        stats: what a call with ``return_stats=True`` reports, a NamedTuple of :mod:`rarepixel.stats`.
    """

    # Whether the channels of an image, or of the batch, share one value; each has a row of the table all the same.
    pools_channels = False

    def __init__(self, name: str, stats: Any) -> None:
        self.name = name
        self._stats_type = stats
        self._operator = self._find(name)
        self._on_cpu = self._find(f"{name}_cpu")
        self._backward = self._find(f"{name}_backward")
        tables = self._find(f"{name}_table")()
        _tell_caches(name, tables)
        self.layouts = [TableLayout(line) for line in tables.splitlines()]
        by_width = {layout.width: layout.places for layout in self.layouts}
        assert all(layout.places == by_width[layout.width] for layout in self.layouts), self.layouts
        self._hand_over()
        self._register()

    def compute(self, arguments: Any, return_stats: bool) -> tuple[Tensor, Any]:
        """Loss and, if wanted, statistics of the checked arguments of a call, which begin with its inputs."""
        if arguments.inputs.one_versus_rest:
            arguments = arguments._replace(inputs=one_versus_rest(arguments.inputs))
        if arguments.inputs.absent == "skip":
            return self._compute_of_present(arguments, return_stats)
        loss, table, *further = self.run(arguments)
        return loss, self.stats(arguments, loss, table, *further) if return_stats else None

    def _compute_of_present(self, arguments: Any, return_stats: bool) -> tuple[Tensor, Any]:
        """The same where regions without positives are left out: what is one value a region is reduced here."""
        inputs = arguments.inputs
        if inputs.reduction == "mean":
            arguments = arguments._replace(inputs=inputs._replace(reduction="none"))
        loss, table, *further = self.run(arguments)
        stats = self.stats(arguments, loss, table, *further) if return_stats else None
        if inputs.reduction == "mean":
            present = self.present_regions(arguments, table)
            loss = torch.where(present, loss, 0).sum() / present.sum().clamp(min=1)
        return loss, stats

    # ---- What a loss may override -----------------------------------------------------------------------------------

    def encode(self, arguments: Any) -> Values:
        """Checked arguments as the operator takes them."""
        return (*encode_inputs(arguments.inputs), *arguments[1:])

    def run(self, arguments: Any) -> tuple[Tensor, ...]:
        """The operator's results for checked arguments."""
        return self(*self.encode(arguments))

    def stats(self, arguments: Any, loss: Tensor, table: Tensor, *further: Tensor) -> Any:  # noqa: ARG002
        """The statistics of a call: columns of the table, found by the names of the fields."""
        columns = self.columns(arguments.inputs, table)
        weighted = arguments.inputs.weight is not None  # pixels are no whole numbers then
        return self._stats_type(
            *(
                columns[name].long() if name in COUNTS and not weighted else columns[name].to(loss.dtype)
                for name in self._stats_type._fields
            )
        )

    def present_regions(self, arguments: Any, table: Tensor) -> Tensor:
        """Which regions have positives, or of pooled channels some."""
        positives = self.columns(arguments.inputs, table)["positives"]
        return (positives.sum(dim=-1) if self.pools_channels else positives) > 0

    def layout(self, arguments: Values) -> TableLayout:  # noqa: ARG002
        """That of a call's table; of which there are several if the loss's declaration has losses of several kinds."""
        return self.layouts[0]

    def fake_further(self, arguments: Values) -> tuple[Tensor, ...]:  # noqa: ARG002
        """What results there are beyond loss and table, without data."""
        return ()

    def raise_invalid(self, count: int, inputs: Inputs, arguments: Values) -> None:  # noqa: ARG002
        """Raises for that many invalid pixels."""
        raise_invalid_labels(count, inputs)

    # ---- Running ----------------------------------------------------------------------------------------------------

    def __call__(self, *arguments: Any) -> tuple[Tensor, ...]:
        results: tuple[Tensor, ...]
        if torch.compiler.is_compiling() or is_transformed() or is_recorded():
            results = self._operator(*arguments)
        elif arguments[0].requires_grad:
            results = self._eager.apply(*arguments)
        else:
            results = self._run(*arguments)
        return results

    def make_table(self, arguments: Values) -> Tensor:
        """The table of a call, outside of autograd; nothing is raised for invalid labels, which it counts."""
        with torch.no_grad():
            on_cpu = arguments[0].device.type == "cpu"
            table: Tensor = (self._on_cpu if on_cpu else self._operator)(*arguments)[1]
        return table

    def settle(self, sums: Tensor, arguments: Values) -> tuple[Tensor, Tensor]:
        """Loss and table of a call whose sums were added up elsewhere."""
        assert self._settle is not None, f"{self.name} does not settle apart"
        results: tuple[Tensor, Tensor] = self._settle(arguments[0], sums, *self._settle_arguments(arguments))
        return results

    def map_back(self, upstream: Tensor, arguments: Values, results: Values) -> Tensor:
        """The gradient of the logits, by the gradient of the loss."""
        gradient: Tensor = self._backward(upstream, *self._order(self._split((*arguments, *results))))
        return gradient

    def columns(self, inputs: Inputs, table: Tensor) -> Columns:
        """A call's table by names, in the shape of the regions, (N, C), (N,) or (); of pooled channels (N, C), (C,)."""
        # Tables of one width are alike: __init__ has looked.
        layout = next(layout for layout in self.layouts if layout.width == table.shape[-1])
        shape = self._region_shape(inputs.logits, BALANCES.index(inputs.balance))
        return Columns(layout, table.view(*shape, layout.width))

    # ---- Shapes -----------------------------------------------------------------------------------------------------

    def _value_shape(self, logits: Tensor, balance: int) -> tuple[int, ...]:
        """The shape of one value per region: (N, C), (N,) or ()."""
        if self.pools_channels:
            balance = max(balance, BALANCES.index("image"))
        return tuple(logits.shape[: 2 - balance])

    def _region_shape(self, logits: Tensor, balance: int) -> tuple[int, ...]:
        shape = self._value_shape(logits, balance)
        return (*shape, logits.shape[1]) if self.pools_channels else shape

    def number_of_rows(self, logits: Tensor, balance: int) -> int:
        """How many regions there are; a symbolic number while tracing."""
        count = 1
        for size in self._region_shape(logits, balance):
            count = count * size
        return count

    def _fake_loss_and_table(
        self, logits: Tensor, balance: int, reduction: int, arguments: Values
    ) -> tuple[Tensor, Tensor]:
        shape = self._value_shape(logits, balance) if reduction == REDUCTIONS.index("none") else ()
        loss = logits.new_empty(shape, dtype=torch.float64 if logits.dtype == torch.float64 else torch.float32)
        size = (self.number_of_rows(logits, balance), self.layout(arguments).width)
        return loss, logits.new_empty(size, dtype=torch.float64)

    # ---- From forward to backward -----------------------------------------------------------------------------------

    @staticmethod
    def _find(name: str) -> Any:
        return getattr(torch.ops.rarepixel, name).default

    def _hand_over(self) -> None:
        """Finds, by name, what backward and settle take of forward's arguments and results."""
        forward = self._operator._schema
        names = [value.name for value in (*forward.arguments, *forward.returns)]
        assert len(set(names)) == len(names), names
        taken = [argument for argument in self._backward._schema.arguments if argument.name != "upstream"]
        tensors = [a.name for a in taken if "Tensor" in str(a.type)]
        others = [a.name for a in taken if "Tensor" not in str(a.type)]
        # Tensors go one way to backward, all else another; there they come back into the order of the schema.
        self._tensors_of = itemgetter(*map(names.index, tensors))
        self._others_of = itemgetter(*map(names.index, others))
        self._order = itemgetter(*((*tensors, *others).index(a.name) for a in taken))
        self._settle = None
        if hasattr(torch.ops.rarepixel, f"{self.name}_settle"):
            self._settle = self._find(f"{self.name}_settle")
            settled = [argument.name for argument in self._settle._schema.arguments]
            self._settle_arguments = itemgetter(*(names.index(name) for name in settled[2:]))

    def _split(self, values: Values) -> Values:
        return (*self._tensors_of(values), *self._others_of(values))

    def _setup_context(self, ctx: Any, inputs: Values, output: tuple[Tensor, ...]) -> None:
        values = (*inputs, *output)
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.number_of_inputs = len(inputs)
        ctx.others = self._others_of(values)
        ctx.save_for_backward(*self._tensors_of(values))

    def _run_backward(self, ctx: Any, upstream: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        gradient = None
        if upstream is not None:
            gradient = self._backward(upstream, *self._order((*ctx.saved_tensors, *ctx.others)))
        return (gradient, *(None,) * (ctx.number_of_inputs - 1))

    def _run_forward_mode(self, tangent: Tensor, arguments: Values, results: tuple[Tensor, ...]) -> Tensor:
        """How the loss changes: each value is of pixels of its own, so that one gradient has the slopes of all."""
        loss = results[0]
        logits = arguments[0].to(loss.dtype)  # halves would lose small slopes
        slopes = self.map_back(torch.ones_like(loss), (logits, *arguments[1:]), results)
        # What does not count may have any tangent, NaN included.
        changes = torch.where(slopes != 0, slopes.double() * tangent, 0)
        total = changes.sum(dim=tuple(range(loss.dim(), logits.dim())))
        # Not to(): a batch of tangents may come without the vmap that could take that apart.
        return cast(Tensor, torch.ops.aten._to_copy.default(total, dtype=loss.dtype))

    # ---- Registering ------------------------------------------------------------------------------------------------

    def _run(self, *arguments: Any) -> tuple[Tensor, ...]:
        if arguments[0].device.type == "cpu":
            return self._run_on_cpu(*arguments)
        with torch._C._AutoDispatchBelowAutograd():  # what is differentiated, __call__ has seen
            results: tuple[Tensor, ...] = self._operator(*arguments)
        return results

    def _run_on_cpu(self, *arguments: Any) -> tuple[Tensor, ...]:
        *results, invalid = self._on_cpu(*arguments)
        if invalid:
            inputs = _decode_inputs(arguments)
            if inputs.weight is not None:
                raise_invalid_weights(inputs, pixels_that_count(inputs))
            self.raise_invalid(invalid, inputs, arguments)
        return tuple(results)

    def _fake(self, *arguments: Any) -> tuple[Tensor, ...]:
        logits, balance, reduction = arguments[0], arguments[4], arguments[5]
        return (*self._fake_loss_and_table(logits, balance, reduction, arguments), *self.fake_further(arguments))

    def _refuse_second_derivative(self) -> None:
        raise RuntimeError(
            f"{self.name}: a second derivative is not defined, since weights and selections are constants to the "
            "gradient; differentiate once, without create_graph=True and by one mode at a time"
        )

    def _register(self) -> None:
        qualified = f"rarepixel::{self.name}"
        torch.library.impl(qualified, "CPU")(self._run_on_cpu)
        torch.library.register_fake(qualified, self._fake)
        torch.library.register_fake(f"{qualified}_cpu", lambda *arguments: (*self._fake(*arguments), 0))
        torch.library.register_fake(f"{qualified}_backward", lambda _upstream, logits, *_: torch.empty_like(logits))
        register_derivatives(self._operator, self._setup_context, self._run_backward, self._run_forward_mode)
        refuse_derivatives(self._backward, self._refuse_second_derivative)
        if self._settle is not None:
            torch.library.register_fake(
                f"{qualified}_settle",
                lambda logits, _sums, balance, reduction, *options: self._fake_loss_and_table(
                    logits, balance, reduction, options
                ),
            )
        self._eager = _eager_function(self._run, self._setup_context, self._run_backward)


def _eager_function(run: Callable[..., Any], setup: Callable[..., None], run_backward: Callable[..., Any]) -> Any:
    """The same autograd formula without register_autograd's wrapper, which costs as much as a 128 x 128 image."""

    class Eager(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
            output: tuple[Tensor, ...] = run(*inputs)
            setup(ctx, inputs, output)
            return output

        @staticmethod
        def backward(ctx: Any, *upstream: Any) -> Any:
            return run_backward(ctx, *upstream)

    return Eager
