"""What all data sets do: choosing images, hashing; the photo without a download; what is kept of annotations."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rarepixel import components, data, segments
from rarepixel.data import Annotated, AnnotationCache, DataError, Folder, Images, Retina, cache, field_of_view

from .conftest import bar, disc, mask, photo

pytestmark = pytest.mark.usefixtures("one_thread")


class Numbers(Images):
    def read(self, index: int) -> Annotated:
        image = torch.full((1, 4, 5), float(self.names[index].rpartition("_")[2]))
        return Annotated(self.names[index], image, image > 1, image > 0)


NUMBERS = Numbers("numbers", ("one",), [f"n_{number:02}" for number in (1, 2, 3, 10, 11)], ["a note"])


def test_indexing() -> None:
    assert len(NUMBERS) == 5
    assert NUMBERS[-1].name == "n_11"
    assert [one.name for one in NUMBERS] == list(NUMBERS.names)
    with pytest.raises(IndexError, match="index: expected less than the 5 images of numbers, got 5"):
        NUMBERS[5]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (["n_11", "n_01"], ["n_11", "n_01"]),
        (["n_1?"], ["n_10", "n_11"]),
        (["n_03", "n_0[1-3]"], ["n_03", "n_01", "n_02"]),
        ("n_0*", ["n_01", "n_02", "n_03"]),
    ],
)
def test_select(wanted: list[str], found: list[str]) -> None:
    chosen = NUMBERS.select(wanted)
    assert list(chosen.names) == found
    assert [one.name for one in chosen] == found
    assert (chosen.title, chosen.classes, chosen.notes) == ("numbers", ("one",), ("a note",))
    again = chosen.select([found[-1]])
    assert [one.name for one in again] == found[-1:]
    assert again.files(0) == {"image": None, "fov": None, "one": None}


def test_select_refuses_what_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"names: expected .* n_01, n_02, n_03, n_10, n_11, got 'n_3'; did you mean"):
        NUMBERS.select(["n_01", "n_3"])
    with pytest.raises(DataError, match="expected at least one image"):
        NUMBERS.select([])
    with pytest.raises(DataError, match="numbers: expected every image once, got a twice"):
        Numbers("numbers", ("one",), ["a", "b", "a"])


def test_the_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path / f"images/{name}.png")
        mask(tmp_path / f"masks/{name}.png", bar())

    def digest() -> str:
        return Folder(root=tmp_path).digest

    first = digest()
    assert len(first) == 64
    assert digest() == first == Folder(root=tmp_path, downsample=2).digest
    assert Folder(root=tmp_path).select(["a"]).digest != first
    found = {first}
    mask(tmp_path / "masks/a.png", bar(length=5))
    found.add(digest())
    (tmp_path / "images/a.png").rename(tmp_path / "images/c.png")
    (tmp_path / "masks/a.png").rename(tmp_path / "masks/c.png")
    found.add(digest())
    mask(tmp_path / "fov/b.png", bar())
    mask(tmp_path / "fov/c.png", bar())
    found.add(Folder(root=tmp_path, fov="fov").digest)
    assert len(found) == 4
    assert NUMBERS.digest != NUMBERS.select(["n_*1"]).digest


def test_painted_spots_are_dark_few_and_away_from_the_rim() -> None:
    from skimage import data as photos

    photo = torch.from_numpy(photos.retina().astype(np.float32) / 255).permute(2, 0, 1)
    both = list(Retina("all"))
    for one in both:
        assert 0.001 < (one.target & one.mask).sum() / one.mask.sum() < 0.003
        rim = torch.nn.functional.max_pool2d((~one.mask).float(), 15, stride=1, padding=7) > 0
        assert not (one.target & rim).any()
    image, truth = (torch.cat([getattr(one, part) for one in both], dim=1) for part in ("image", "target"))
    assert image.shape == photo.shape
    assert (image[1, truth[0]] < 0.97 * photo[1, truth[0]]).all()
    far = torch.nn.functional.max_pool2d(truth.float(), 25, stride=1, padding=12)[0] == 0
    torch.testing.assert_close(image[:, far], photo[:, far], rtol=0, atol=0)


def test_retina() -> None:
    both = Retina("all")
    assert both.names == ("upper half", "lower half")
    for images, whole in zip((Retina(), Retina("test")), both, strict=True):
        (one,) = images
        assert one.name == whole.name
        assert torch.equal(one.image, whole.image)
        assert torch.equal(one.target, whole.target)
        assert one.target.shape == one.mask.shape == (1, *one.image.shape[1:])
        assert 0.001 < one.target.sum() / one.mask.sum() < 0.003
    assert not torch.equal(Retina(seed=1)[0].target, both[0].target)
    assert data.make("retina:seed=1").names == ("upper half",)
    with pytest.raises(ValueError, match="split: expected one of train, test, all, got 'val'"):
        Retina("val")


# ---- What is kept of annotations ----


def vessels() -> tuple[Tensor, Tensor]:
    target = torch.zeros(2, 40, 50, dtype=torch.bool)
    target[0, 10:13, 4:40] = target[0, 20:35, 8:10] = target[1, 30:32, 5:45] = True
    mask = torch.ones(1, 40, 50, dtype=torch.bool)
    mask[:, :, 45:] = False
    return target, mask


def test_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, mask = vessels()
    kept = AnnotationCache(tmp_path / "new")
    first = kept.segments(target, mask), kept.components(target)
    for channel in range(2):
        assert torch.equal(first[0][channel], segments.segment_map(target[channel], mask=mask[0]).ids)
    assert torch.equal(first[1], components.label(target[None]).labels[0])
    assert [one.dtype for one in first] == [torch.int32] * 2
    assert len([*(tmp_path / "new").rglob("*.npz")]) == 2

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("made anew")

    monkeypatch.setattr(components, "label", refuse)
    monkeypatch.setattr(segments, "segment_map", refuse)
    again = AnnotationCache(tmp_path / "new")
    assert torch.equal(again.segments(target, mask), first[0])
    assert torch.equal(again.components(target), first[1])
    for changed in (lambda: again.components(target[:1]), lambda: again.components(target.transpose(1, 2))):
        with pytest.raises(AssertionError, match="made anew"):
            changed()
    with pytest.raises(AssertionError, match="made anew"):
        again.segments(target, ~mask)


def test_damaged_files_are_made_anew(tmp_path: Path) -> None:
    target, mask = vessels()
    kept = AnnotationCache(tmp_path)
    expected = kept.segments(target, mask), kept.components(target)
    for path in tmp_path.rglob("*.npz"):
        sound = path.read_bytes()
        middle = len(sound) // 3
        for damaged in (b"", sound[:90], sound[:middle] + bytes(60) + sound[middle + 60 :]):
            path.write_bytes(damaged)
            assert torch.equal(kept.segments(target, mask), expected[0])
            assert torch.equal(kept.components(target), expected[1])
            assert path.read_bytes() != damaged
    other = tmp_path / "components" / "x.npz"
    np.savez(other, labels=np.zeros((2, 40, 50)))
    next(path for path in other.parent.glob("*.npz") if path != other).write_bytes(other.read_bytes())
    assert torch.equal(kept.components(target), expected[1])


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, _ = vessels()
    kept = AnnotationCache(tmp_path)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(cache.np, "savez_compressed", fail)
        with pytest.raises(OSError, match="disk full"):
            kept.components(target)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert kept.components(target).max() == 2


def test_volumes_have_components_only(tmp_path: Path) -> None:
    target = torch.zeros(1, 4, 5, 6, dtype=torch.bool)
    target[0, 0, 0, 0] = target[0, 1, 1, 1] = target[0, 3, 3, 3] = True
    kept = AnnotationCache(tmp_path)
    assert kept.components(target).max() == 2
    with pytest.raises(
        ValueError, match=r"target: expected \(classes, H, W\), got \(1, 4, 5, 6\); volumes have no segm"
    ):
        kept.segments(target, target)
    with pytest.raises(ValueError, match=r"target: expected \(classes, H, W\) or \(classes, D, H, W\), got \(4, 5\)"):
        kept.components(target[0, 0, :4, :5].new_zeros(4, 5))


def test_where_it_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAREPIXEL_CACHE", str(tmp_path / "of variable"))
    assert AnnotationCache().folder == tmp_path / "of variable"
    monkeypatch.delenv("RAREPIXEL_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert AnnotationCache().folder == tmp_path / ".cache" / "rarepixel"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"folder: expected one that can be made, got .*file/x .*\$RAREPIXEL_CACHE names"):
        AnnotationCache(tmp_path / "file" / "x")


def keep(folder: Path, rounds: int) -> bool:
    """What each of several processes does: a damaged file may be made anew by all of them at once."""
    target, _ = vessels()
    kept, expected = AnnotationCache(folder), components.label(target[None]).labels[0]
    for _ in range(rounds):
        if not torch.equal(kept.components(target), expected):
            return False
        for path in folder.rglob("*.npz"):
            path.unlink(missing_ok=True)
    return True


def test_several_processes_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.starmap(keep, [(tmp_path, 40)] * 3) == [True] * 3
    assert not [*tmp_path.rglob("*.tmp")]


def test_the_field_of_view_of_a_large_photo() -> None:
    inside = disc((1400, 2101))
    found = field_of_view(np.repeat(inside[..., None], 3, axis=2).astype(np.float32))
    assert found.shape == inside.shape
    assert (found & inside).sum() / (found | inside).sum() > 0.98
