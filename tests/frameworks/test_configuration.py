"""Losses made of configuration files: jsonargparse's ``class_path``, as in LightningCLI, and MONAI's ``_target_``."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rarepixel
from rarepixel import schedules

yaml: Any = pytest.importorskip("yaml")


def falling(iteration: int) -> int:
    """A schedule of somebody's own."""
    return max(1000 - iteration, 100)


MODULES = [name for name in rarepixel.__all__ if inspect.isclass(getattr(rarepixel, name))]
by_module = pytest.mark.parametrize("name", MODULES)
SOFTMAX, SOFT = {"activation": "softmax"}, {"soft_labels": True}
TOP_K: dict[str, Any] = {
    "class": "TopKLoss",
    "k": {"class": "schedules.LinearDecay", "max_iterations": 100, "period": 10},
}
NEEDS: dict[str, dict[str, Any]] = {
    "DeepSupervision": {"loss": {"class": "DiceLoss"}},
    "JointLoss": {"segment": {"class": "SegmentThicknessLoss"}, "pixel": {"class": "RandomDropLoss"}},
    "TwoStage": {"first": TOP_K, "second": {"class": "SquaredErrorLoss"}, "switch_at": 5},
}
# Values of each option, with what it needs beside; a name before the dot is that of the one loss they are of.
VALUES: dict[str, list[tuple[Any, dict[str, Any]]]] = {
    "absent": [("skip", {})],
    "RandomDropLoss.absent": [("count", {})],
    "activation": [("softmax", {})],
    "alpha": [(0.4, {}), (1, {})],
    "FocalLoss.alpha": [(0.4, {}), (None, {})],
    "alternate": [(True, {})],
    "asymmetric": [(False, {})],
    "background": [(1, SOFTMAX)],
    "MultiChannelBinLoss.background": [(2, {}), (None, {})],
    "balance": [("image", {}), ("batch", {}), ("class", {})],
    "bce_weight": [(0.4, {}), (2, {})],
    "beta": [(0.4, {}), (1, {})],
    "caffe": [(True, {})],
    "ce_weight": [(0.4, {}), (0, {})],
    "class_weights": [([1, 2.5, 3], {}), (None, {})],
    "delta": [(0.7, {})],
    "dice_weight": [(0.4, {}), (2, {})],
    "focal_gamma": [(3, {})],
    "gamma": [(0.7, {}), (1, {})],
    "ignore_index": [(255, {}), (-1, {}), ([254, 255], {}), (None, {})],
    "include_background": [(True, {})],
    "k": [
        *((value, {}) for value in (0.05, 1.0, 1, 100)),
        ({"class": "schedules.LinearDecay", "initial": 0.2, "max_iterations": 50, "period": 5}, {}),
        ({"class": "schedules.LinearDecay", "initial": 500}, {}),
        ({"class": "schedules.Cosine", "initial": 1.0, "final": 0.1, "max_iterations": 7}, {}),
        ({"class": "schedules.Constant", "value": 1}, {}),
    ],
    "key": [(5, {})],
    "label_smoothing": [(0.1, {})],
    "like_code": [(True, {})],
    "loss": [(TOP_K, {}), ({"class": "TwoStage", **NEEDS["TwoStage"]}, {})],
    "min_coverage": [(0.5, {})],
    "negative_weight": [(2, {})],
    "num_bins": [(4, {})],
    "one_quotient": [(True, {})],
    "pixel_weights": [([0.1, 0.2, 0.7], {})],
    "positive_weight": [(3, {}), (2.5, {}), ([1, 2.5], {})],
    "process_group": [(None, {})],
    "ratio": [(0.5, {})],
    "reduction": [("sum", {}), ("none", {})],
    "resize": [("any", {}), ("nearest", {})],
    "return_stats": [(True, {})],
    "schedule": [("linear", {})],
    "smooth": [(1.0e-5, {}), (0, {})],
    "soft_labels": [(True, {})],
    "soft_overlap": [("product", SOFT)],
    "switch_at": [(7, {})],
    "tversky_gamma": [(1, {})],
    "weight": [(0.3, {})],
    "weights": [([1, 0.5], {}), (None, {})],
    "GeneralizedDiceLoss.weights": [("simple", {})],
    **{name: [(TOP_K, {}), ({"class": "TopKLoss", "k": 0.05}, {})] for name in ("first", "second", "segment", "pixel")},
}


def specs(name: str) -> Iterator[dict[str, Any]]:
    """The Module with what it needs alone, and with each value of each option."""
    needs = {"class": name, **NEEDS.get(name, {})}
    yield needs
    options = inspect.signature(getattr(rarepixel, name)).parameters
    for option in options:
        for value, more in VALUES.get(f"{name}.{option}", VALUES.get(option, [])):
            yield {**needs, **{other: more[other] for other in more if other in options}, option: value}


def built(spec: Any) -> Any:
    """What a spec means, without any configuration."""
    if not isinstance(spec, dict):
        return spec
    options = {name: built(value) for name, value in spec.items() if name != "class"}
    return path(spec["class"])(**options)


def path(name: str) -> Any:
    found: Any = rarepixel
    for part in name.split("."):
        found = getattr(found, part)
    return found


def spelled(spec: Any, how: str) -> Any:
    """A spec in the words of a package."""
    if not isinstance(spec, dict):
        return spec
    options = {name: spelled(value, how) for name, value in spec.items() if name != "class"}
    if how == "_target_":
        return {"_target_": f"rarepixel.{spec['class']}", **options}
    return {"class_path": f"rarepixel.{spec['class']}", "init_args": options}


def assert_same(made: nn.Module, expected: nn.Module) -> None:
    """Of all inside: the class and its options, of schedules whether they are numbers or shares."""
    pairs = list(zip(made.modules(), expected.modules(), strict=True))
    for one, other in pairs:
        assert type(one) is type(other)
        if isinstance(other, schedules.Schedule):
            assert repr(one) == repr(other)
            continue
        for name, value in vars(other).items():
            got = vars(one)[name]
            same = torch.equal(got, value) if isinstance(value, Tensor) else got == value
            assert same or name.startswith("_"), (name, got, value)


def parse(text: str) -> Any:
    """As LightningCLI does, through a dump and back, as the configuration that it saves."""
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--loss", type=nn.Module)
    found = parser.parse_string(text)
    saved = parser.dump(found, skip_unset=False)
    again = parser.parse_string(saved)
    assert parser.dump(again, skip_unset=False) == saved
    return parser.instantiate(again).loss


def test_every_option_has_a_value_here() -> None:
    options = {option for name in MODULES for option in inspect.signature(getattr(rarepixel, name)).parameters}
    assert options == {name for name in VALUES if "." not in name}


@by_module
def test_class_path(name: str) -> None:
    for spec in specs(name):
        assert_same(parse(yaml.safe_dump({"loss": spelled(spec, "class_path")})), built(spec))


@by_module
def test_target(name: str, tmp_path: Path) -> None:
    bundle = pytest.importorskip("monai.bundle")
    for spec in specs(name):
        file = tmp_path / "train.yaml"
        file.write_text(yaml.safe_dump({"loss": spelled(spec, "_target_")}))
        parser = bundle.ConfigParser()
        parser.read_config(file)
        assert_same(parser.get_parsed_content("loss"), built(spec))


def test_functions_of_the_iteration() -> None:
    text = "loss: {class_path: rarepixel.TopKLoss, init_args: {k: tests.frameworks.test_configuration.falling}}"
    criterion = parse(text)
    assert type(criterion.schedule) is schedules.Schedule
    assert criterion.schedule.at(400) == 600
    bundle = pytest.importorskip("monai.bundle")
    parser = bundle.ConfigParser(
        {
            "fall": {"_target_": f"{__name__}.falling", "_mode_": "callable"},
            "loss": {"_target_": "rarepixel.TopKLoss", "k": "@fall"},
            "partial": {"_target_": "rarepixel.functional.top_k", "_mode_": "callable", "k": 1},
        }
    )
    assert parser.get_parsed_content("loss").schedule.at(400) == 600
    logits, target = torch.randn(1, 1, 8, 8), torch.rand(1, 1, 8, 8) < 0.3
    assert torch.equal(
        parser.get_parsed_content("partial")(logits, target), rarepixel.functional.top_k(logits, target, k=1)
    )


def test_short_names_and_single_options_of_a_command_line() -> None:
    jsonargparse = pytest.importorskip("jsonargparse")
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--loss", type=nn.Module)
    given = ["--loss=rarepixel.TopKLoss", "--loss.k=LinearDecay", "--loss.k.period=7", "--loss.k.max_iterations=70"]
    criterion = parser.instantiate(parser.parse_args([*given, "--loss.ignore_index=[254,255]"])).loss
    assert criterion.schedule.period == 7
    assert criterion.ignore_index == (254, 255)
    for k, number in (("1", 1), ("1.0", 1.0), ("0.05", 0.05)):
        criterion = parser.instantiate(parser.parse_args(["--loss=rarepixel.TopKLoss", f"--loss.k={k}"])).loss
        assert repr(criterion.schedule) == repr(schedules.Constant(number))


def test_lightning_cli(tmp_path: Path) -> None:
    for extra in ("docstring_parser", "typeshed_client"):  # of jsonargparse[signatures]
        pytest.importorskip(extra)
    cli: Any = pytest.importorskip("lightning.pytorch.cli")
    from tests.frameworks.lightning_task import Task

    spec = {"model": {"criterion": spelled({"class": "TwoStage", **NEEDS["TwoStage"]}, "class_path")}}
    spec["model"]["criterion"]["init_args"]["first"]["init_args"]["ignore_index"] = [254, 255]
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(spec))
    options = ["--model.criterion.init_args.second=rarepixel.TopKLoss", "--model.criterion.init_args.second.k=7"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jsonargparse deprecates what Lightning calls
        made = cli.LightningCLI(Task, run=False, save_config_callback=None, args=[f"--config={file}", *options])
    criterion = made.model.criterion
    assert type(criterion) is rarepixel.TwoStage
    assert criterion.first.ignore_index == (254, 255)
    assert repr(criterion.second.schedule) == repr(schedules.Constant(7))


def test_wrong_options_are_told() -> None:
    text = "loss: {class_path: rarepixel.TopKLoss, init_args: {k: 1.5}}"
    with pytest.raises(ValueError, match=r"k: expected a share above 0 and at most 1, got 1\.5"):
        parse(text)
    with pytest.raises(Exception, match="balanc"):
        parse("loss: {class_path: rarepixel.TopKLoss, init_args: {balanc: image}}")


def test_metrics_too() -> None:
    pytest.importorskip("torchmetrics")
    jsonargparse = pytest.importorskip("jsonargparse")
    from rarepixel import metrics

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--metric", type=nn.Module)
    bundle = pytest.importorskip("monai.bundle")
    for name, options in (
        ("PixelCurve", {"per_image": True}),
        ("LesionCurve", {}),
        ("LesionScores", {"threshold": 0.5, "size_bins": [1, 10, 100]}),
        ("Reliability", {"logits": True}),
    ):
        spec = {"metric": {"class_path": f"rarepixel.metrics.{name}", "init_args": options}}
        made = parser.instantiate(parser.parse_string(yaml.safe_dump(spec))).metric
        assert type(made) is getattr(metrics, name)
        target = bundle.ConfigParser({"metric": {"_target_": f"rarepixel.metrics.{name}", **options}})
        assert type(target.get_parsed_content("metric")) is getattr(metrics, name)


def test_auto3dseg_replaces_a_templates_loss() -> None:
    """As its templates do: a loss under a key, overridden as a whole, made by itself, within deep supervision."""
    bundle, losses = pytest.importorskip("monai.bundle"), pytest.importorskip("monai.losses")
    template = {
        "sigmoid": False,
        "loss": {"_target_": "DiceCELoss", "to_onehot_y": "$not @sigmoid", "softmax": "$not @sigmoid", "smooth_nr": 0},
    }
    parser = bundle.ConfigParser(config=template)
    parser.update(pairs={"loss": {"_target_": "rarepixel.UnifiedFocalLoss", "activation": "softmax"}})
    loss = bundle.ConfigParser(parser.config["loss"]).get_parsed_content(instantiate=True)
    criterion = losses.DeepSupervisionLoss(loss)
    outputs = [torch.randn(2, 3, size, size, size, requires_grad=True) for size in (16, 8)]
    labels = torch.randint(0, 3, (2, 1, 16, 16, 16), dtype=torch.uint8)
    value = criterion(outputs, labels)
    expected = loss(outputs[0], labels) + 0.5 * loss(outputs[1], labels[..., 1::2, 1::2, 1::2])
    torch.testing.assert_close(value, expected)
