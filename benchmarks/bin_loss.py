"""Bin loss. Its options show what the number of bins and of kept negatives costs."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import CLASS_BALANCED_BCE, Variant, binary_benchmark
from rarepixel.functional import bin_loss

BENCHMARK = binary_benchmark(
    "bin_loss",
    "Bin loss",
    CLASS_BALANCED_BCE,
    *(Variant(f"{bins} bins", partial(bin_loss, num_bins=bins)) for bins in (2, 5, 10, 16)),
    *(Variant(f"key {key}", partial(bin_loss, key=key)) for key in (1, 20, 100)),
    Variant("caffe", partial(bin_loss, caffe=True)),
)
