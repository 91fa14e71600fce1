"""The Unified Focal family over a softmax: kernels against the twin, with labels in all forms."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import rarepixel
from rarepixel import functional, reference
from tests.conftest import TOLERANCES
from tests.losses.contract import assert_same_results, call, native
from tests.losses.family import SOFTMAX, FamilyContract, by_softmax_member, for_member, softmax_inputs
from tests.samples import Sample, index_maps, named, one_hot, soft

CLASSES, ONE_HOT, SOFT_LABELS = (kind.samples for kind in (index_maps.OF_CLASSES, one_hot.KIND, soft.OF_SOFTMAX))
SOFT: dict[str, Any] = {**SOFTMAX, "soft_labels": True}
PRODUCT: dict[str, Any] = {**SOFT, "soft_overlap": "product"}


class SoftmaxContract(FamilyContract):
    operator_name = "softmax_unified_focal"
    required: ClassVar = SOFTMAX
    regions: ClassVar = [({"balance": "channel"}, 1), ({"balance": "image"}, 1), ({"balance": "batch"}, 0)]
    number_of_sums = 4

    def encode(self, logits: Tensor, target: Tensor, options: dict[str, Any]) -> tuple[Any, ...]:
        weights = torch.linspace(0.5, 2, logits.shape[1], dtype=torch.float64, device=logits.device)
        return super().encode(logits, target, {"class_weights": weights, **options})


class TestIndexMaps(SoftmaxContract):
    kind = index_maps.OF_CLASSES
    share: ClassVar = slice(0, None, 2)  # the one-hot and soft labels of a softmax have others
    not_for_gradcheck: ClassVar = {
        **dict.fromkeys(
            ("saturated_100", "saturated_1e4"),
            "where there are no false negatives at all it is a root of 0, whose slope finite differences do not find",
        ),
        **dict.fromkeys(
            ("more_channels_than_int8", "two_hundred_classes_uint8", "most_classes", "buffers_of_less_than_a_block"),
            "so many logits take long",
        ),
    }
    label_errors: ClassVar = [
        (lambda x, y: (x[:, :1], y), {}, ValueError,
         r"logits: expected at least 2 classes for activation='softmax', .* got shape \(2, 1, 8, 9\)"),
        (lambda _, y: (torch.zeros(1, 255, 2, 2), y[:1, :2, :2]), {}, ValueError,
         r"logits: expected at most 254 classes, got shape \(1, 255, 2, 2\)"),
        (lambda x, y: (x, y[:1]), {}, ValueError,
         r"target: expected a map of class indices of shape \(2, 8, 9\) or \(2, 1, 8, 9\), or one-hot labels of shape "
         r"\(2, 3, 8, 9\), got \(1, 8, 9\)"),
        (lambda x, _: (x, x[:, :2]), {}, ValueError,
         r"target: expected a map of class indices .* got \(2, 2, 8, 9\)"),
        (lambda x, y: (x, y), {"mask": torch.ones(2, 3, 8, 9).bool()}, ValueError,
         r"mask: expected shape \(2, 1, 8, 9\), \(2, 8, 9\) or \(8, 9\), got \(2, 3, 8, 9\)"),
        (lambda x, y: (x, y + 3), {}, ValueError,
         r"target: expected a class index from 0 to 2 on every pixel that counts, got 3 \(invalid on 144 pixels\)"),
        (lambda x, y: (x, one_wrong(y)), {}, ValueError, r"class index from 0 .*, got 3 \(invalid on 1 pixel\)"),
        (lambda x, y: (x, y - 1), {"ignore_index": 255, "mask": torch.eye(8, 9).bool()}, ValueError,
         r"a class index from 0 to 2, or ignore_index=255, on every pixel that counts, got -1 \(invalid on 16 pixels"),
        (lambda x, y: (x, (y + 200).to(torch.uint8)), {}, ValueError, r"got 200 \(invalid on 144 pixels\)"),
        (lambda x, y: (x, y + 0.5), {}, ValueError, r"got 0\.5 \(invalid on 144 pixels\)"),
        (lambda x, y: (x, y + torch.nan), {}, ValueError, r"got nan \(invalid on 144 pixels\)"),
    ]  # fmt: skip


def one_wrong(index_map: Tensor) -> Tensor:
    wrong = index_map.clone()
    wrong[1, 7, 8] = 3
    return wrong


def sum_off(labels: Tensor) -> Tensor:
    wrong = labels.clone()
    wrong[0, 1, 2, 3] += 0.02
    return wrong


class TestOneHot(SoftmaxContract):
    kind = one_hot.KIND
    variants: ClassVar = [{}]  # of the labels only the class of a pixel is seen
    excluded: ClassVar = dict.fromkeys(
        (
            "test_inductor_reuses_one_graph_for_all_sizes",
            "test_compiles_once_for_any_number_of_channels",
            "test_export",
            "test_compiled_transforms",
        ),
        "index maps show it of the same operator, and labels in another form are but another shape",
    )
    not_for_gradcheck: ClassVar = {
        "saturated_100": "a root of 0, as of index maps",
        "saturated_1e4": "a root of 0, as of index maps",
        "many_classes": "so many logits take long",
    }
    label_errors: ClassVar = [
        (lambda x, y: (x, y * 0), {}, ValueError,
         r"target: expected exactly one 1 over the classes of every pixel that counts, got a sum of 0 \(invalid on"),
        (lambda x, y: (x, y.roll(1, 1) + y), {"mask": torch.eye(8, 9).bool()}, ValueError,
         r"expected exactly one 1 over .* got a sum of 2 \(invalid on 16 pixels\)"),
        (lambda x, y: (x, (y * 2).to(torch.uint8)), {}, ValueError,
         r"target: expected 0 or 1 on every pixel that counts, got 2 \(invalid on 144 pixels\)"),
        (lambda x, y: (x, sum_off(y)), {"ignore_index": 255}, ValueError,
         r"target: expected 0, 1 or ignore_index=255 on every pixel that counts, got 0\.0\d+ \(invalid on 1 pixel\)"),
        (lambda x, y: (x, y), {"ignore_index": 0}, ValueError,
         "ignore_index: expected no label that one-hot and soft labels hold"),
    ]  # fmt: skip


class TestSoftLabels(SoftmaxContract):
    kind = soft.OF_SOFTMAX
    required: ClassVar = SOFT
    excluded: ClassVar = {
        **TestOneHot.excluded,
        "test_infinite_logits_are_the_limit_of_large_ones": "none is right of a label between 0 and 1",
    }
    not_for_gradcheck: ClassVar = TestOneHot.not_for_gradcheck
    # The slopes of a pixel's soft labels cancel: in single they are known to 1e-7 of their terms, not of themselves.
    large_dtypes = (torch.float64, torch.bfloat16)
    label_errors: ClassVar = [
        (lambda x, y: (x, y.long()), {}, TypeError,
         "target: expected a floating dtype with soft_labels=True, got int64"),
        (lambda x, y: (x, y.bool()), {}, TypeError,
         "target: expected a floating dtype with soft_labels=True, got bool"),
        (lambda x, y: (x, y[:, 0]), {}, ValueError,
         r"target: expected the shape of logits \(2, 3, 8, 9\), got \(2, 8, 9\)"),
        (lambda x, y: (x, 0 * y + 1.5), {}, ValueError,
         r"target: expected a number from 0 to 1 on every pixel that counts, got 1\.5 \(invalid on 432 pixels\)"),
        (lambda x, y: (x, 0 * y - 0.25), {"ignore_index": 7}, ValueError,
         r"target: expected a number from 0 to 1, or ignore_index=7, on every pixel that counts, got -0\.25 \(inv"),
        (lambda x, y: (x, y + torch.nan), {}, ValueError,
         r"expected a number from 0 to 1 .* got nan \(invalid on 432 pixels\)"),
        (lambda x, y: (x, y * 0.5), {}, ValueError,
         r"target: expected labels that sum to 1 within 0\.01 over the classes of every pixel that counts, got a sum "
         r"of 0\.5 \(invalid on 144 pixels\)"),
        (lambda x, y: (x, sum_off(y)), {}, ValueError,
         r"labels that sum to 1 .* got a sum of 1\.02 \(invalid on 1 pixel\)"),
        (lambda x, y: (x, y), {"ignore_index": 1}, ValueError,
         "ignore_index: expected no label that .* hold, got 1"),
    ]  # fmt: skip


# ---- The other members ----------------------------------------------------------------------------------------------

# Samples with what says how their labels are to be read.
OF_MEMBERS = [
    *(
        (sample, SOFTMAX)
        for sample in (
            *index_maps.OF_CLASSES.traced,
            *one_hot.KIND.traced,
            *named(
                CLASSES,
                *("volume_3d", "last_class_is_background", "two_classes", "class_absent", "all_background"),
                *("no_background", "everything_masked"),
            ),
        )
    ),
    *((sample, form) for form in (SOFT, PRODUCT) for sample in soft.OF_SOFTMAX.traced),
    *((sample, SOFT) for sample in named(SOFT_LABELS, "image")),
]


@pytest.mark.usefixtures("one_thread")
@native
@by_softmax_member
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_member_matches_its_twin(
    name: str, module: Any, options: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> None:
    turn = [torch.float64, torch.float32, torch.bfloat16].index(dtype)
    for sample, labels in OF_MEMBERS[turn::3]:  # each in one dtype: members are options of one operator
        logits, target, own = sample.arguments(dtype, device)
        how = {**for_member(name, own), **labels, **options, "reduction": "none"}
        assert_same_results(
            call(getattr(functional, name), logits, target, **how),
            call(getattr(reference, name), logits, target, **how),
            dtype,
        )
    x, y = softmax_inputs((2, 3, 9, 11), dtype, device)
    how = for_member(name, {**options, **SOFTMAX, "background": 2, "balance": "batch", "reduction": "none"})
    criterion = module(**how)
    assert torch.equal(criterion(x, y), getattr(functional, name)(x, y, **how))
    assert "activation='softmax'" in repr(criterion)


@native
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("sample", "labels"),
    [
        *((sample, SOFTMAX) for sample in named(CLASSES, "balance_batch", "last_class_is_background")),
        *((sample, SOFTMAX) for sample in named(ONE_HOT, "mask_per_image")),
        *((sample, SOFT) for sample in named(SOFT_LABELS, "image")),
    ],
    ids=lambda value: value.name if isinstance(value, Sample) else "",
)
def test_class_weights_match_the_twin(
    sample: Sample, labels: dict[str, Any], dtype: torch.dtype, device: torch.device
) -> None:
    logits, target, own = sample.arguments(dtype, device)
    for weights_dtype in TOLERANCES:
        weights = torch.tensor([0.5, 3.0, 0.0, 1.25], dtype=weights_dtype, device=device)[: logits.shape[1]]
        options = {**own, **labels, "class_weights": weights, "positive_weight": 2.0, "negative_weight": 0.7}
        assert_same_results(
            call(functional.weighted_cross_entropy, logits, target, **options),
            call(reference.weighted_cross_entropy, logits, target, **options),
            dtype,
        )


@native
@by_softmax_member
def test_every_member_passes_gradcheck(name: str, module: Any, options: dict[str, Any]) -> None:  # noqa: ARG001
    function = getattr(functional, name)
    shape = (2, 3, 3, 5)
    for make, labels in (
        (index_maps.of_classes(shape), SOFTMAX),
        (soft.of_softmax(shape), SOFT),
        (soft.of_softmax(shape), PRODUCT),
    ):
        logits, target = make(torch.float64)
        for balance in ("image", "batch"):
            how = {**for_member(name, {"background": 1}), **labels, **options, "balance": balance}
            assert torch.autograd.gradcheck(
                lambda x, y=target, how=how: function(x, y, **how), logits.detach().requires_grad_()
            )


@native
@pytest.mark.parametrize(
    "criterion",
    [
        rarepixel.WeightedCrossEntropyLoss(activation="softmax", class_weights=torch.tensor([1.0, 2.0, 4.0])),
        rarepixel.GeneralizedDiceLoss(activation="softmax"),
        rarepixel.ComboLoss(activation="softmax", background=2, like_code=True),
    ],
    ids=lambda criterion: type(criterion).__name__,
)
def test_modules_compile(criterion: torch.nn.Module) -> None:
    torch.compiler.reset()
    logits, target = softmax_inputs((2, 3, 9, 11), torch.float32)
    compiled = torch.compile(criterion, fullgraph=True, dynamic=True, backend="aot_eager")
    assert torch.equal(compiled(logits, target), criterion(logits, target))
