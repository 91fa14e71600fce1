"""The documentation holds together: every public name has a page, every page a place, every link an end."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import rarepixel

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
# What rarepixel see gallery writes beside the pictures is no page.
PAGES = sorted(path for path in DOCS.rglob("*.md") if "images" not in path.parts)
READ = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "tests/cuda_emulation/README.md", *PAGES]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# ---- Names ----------------------------------------------------------------------------------------------------------


def source_of(module: str) -> str:
    path = Path(rarepixel.__file__).parents[1] / module.replace(".", "/")
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text(encoding="utf-8")


def public_modules() -> list[str]:
    """The package and its rooms, as far as they say what is public, but ``losses``, of which two of them are made."""
    rooms = [f"rarepixel.{room.name}" for room in pkgutil.iter_modules(rarepixel.__path__) if room.name[0] != "_"]
    inside = ["rarepixel.data.augment", "rarepixel.data.normalise"]
    named = [room for room in rooms if re.search(r"^__all__ = ", source_of(room), re.MULTILINE)]
    return ["rarepixel", *(room for room in named if room != "rarepixel.losses"), *inside]


def public_names(module: str) -> list[str]:
    """Read and not imported, since an extra may be missing; those of losses are computed and need none."""
    body = ast.parse(source_of(module)).body
    parts = [part.value for part in body if re.match(r"__all__ \+?= ", ast.unparse(part))]
    try:
        return [name for part in parts for name in ast.literal_eval(part)]
    except ValueError:
        return importlib.import_module(module).__all__


def documented() -> set[str]:
    """What the directives of the pages in docs/api name, one by one or as all members of a module.

    Of data that has no docstring where it is listed autodoc shows nothing: ``make docs`` finds that.
    """
    found: set[str] = set()
    for page in (DOCS / "api").rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        for kind, name, options in re.findall(r"^\.\. (\w+):: ([\w.]+)\n((?:   :.*\n)*)", text, re.MULTILINE):
            found.add(name)
            if kind == "automodule" and re.search(r"^   :members:$", options, re.MULTILINE):
                found |= {f"{name}.{one}" for one in public_names(name)}
    return found


@pytest.mark.parametrize("module", public_modules())
def test_every_public_name_is_on_a_page(module: str) -> None:
    names = {f"{module}.{name}" for name in public_names(module)} - {"rarepixel.__version__"}
    assert names - documented() == set(), "a page in docs/api has to name them"


# ---- Pages ----------------------------------------------------------------------------------------------------------


def entries(page: Path) -> set[Path]:
    """What the tables of contents of a page lead to."""
    found: set[Path] = set()
    text = page.read_text(encoding="utf-8")
    for body in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for entry in (line for line in body.splitlines() if line and not line.startswith(":")):
            start = ROOT if entry.startswith("/") else page.parent
            found |= {
                path for path in start.glob(f"{entry.lstrip('/')}.md") if ":glob:" in body or not is_pattern(entry)
            }
    return found


def is_pattern(entry: str) -> bool:
    return any(sign in entry for sign in "*?[")


def test_every_page_is_reached_from_the_start() -> None:
    reached: set[Path] = set()
    to_do = {DOCS / "index.md"}
    while to_do:
        reached |= to_do
        to_do = set().union(*map(entries, to_do)) - reached
    assert {name_of(page) for page in PAGES} - {name_of(page) for page in reached} == set()


# ---- Links ----------------------------------------------------------------------------------------------------------


def without_code(text: str) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Of headings, as GitHub and the site make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", READ, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^()\s]+)\)", without_code(page.read_text(encoding="utf-8")))
    broken = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


# ---- What is said ---------------------------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


@pytest.mark.parametrize("page", ["README.md", "docs/index.md", "docs/losses.md"])
def test_code_runs_from_top_to_bottom(page: str) -> None:
    pytest.importorskip("matplotlib")
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    exec(compile("\n".join(blocks), page, "exec"), {})


def test_losses_that_are_recommended_can_be_made() -> None:
    train = pytest.importorskip("rarepixel.train", exc_type=ImportError)
    text = (DOCS / "which_loss.md").read_text(encoding="utf-8")
    table = text[text.index("| prevalence") : text.index("Names are those")]
    specs = set(re.findall(r"`([a-z_]+(?::[\w=,]+)?)`", table))
    assert len(specs) > 10
    for spec in specs:
        train.make_loss(spec, steps=1000, activation="softmax" if spec.startswith("dice_ce") else "sigmoid")


def test_costs_that_are_told_are_those_that_were_measured() -> None:
    from benchmarks.harness.markdown import significant
    from benchmarks.harness.readme import find_entries

    measured = {
        entry.report.loss: entry.slowness(entry.timings, entry.plain)
        for entry in find_entries(ROOT / "benchmarks/results")[0]
    }
    told = re.findall(
        r"^\| [^|]*\(`(\w+)`\) \| ([\d.]+) \|", (DOCS / "which_loss.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert {loss for loss, _ in told} <= measured.keys()
    assert len(told) > 5
    assert dict(told) == {loss: significant(measured[loss], 2) for loss, _ in told}
