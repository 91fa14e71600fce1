"""The losses as functions."""

from .losses.bin_loss import bin_loss
from .losses.multi_channel_bin import multi_channel_bin
from .losses.random_drop import random_drop
from .losses.segment_thickness import segment_thickness
from .losses.squared_error import squared_error
from .losses.top_k import top_k

__all__ = ["bin_loss", "multi_channel_bin", "random_drop", "segment_thickness", "squared_error", "top_k"]
