"""The losses as functions."""

from . import losses
from .losses import *  # noqa: F403

__all__ = [name for name in losses.__all__ if name.islower()]
