"""The small U-Net."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("monai")

from rarepixel.models import SmallUNet, size_multiple


@pytest.mark.parametrize(("spatial_dims", "size"), [(1, (12,)), (2, (8, 12)), (3, (4, 8, 12))])
def test_it_sees_details_and_surroundings(spatial_dims: int, size: tuple[int, ...]) -> None:
    model = SmallUNet((8, 12, 16), in_channels=2, out_channels=3, spatial_dims=spatial_dims).eval()
    assert size_multiple(model) == 4
    image = torch.randn(2, 2, *size, requires_grad=True)
    logits = model(image)
    assert logits.shape == (2, 3, *size)
    (gradient,) = torch.autograd.grad(logits[0].flatten(1)[:, 0].sum(), image)
    assert gradient[0].flatten(1)[:, 0].any()
    assert gradient[0].flatten(1)[:, -1].any()  # all is within reach of the coarsest resolution
    assert not gradient[1].any()


def test_images_that_do_not_fit() -> None:
    model = SmallUNet()
    for shape in ((1, 3, 8, 6), (1, 1, 8, 8), (3, 8, 8)):
        with pytest.raises(
            ValueError, match=r"^image: expected shape \(N, 3, H, W\) with sizes that are multiples of 4, "
        ):
            model(torch.zeros(shape))


def test_arguments_out_of_range() -> None:
    for options, text in [
        ({"widths": ()}, r"^widths: expected one or more numbers of channels, got \(\)$"),
        ({"widths": (4, 0)}, r"^widths: expected one or more numbers of channels, got \(4, 0\)$"),
        ({"in_channels": 0}, r"^in_channels: expected at least 1, got 0$"),
        ({"out_channels": 0}, r"^out_channels: expected at least 1, got 0$"),
        ({"spatial_dims": 4}, r"^spatial_dims: expected 1, 2 or 3, got 4$"),
    ]:
        with pytest.raises(ValueError, match=text):
            SmallUNet(**options)  # type: ignore[arg-type]
