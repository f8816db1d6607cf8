"""Exercises of section 7.7, using the future to predict the present."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction

Tables = Sequence[Float[np.ndarray, "rows _"]]


def through_the_chain(
    tables: Tables, y: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " columns"]:
    """θ̂ = Â_1 ⋯ Â_{T−1} β̂."""
    theta = np.eye(tables[0].shape[1])
    for now, later in zip(tables, [*tables[1:], y[:, None]], strict=True):
        theta = theta @ np.linalg.lstsq(now, later, rcond=None)[0]
    return theta[:, 0]


@exercise(
    "7.7.a",
    "Write the product of stepwise least squares: from a list of centred tables X_1, …, X_T and "
    "the centred outcome y, the coefficients of x_1.",
    reference=through_the_chain,
    hints=(
        "Each step is a least squares of the next table on this one; the last is of y on X_T.",
        "np.linalg.lstsq(a, b, rcond=None)[0] are the coefficients; multiply them with @.",
    ),
)
def check_through_the_chain(answer: Callable[..., np.ndarray]) -> None:
    """Accept the product for one table, two and three."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(30, 4))
    z = x @ draw.normal(size=(4, 3)) + draw.normal(size=(30, 3))
    v = z @ draw.normal(size=(3, 2)) + draw.normal(size=(30, 2))
    y = v.sum(1) + draw.normal(size=30)
    tables = [own - own.mean(0) for own in (x, z, v)]
    y = y - y.mean()
    plain = np.linalg.lstsq(tables[0], y, rcond=None)[0]
    for count in (3, 2, 1):
        found = np.asarray(answer([own.copy() for own in tables[:count]], y.copy())).squeeze()
        if found.shape != (4,):
            raise WrongAnswer(
                f"θ̂ has a coefficient for each of the 4 columns of x_1: {found.shape}"
            )
        if count > 1 and np.allclose(found, plain):
            raise WrongAnswer("that is least squares of y on x_1: go through each later table")
        if not np.allclose(found, through_the_chain(tables[:count], y)):
            raise WrongAnswer(
                f"with {count} tables the product has {count} factors, in the order of time, the "
                "last of them from X_T to y"
            )


def roles(known: Mapping[str, int], due: int, outcome: str) -> tuple[list[str], list[str]]:
    """Columns that may be inputs, and those that may be auxiliary outputs."""
    inputs = sorted(name for name, day in known.items() if day <= due and name != outcome)
    outputs = sorted(name for name, day in known.items() if day > due and name != outcome)
    return inputs, outputs


@exercise(
    "7.7.b",
    "Return two sorted lists: the columns that may be inputs of a prediction due on a day, and "
    "those that may be auxiliary outputs.",
    reference=roles,
    hints=(
        "Compare the day on which a column is known with the day on which the prediction is due.",
        "The outcome is what is predicted: leave it out of both lists.",
    ),
)
def check_roles(answer: Callable[..., tuple[list[str], list[str]]]) -> None:
    """Accept the two lists for an early and a late prediction."""
    known = {"sugar, day 2": 2, "age": 0, "sugar": 1, "death": 30, "sugar, day 3": 3, "scan": 40}
    for due in (1, 2, 40):
        inputs, outputs = (list(own) for own in answer(dict(known), due, "death"))
        if "death" in [*inputs, *outputs]:
            raise WrongAnswer("the outcome is neither an input nor an auxiliary output")
        late = [name for name in inputs if known[name] > due]
        if late:
            raise WrongAnswer(f"{late} are not known on day {due}: as inputs they would be a leak")
        if (inputs, outputs) != roles(known, due, "death"):
            raise WrongAnswer(
                "what is known on the day itself may be an input; all that comes later, even after "
                "the outcome, may be an output; both lists are sorted by name"
            )


prediction(
    "7.7.c",
    "Train on ten times as many patients, rows = 800. What happens to the relative gain of the "
    "laboratory values as outputs?",
    choices=DIRECTIONS,
    answer="falls",
    because="It falls: with 800 outcomes the network finds the direction of severity by itself, "
    "and the laboratory values have little to add.",
    hints=("What do the laboratory values know that 800 outcomes do not tell?",),
)

prediction(
    "7.7.d",
    "All of the signal goes past the measurements (direct = 1). Train on ten times as many "
    "patients. What happens to the harm of LuPTS against least squares, in percent of its error?",
    choices=DIRECTIONS,
    answer="rises",
    because="It rises: the error of least squares falls towards the noise, while the product keeps "
    "missing the signal, however many rows there are: a bias does not average out.",
    hints=("Which of the two errors shrinks with the number of rows?",),
)
