"""Segment-level thickness loss: its targets are vessels, and their segments are at hand, as from a data loader."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

import rarepixel
from benchmarks._published_thickness_layer import published_layer
from benchmarks._vessels import PREVALENCE, VESSEL_SCENES, vessels
from benchmarks.harness import Benchmark, Contestant, Scene, Variant, dtype_variants, mask_variant
from rarepixel.segments import SegmentMap, segment_map


@torch.compiler.disable  # type: ignore[untyped-decorator]  # it would trace what the cache saves
@functools.cache
def segments_of(shape: tuple[int, ...], device: torch.device) -> SegmentMap:
    """The segments of the annotation that all scenes of a shape have."""
    return segment_map(vessels(shape, device))


def ours(logits: Tensor, target: Tensor, **options: Any) -> Any:
    return rarepixel.functional.segment_thickness(logits, target, segments_of(logits.shape, logits.device), **options)


def ours_with_ids_alone(logits: Tensor, target: Tensor) -> Any:
    return rarepixel.functional.segment_thickness(logits, target, segments_of(logits.shape, logits.device).ids)


def twin(logits: Tensor, target: Tensor) -> Any:
    return rarepixel.reference.segment_thickness(logits, target, segments_of(logits.shape, logits.device))


def peer(logits: Tensor, target: Tensor) -> Tensor:
    return published_layer(logits, target, segments_of(logits.shape, logits.device).ids)


def constant(label: str, value: float) -> Scene:
    """The same logit everywhere."""

    def make(shape: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
        return torch.full(shape, value, device=device), vessels(shape, device)

    return Scene(label, make)


BENCHMARK = Benchmark(
    title="Segment-level thickness loss",
    ours=ours,
    twin=twin,
    peer=Contestant("the published layer in NumPy", peer, in_torch=False),
    variants=(
        *dtype_variants(ours),
        Variant("ids alone, not a SegmentMap", ours_with_ids_alone),
        mask_variant(ours),
        Variant("logits: trained network", ours, scene=VESSEL_SCENES[1]),
        Variant("logits: vessel everywhere", ours, scene=constant("Vessel everywhere: logits 1", 1.0)),
        Variant("logits: vessel nowhere", ours, scene=constant("Vessel nowhere: logits -1", -1.0)),
    ),
    scenes=VESSEL_SCENES,
    kept_bits=0.14,  # the weights of the segments
    read_bits=32,  # the ids
    prevalence=PREVALENCE,
)
