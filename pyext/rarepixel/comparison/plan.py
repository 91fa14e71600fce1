"""What is compared: a recipe, losses, seeds; a shipped comparison, a file, or what the command line says."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .._criterion import make_loss
from .._specs import Spec, load_yaml, nearest, parse, split_outside
from .._whole_files import write_atomically
from ..train.recipe import Recipe, dump_recipe, read_recipe, shipped_recipes
from ..train.run import FREE
from ..train.run import flat as _flat
from ..train.training import make_absolute

COMPARISONS = Path(__file__).parent / "comparisons"
DEFAULT = "demo"
LOSSES = ("bce", "random_drop:log", "top_k", "two_stage", "unified_focal")
FACTORS = (0.1, 0.3, 1.0, 3.0)
_KEYS = ("title", "recipe", "overrides", "losses", "seeds", "search")


class ComparisonError(ValueError):
    """A comparison that cannot be, or a folder that holds another one."""


@dataclass(frozen=True)
class Contender:
    """A loss that takes part.

    Attributes:
        name: to be shown.
        loss: its spec.
        rate: the learning rate it is given; None: that of the recipe, or what the search finds.
    """

    name: str
    loss: Any
    rate: float | None = None

    @property
    def folder(self) -> str:
        """A name for files, which tells this loss from any other."""
        text = str(parse("loss", self.loss)) if self.rate is None else f"{parse('loss', self.loss)}@{self.rate:g}"
        return re.sub(r"[^A-Za-z0-9._=@-]+", "-", text).strip("-")


@dataclass(frozen=True)
class Search:
    """How learning rates are found: each loss is trained for a while with a few, judged by training images held out.

    Attributes:
        factors: of the recipe's learning rate.
        steps: the share of the recipe's steps that each gets; schedules are those of so short a training.
        held_out: the share of the training images that judge.
    """

    factors: tuple[float, ...] = FACTORS
    steps: float = 0.2
    held_out: float = 0.34

    def __post_init__(self) -> None:
        if not self.factors or not all(factor > 0 for factor in self.factors):
            raise ComparisonError(f"search.factors: expected numbers above 0, got {self.factors}")
        if not 0 < self.steps <= 1:
            raise ComparisonError(f"search.steps: expected a share above 0 and up to 1, got {self.steps}")
        if not 0 < self.held_out < 1:
            raise ComparisonError(f"search.held_out: expected a share between 0 and 1, got {self.held_out}")


@dataclass(frozen=True)
class Plan:
    """A comparison.

    Attributes:
        title: what is compared, in a sentence; "": the losses' names and the data's.
        recipe: what all trainings have in common.
        contenders: the losses.
        seeds: how many; the first is the recipe's.
        search: of learning rates; None: the recipe's is every loss's.
    """

    title: str
    recipe: Recipe
    contenders: tuple[Contender, ...]
    seeds: int = 1
    search: Search | None = None

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ComparisonError(f"seeds: expected at least 1, got {self.seeds}")
        if not self.contenders:
            raise ComparisonError("losses: expected at least one, got none")
        for what in ("name", "folder"):
            found = [getattr(one, what) for one in self.contenders]
            twice = [one for one in dict.fromkeys(found) if found.count(one) > 1]
            if twice:
                raise ComparisonError(f"losses: expected each once, got {twice[0]} twice")
        for one in self.contenders:
            make_loss(one.loss, steps=self.recipe.steps, activation=self.recipe.activation)
        if self.recipe.data.validation is None:
            raise ComparisonError("data.validation: expected images to judge the losses by, got none")

    @property
    def seed_numbers(self) -> range:
        """The seeds themselves."""
        return range(self.recipe.seed, self.recipe.seed + self.seeds)

    def with_more(self, other: Plan) -> Plan:
        """This plan with what another one has besides: losses, and seeds if there are more.

        Raises:
            ComparisonError: the other one has another recipe or search, or another loss of the same name.
        """
        mine, others = _flat(self.recipe), _flat(other.recipe)
        names = [name for name in mine if name not in _FREE]
        different = [f"{name} {mine[name]!r}, not {others[name]!r}" for name in names if mine[name] != others[name]]
        if other.search is not None and self.search != other.search:
            different.append(f"search {self.search}, not {other.search}")
        known = {one.folder for one in self.contenders}
        named = {one.name: one for one in self.contenders}
        for one in other.contenders:
            if one.folder not in known and one.name in named:
                different.append(f"{one.name} {named[one.name].loss}, not {one.loss}")
        if different:
            raise ComparisonError(
                f"expected more of the comparison that the folder holds, which has {'; '.join(different)}"
            )
        # The losses that it has, by whatever name, keep theirs; where data lie may be said anew.
        more = tuple(one for one in other.contenders if one.folder not in known)
        return dataclasses.replace(
            self,
            title="" if more else self.title,
            recipe=other.recipe,
            contenders=self.contenders + more,
            seeds=max(self.seeds, other.seeds),
        )


_FREE = FREE | {"loss"}


def read_plan(
    what: str | Path | Recipe = DEFAULT,
    *,
    losses: Sequence[Any] | Mapping[str, Any] | None = None,
    seeds: int | None = None,
    search: Search | bool | None = None,
    overrides: Sequence[str] = (),
) -> Plan:
    """A comparison, from its name or file or from a recipe, with what is said otherwise.

    Args:
        what: a name of :func:`shipped_comparisons` or of a shipped recipe, the YAML file of either, or a recipe.
        losses: specs, or names and specs; None: the comparison's. ``"bce@0.003"`` has a learning
            rate of its own.
        seeds: how many; None: the comparison's, or 1.
        search: how learning rates are found; True: as :class:`Search` does by default; None: as the comparison says.
        overrides: of the recipe: ``["--steps", "100"]``.

    Raises:
        ComparisonError: no such comparison, a key that there is not, a loss that is there twice.
        RecipeError: a recipe that cannot be.
        FileNotFoundError: no such file.
        ValueError: a loss that there is not.
    """
    content = {} if isinstance(what, Recipe) else _content(what)
    of_file = [str(word) for word in content.get("overrides", [])]
    recipe = read_recipe(content["recipe"] if content else what, [*of_file, *overrides])
    make_absolute(recipe)
    said = {word.partition("=")[0] for word in (*of_file, *overrides)}
    for word, instead in (("--loss", "--losses"), ("--devices", "--on")):
        if word in said:
            raise ComparisonError(f"{word}: expected {instead}, which says it of all trainings of a comparison")
    if "--prior_start" not in said:
        # Else plain cross-entropy spends its first steps on learning that there is hardly anything.
        recipe = dataclasses.replace(recipe, prior_start=True)
    found = losses if losses is not None else content.get("losses", LOSSES)
    searching = search if search is not None else content.get("search")
    return Plan(
        # That of a recipe speaks of its loss, that of a comparison of its losses.
        title=str(content.get("title", "")) if losses is None else "",
        recipe=recipe,
        contenders=tuple(_contenders(found)),
        seeds=int(seeds if seeds is not None else content.get("seeds", 1)),
        search=_search(searching),
    )


def shipped_comparisons() -> dict[str, str]:
    """The names of the comparisons that come with the package, and their titles."""
    return {path.stem: load_yaml(path.read_text())["title"] for path in sorted(COMPARISONS.glob("*.yaml"))}


def split_losses(text: str) -> list[str]:
    """The specs of ``"bce,top_k:k=0.05,joint:pixel={bce: {positive_weight: 9}}"``: at commas outside brackets."""
    return [part.strip() for part in split_outside(text, ",") if part.strip()]


def dump_plan(plan: Plan) -> str:
    """All of a plan as YAML, which :func:`read_plan` reads."""
    content: dict[str, Any] = {
        "title": plan.title,
        "recipe": load_yaml(dump_recipe(plan.recipe)),
        "overrides": ["--prior_start", str(plan.recipe.prior_start).lower()],
        "losses": {
            one.name: one.loss if one.rate is None else {"loss": one.loss, "rate": one.rate} for one in plan.contenders
        },
        "seeds": plan.seeds,
    }
    if plan.search is not None:
        search = dataclasses.asdict(plan.search)
        content["search"] = {**search, "factors": list(plan.search.factors)}
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100))


def write_plan(path: Path, plan: Plan) -> None:
    """Into a file, whole or not at all."""
    write_atomically(path, lambda file: file.write(dump_plan(plan).encode()))


def name_of(loss: Any) -> str:
    """A loss in a few words: ``random drop (log)``, ``BCE (positive_weight 10)``, ``DiceCELoss (sigmoid true)``."""
    spec = parse("loss", loss)
    name = spec.name.rpartition(".")[2] if spec.is_path else spec.name.replace("_", " ")
    words = {"bce": "BCE", "top k": "Top-k", "two stage": "two-stage", "unified focal": "Unified Focal", "dice": "Dice"}
    return f"{words.get(name, name)} ({options})" if (options := ", ".join(_options(spec))) else words.get(name, name)


def _options(spec: Spec) -> Iterator[str]:
    if isinstance(spec.first, str | int | float):
        yield str(spec.first)
    for name, value in spec.options.items():
        yield f"{name} {str(value).lower() if isinstance(value, bool) else value}"


def _content(what: str | Path) -> dict[str, Any]:
    path = _path_of(what)
    if path is None:
        return {}
    content = load_yaml(path.read_text())
    if not isinstance(content, dict) or not {"losses", "recipe"} & set(content):
        return {}
    for key in content:
        if key not in _KEYS:
            raise ComparisonError(
                f"{path}: no key {key!r}{nearest(str(key), _KEYS) or '; there are ' + ', '.join(_KEYS)}"
            )
    if "recipe" not in content:
        raise ComparisonError(f"{path}: expected a recipe, by its name or written out, got none")
    if isinstance(content["recipe"], str) and (path.parent / content["recipe"]).is_file():
        content["recipe"] = str(path.parent / content["recipe"])
    return content


def _path_of(what: str | Path) -> Path | None:
    """The file that may hold a comparison; None: a recipe's name."""
    path = Path(what)
    if (path / "comparison.yaml").is_file():
        return path / "comparison.yaml"
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such comparison or recipe")
        return path
    shipped = COMPARISONS / f"{what}.yaml"
    if shipped.is_file():
        return shipped
    names = list(dict.fromkeys([*shipped_comparisons(), *shipped_recipes()]))
    if str(what) not in names:
        raise ComparisonError(
            f"expected a shipped comparison or recipe ({', '.join(names)}), a YAML file or the folder of a comparison, "
            f"got {str(what)!r}{nearest(str(what), names)}"
        )
    return None


def _contenders(losses: Sequence[Any] | Mapping[str, Any]) -> Iterator[Contender]:
    if isinstance(losses, Mapping):
        for name, loss in losses.items():
            if isinstance(loss, Mapping) and set(loss) == {"loss", "rate"}:
                yield Contender(str(name), loss["loss"], _checked_rate(loss["rate"]))
            else:
                yield _contender(loss, str(name))
        return
    if isinstance(losses, str):
        losses = split_losses(losses)
    for loss in losses:
        yield _contender(loss)


def _contender(loss: Any, name: str | None = None) -> Contender:
    if isinstance(loss, str) and "@" in loss:
        loss, _, text = loss.rpartition("@")
        rate = _checked_rate(text)
        return Contender(name or f"{name_of(loss)} at {rate:g}", loss, rate)
    return Contender(name or name_of(loss), loss)


def _checked_rate(rate: Any) -> float:
    try:
        found = float(rate)
    except (TypeError, ValueError):
        found = -1.0
    if not 0 < found < math.inf:
        raise ComparisonError(f"losses: expected a learning rate above 0, got {rate!r}")
    return found


def _search(search: Any) -> Search | None:
    if search is None or search is False:
        return None
    if search is True:
        return Search()
    if isinstance(search, Search):
        return search
    if not isinstance(search, Mapping):
        raise ComparisonError(f"search: expected true, false or a mapping, got {search!r}")
    names = [one.name for one in dataclasses.fields(Search)]
    for key in search:
        if key not in names:
            raise ComparisonError(
                f"search: no key {key!r}{nearest(str(key), names) or '; there are ' + ', '.join(names)}"
            )
    return Search(**{**search, **({"factors": tuple(search["factors"])} if "factors" in search else {})})
