"""The losses as people use them: a function and a Module each."""

from .random_drop import RandomDropLoss

__all__ = ["RandomDropLoss"]
