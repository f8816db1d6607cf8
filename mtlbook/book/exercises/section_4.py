"""The exercises of section 4, the five mechanisms together."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import product

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction


def main_effect(runs: Sequence[Mapping[str, bool]], gains: Sequence[float], switch: str) -> float:
    """The mean with the switch on minus the mean with it off."""
    means = []
    for wanted in (True, False):
        chosen = [gain for run, gain in zip(runs, gains, strict=True) if run[switch] == wanted]
        means.append(sum(chosen) / len(chosen))
    return means[0] - means[1]


def mixed_up_with(switches: Sequence[str], chosen: Collection[str]) -> set[str]:
    """All the others: the product of all levels is the same in every run."""
    return set(switches) - set(chosen)


@exercise(
    "4.a",
    "Write the effect of a switch in a factorial experiment.",
    reference=main_effect,
    hints=("Part the runs by the switch, and take the mean of each part.",),
)
def _check_main_effect(answer: Callable[..., float]) -> None:
    runs = [dict(zip("ab", levels, strict=True)) for levels in product([True, False], repeat=2)]
    found = float(answer(runs, [9.0, 5.0, 2.0, 4.0], "a"))
    if abs(found + 4) < 1e-9:
        raise WrongAnswer("on minus off: the sign says in which direction the switch works")
    if abs(found - 8) < 1e-9:
        raise WrongAnswer("take means, not sums: the effect must not grow with the number of runs")
    if abs(found - 2) < 1e-9:
        raise WrongAnswer("half of it is the coefficient in a regression on ±1; return the whole")
    if abs(found - 4) > 1e-9:
        raise WrongAnswer("with the switch on the gains 9 and 5 have mean 7, with it off 3")
    uneven = [*runs, {"a": True, "b": True}]
    if abs(float(answer(uneven, [9.0, 5.0, 2.0, 4.0, 10.0], "a")) - 5) > 1e-9:
        raise WrongAnswer("each mean is over its own runs, which may be more than the others")


@exercise(
    "4.b",
    "Name the switches whose contrast can't be told from a given one in the half fraction.",
    reference=mixed_up_with,
    hints=(
        "Write +1 for on and −1 for off. What is the product of all five levels in each run?",
        "It is 1: the product of some of the levels equals the product of the others.",
    ),
)
def _check_mixed_up_with(answer: Callable[[Sequence[str], Sequence[str]], Collection[str]]) -> None:
    for chosen in (["a"], ["a", "b"], ["c", "d", "e"]):
        found, right = set(answer(list("abcde"), chosen)), set("abcde") - set(chosen)
        if found == set(chosen):
            raise WrongAnswer("that is the contrast itself: which *other* one is equal to it?")
        if found != right:
            raise WrongAnswer(
                "with levels ±1 an even number of switches is off in each run, so that the product "
                f"of all five is always 1: the product of {sorted(chosen)} is that of the rest"
            )


prediction(
    "4.c",
    "With 1,000 training examples in place of 300: what happens to the relative error reduction "
    "by joint training with all mechanisms on?",
    choices=DIRECTIONS,
    answer="falls",
    because="A single-task network that has more examples finds the features and the relevant "
    "inputs by itself, and has less noise to average: each mechanism replaces examples. "
    "(With 100 examples it falls as well: then neither network finds the features.)",
    hints=("What could a single-task network learn from 1,000 examples that 300 do not show?",),
)
