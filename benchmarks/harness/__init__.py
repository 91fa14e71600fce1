"""What all benchmarks share. A loss's script declares a :class:`Benchmark`; the rest happens here."""

from .declaration import (
    BINARY_SCENES,
    CLASS_BALANCED_BCE,
    PREVALENCE,
    Benchmark,
    Contestant,
    Scene,
    Variant,
    binary_benchmark,
    class_balanced_bce,
    dtype_variants,
    field_of_view,
    mask_variant,
    masked_bce,
)

__all__ = [
    "BINARY_SCENES",
    "CLASS_BALANCED_BCE",
    "PREVALENCE",
    "Benchmark",
    "Contestant",
    "Scene",
    "Variant",
    "binary_benchmark",
    "class_balanced_bce",
    "dtype_variants",
    "field_of_view",
    "mask_variant",
    "masked_bce",
]
