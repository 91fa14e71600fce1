"""Training in two stages: one loss until some iteration, another one after it."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from .._stepping import Counting, advance, place
from .._validation import as_int, refuse_proxy


class TwoStage(Counting):
    """Is its first loss until the switch, and its second loss from then on.

    The recipe of Red-Seg (Guo et al., Journal of Software 2021): Top-k cross-entropy, whose k falls, until the network
    finds the lesions; then the squared error, with a tenth of the learning rate, against the false alarms.

    Call ``step()`` once an iteration, after the optimizer's. It also steps the loss that was in use, if that has a
    ``step`` of its own (the schedule of a :class:`rarepixel.TopKLoss`) or holds such losses. Nothing else advances it.
    The iteration is part of ``state_dict()``; set, ``criterion.iteration = n`` takes both losses, too, where ``n``
    steps lead. Under ``torch.compile`` the switch makes one new graph.

    Args:
        first: a loss.
        second: a loss.
        switch_at: the iteration, counted from 0, from which on ``second`` is in use.

    Raises:
        TypeError: ``first`` or ``second`` is no Module, ``switch_at`` no int.
        ValueError: ``switch_at`` is negative.

    Example:
        >>> import rarepixel, torch
        >>> schedule = rarepixel.schedules.LinearDecay(0.14, max_iterations=1000, period=100)
        >>> criterion = TwoStage(rarepixel.TopKLoss(schedule), rarepixel.SquaredErrorLoss(), switch_at=1000)
        >>> network = torch.nn.Conv2d(3, 1, 1)
        >>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        >>> scheduler = criterion.lr_scheduler(optimizer)
        >>> loss = criterion(network(torch.rand(1, 3, 8, 8)), torch.rand(1, 1, 8, 8) < 0.1)
        >>> loss.backward()
        >>> optimizer.step()
        >>> criterion.step()
        >>> scheduler.step()
    """

    def __init__(self, first: nn.Module, second: nn.Module, switch_at: int) -> None:
        super().__init__()
        for name, stage in (("first", first), ("second", second)):
            if not isinstance(stage, nn.Module):
                raise TypeError(f"{name}: expected a torch.nn.Module, got {type(stage).__name__}")
        switch_at = as_int("switch_at", switch_at)
        if switch_at < 0:
            raise ValueError(f"switch_at: expected an iteration of at least 0, got {switch_at}")
        self.first = first
        self.second = second
        self.switch_at = switch_at
        self._move_to(0)

    @property
    def stage(self) -> int:
        """1 or 2."""
        return 2 if self._switched else 1

    def _step(self, seen: set[int]) -> None:
        advance(self.second if self._switched else self.first, seen)
        self._move_to(self._iteration + 1)

    def _place(self, iteration: int) -> None:
        of_first = min(iteration, self.switch_at)
        place(((self.first,), of_first), ((self.second,), iteration - of_first))
        self._move_to(iteration)

    def _move_to(self, iteration: int) -> None:
        self._iteration = iteration
        # Kept beside the iteration: forward() reads only what changes once, so that a compiled one is made anew once.
        self._switched = iteration >= self.switch_at

    def lr_scheduler(self, optimizer: Optimizer, factor: float = 0.1) -> MultiStepLR:
        """The paper's drop of the learning rate at the switch, for ``scheduler.step()`` once an iteration."""
        return MultiStepLR(optimizer, milestones=[self.switch_at], gamma=factor)

    def forward(self, *arguments: Any, **options: Any) -> Any:
        refuse_proxy("arguments", arguments)
        if self._switched:
            return self.second(*arguments, **options)
        return self.first(*arguments, **options)

    def extra_repr(self) -> str:
        return f"switch_at={self.switch_at}, iteration={self._iteration}"
