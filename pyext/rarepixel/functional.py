"""The losses as functions."""

from .losses.random_drop import random_drop

__all__ = ["random_drop"]
