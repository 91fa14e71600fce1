"""What may be concluded of methods: numbers against plain loops, words against cases counted by hand."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rarepixel.report.methods import Subject, Trial
from rarepixel.report.statistics import Verdict, check_alike, judge, mean_interval

from .judged import evaluation, subject

BASE = (0.30, 0.22, 0.41, 0.18, 0.35, 0.27, 0.24, 0.38)  # eight images, mean 0.29375
UNEVEN = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128)  # no two sums of some of them are the same

ALTERNATING = np.array(UNEVEN) * (-1) ** np.arange(8)  # 0.085 less in all


def by_images(*of_seeds: Any, images: int = 8) -> list[list[float]]:
    """Of each seed the images' values: what is given, added to those of ``BASE``."""
    return [(np.array(BASE) + np.array(one))[:images].tolist() for one in of_seeds]


def verdict(methods: dict[str, list[list[float]]], measure: str = "average_precision", **more: Any) -> Verdict:
    return judge(subject(methods, measure, samples=200, **more), "")


def rest(found: Verdict) -> str:
    return "\n".join(found.sentences)


# ---- Numbers ----


def test_interval_is_that_of_a_plain_loop() -> None:
    values = np.random.default_rng(0).uniform(size=(3, 7))
    generator = np.random.default_rng(5)
    of_images = generator.multinomial(7, [1 / 7] * 7, size=300)
    of_trials = generator.multinomial(3, [1 / 3] * 3, size=300)
    means = []
    for image_counts, trial_counts in zip(of_images, of_trials, strict=True):
        drawn = [
            values[trial, image]
            for trial, times in enumerate(trial_counts)
            for _ in range(times)
            for image, count in enumerate(image_counts)
            for _ in range(count)
        ]
        assert len(drawn) == 21
        means.append(math.fsum(drawn) / 21)
    expected = np.quantile(means, [0.05, 0.95])
    assert mean_interval(values, confidence=0.9, samples=300, seed=5) == pytest.approx(tuple(expected), rel=1e-12)


def test_interval_of_all_draws_there_are() -> None:
    values = np.array([[0.1, 0.5, 0.9], [0.2, 0.3, 0.4]])
    means = [
        values[np.ix_(trials, images)].mean()
        for trials in itertools.product(range(2), repeat=2)
        for images in itertools.product(range(3), repeat=3)
    ]
    found = mean_interval(values, confidence=0.8, samples=50_000)
    assert found == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])), abs=0.01)
    # Images alone would say less.
    assert found[1] - found[0] > 1.05 * np.subtract(*mean_interval(values.mean(axis=0)[None], confidence=0.8)[::-1])


@pytest.mark.parametrize("values", [np.ones((3, 8)), np.arange(6.0).reshape(3, 2), np.zeros((0, 8))])
def test_no_interval(values: np.ndarray) -> None:
    assert all(math.isnan(end) for end in mean_interval(values))


def test_scores() -> None:
    pooled = {"a": [0.5, 0.7], "b": [0.9, 0.1]}
    found = verdict({"b": by_images(0.0, 0.1), "a": by_images(0.2, 0.1)}, pooled=pooled)
    assert list(found.scores) == ["a", "b"]  # by the mean of the images
    assert found.scores["a"].value == pytest.approx(0.6)
    assert found.scores["a"].trials == (0.5, 0.7)
    assert found.scores["a"].mean == pytest.approx(0.29375 + 0.15)
    assert found.scores["b"].mean == pytest.approx(0.29375 + 0.05)
    expected = mean_interval(np.array(by_images(0.2, 0.1)), samples=200)
    assert found.scores["a"].interval == expected
    assert expected[0] < found.scores["a"].mean < expected[1]
    assert found.comparison is not None
    assert found.comparison.pairs[0].difference == pytest.approx(-0.1)


def test_value_of_a_measure_without_one_is_the_mean_of_images() -> None:
    found = verdict({"a": by_images(0.2)}, "cl_dice", pooled={"a": [None]})
    assert found.scores["a"].value == found.scores["a"].mean == pytest.approx(0.49375)


# ---- Words ----


def test_clear_winner() -> None:
    found = verdict({"bce": by_images(0, 0.01, 0.02), "Top-k": by_images(0.1, 0.13, np.array(UNEVEN) + 0.09)})
    assert found.answer == (
        "Top-k is better than bce on these 8 images (mean AUC-PR .41 against .30, p = .008, in each of 3 seeds)."
    )
    assert rest(found).startswith("Top-k minus bce: +.1")
    assert "Of 3 seeds the best was Top-k in 3; " in rest(found)
    assert "not to other seeds" in rest(found)
    assert "takes images for independent" in rest(found)


def test_one_training_of_each() -> None:
    found = verdict({"bce": by_images(0), "Top-k": by_images(UNEVEN)})
    assert found.answer == "Top-k is better than bce on these 8 images (mean AUC-PR .33 against .29, p = .008)."
    assert "another training, with another seed, may turn it around" in rest(found)
    assert " seeds" not in rest(found)


def test_as_many_images_as_it_takes() -> None:
    found = verdict({"bce": by_images(0, images=6), "Top-k": by_images(UNEVEN, images=6)})
    assert found.answer.startswith("Top-k is better than bce on these 6 images (mean AUC-PR .30 against .29, p = .031)")


def test_largest_p_of_several() -> None:
    ahead = np.array(UNEVEN) * [1, 1, -1, 1, 1, 1, 1, 1]  # a sum of ranks of 3: p = 10 / 256
    found = verdict({"C": by_images(-0.1), "B": by_images(0), "A": by_images(ahead)})
    assert found.answer == (
        "A is better than B and C on these 8 images (mean AUC-PR .32 against .29 to .19, p at most .039 after Holm)."
    )


def test_seeds_disagree() -> None:
    found = verdict({"bce": by_images(0, 0, 0), "Top-k": by_images(0.2, UNEVEN, -0.01)})
    assert found.answer == (
        "By the test over 8 images Top-k is better than bce (mean AUC-PR .37 against .29, p = .008), but only in 2 of "
        "3 seeds: neither can be called better."
    )
    assert "Of 3 seeds the best was Top-k in 2 and bce in 1; " in rest(found)


def test_seeds_disagree_about_one_of_several() -> None:
    methods = {"A": by_images(0.2, UNEVEN, -0.01), "B": by_images(0, 0, 0), "C": by_images(-0.1, -0.1, -0.1)}
    found = verdict(methods)
    assert found.answer == (
        "A is better than C on these 8 images (mean AUC-PR .37 against .19, p = .023 after Holm, in each of 3 seeds); "
        "by the test over images A is better than B, too, but only in 2 of 3 seeds."
    )
    del methods["C"]
    methods["D"] = [(np.array(one) + ALTERNATING).tolist() for one in methods["A"]]
    found = verdict(methods)
    assert found.answer.startswith(
        "No method can be called the best on these 8 images: A came out highest (mean AUC-PR"
    )
    end = ", but cannot be told from D; by the test over images it is better than B, but only in 2 of 3 seeds."
    assert found.answer.endswith(end)


def test_cannot_be_told() -> None:
    found = verdict({"bce": by_images(0), "Top-k": by_images(ALTERNATING)})
    # Ranks 1, 3, 5, 7 against 2, 4, 6, 8; of the 256 arrangements 108 have a sum of 16 or less, and 108 of 20 or more.
    assert found.answer == "These 8 images cannot tell bce from Top-k (mean AUC-PR .29 and .28, p = .844)."
    assert "does not show that they are alike" in rest(found)


@pytest.mark.parametrize(
    ("images", "names", "text"),
    [
        (2, "AB", "On 2 images no test can tell, from 6 on one could: A came out highest (mean AUC-PR .36 and, over"),
        (5, "AB", "On 5 images no test can tell, from 6 on one could: A came out highest (mean AUC-PR .39 and, over"),
        (6, "ABC", "On 6 images no test can tell, from 7 on one could: A came out highest (mean AUC-PR .39 and, over"),
    ],
)
def test_too_few_images(images: int, names: str, text: str) -> None:
    levels = {"C": (0.0, 0.01), "B": (0.05, 0.06), "A": (0.1, 0.1)}
    found = verdict({name: by_images(*levels[name], images=images) for name in levels if name in names})
    assert found.answer.startswith(text + " 2 seeds, .")
    assert "; next B .3" in found.answer
    assert " better" not in found.answer + rest(found)
    assert "This is of these images and these 2 seeds: others may turn it around." in found.sentences


def test_one_image_has_no_interval() -> None:
    found = verdict({"A": by_images(0.1, images=1), "B": by_images(0, images=1)})
    assert math.isnan(found.scores["A"].interval[0])
    assert found.answer == (
        "On one image no test can tell, from 6 on one could: A came out highest (AUC-PR .40; next B .30)."
    )


def test_tie() -> None:
    found = verdict({"A": by_images(0, 0.01), "B": by_images(0, 0.01)})
    assert found.answer == "A and B have the same AUC-PR on each of these 8 images (mean AUC-PR .30)."
    assert "the best was A in 2 and B in 2 (ties count for each)" in rest(found)


def test_few_images_differ() -> None:
    found = verdict({"A": by_images(0), "B": by_images([0.1, 0.05, 0, 0, 0, 0, 0, 0])})
    assert found.answer.startswith(
        "These 8 images cannot tell B from A (mean AUC-PR .31 and .29, differing on 2 of them"
    )


def test_ranks_against_means() -> None:
    """One image much worse, thirteen a little better: the ranks tell, the mean does not."""
    base = np.linspace(0.2, 0.5, 14)
    other = base + np.arange(2, 16) / 1000
    other[5] -= 0.09
    found = verdict({"A": [base.tolist()], "B": [other.tolist()]})
    assert found.answer.startswith("These 14 images cannot tell B from A (mean AUC-PR .352 and .350, p = .0")
    assert found.answer.endswith(", but the interval of the mean difference reaches to 0).")
    three = verdict({"A": [base.tolist()], "B": [other.tolist()], "C": [(base - 0.1).tolist()]})
    assert "Ranks differ, but the interval of the mean difference reaches to 0: B and A." in rest(three)


def test_one_method() -> None:
    found = verdict({"A": by_images(0, 0.02)})
    low, high = found.scores["A"].interval
    ends = f"{low:.2f} to {high:.2f}".replace("0.", ".")
    assert found.answer == (
        f"A has a mean AUC-PR of .30 (95 % interval {ends}, n = 8; over 2 seeds, .29 to .31); there is nothing to "
        "compare it with."
    )
    assert found.comparison is None
    assert found.sentences == ()


def test_image_without_a_value_is_left_out_and_counted() -> None:
    values = by_images(0, 0)
    values[1][3] = None  # type: ignore[call-overload]
    found = verdict({"A": values, "B": by_images(UNEVEN, UNEVEN)})
    assert "1 image of 8 is left out for want of an AUC-PR of every method and trial: image 4." in found.sentences
    assert found.scores["A"].mean == pytest.approx((8 * 0.29375 - 0.18) / 7)
    assert found.comparison is not None
    assert (found.comparison.pairs[0].n, found.comparison.pairs[0].left_out) == (7, 1)


def test_training_that_diverged_is_told() -> None:
    diverged = [BASE, [None] * 8]
    found = verdict({"A": diverged, "B": by_images(0, 0), "C": by_images(UNEVEN, UNEVEN)})
    assert found.answer == (
        "C is better than B on these 8 images (mean AUC-PR .33 against .29, p = .008, in each of 2 seeds); A has no "
        "AUC-PR at all in seed 1: not compared."
    )
    assert list(found.scores) == ["C", "B", "A"]
    assert found.scores["A"].value == pytest.approx(0.29375)
    assert math.isnan(found.scores["A"].trials[1])
    assert "The numbers of A are of its other trials alone." in found.sentences
    alone = verdict({"A": diverged, "B": by_images(0, 0)})
    assert alone.comparison is None
    assert "nothing to compare it with; A has no AUC-PR at all in seed 1: not compared" in alone.answer
    none = verdict({"A": diverged, "B": diverged})
    assert none.answer.startswith("Nothing can be compared: no method has an AUC-PR in every trial; A has no AUC-PR")
    assert verdict({"A": [[None] * 8], "B": [[None] * 8]}).answer == "Nothing can be said: no method has an AUC-PR."


def test_lower_is_better() -> None:
    found = verdict({"A": by_images(UNEVEN, UNEVEN), "B": by_images(0, 0.001)}, "thickness_error")
    assert list(found.scores) == ["B", "A"]
    assert found.answer == (
        "B is better than A on these 8 images (mean thickness error .29 against .33, p = .008, in each of 2 seeds)."
    )
    assert "B minus A: -.0" in rest(found)
    found = verdict({"A": by_images(0.2, images=2), "B": by_images(0, images=2)}, "thickness_error")
    assert "B came out lowest (mean thickness error .26; next A .46)" in found.answer


def test_measure_of_all_images_together_alone() -> None:
    nothing = [[None] * 8] * 2
    pooled = {"A": [0.2, 0.3], "B": [0.15, 0.15]}
    found = verdict({"A": nothing, "B": nothing}, "balanced_ece", pooled=pooled)
    assert found.answer == (
        "B came out lowest (calibration error .15 and, over 2 seeds, .15 to .15; next A .25); single images have no "
        "calibration error, so that no test over images can tell."
    )
    assert found.comparison is None
    assert list(found.scores) == ["B", "A"]
    assert math.isnan(found.scores["A"].mean)
    assert "Of 2 seeds the best was B in 2; " in rest(found)
    assert "test" not in rest(found)


def test_all_images_together_may_say_otherwise() -> None:
    methods = {"A": by_images(0), "B": by_images(UNEVEN)}
    found = verdict(methods, pooled={"A": [0.5], "B": [0.4]})
    assert found.answer.startswith("B is better than A")
    assert "With the pixels of all images together A comes out highest (AUC-PR .50, B .40)" in rest(found)
    assert "all images together" not in rest(verdict(methods, pooled={"A": [0.4], "B": [0.5]}))


def nine(seeds: Sequence[float]) -> dict[str, list[list[float]]]:
    """Three groups of methods on 14 images; within a group nobody can tell."""
    generator = np.random.default_rng(1)
    base = np.linspace(0.2, 0.5, 14)
    levels = dict(zip("ABCDEFGHI", (0.2, 0.2, 0.2, 0.1, 0.1, 0, 0, 0, 0), strict=True))
    return {
        name: [(base + level + seed + generator.normal(0, 0.004, 14)).tolist() for seed in seeds]
        for name, level in levels.items()
    }


def test_nine_methods_stay_short() -> None:
    found = verdict(nine((0, 0.01, 0.02)))
    best = list(found.scores)[:3]
    assert set(best) == set("ABC")
    assert found.answer.startswith(
        f"{best[0]} is better than 6 of 8 others on these 14 images (mean AUC-PR .56 against .4"
    )
    assert found.answer.endswith(f"; between {best[0]} and each of {best[1]} and {best[2]} they cannot tell.")
    worse = list(found.scores)[3:]
    assert found.sentences[0] == (
        f"Worse than {best[0]}: {', '.join(worse[:-1])} and {worse[-1]}; not so {best[1]} and {best[2]}."
    )
    assert found.sentences[1].startswith(
        f"Of the others {best[1]} and {best[2]} are better than {worse[0]}, {worse[1]}"
    )
    assert len(found.answer) < 250
    assert max(map(len, found.sentences)) < 250
    assert len(found.sentences) < 8


def test_nine_methods_on_too_few_images() -> None:
    few = {name: [one[:10] for one in values] for name, values in nine((0,)).items()}
    assert verdict(few).answer.startswith("On 10 images no test can tell, from 11 on one could: ")
    assert len(verdict(few).sentences) == 2


def test_none_of_nine_can_be_told_from_the_best() -> None:
    alike = {name: [(np.array(one) % 0.05).tolist() for one in values] for name, values in nine((0,)).items()}
    found = verdict(alike)
    assert found.answer.startswith("No method can be called the best on these 14 images: ")
    assert found.answer.endswith(", but cannot be told from any of the 8 others.")


def test_answer_names_the_class_of_several() -> None:
    def trial(level: float) -> tuple[Trial, ...]:
        values = {"MA": by_images(level)[0], "HE": by_images(-level)[0]}
        return (Trial("seed 0", evaluation(values), 0),)

    methods = subject({"A": [[0.0]], "B": [[0.0]]}).methods
    both = Subject(
        "toys",
        tuple(dataclasses.replace(one, trials=trial(level)) for one, level in zip(methods, (0, 0.1), strict=True)),
        samples=0,
    )
    assert judge(both, "MA").answer.startswith("MA: B is better than A on these 8 images")
    assert judge(both, "HE").answer.startswith("HE: A is better than B on these 8 images")
    with pytest.raises(ValueError, match="of_class: expected one of MA, HE, got 'MAA'; did you mean 'MA'"):
        judge(both, "MAA")
    with pytest.raises(ValueError, match="measure: expected one of average_precision, which A has, got 'dice'"):
        judge(both, "MA", "dice")


# ---- What cannot be compared ----


def changed(of: Subject, **more: Any) -> Subject:
    """With another second method."""
    first, second = of.methods
    trials = tuple(dataclasses.replace(trial, **more) for trial in second.trials)
    return dataclasses.replace(of, methods=(first, dataclasses.replace(second, trials=trials)))


def test_methods_have_to_be_judged_alike() -> None:
    good = subject({"A": by_images(0), "B": by_images(0)})
    check_alike(good)
    start = "methods: expected of 'B' what 'A' has, "
    there = evaluation({"": BASE})
    rows = there["images"]
    for wrong, text in (
        ({"seed": 4}, "the seeds 0, got 4"),
        ({"evaluation": evaluation({"MA": BASE})}, "the classes '', got MA"),
        ({"evaluation": there | {"images": rows[:-1]}}, "the image image 8 at this place, got none"),
        ({"evaluation": there | {"images": [*rows[:2], *rows[3:]]}}, "the image image 3 at this place, got image 4"),
        (
            {"evaluation": there | {"images": [*rows[:-1], rows[-1] | {"positives": 9}]}},
            "the same truth, of 'image 8' 10 positives, got 9",
        ),
        ({"evaluation": there | {"options": there["options"] | {"min_size": 7}}}, "min_size = 1, got 7"),
    ):
        with pytest.raises(ValueError, match=start + text):
            judge(changed(good, **wrong), "")
    with pytest.raises(ValueError, match=start + "1 trials, got 2"):
        check_alike(subject({"A": by_images(0), "B": by_images(0, 0)}))
    twice = dataclasses.replace(good, methods=good.methods[:1] * 2)
    with pytest.raises(ValueError, match="methods: expected every name once, got 'A' twice"):
        check_alike(twice)
