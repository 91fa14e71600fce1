"""Bin loss. Its options show what the number of bins and of kept negatives costs."""

from __future__ import annotations

from functools import partial

import rarepixel
from benchmarks.harness import Benchmark, Contestant, Variant, class_balanced_bce, dtype_variants, mask_variant

ours = rarepixel.functional.bin_loss

BENCHMARK = Benchmark(
    title="Bin loss",
    ours=ours,
    twin=rarepixel.reference.bin_loss,
    peer=Contestant("class-balanced BCE, eager (HED)", class_balanced_bce),
    variants=(
        *dtype_variants(ours),
        *(Variant(f"{bins} bins", partial(ours, num_bins=bins)) for bins in (2, 5, 10, 16)),
        *(Variant(f"key {key}", partial(ours, key=key)) for key in (1, 20, 100)),
        Variant("caffe", partial(ours, caffe=True)),
        mask_variant(ours),
    ),
)
