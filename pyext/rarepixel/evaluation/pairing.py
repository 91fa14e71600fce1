"""Which prediction belongs to which truth and field of view, by names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .._files import ENDINGS, ending
from .._names import CLASS_SUFFIXES, SHOWN, NamedFile, is_hidden, listed, named_file, natural, stem_of, strip
from .nnunet import has_probabilities, label_map_beside


class PairingError(ValueError):
    """Files that do not pair."""


@dataclass(frozen=True)
class Case:
    """One image.

    Attributes:
        name: what the names of its files have in common.
        predictions: a file for each class; "" where files do not say what class they are of.
        truths: the same of the truth; None of a class of which the image has no file: it has none of it.
        fov: the file with its field of view.
    """

    name: str
    predictions: dict[str, Path]
    truths: dict[str, Path | None]
    fov: Path | None = None


@dataclass(frozen=True)
class Pairing:
    """All images, and what was taken for granted.

    Attributes:
        cases: the images, by name.
        classes: those that files name; ("",) if none do.
        notes: sentences for whoever looks at the numbers.
    """

    cases: tuple[Case, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Side:
    what: str
    folder: Path
    files: list[NamedFile]
    option: str
    keys: dict[tuple[str, str], Path] = field(default_factory=dict)  # (image, class) -> file

    def index(self, key: Callable[[NamedFile], str]) -> list[tuple[NamedFile, NamedFile]]:
        """Fills ``keys``, and returns files of one key."""
        seen: dict[tuple[str, str], NamedFile] = {}
        twins = []
        for one in self.files:
            other = seen.setdefault((key(one), one.of_class), one)
            if other is not one:
                twins.append((other, one))
        self.keys = {place: one.path for place, one in seen.items()}
        return twins

    @property
    def classes(self) -> list[str]:
        return sorted({name for _, name in self.keys}, key=_place)


def pair(
    predictions: Path,
    truth: Path,
    fov: Path | None = None,
    *,
    classes: Sequence[str] | None = None,
    suffix: str | None = None,
    truth_suffix: str | None = None,
) -> Pairing:
    """Pairs the files of folders, or one file with one.

    An image's name is the name of its file without its ending and without suffixes such as ``_manual1``, ``_mask`` or
    ``_prob``, below the folder; a folder of that name around it is none of it, and of nnU-Net's NPZ file and label map
    of one name the former is the prediction. Files are of classes if all files of the truth end in one of ``_MA``,
    ``_HE``, ``_EX``, ``_SE``, ``_OD`` or of ``classes`` (other suffixes may follow), or lie in folders of that name, or
    of IDRiD's.

    Args:
        predictions: a folder, or a file.
        truth: a folder, or a file.
        fov: a folder, or one file for all images.
        classes: names of classes beside IDRiD's.
        suffix: what names of predictions end in; other files are passed over.
        truth_suffix: the same of the truth.

    Raises:
        PairingError: files without a partner, or with several, or none at all; the text lists them.
        FileNotFoundError: there is no such folder.
    """
    names = tuple(dict.fromkeys([*(classes or ()), *CLASS_SUFFIXES]))
    if predictions.is_file() and truth.is_file():
        name = strip(stem_of(predictions), ())[0]
        return Pairing((Case(name, {"": predictions}, {"": truth}, _single_fov(fov, name)),), ("",), ())
    sides = [
        _Side("predictions", predictions, _named(predictions, names, suffix, "--suffix"), "--suffix"),
        _Side("truth", truth, _named(truth, names, truth_suffix, "--truth-suffix"), "--truth-suffix"),
    ]
    if not all(one.of_class for one in sides[1].files):
        # Some only: OD may be a right eye.
        for side in sides:
            side.files = _named(side.folder, (), suffix if side is sides[0] else truth_suffix, side.option)
    notes = _leave_label_maps(sides[0])
    _index(sides)
    cases, found = _match(sides[0], sides[1], notes)
    if fov is not None:
        cases = _with_fov(cases, fov)
    return Pairing(tuple(cases), tuple(found), tuple(notes))


def _leave_label_maps(side: _Side) -> list[str]:
    """Takes away the label maps that nnU-Net writes beside its probabilities, and says so."""
    beside = {one.path: label_map_beside(one.path) for one in side.files if has_probabilities(one.path)}
    left = {path: labels for path, labels in beside.items() if labels is not None}
    side.files = [one for one in side.files if one.path not in left.values()]
    if not left:
        return []
    path, labels = next(iter(left.items()))
    number = f"{len(left)} images" if len(left) > 1 else "1 image"
    return [
        f"{side.folder}: of nnU-Net's files of {number}, such as {path.name} and {labels.name}, the probabilities are "
        "judged, not the label maps"
    ]


def _index(sides: Sequence[_Side]) -> None:
    twins = [side.index(lambda one: one.stripped) for side in sides]
    if any(twins):
        # Suffixes may tell images apart where both sides have the same names.
        if not any(side.index(lambda one: one.plain) for side in sides):
            first, second = ({name for name, _ in side.keys} for side in sides)
            if first == second:
                return
        for side, pairs in zip(sides, twins, strict=True):
            if pairs:
                one, other = pairs[0]
                more = f" ({len(pairs)} such pairs)" if len(pairs) > 1 else ""
                raise PairingError(
                    f"{side.what}: expected one file an image, got {one.path} and {other.path}, which are both of "
                    f"{one.stripped!r}{more}; {side.option} says what names to take, such as {side.option} "
                    f"{_tail(other)}"
                )


def _match(predictions: _Side, truth: _Side, notes: list[str]) -> tuple[list[Case], list[str]]:
    classes = _common_classes(predictions, truth, notes)
    of_predictions = "" if predictions.classes == [""] else None
    of_truth = truth.classes[0] if len(truth.classes) == 1 else None
    images = sorted({name for name, _ in predictions.keys}, key=natural)
    known = {name for name, _ in truth.keys}
    cases, missing = [], []
    absent: dict[str, list[str]] = {}
    for name in images:
        files: dict[str, Path] = {}
        truths: dict[str, Path | None] = {}
        for one in classes:
            file = predictions.keys.get((name, one if of_predictions is None else of_predictions))
            if file is None:
                missing.append(f"{name} ({one})")
                continue
            files[one] = file
            truths[one] = truth.keys.get((name, of_truth if of_truth is not None else one))
            if truths[one] is None and name in known:
                absent.setdefault(one, []).append(name)
        cases.append(Case(name, files, truths))
    _refuse_unpaired(predictions, truth, images, known)
    if missing:
        raise PairingError(
            f"predictions: expected a file of each class {', '.join(classes)} of every image, got none of "
            f"{listed(missing)} in {predictions.folder}"
        )
    for one, names in absent.items():
        notes.append(f"{truth.folder}: no file of class {one} of {listed(names)}: taken to have none, as in IDRiD")
    if predictions.classes == [""] and len(classes) > 1:
        # One file for all classes: its channels are they, in the order that --classes says.
        cases = [Case(case.name, {"": case.predictions[classes[0]]}, case.truths) for case in cases]
    return cases, classes


def _common_classes(predictions: _Side, truth: _Side, notes: list[str]) -> list[str]:
    given, known = predictions.classes, truth.classes
    if given == [""] or known == [""]:
        if known == [""] and len(given) > 1:
            raise PairingError(
                f"truth: expected files of the classes {', '.join(given)} of the predictions, got files of none in "
                f"{truth.folder}"
            )
        return known if known != [""] else given
    if "" in given:
        of_none = [one.path.name for one in predictions.files if not one.of_class]
        raise PairingError(f"predictions: expected a class in every name, or in none, got none in {listed(of_none)}")
    common = [name for name in known if name in given]
    if not common:
        raise PairingError(
            f"predictions: expected files of the classes {', '.join(known)} of the truth, got {', '.join(given)}"
        )
    if len(given) > len(common):
        extra = ", ".join(name for name in given if name not in common)
        raise PairingError(f"truth: expected files of class {extra} as in the predictions, got none in {truth.folder}")
    if len(known) > len(common):
        left = ", ".join(name for name in known if name not in common)
        notes.append(f"{predictions.folder}: no predictions of class {left}, which the truth has: not evaluated")
    return common


def _refuse_unpaired(predictions: _Side, truth: _Side, images: Sequence[str], known: set[str]) -> None:
    lonely = [name for name in images if name not in known]
    left = sorted(known - set(images), key=natural)
    if not lonely and not left:
        return
    lines = ["predictions and truth: expected a partner for every file, by its name without suffixes, got"]
    for side, names in ((predictions, lonely), (truth, left)):
        if names:
            files = [next(path for (name, _), path in side.keys.items() if name == one).name for one in names[:SHOWN]]
            shown = ", ".join(f"{one} ({file})" for one, file in zip(names, files, strict=False))
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"  only among {side.what} in {side.folder}: {shown}{more}")
    raise PairingError("\n".join(lines))


def _with_fov(cases: Sequence[Case], fov: Path) -> list[Case]:
    if fov.is_file():
        return [Case(case.name, case.predictions, case.truths, fov) for case in cases]
    side = _Side("fov", fov, _named(fov, (), None, "--fov"), "--fov")
    twins = side.index(lambda one: one.stripped)
    if twins:
        raise PairingError(f"fov: expected one file an image, got {twins[0][0].path} and {twins[0][1].path}")
    missing = [case.name for case in cases if (case.name, "") not in side.keys]
    if missing:
        raise PairingError(f"fov: expected a field of view of every image, got none of {listed(missing)} in {fov}")
    return [Case(case.name, case.predictions, case.truths, side.keys[case.name, ""]) for case in cases]


def _single_fov(fov: Path | None, name: str) -> Path | None:
    return None if fov is None else _with_fov([Case(name, {}, {})], fov)[0].fov


# ---- Names ----


def _named(folder: Path, classes: tuple[str, ...], suffix: str | None, option: str) -> list[NamedFile]:
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    if folder.is_file():
        raise PairingError(f"{folder}: expected a folder, since the other side is one, got a file")
    hidden = [path for path in folder.rglob("*") if path.is_file() and not is_hidden(path.relative_to(folder))]
    paths = sorted(path for path in hidden if ending(path) is not None)
    if not paths:
        raise PairingError(
            f"{folder}: expected files that end in {', '.join(ENDINGS)}, got {len(hidden) or 'no'} other files"
        )
    wanted = [path for path in paths if suffix is None or stem_of(path).lower().endswith(suffix.lower())]
    if not wanted:
        raise PairingError(f"{option}: expected names that end in {suffix!r}, got {listed([p.name for p in paths])}")
    return [named_file(path, path.relative_to(folder), classes, suffix) for path in wanted]


def _tail(one: NamedFile) -> str:
    tail = stem_of(one.path)[len(one.stripped.rpartition("/")[2]) :]
    return tail or stem_of(one.path)


def _place(name: str) -> tuple[int, str]:
    return (CLASS_SUFFIXES.index(name) if name in CLASS_SUFFIXES else len(CLASS_SUFFIXES), name)
