"""The benchmark harness: what it measures and writes, never how fast anything is."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import rarepixel
from benchmarks import (
    __main__,
    _components,
    _lesion_curves,
    _pixel_curves,
    _published_thickness_layer,
    _thinning,
    _training_loop,
    _vessels,
    multi_channel_bin,
    random_drop,
    segment_thickness,
    top_k,
)
from benchmarks.harness import Contestant, class_balanced_bce, masked_bce
from benchmarks.harness.cpu import (
    FULL,
    OURS,
    QUICK,
    CpuReport,
    CpuRun,
    drop_failing,
    eager_contestants,
    isa_worker,
    make_steps,
    measure_scene,
)
from benchmarks.harness.declaration import (
    BINARY_SCENES,
    Scene,
    Variant,
    binary_benchmark,
    field_of_view,
    find_benchmarks,
    load_benchmark,
)
from benchmarks.harness.environment import ROOT, cores_busy_elsewhere, describe_environment
from benchmarks.harness.gpu import GpuReport
from benchmarks.harness.markdown import replace_block, significant, table
from benchmarks.harness.measuring import Effort, Spread, Step, Timing, interleave, sample_step, summarise, time_calls
from benchmarks.harness.memory import Memory, measure_memory
from benchmarks.harness.readme import Entry, find_entries, overview, performance
from benchmarks.harness.records import read, to_json
from benchmarks.harness.reporting import contestants_table, isa_table, size_table, summary_rows, write
from rarepixel import _library, segments

needs_kernels = pytest.mark.skipif(not _library.CPU.loaded, reason="no CPU kernels")
CPU = torch.device("cpu")
RESULTS = ROOT / "benchmarks/results"
UNTRAINED, TRAINED = (scene.label for scene in BINARY_SCENES)


@pytest.fixture(autouse=True)
def _frozen_heap() -> Iterator[None]:
    """Each measurement begins with a garbage collection, which need not look at all that earlier tests have left."""
    gc.freeze()
    yield
    gc.unfreeze()


def timing(forward: float, backward: float, both: float, samples: int = 5) -> Timing:
    return Timing(*(Spread(value, 0.9 * value, 1.1 * value, samples) for value in (forward, backward, both)))


TIMINGS: dict[str, Timing | str] = {
    "rarepixel": timing(0.8, 0.6, 1.4),
    "plain-PyTorch twin, eager": timing(50, 6, 56),
    "plain-PyTorch twin, torch.compile": "does not run here: InductorError",
    "BCE, eager": timing(2, 0.8, 2.8),
}


@pytest.fixture
def report() -> CpuReport:
    environment = {"processor": "Some CPU", "cores": "2", "torch": "2.13.0"}
    found = CpuReport("some_loss", "Some loss", "BCE", QUICK, (1, 1, 712, 1072), environment)
    twice = TIMINGS | {"rarepixel": timing(0.4, 0.3, 0.7), "BCE, eager": timing(1, 0.4, 1.4)}
    found.scenes = {UNTRAINED: {1: TIMINGS, 2: twice}}
    found.other_work = [0.04, 1.23]
    found.floor = {"logits.sum()": Spread(0.1, 0.1, 0.1, 5)}
    found.isas = {
        "avx512": "this processor does not have it",
        "baseline": {"rarepixel": timing(1, 1, 2), "BCE, eager": timing(1, 1, 4)},
    }
    found.sizes = {
        "10 x 100": {label: row for label, row in TIMINGS.items() if isinstance(row, Timing)},
    }
    return found


def blocks_of_results() -> dict[str, str]:
    """What the pages show of the committed results."""
    entries, unmeasured = find_entries(RESULTS)
    return {
        "README.md": overview(entries, "benchmarks/results", unmeasured),
        "docs/performance.md": performance(entries, "../benchmarks/results", unmeasured),
    }


class TestMarkdown:
    @pytest.mark.parametrize(
        ("value", "text"),
        [(0.012345, "0.0123"), (1.4, "1.40"), (57.49, "57.5"), (1034.4, "1034"), (0.0, "0"), (math.inf, "inf")],
    )
    def test_significant(self, value: float, text: str) -> None:
        assert significant(value) == text

    def test_table(self) -> None:
        assert table(["loss", "ms"], [["a", "1"], ["b", "2"]], "b") == (
            "| loss | ms |\n| --- | ---: |\n| a | 1 |\n| **b** | **2** |"
        )

    def test_columns_of_text(self) -> None:
        headings = ["loss", "ms", "peer", "ratio"]
        assert table(headings, [], texts=["peer"]) == "| loss | ms | peer | ratio |\n| --- | ---: | --- | ---: |"

    def test_replaces_what_is_between_the_markers_and_nothing_else(self) -> None:
        text = "# A\n<!-- benchmarks -->\nold\nold\n<!-- /benchmarks -->\nafter\n"
        once = replace_block(text, "| new \\1 |")
        assert once == text.replace("old\nold\n", "| new \\1 |\n")
        assert replace_block(once, "| new \\1 |") == once

    def test_fills_empty_markers(self) -> None:
        empty = "<!-- benchmarks -->\n<!-- /benchmarks -->"
        assert replace_block(empty, "x") == "<!-- benchmarks -->\nx\n<!-- /benchmarks -->"

    @pytest.mark.parametrize(
        "text",
        [
            "no markers",
            "<!-- benchmarks -->\nnever closed\n",
            "<!-- /benchmarks -->\n<!-- benchmarks -->\n",
            2 * "<!-- benchmarks -->\n<!-- /benchmarks -->\n",
        ],
    )
    def test_wrong_markers_are_an_error(self, text: str) -> None:
        with pytest.raises(
            ValueError, match=r"^expected one <!-- benchmarks --> and below it one <!-- /benchmarks -->"
        ):
            replace_block(text, "x")


class TestReports:
    def test_contestants(self) -> None:
        assert contestants_table({1: TIMINGS}, "BCE") == (
            "| loss | forward, ms | backward, ms | forward + backward, ms | times BCE | times twin |\n"
            "| --- | ---: | ---: | ---: | ---: | ---: |\n"
            "| **rarepixel** | **0.800** | **0.600** | **1.40** | **0.50** | **0.025** |\n"
            "| plain-PyTorch twin, eager | 50.0 | 6.00 | 56.0 | 20 | 1.0 |\n"
            "| plain-PyTorch twin, torch.compile | — | — | does not run here: InductorError | — | — |\n"
            "| BCE, eager | 2.00 | 0.800 | 2.80 | 1.0 | 0.050 |"
        )

    def test_a_time_that_is_no_median_says_so(self, report: CpuReport) -> None:
        assert "one sample" not in contestants_table({1: TIMINGS}, "BCE")
        once = TIMINGS | {"peer": timing(9000, 20, 9020, samples=1)}
        assert contestants_table({1: once, 2: once}, "BCE").splitlines()[-1] == (
            "| peer | 9000 | 20.0 | 9020 (one sample) | 3221 | 161 | 9020 (one sample) | 3221 |"
        )
        report.sizes["10 x 100"]["plain-PyTorch twin, eager"] = timing(50, 6, 56, samples=1)
        assert "| 1.40 | 1400 | 56000 (one sample) | 2800 |" in size_table(report)

    def test_summary(self, report: CpuReport) -> None:
        assert summary_rows(report)[0] == ["rarepixel", "1.40", "0.50", "0.025"]

    def test_instruction_sets(self, report: CpuReport) -> None:
        assert isa_table(report).splitlines()[2:] == [
            "| avx512 | — | — | this processor does not have it |  |  |",
            "| baseline | 1.00 | 1.00 | 2.00 | 4.00 | 0.50 |",
        ]

    def test_sizes_are_shown_a_pixel(self, report: CpuReport) -> None:
        assert size_table(report).splitlines()[-1] == "| 10 x 100 | 1.40 | 1400 | 56000 | 2800 | 0.50 | 0.025 |"

    def test_one_channel_has_as_many_logits_as_pixels(self, report: CpuReport, tmp_path: Path) -> None:
        text = write(report, tmp_path).read_text(encoding="utf-8")
        assert "\n## 712 x 1072 pixels, float32, 0.2 % positives\n" in text
        assert "rarepixel, ns/pixel" in text
        assert "Bytes a pixel that" in text

    def test_prevalence(self, report: CpuReport, tmp_path: Path) -> None:
        report.prevalence = 0.1
        text = write(report, tmp_path).read_text(encoding="utf-8")
        assert "\n## 712 x 1072 pixels, float32, 10 % positives\n" in text

    def test_several_channels(self, report: CpuReport, tmp_path: Path) -> None:
        report.shape = (1, 4, 712, 1072)
        text = write(report, tmp_path).read_text(encoding="utf-8")
        heading = "4 channels of 712 x 1072 pixels, float32, 0.2 % positives in each"
        assert f"\n## {heading}\n" in text
        assert "rarepixel, ns/logit" in text
        assert "Bytes a logit that" in text
        assert size_table(report).splitlines()[-1] == "| 10 x 100 | 1.40 | 350 | 14000 | 700 | 0.50 | 0.025 |"

    def test_files(self, report: CpuReport, tmp_path: Path) -> None:
        path = write(report, tmp_path / "results")
        assert path.name == "some_loss-cpu.md"
        text = path.read_text(encoding="utf-8")
        assert contestants_table(report.scenes[UNTRAINED], "BCE") in text
        assert "A quick run" in text
        assert "Other processes kept 0.0 and 1.2 cores busy before and after the run: too many for" in text
        stored = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        rows = stored["scenes"][UNTRAINED]["1"]
        assert rows["rarepixel"]["both"] == {"median": 1.4, "low": 0.9 * 1.4, "high": 1.1 * 1.4, "samples": 5}

    def test_gpu(self, tmp_path: Path) -> None:
        found = GpuReport("some_loss", "Some loss", "BCE", False, (8, 1, 2848, 4288), {"GPU": "Some GPU"})
        found.scenes = {UNTRAINED: TIMINGS}
        found.replay = {UNTRAINED: Spread(0.7, 0.7, 0.7, 5)}
        found.copy_bytes_per_second = 1e12
        found.traffic = {"forward": 400_000_000, "backward": 500_000_000}
        path = write(found, tmp_path)
        text = path.read_text(encoding="utf-8")
        assert path.name == "some_loss-gpu.md"
        assert "rarepixel replayed from a CUDA graph: 0.700 ms, 0.25 times BCE." in text
        assert "| forward, untrained network | 400 | 500 | 50 % |" in text
        assert "| backward, untrained network | 500 | 833 | 83 % |" in text

    def test_busy_cores(self) -> None:
        busy = cores_busy_elsewhere(0.05)
        assert busy >= 0 or math.isnan(busy)

    def test_environment_names_no_folder_and_no_host(self) -> None:
        found = describe_environment()
        assert {"processor", "cores", "torch", "rarepixel", "compiler flags"} <= set(found)
        assert not any(text.startswith("/") for value in found.values() for text in value.split())


class TestRecords:
    def test_a_measurement_is_a_line(self, report: CpuReport) -> None:
        report.memory = {"rarepixel": Memory(0.125, 0.125, 4.0, 4.0, "logits")}
        text = to_json(report)
        assert json.loads(text) == json.loads(json.dumps(dataclasses.asdict(report)))
        lines = [line.strip().rstrip(",") for line in text.splitlines()]
        assert lines.count('"BCE, eager": ' + json.dumps(dataclasses.asdict(timing(2, 0.8, 2.8)))) == 2
        assert '"shape": [1, 1, 712, 1072]' in lines
        memory = '{"forward_peak": 0.125, "kept": 0.125, "backward_peak": 4.0, "gradient": 4.0, "saved": "logits"}'
        assert f'"rarepixel": {memory}' in lines
        assert '"2": {' in lines
        assert '"variants": {}' in lines

    def test_what_is_written_is_read(self, report: CpuReport, tmp_path: Path) -> None:
        report.memory = {"rarepixel": Memory(0.125, 0.125, 4.0, 4.0, "logits")}
        assert read(CpuReport, write(report, tmp_path).with_suffix(".json")) == report
        found = GpuReport("some_loss", "Some loss", "BCE", False, (8, 1, 2848, 4288), {"GPU": "Some GPU"})
        found.scenes = {UNTRAINED: TIMINGS}
        found.replay = {UNTRAINED: Spread(0.7, 0.7, 0.7, 5)}
        found.copy_bytes_per_second = 1e12
        assert read(GpuReport, write(found, tmp_path).with_suffix(".json")) == found

    @pytest.mark.parametrize("path", sorted(RESULTS.glob("*-cpu.json")), ids=lambda path: path.stem)
    def test_committed_results_are_written_so(self, path: Path) -> None:
        kinds = {
            "thinning": _thinning.ThinningReport,
            "components": _components.ComponentsReport,
            "lesions": _lesion_curves.LesionReport,
            "curves": _pixel_curves.CurvesReport,
            "training": _training_loop.TrainingReport,
        }
        kind = kinds.get(path.name.partition("-")[0], CpuReport)

        def measured(text: str) -> list[str]:
            # Results may be older than a setting.
            return [line for line in text.splitlines() if not line.startswith((' "settings": ', ' "prevalence": '))]

        assert measured(path.read_text(encoding="utf-8")) == measured(to_json(read(kind, path)))


class TestReadme:
    @staticmethod
    def rows(ours: float, plain: float = 2.0, peer: Timing | str = "does not run here") -> dict[str, Timing | str]:
        both = {"rarepixel": ours, "BCE, eager": plain, "BCE, torch.compile": 1.5}
        return {label: timing(0.1, 0.1, value) for label, value in both.items()} | {"a peer, eager": peer}

    @classmethod
    def entry(cls, title: str, ours: float, peer: Timing | str = "does not run here") -> Entry:
        environment = {"processor": "Some CPU", "cores": "2", "torch": "2.13.0", "rarepixel": "0.1"}
        report = CpuReport(title.lower(), title, "BCE", FULL, (1, 1, 712, 1072), environment, other_work=[0.0, 0.0])
        report.scenes = {UNTRAINED: {1: cls.rows(ours, peer=peer)}}
        report.memory = {
            "rarepixel": Memory(0.125, 0.125, 4.0, 4.0, ""),
            "BCE, eager": Memory(8.0, 0.0, 4.0, 4.0, ""),
        }
        peer_loss = Contestant("a peer, eager", F.binary_cross_entropy_with_logits)
        return Entry(report, dataclasses.replace(random_drop.BENCHMARK, peer=peer_loss, variants=()))

    def test_a_row_a_loss_the_fastest_first(self) -> None:
        slow, fast = self.entry("Slow", 1.4), self.entry("Fast", 0.5, peer=timing(1, 1, 5, samples=1))
        fast.report.shape = (1, 4, 712, 1072)
        slow.report.prevalence = 0.1
        assert overview([slow, fast], "results").splitlines()[:4] == [
            "| loss | ours, ms | plain loss, ms | ours / plain | closest peer | peer, ms | ours / peer "
            "| memory: ours | memory: plain |",
            "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
            "| [Fast](results/fast-cpu.md), 4 channels | 0.500 | 2.00 | **0.25** | a peer | 5.00 (one sample) | 0.10 "
            "| 0.125 + 4 | 8 + 4 |",
            "| [Slow](results/slow-cpu.md), 10 % positives | 1.40 | 2.00 | **0.70** | a peer | does not run here | — "
            "| 0.125 + 4 | 8 + 4 |",
        ]

    def test_another_plain_loss_is_named(self) -> None:
        entry = self.entry("Some loss", 1.0)
        entry.report.plain = "cross-entropy"
        named = {label.replace("BCE", "cross-entropy"): row for label, row in self.rows(1.0).items()}
        entry.report.scenes = {UNTRAINED: {1: named}}
        entry.report.memory["cross-entropy, eager"] = Memory(4.0, 4.0, 8.0, 4.0, "")
        row = overview([entry], "results").splitlines()[2]
        assert "| 1.00 | 2.00 (cross-entropy) | **0.50** |" in row
        assert row.endswith("| 0.125 + 4 | 4 + 8 |")

    def test_what_was_measured_is_said_once_if_it_is_one(self) -> None:
        entries = [self.entry("A", 1.0), self.entry("B", 1.0)]
        sentence = (
            "712 x 1072 pixels, float32, logits 2·N(0, 1), on one thread of Some CPU (2 cores), torch 2.13.0, "
            "rarepixel 0.1"
        )
        assert f"Forward + backward of {sentence}: medians" in overview(entries, "results")
        assert "not idle" not in overview(entries, "results")
        entries[1].report.environment = {**entries[1].report.environment, "torch": "2.14.0"}
        entries[1].report.other_work = [0.0, 1.9]
        text = overview(entries, "results")
        assert f"Forward + backward of {sentence}; {sentence.replace('2.13', '2.14')}: medians" in text
        assert "The machine was not idle before or after the run of B." in text

    def test_a_loss_that_is_never_slower_is_not_named(self) -> None:
        assert performance([self.entry("A", 1.4)], "results").endswith("\n\nOurs is nowhere slower.")

    def test_everything_lost_is_named(self) -> None:
        entries = [self.entry(title, 1.4) for title in "ABC"]
        for number, entry in enumerate(entries):
            report = entry.report
            report.isas = {"avx512": "this processor does not have it", "baseline": {}}
            report.isas["baseline"] = {"rarepixel": timing(1, 1, 8 + number), "BCE, eager": timing(1, 1, 4)}
        first, second, _ = entries
        first.report.scenes[UNTRAINED][2] = self.rows(3.0)
        first.report.scenes[TRAINED] = {1: self.rows(2.2), 2: self.rows(4.0)}
        first.report.sizes["64 x 64"] = {label: row for label, row in self.rows(2.5).items() if isinstance(row, Timing)}
        second.report.sizes = {"64 x 64": first.report.sizes["64 x 64"], "128 x 128": first.report.sizes["64 x 64"]}
        assert performance(entries, "results").split("\n\n")[-2:] == [
            "Where ours takes longer than the plain loss, and how many times as long:",
            "- 3 of 3 losses: with baseline kernels (2.00 to 2.50)\n"
            "- A: on 64 x 64 pixels (1.25), on 2 threads (1.50 to 2.00), when the plain loss is compiled "
            "(1.47 to 2.67), with logits: trained network (1.10)\n"
            "- B: on 64 x 64 pixels (1.25), on 128 x 128 pixels (1.25)",
        ]

    def test_conditions_are_those_of_all_losses(self) -> None:
        entries = [self.entry("Slow", 1.4), self.entry("Fast", 0.5)]
        for entry, ours in zip(entries, (2.6, 0.6), strict=True):
            small = {label: row for label, row in self.rows(ours).items() if isinstance(row, Timing)}
            entry.report.isas = {"baseline": "this processor does not have it"}
            entry.report.scenes[TRAINED] = {1: self.rows(9.0), 2: self.rows(ours)}
            entry.report.sizes = {"64 x 64": small}
        entries[0].report.sizes["10 x 10"] = small
        text = performance(entries, "results")
        assert text.startswith(overview(entries, "results"))
        rows = text.partition("## Under other conditions")[2].strip().split("\n\n")[1].splitlines()
        # The first of what was compared with a compiled plain loss, which takes 1.5 ms; one size is one loss's alone.
        assert rows == [
            "| ours / plain | when the plain loss is compiled | logits: trained network | 2 threads | 64 x 64 |",
            "| --- | ---: | ---: | ---: | ---: |",
            "| Fast | 0.33 | **4.5** | 0.30 | 0.30 |",
            "| Slow | 0.93 | **4.5** | **1.3** | **1.3** |",
        ]

    def test_what_does_not_run_has_no_ratio(self) -> None:
        entry = self.entry("A", 1.4)
        entry.report.scenes[UNTRAINED][1] = self.rows(1.4) | {"BCE, torch.compile": "does not run here"}
        assert "\n| A | — |\n" in performance([entry], "results")

    def test_a_variant_of_the_peer_is_not_ours(self) -> None:
        entry = self.entry("A", 1.4)
        lost = {label: row for label, row in self.rows(6.0).items() if isinstance(row, Timing)}
        entry.report.variants = {"bool target": lost, "the same, as published": lost}
        variants = (
            Variant("bool target", entry.benchmark.ours),
            Variant("the same, as published", entry.benchmark.peer.loss),
        )
        entry = Entry(entry.report, dataclasses.replace(entry.benchmark, variants=variants))
        assert performance([entry], "results").endswith("\n- A: with bool target (3.00)")

    def test_every_loss_needs_results_of_a_full_run(self, report: CpuReport, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=f"expected results in {tmp_path}, got none"):
            find_entries(tmp_path)
        (tmp_path / f"{find_benchmarks()[0]}-cpu.json").write_text(to_json(report), encoding="utf-8")
        with pytest.raises(ValueError, match="expected the results of a full run, got those of a quick one for some_l"):
            find_entries(tmp_path)

    @pytest.mark.parametrize("page", ["README.md", "docs/performance.md"])
    def test_the_pages_show_the_committed_results(self, page: str) -> None:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert replace_block(text, blocks_of_results()[page]) == text, "python -m benchmarks --readme"

    def test_a_loss_without_results_is_named(self, report: CpuReport, tmp_path: Path) -> None:
        measured, *others = find_benchmarks()
        full = dataclasses.replace(report, settings=dataclasses.replace(report.settings, quick=False))
        (tmp_path / f"{measured}-cpu.json").write_text(to_json(full), encoding="utf-8")
        entries, unmeasured = find_entries(tmp_path)
        assert [entry.report.loss for entry in entries] == [report.loss]
        assert len(unmeasured) == len(others)
        assert overview([self.entry("A", 1.4)], "results", ["B", "C"]).endswith("\n\nNot measured yet: B, C.")


class TestMeasuring:
    def test_every_round_begins_with_another_one(self) -> None:
        calls: list[str] = []

        def sampler(name: str) -> Callable[[], tuple[float, ...]]:
            def sample() -> tuple[float, ...]:
                calls.append(name)
                return (float(len(calls)),)

            return sample

        found = interleave({name: sampler(name) for name in "abc"}, Effort(rounds=2, turn_seconds=0, warm_up=1))
        assert "".join(calls) == "abcaabbccbbccaa"
        # The first sample of a turn is thrown away, and so is the warm-up.
        assert found == {"a": [(5.0,), (15.0,)], "b": [(7.0,), (11.0,)], "c": [(9.0,), (13.0,)]}

    def test_a_busy_machine_gets_three_rounds(self) -> None:
        effort = Effort(rounds=9, turn_seconds=0, warm_up=0, limit_seconds=0)
        assert len(interleave({"a": lambda: (1.0,)}, effort)["a"]) == 3

    def test_what_takes_seconds_has_one_sample(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        calls: list[str] = []

        def sampler(name: str, seconds: float) -> Callable[[], tuple[float, ...]]:
            def sample() -> tuple[float, ...]:
                nonlocal now
                now += seconds
                calls.append(name)
                return (seconds,)

            return sample

        monkeypatch.setattr("time.perf_counter", lambda: now)
        effort = Effort(rounds=2, turn_seconds=0, warm_up=2, slow_seconds=3)
        found = interleave({name: sampler(name, int(name)) for name in "1453"}, effort)
        assert "".join(calls) == "114533" + "1133" + "3311"
        assert found == {"1": 2 * [(1.0,)], "4": [(4.0,)], "5": [(5.0,)], "3": 2 * [(3.0,)]}

    def test_summary_is_in_milliseconds(self) -> None:
        assert summarise([5.0, 1.0, 2.0, 4.0, 3.0]) == Spread(3000.0, 2000.0, 4000.0, 5)
        assert summarise([2.0]) == Spread(2000.0, 2000.0, 2000.0, 1)

    def test_step_is_timed_in_parts_and_in_one_piece(self) -> None:
        logits = torch.zeros(1, 1, 2, 2, requires_grad=True)
        timed: list[bool] = []

        def stopwatch(work: Callable[[], object]) -> tuple[object, float]:
            assert logits.grad is None
            result = work()
            timed.append(logits.grad is not None)
            return result, float(len(timed))

        step = Step(F.binary_cross_entropy_with_logits, logits, torch.zeros(1, 1, 2, 2))
        assert sample_step(step, stopwatch) == (1.0, 2.0, 3.0)
        assert timed == [False, True, True]
        assert logits.grad is None

    def test_calls(self) -> None:
        found = time_calls({"sum": torch.zeros(3).sum}, Effort(rounds=2, turn_seconds=0), lambda work: (work(), 0.5))
        assert found == {"sum": Spread(500.0, 500.0, 500.0, 2)}

    def test_a_contestant_that_cannot_run_is_named_and_ours_must_run(self) -> None:
        def broken(_logits: torch.Tensor, _target: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError

        inputs = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
        steps = make_steps({"other": broken, "fine": F.binary_cross_entropy_with_logits}, *inputs)
        assert drop_failing(steps) == {"other": "does not run here: OutOfMemoryError"}
        assert list(steps) == ["fine"]
        with pytest.raises(torch.OutOfMemoryError):
            drop_failing(make_steps({OURS: broken}, *inputs))

    def test_rows_keep_their_order_when_one_cannot_run(self) -> None:
        def broken(_logits: torch.Tensor, _target: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError

        bce = F.binary_cross_entropy_with_logits
        steps = make_steps({OURS: bce, "other": broken, "fine": bce}, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
        found = measure_scene(steps, Effort(rounds=1, turn_seconds=0, warm_up=1), lambda work: (work(), 0.5))
        half = Spread(500.0, 500.0, 500.0, 1)
        assert list(found.items()) == [
            (OURS, Timing(half, half, half)),
            ("other", "does not run here: OutOfMemoryError"),
            ("fine", Timing(half, half, half)),
        ]

    @needs_kernels
    def test_a_run_fills_its_report(self, monkeypatch: pytest.MonkeyPatch) -> None:
        effort = Effort(rounds=1, turn_seconds=0, warm_up=1)
        settings = dataclasses.replace(
            QUICK, effort=effort, sweep_effort=effort, threads=(1, 2), sizes=((4, 6), (8, 10))
        )
        monkeypatch.setattr(CpuRun, "_losses", eager_contestants(random_drop.BENCHMARK))
        run = CpuRun("random_drop", random_drop.BENCHMARK, settings)
        run.report.shape = (1, 1, 8, 10)
        threads = torch.get_num_threads()
        try:
            for label, work in run.steps():
                if not label.startswith("instruction set"):
                    work()
        finally:
            torch.set_num_threads(threads)
        report = run.report
        assert {label: list(by_threads) for label, by_threads in report.scenes.items()} == {
            UNTRAINED: [1, 2],
            TRAINED: [1, 2],
        }
        assert list(report.sizes) == ["4 x 6", "8 x 10"]
        assert list(report.variants) == [variant.label for variant in random_drop.BENCHMARK.variants]
        assert len(report.other_work) == 2

    @needs_kernels
    def test_worker_says_which_kernels_it_ran(self) -> None:
        threads = torch.get_num_threads()
        try:
            found = json.loads(isa_worker(random_drop.BENCHMARK, QUICK))
        finally:
            torch.set_num_threads(threads)
        assert found["isa"] == torch.ops.rarepixel.cpu_isa()
        assert set(found["timings"]) == {"rarepixel", "BCE, eager"}


class TestMemory:
    SHAPE = (1, 1, 256, 320)

    @needs_kernels
    def test_ours_keeps_one_bit_a_pixel_and_allocates_the_gradient(self) -> None:
        inputs = BINARY_SCENES[0].make(self.SHAPE, CPU)
        found = measure_memory(make_steps({OURS: random_drop.BENCHMARK.ours}, *inputs)[OURS])
        assert found.forward_peak == pytest.approx(1 / 8, abs=0.01)
        assert found.kept == pytest.approx(1 / 8, abs=0.01)
        assert found.backward_peak == pytest.approx(4, abs=0.01)
        assert found.gradient == 4
        assert found.saved == "logits, target, float64 1x8, int64 1x1280"

    @needs_kernels
    @pytest.mark.parametrize("name", find_benchmarks())
    def test_a_benchmark_knows_how_much_forward_keeps(self, name: str) -> None:
        benchmark = load_benchmark(name)
        inputs = benchmark.scenes[0].make(benchmark.shape(1, self.SHAPE[2:]), CPU)
        found = measure_memory(make_steps({OURS: benchmark.ours}, *inputs)[OURS])
        assert found.kept == pytest.approx(benchmark.kept_bits / 8, abs=0.01)

    @needs_kernels
    def test_a_peer_outside_torch_is_left_out(self) -> None:
        peer = Contestant("peer", F.binary_cross_entropy_with_logits)
        for declared in (peer, dataclasses.replace(peer, in_torch=False)):
            run = CpuRun("some_loss", dataclasses.replace(random_drop.BENCHMARK, peer=declared), QUICK)
            run.report.shape = self.SHAPE
            dict(run.steps())["memory"]()
            assert ("peer" in run.report.memory) == declared.in_torch

    def test_intermediates_are_seen(self) -> None:
        def loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return (logits.exp() * target).sum()

        found = measure_memory(make_steps({"loss": loss}, *BINARY_SCENES[0].make(self.SHAPE, CPU))["loss"])
        assert found.forward_peak == pytest.approx(8, abs=0.01)  # the exponential and the product
        assert found.kept == pytest.approx(4, abs=0.01)  # the exponential
        assert found.saved == "target, float32 1x1x256x320"


class TestScripts:
    def test_every_public_module_is_a_loss(self, tmp_path: Path) -> None:
        for name in ("b_loss.py", "a_loss.py", "__init__.py", "__main__.py", "_private.py", "notes.md"):
            (tmp_path / name).touch()
        assert find_benchmarks(tmp_path) == ["a_loss", "b_loss"]

    def test_every_script_declares_a_benchmark(self) -> None:
        assert "random_drop" in find_benchmarks()
        for name in find_benchmarks():
            assert load_benchmark(name).title

    @pytest.mark.parametrize("name", find_benchmarks())
    def test_everything_declared_runs(self, name: str) -> None:
        benchmark = load_benchmark(name)
        shape = benchmark.shape(2, (40, 48))
        cases = [
            (loss, scene.make(shape, CPU))
            for loss in (benchmark.ours, benchmark.twin, benchmark.plain.loss, benchmark.peer.loss)
            for scene in benchmark.scenes
        ]
        assert all(logits.shape == shape for _, (logits, _) in cases)
        for variant in benchmark.variants:
            inputs = benchmark.variant_inputs(variant, shape, CPU)
            assert variant.scene is not None or inputs[0].shape[1] == benchmark.channels
            cases += [(variant.ours, inputs), (variant.plain, inputs)]
        for loss, (logits, target) in cases:
            value = loss(logits.requires_grad_(), target)
            value.backward()
            assert value.isfinite()

    def test_a_variant_has_the_inputs_of_the_first_scene_unless_it_has_its_own(self) -> None:
        def make(shape: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.full(shape, 7.0, device=device), torch.ones(shape, dtype=torch.int64, device=device)

        def inputs(variant: Variant) -> tuple[torch.Tensor, torch.Tensor]:
            return random_drop.BENCHMARK.variant_inputs(variant, (1, 1, 8, 9), CPU)

        ours = random_drop.BENCHMARK.ours
        for found, expected in zip(inputs(Variant("a", ours)), BINARY_SCENES[0].make((1, 1, 8, 9), CPU), strict=True):
            assert torch.equal(found, expected)
            assert found.dtype == expected.dtype
        logits, target = inputs(Variant("b", ours, logits_dtype=torch.bfloat16, scene=Scene("sevens", make)))
        assert logits.eq(7).all()
        assert (logits.dtype, target.dtype) == (torch.bfloat16, torch.int64)

    def test_distributions_of_top_k(self) -> None:
        shape = (1, 1, 400, 500)
        made = {
            variant.label.removeprefix("logits: "): top_k.BENCHMARK.variant_inputs(variant, shape, CPU)[0].flatten()
            for variant in top_k.BENCHMARK.variants
            if variant.scene is not None
        }
        assert {label for label, x in made.items() if x.unique().numel() <= 2} == {"all equal", "two values"}
        assert made["sorted"].diff().min() >= 0
        denormal = made["denormal"]
        assert denormal.abs().max() < torch.finfo(torch.float32).smallest_normal
        assert denormal.unique().numel() > 1000
        tied = made["half exactly at the threshold"]
        assert tied.topk(int(0.14 * tied.numel())).values[-1] == 1
        assert (tied == 1).float().mean().item() == pytest.approx(0.5, abs=0.01)

    def test_a_binary_benchmark_is_of_the_loss_of_its_name(self) -> None:
        peer = Contestant("peer", F.binary_cross_entropy_with_logits)
        found = binary_benchmark("dice", "Dice", peer, Variant("Tversky", rarepixel.functional.tversky))
        assert (found.ours, found.twin) == (rarepixel.functional.dice, rarepixel.reference.dice)
        labels = [variant.label for variant in found.variants]
        assert labels[:1] + labels[-2:] == [
            "float32 logits and target",
            "Tversky",
            "field-of-view mask (BCE: as weight)",
        ]
        chosen = binary_benchmark("dice", "Dice", peer, ours=rarepixel.functional.tversky, kept_bits=1)
        assert (chosen.ours, chosen.twin, chosen.kept_bits) == (
            rarepixel.functional.tversky,
            rarepixel.reference.dice,
            1,
        )

    def test_a_script_without_a_benchmark_is_an_error(self) -> None:
        with pytest.raises(TypeError, match=r"benchmarks/harness\.py: expected a Benchmark named BENCHMARK, got None"):
            load_benchmark("harness")

    def test_scenes_are_rare_and_repeatable(self) -> None:
        for scene in BINARY_SCENES:
            logits, target = scene.make((1, 1, 400, 500), CPU)
            again, _ = scene.make((1, 1, 400, 500), CPU)
            assert torch.equal(logits, again)
            assert target.mean().item() == pytest.approx(0.002, rel=0.2)

    def test_index_maps_have_every_class_and_are_repeatable(self) -> None:
        for scene in multi_channel_bin.BENCHMARK.scenes:
            logits, target = scene.make((1, 4, 400, 500), CPU)
            again, _ = scene.make((1, 4, 400, 500), CPU)
            assert torch.equal(logits, again)
            assert target.shape == (1, 400, 500)
            assert target.dtype == torch.int64
            shares = target.flatten().bincount() / target.numel()
            assert shares.tolist() == pytest.approx([0.992, *4 * [0.002]], rel=0.2)

    def test_one_hot(self) -> None:
        target = torch.tensor([[[0, 2], [1, 0]]])
        expected = torch.tensor([[[[0.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 0.0]]]])
        assert torch.equal(multi_channel_bin.one_hot(torch.zeros(1, 2, 2, 2), target), expected)

    def test_hardest_tenth(self) -> None:
        logits = torch.arange(20.0).view(1, 1, 4, 5)
        expected = (F.softplus(torch.tensor(19.0)) + F.softplus(torch.tensor(18.0))) / 2
        torch.testing.assert_close(top_k.hardest_tenth(logits, torch.zeros_like(logits)), expected)

    def test_class_balanced_bce(self) -> None:
        logits = torch.tensor([[[[0.5, -1.0], [2.0, 0.0]]]])
        target = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
        losses = [math.log1p(math.exp(value)) for value in (-0.5, -1.0, 2.0, 0.0)]
        expected = (0.75 * losses[0] + 0.25 * sum(losses[1:])) / 4
        assert class_balanced_bce(logits, target).item() == pytest.approx(expected)

    def test_class_balanced_bce_balances_each_channel(self) -> None:
        logits, target = BINARY_SCENES[0].make((2, 3, 40, 50), CPU)
        pairs = zip(logits.flatten(0, 1), target.flatten(0, 1), strict=True)
        alone = [class_balanced_bce(x[None, None], y[None, None]) for x, y in pairs]
        torch.testing.assert_close(class_balanced_bce(logits, target), torch.stack(alone).mean())

    def test_masked_bce_is_the_mean_over_the_field_of_view(self) -> None:
        logits, target = BINARY_SCENES[0].make((1, 1, 24, 32), CPU)
        inside = field_of_view((24, 32), CPU)
        assert 0 < inside.sum() < inside.numel()
        expected = F.binary_cross_entropy_with_logits(logits[0, 0][inside], target[0, 0][inside])
        torch.testing.assert_close(masked_bce(logits, target), expected)
        torch.testing.assert_close(masked_bce(logits.expand(2, 3, -1, -1), target.expand(2, 3, -1, -1)), expected)


class TestVessels:
    @pytest.mark.parametrize("size", [(256, 320), (584, 565), (712, 1072), (1424, 2144)])
    def test_as_many_vessels_for_each_pixel_of_any_image(self, size: tuple[int, int]) -> None:
        drawn = _vessels.vessels((1, 1, *size), CPU)
        assert drawn.shape == (1, 1, *size)
        assert drawn.mean().item() == pytest.approx(_vessels.PREVALENCE, rel=0.2)

    def test_small_images_have_some_too(self) -> None:
        for size in ((1, 1), (40, 48), (64, 64), (128, 128)):
            drawn = _vessels.vessels((1, 1, *size), CPU)
            assert drawn.shape == (1, 1, *size)
            assert size == (1, 1) or 0.02 < drawn.mean().item() < 0.25

    def test_vessels_are_as_wide_as_they_say_and_become_thin(self) -> None:
        drawn = _vessels.vessels((1, 1, 712, 1072), CPU)
        wide = 2 * segments.segment_map(drawn).mean_thickness
        assert wide.quantile(0.99).item() == pytest.approx(_vessels.WIDEST, abs=1)
        assert wide.median().item() < 4

    def test_images_of_a_batch_differ_and_are_repeatable(self) -> None:
        drawn = _vessels.vessels((3, 1, 128, 160), CPU)
        assert torch.equal(drawn, _vessels.vessels.__wrapped__((3, 1, 128, 160), CPU))
        assert not torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[1], drawn[2])

    def test_scenes_share_their_annotation_and_are_repeatable(self) -> None:
        shape = (1, 1, 256, 320)
        for scene in _vessels.VESSEL_SCENES:
            logits, target = scene.make(shape, CPU)
            assert torch.equal(logits, scene.make(shape, CPU)[0])
            assert torch.equal(target, _vessels.vessels(shape, CPU))

    def test_a_trained_network_finds_most_and_errs_in_every_way(self) -> None:
        logits, target = _vessels.trained((1, 1, 712, 1072), CPU)
        found = segments.segment_map(target)
        _, stats = rarepixel.reference.segment_thickness(logits, target, found, return_stats=True)
        ratio = stats.predicted_thickness / stats.annotated_thickness
        for share in (ratio == 0, (ratio > 0) & (ratio < 0.9), (ratio >= 0.9) & (ratio <= 1.1), ratio > 1.1):
            assert 0.05 < share.float().mean().item() < 0.7
        predicted, vessel = logits >= 0, target > 0
        assert (predicted & vessel).sum() > 0.75 * vessel.sum()
        assert (predicted & ~vessel).sum() < 0.3 * predicted.sum()

    def test_segments_are_made_once(self) -> None:
        shape = torch.Size((1, 1, 40, 48))
        assert segment_thickness.segments_of(shape, CPU) is segment_thickness.segments_of(shape, CPU)


class TestPublishedThicknessLayer:
    @pytest.mark.parametrize("scene", _vessels.VESSEL_SCENES, ids=lambda scene: scene.name)
    def test_value_and_gradient_are_those_of_the_twin(self, scene: Scene) -> None:
        logits, target = scene.make((2, 1, 96, 112), CPU)
        logits = logits.double().requires_grad_()
        found = segments.segment_map(target)

        def twin(weights: tuple[float, float, float]) -> torch.Tensor:
            loss = rarepixel.reference.segment_thickness(logits, target, found, pixel_weights=weights, reduction="sum")
            assert isinstance(loss, torch.Tensor)
            return loss / target.numel()

        value = _published_thickness_layer.published_layer(logits, target, found.ids)
        torch.testing.assert_close(value, twin((0.1, 0.1, 0.9)))
        (gradient,) = torch.autograd.grad(3 * value, logits)
        torch.testing.assert_close(gradient, torch.autograd.grad(3 * twin((0.2, 0.35, 0.8)), logits)[0])

    def test_thins_as_we_do(self) -> None:
        for scene in _vessels.VESSEL_SCENES:
            predicted = scene.make((1, 1, 96, 112), CPU)[0][0, 0] >= 0
            thinned = torch.from_numpy(_published_thickness_layer.thin(predicted.numpy()))
            assert torch.equal(thinned, segments.thin(predicted))

    def test_runs_on_the_cpu_alone(self) -> None:
        logits = torch.zeros(1, 1, 4, 4, device="meta")
        with pytest.raises(NotImplementedError, match="no kernels for a GPU"):
            _published_thickness_layer.published_layer(logits, logits, logits[0])


class TestThinning:
    SETTINGS = dataclasses.replace(QUICK, effort=Effort(rounds=1, turn_seconds=0, warm_up=1))
    SIZE = "whole, 40 x 48 pixels"

    @pytest.fixture
    def annotation(self) -> _thinning.Annotation:
        return _thinning.Annotation("", "a drawing", _vessels.vessels((1, 1, 40, 48), CPU)[0, 0] > 0)

    def test_all_is_measured_and_written(self, annotation: _thinning.Annotation, tmp_path: Path) -> None:
        threads = torch.get_num_threads()
        run = _thinning.ThinningRun(annotation, self.SETTINGS)
        try:
            for _, work in run.steps():
                work()
        finally:
            torch.set_num_threads(threads)
        path = _thinning.write(run.report, tmp_path)
        assert path.name == "thinning-cpu.md"
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# Thinning and segment maps: CPU\n\n**A quick run")
        assert "\n## Whole, 40 x 48 pixels\n" in text
        assert text.count("\n| **rarepixel** | **") == 2
        stored = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert list(stored["thinning"][self.SIZE]) == ["annotation", "noise"]
        for rows in stored["thinning"][self.SIZE].values():
            assert list(rows) == list(_thinning.THINNING)
        assert stored["segments"] == {self.SIZE: len(segments.segment_map(annotation.image))}
        assert len(stored["segment_map"][self.SIZE]) == 3

    def test_guo_hall_is_one_algorithm_everywhere_but_in_opencv(self, annotation: _thinning.Annotation) -> None:
        pytest.importorskip("skimage")
        run = _thinning.ThinningRun(annotation, self.SETTINGS)
        dict(run.steps())[f"thinning, {self.SIZE}"]()
        for unlike in run.report.unlike[self.SIZE].values():
            same = [label for label, pixels in unlike.items() if pixels == 0]
            assert same == ["rarepixel", "plain-PyTorch twin", "scikit-image, thin (Guo-Hall)"]

    def test_what_is_not_installed_is_named(
        self, annotation: _thinning.Annotation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "cv2", None)
        monkeypatch.setitem(sys.modules, "cv2.ximgproc", None)
        run = _thinning.ThinningRun(annotation, self.SETTINGS)
        dict(run.steps())[f"thinning, {self.SIZE}"]()
        lines = _thinning.thinning_table(run.report.thinning[self.SIZE], run.report.unlike[self.SIZE]).splitlines()
        assert lines[-1] == "| OpenCV, thinning (Zhang-Suen) | not installed | — | — | not installed | — | — |"

    def test_a_large_image_is_also_measured_as_a_crop(self) -> None:
        whole = _thinning.drawn()
        run = _thinning.ThinningRun(whole, self.SETTINGS)
        assert list(run.images) == ["crop, 584 x 565 pixels", "whole, 960 x 999 pixels"]
        assert torch.equal(run.images["crop, 584 x 565 pixels"], whole.image[188:772, 217:782])

    def test_results_of_a_file_have_its_name(self, tmp_path: Path) -> None:
        pillow = pytest.importorskip("PIL.Image")
        image = torch.zeros(20, 30, dtype=torch.uint8)
        image[5:9] = 1
        pillow.fromarray(image.numpy()).save(tmp_path / "eye_7.png")
        annotation = _thinning.read(tmp_path / "eye_7.png")
        assert torch.equal(annotation.image, image > 0)
        run = _thinning.ThinningRun(annotation, self.SETTINGS)
        run.report.other_work = [0.0, 0.0]
        path = _thinning.write(run.report, tmp_path)
        assert path.name == "thinning-eye_7-cpu.md"
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# Thinning and segment maps of eye_7.png: CPU\n")
        assert "of the annotation eye_7.png." in text
        assert str(tmp_path) not in text

    def test_a_file_without_vessels_is_an_error(self, tmp_path: Path) -> None:
        pillow = pytest.importorskip("PIL.Image")
        pillow.new("L", (4, 4)).save(tmp_path / "dark.png")
        with pytest.raises(ValueError, match=r"dark\.png is black all over"):
            _thinning.read(tmp_path / "dark.png")


@pytest.mark.usefixtures("one_thread")
class TestComponents:
    SETTINGS = dataclasses.replace(QUICK, effort=Effort(rounds=1, turn_seconds=0, warm_up=1))

    def test_as_many_lesions_as_they_say(self) -> None:
        for size in ((712, 1072), (300, 200), (40, 100, 130)):
            drawn = _components.lesions(size)
            assert rarepixel.components.label(drawn[None, None]).count.item() == _components.LESIONS
            assert 0.0005 < drawn.float().mean() < 0.03

    def test_all_is_measured_and_written(self, tmp_path: Path) -> None:
        pytest.importorskip("cc3d")
        masks = [
            _components.Annotation("", "a drawing", _components.lesions(size)) for size in ((120, 90), (20, 40, 30))
        ]
        run = _components.ComponentsRun(masks, self.SETTINGS)
        for _, work in run.steps():
            work()
        path = _components.write(run.report, tmp_path)
        assert path.name == "components-cpu.md"
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# Connected components: CPU\n\n**A quick run")
        assert "\n## 120 x 90 pixels\n" in text
        assert "\n## 20 x 40 x 30 voxels\n" in text
        assert text.count("\n| **rarepixel** | **") == 2
        assert "Components: 100 in lesions, " in text
        assert "| OpenCV, connectedComponents | takes no volumes | — | takes no volumes | — |" in text
        stored = read(_components.ComponentsReport, path.with_suffix(".json"))
        assert stored == run.report
        for size in ("120 x 90 pixels", "20 x 40 x 30 voxels"):
            assert [list(rows) for rows in stored.timings[size].values()] == [list(_components.ROWS)] * 2

    def test_who_finds_something_else_ends_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(_components.ROWS, "SciPy, ndimage.label", lambda _: (lambda: 3, lambda count: count))
        mask = _components.Annotation("", "a drawing", torch.zeros(5, 7, dtype=torch.bool))
        run = _components.ComponentsRun([mask], self.SETTINGS)
        with pytest.raises(RuntimeError, match=r"lesions, 5 x 7 pixels: expected one number of components, got "):
            dict(run.steps())["components, 5 x 7 pixels"]()

    def test_what_is_not_installed_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cc3d", None)
        mask = _components.Annotation("", "a drawing", torch.zeros(5, 7, dtype=torch.bool))
        run = _components.ComponentsRun([mask], self.SETTINGS)
        dict(run.steps())["components, 5 x 7 pixels"]()
        lines = _components.components_table(run.report.timings["5 x 7 pixels"]).splitlines()
        assert "| cc3d, connected_components | not installed | — | not installed | — |" in lines

    def test_results_of_a_file_have_its_name(self, tmp_path: Path) -> None:
        mask = _components.Annotation("eye_7.png", "the annotation eye_7.png", torch.zeros(5, 7, dtype=torch.bool))
        run = _components.ComponentsRun([mask], self.SETTINGS)
        run.report.other_work = [0.0, 0.0]
        assert _components.write(run.report, tmp_path).name == "components-eye_7-cpu.md"
        assert _components.markdown(run.report).startswith("# Connected components of eye_7.png: CPU\n")


@needs_kernels
class TestLesionCurves:
    SETTINGS = dataclasses.replace(QUICK, effort=Effort(rounds=1, turn_seconds=0, warm_up=1))

    @pytest.mark.parametrize("scene", _lesion_curves.SCENES)
    def test_the_sweeps_find_what_the_curve_says(self, scene: str) -> None:
        target = _lesion_curves.annotation((60, 80))
        scores = _lesion_curves.SCENES[scene](target)
        curve = _lesion_curves.update(scores, target).compute()
        sweeps: list[Any] = [
            _lesion_curves.ROWS[row](scores, target) for row in (_lesion_curves.CC3D, _lesion_curves.SCIPY)
        ]
        thresholds = sweeps[0].args[-1]
        found = sweeps[0]()
        assert found == sweeps[1]()
        assert len(found) == len(thresholds) == 100
        for threshold, (hits, false_alarms) in zip(thresholds.tolist(), found, strict=True):
            above = int((curve["froc_thresholds"] >= threshold).sum())
            at = [0, *curve["froc_hits"].tolist()][above], [0, *curve["froc_false"].tolist()][above]
            assert at == (hits, false_alarms)

    def test_all_is_measured_and_written(self, tmp_path: Path) -> None:
        threads = torch.get_num_threads()
        run = _lesion_curves.LesionRun(self.SETTINGS, (40, 48), images=3)
        try:
            for _, work in run.steps():
                work()
        finally:
            torch.set_num_threads(threads)
        path = _lesion_curves.write(run.report, tmp_path)
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# Lesions at every threshold: CPU\n\n**A quick run")
        assert text.count("\n| **rarepixel** | **") == 1
        stored = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert list(stored["update"]) == list(stored["steps"]) == list(_lesion_curves.SCENES)
        for rows in stored["update"].values():
            assert list(rows) == list(_lesion_curves.ROWS)
        assert len(stored["compute"]) == 2
        assert read(_lesion_curves.LesionReport, path.with_suffix(".json")) == run.report


@needs_kernels
class TestPixelCurves:
    SETTINGS = dataclasses.replace(QUICK, effort=Effort(rounds=1, turn_seconds=0, warm_up=1))

    def test_everyone_finds_the_same(self) -> None:
        batches = _pixel_curves.images("random", (1, 100, 120))
        found = {label: measure(*map(torch.flatten, batches[0])) for label, measure in _pixel_curves.ROWS.items()}
        expected = found[_pixel_curves.SKLEARN_AP][0], found[_pixel_curves.SKLEARN_AUC][1]
        for label, values in found.items():
            for value, truth in zip(values, expected, strict=True):
                within = {_pixel_curves.NUMPY: 0.02, _pixel_curves.TORCHMETRICS: 1e-6}.get(label, 1e-12)
                assert value is None or value == pytest.approx(truth, abs=within), label

    def test_scenes_are_rare_and_repeatable(self) -> None:
        for scene in _pixel_curves.SCENES:
            (scores, target), (others, _) = _pixel_curves.images(scene, (2, 300, 400))
            assert (scores.dtype, target.dtype, scores.shape) == (torch.float32, torch.bool, (1, 1, 300, 400))
            assert 0.0005 < target.float().mean() < 0.0015
            assert not torch.equal(scores, others)
            assert torch.equal(scores, _pixel_curves.images(scene, (1, 300, 400))[0][0])

    def test_all_is_measured_and_written(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def measure_here(label: str, sizes: _pixel_curves.Sizes) -> _pixel_curves.AtOnce | str:
            # A process takes seconds to begin: one is enough to see that it can.
            if label == _pixel_curves.AP:
                return measure_alone(label, sizes)
            found = json.loads(_pixel_curves.worker(label, sizes.at_once, sizes.rounds))
            return _pixel_curves.AtOnce(**{**found, "time": Spread(**found["time"])})

        measure_alone = _pixel_curves.measure_alone
        monkeypatch.setattr(_pixel_curves, "measure_alone", measure_here)
        threads = torch.get_num_threads()
        run = _pixel_curves.CurvesRun(self.SETTINGS, _pixel_curves.Sizes((2, 50, 60), (3, 50, 60), 1))
        try:
            for _, work in run.steps():
                work()
        finally:
            torch.set_num_threads(threads)
        path = _pixel_curves.write(run.report, tmp_path)
        assert path.name == "curves-cpu.md"
        text = path.read_text(encoding="utf-8")
        assert text.startswith("# Curves of pixels: CPU\n\n**A quick run")
        assert text.count("\n| **rarepixel** | **") == len(_pixel_curves.SCENES)
        stored = read(_pixel_curves.CurvesReport, path.with_suffix(".json"))
        assert list(stored.at_once) == list(_pixel_curves.ROWS)
        assert list(stored.streamed) == list(_pixel_curves.SCENES)
        for by_threads in stored.streamed.values():
            assert [list(rows) for rows in by_threads.values()] == [
                list(_pixel_curves.STREAMED),
                [_pixel_curves.OURS, _pixel_curves.READING],
            ]
        assert to_json(stored) == to_json(run.report)  # NaN is not equal to itself

    def test_what_is_not_installed_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Done:
            stderr, returncode = "ModuleNotFoundError: No module named 'sklearn'", 1

        monkeypatch.setattr(_pixel_curves.subprocess, "run", lambda *_, **__: Done)
        sizes = _pixel_curves.Sizes((1, 1, 1), (1, 1, 1), 1)
        assert _pixel_curves.measure_alone(_pixel_curves.SKLEARN_AP, sizes) == "not installed"
        Done.stderr = "Segmentation fault"
        with pytest.raises(RuntimeError, match="the measurement failed:\nSegmentation fault"):
            _pixel_curves.measure_alone(_pixel_curves.SKLEARN_AP, sizes)


@needs_kernels
class TestCommandLine:
    @pytest.fixture
    def parse(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., argparse.Namespace]:
        def parse(*arguments: str) -> argparse.Namespace:
            monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
            return __main__.parse_arguments()

        return parse

    def test_everything_is_measured_unless_something_is_named(self, parse: Callable[..., argparse.Namespace]) -> None:
        found = parse()
        assert (found.loss, found.annotation.name) == (find_benchmarks(), "")
        assert [mask.image.shape for mask in found.masks] == [(712, 1072), (2848, 4288), (64, 256, 256)]
        found = parse("--loss", "top_k")
        assert (found.loss, found.annotation, found.masks) == (["top_k"], None, [])
        found = parse("--vessels")
        assert (found.loss, found.annotation.image.shape, found.masks, found.lesions) == ([], (960, 999), [], False)
        found = parse("--components")
        assert (found.loss, found.annotation, len(found.masks)) == ([], None, 3)
        assert parse().lesions
        found = parse("--lesions")
        assert (found.loss, found.annotation, found.masks, found.lesions) == ([], None, [], True)
        assert (parse().curves, found.curves) == (True, False)
        found = parse("--curves")
        assert (found.loss, found.annotation, found.masks, found.lesions, found.curves) == ([], None, [], False, True)
        found = parse("--loss", "top_k", "--vessels")
        assert (found.loss, found.annotation.name) == (["top_k"], "")

    def test_a_missing_file_is_named(
        self, parse: Callable[..., argparse.Namespace], capsys: pytest.CaptureFixture[str]
    ) -> None:
        for option in ("--vessels", "--components"):
            with pytest.raises(SystemExit):
                parse(option, "nowhere.png")
            assert f"{option}: [Errno 2] No such file or directory: " in capsys.readouterr().err

    @pytest.mark.parametrize("option", ["--vessels", "--components", "--lesions", "--curves"])
    def test_what_is_measured_on_the_cpu_alone(
        self, parse: Callable[..., argparse.Namespace], option: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            parse(option, "--device", "gpu")
        assert re.search(rf"{option}: .* measured on the CPU", capsys.readouterr().err)

    @pytest.mark.parametrize(
        "other", ["--quick", "--vessels", "--components", "--lesions", "--curves", "--loss=top_k", "--device=cpu"]
    )
    def test_the_readme_is_written_without_measuring(
        self, parse: Callable[..., argparse.Namespace], other: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert parse("--readme").loss is None
        with pytest.raises(SystemExit):
            parse("--readme", other)
        assert "--readme: it measures nothing; expected no other option but --out" in capsys.readouterr().err

    def test_the_readme(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pages = {"README.md": tmp_path / "README.md", "docs/performance.md": tmp_path / "performance.md"}
        for page in pages.values():
            page.write_text("A\n<!-- benchmarks -->\n<!-- /benchmarks -->\nB\n", encoding="utf-8")
        monkeypatch.setattr(__main__, "README", pages["README.md"])
        monkeypatch.setattr(__main__, "PERFORMANCE", pages["docs/performance.md"])
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--readme"])
        __main__.main()
        expected = {
            pages[page]: f"A\n<!-- benchmarks -->\n{block}\n<!-- /benchmarks -->\nB\n"
            for page, block in blocks_of_results().items()
        }
        assert {page: page.read_text(encoding="utf-8") for page in expected} == expected
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--readme", "--out", str(tmp_path)])
        with pytest.raises(SystemExit, match=r"--readme: expected results in .*, got none"):
            __main__.main()
        assert {page: page.read_text(encoding="utf-8") for page in expected} == expected


class TestTraining:
    def test_both_loops_do_the_same(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        small = ["--data.patch", "64", "--model", "small_unet:widths=[4,8]", "--data.cache", str(tmp_path)]
        whole = _training_loop.train.read_recipe
        monkeypatch.setattr(_training_loop.train, "read_recipe", lambda name, more: whole(name, [*more, *small]))
        report = _training_loop.measure(quick=True)
        assert report.same_losses
        path = _training_loop.write(report, tmp_path)
        assert path.name == "training-cpu.md"
        text = path.read_text(encoding="utf-8")
        assert "**A quick run" in text
        assert "The losses of both are the same to the last bit" in text
        assert f"| `rarepixel train` | {report.ours[0]:.2f} | {report.ratio:.3f} |" in text
        assert read(_training_loop.TrainingReport, path.with_suffix(".json")) == report
