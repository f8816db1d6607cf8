"""Exercises of section 5.1, block-sparse regularisation."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction
from mtlbook.non_neural.block_sparse import BlockSparseRegression, RowsInL2


def shortened(
    weights: Float[np.ndarray, "features tasks"], amount: float
) -> Float[np.ndarray, "features tasks"]:
    """The proximal map of the ℓ1/ℓ2 norm: each row shorter by the amount, at most to 0."""
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    return weights * (1 - amount / np.maximum(lengths, amount))


@exercise(
    "5.1.a",
    "Write the proximal map of the ℓ1/ℓ2 norm for a matrix of features × tasks.",
    reference=shortened,
    hints=(
        "The rows do not interact, and a row keeps its direction: only its length changes.",
        "Along its direction a row of length l has to minimise (v - l)²/2 + a v over v ≥ 0.",
    ),
)
def check_shortened(answer: Callable[[np.ndarray, float], np.ndarray]) -> None:
    """Accept the map where one row vanishes, one shrinks and one is 0 already."""
    weights = np.array([[3.0, -4.0], [0.6, 0.8], [0.0, 0.0], [2.0, 0.1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        new = np.asarray(answer(weights.copy(), 2.0))
    if new.shape != weights.shape:
        raise WrongAnswer("the result has the shape of the matrix")
    if np.isnan(new).any():
        raise WrongAnswer("a row that is 0 has no direction: don't divide by its length")
    if new[1].any():
        raise WrongAnswer(
            "a row that is shorter than the amount becomes 0, and does not turn round"
        )
    if new[3, 1] == 0:
        raise WrongAnswer(
            "that thresholds each weight by itself (a lasso for each task): let the row's length "
            "decide, not the single weight"
        )
    if not np.allclose(new, RowsInL2(1.0).proximal(weights, 2.0)):
        raise WrongAnswer("a row keeps its direction, and its length falls by the amount")


def least_strength(
    inputs: Sequence[Float[np.ndarray, "_ features"]], targets: Sequence[Float[np.ndarray, " _"]]
) -> float:
    """The largest length of a row of the correlations X_tᵀ y_t / n_t (features × tasks)."""
    pairs = zip(inputs, targets, strict=True)
    correlations = np.stack([x.T @ y / len(y) for x, y in pairs], axis=1)
    return float(np.linalg.norm(correlations, axis=1).max())


@exercise(
    "5.1.b",
    "What is the least strength α of the ℓ1/ℓ2 norm at which all weights are 0?",
    reference=least_strength,
    hints=(
        "W = 0 is the solution if minus the gradient of the losses there is a subgradient of the "
        "norm at 0.",
        "The subgradients of α Σ_j ‖w^j‖₂ at 0 are the matrices whose rows are no longer than α.",
    ),
)
def check_least_strength(
    answer: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], float],
) -> None:
    """Accept the strength that separates weights from none, for designs of different sizes."""
    source = np.random.default_rng(0)
    inputs = [source.normal(size=(rows, 5)) for rows in (20, 40)]
    targets = [x[:, 0] + x[:, 1] - x[:, 2] for x in inputs]
    found, right = float(answer(inputs, targets)), least_strength(inputs, targets)
    if not np.isclose(found, right, rtol=1e-6):
        labels = np.repeat([0, 1], [20, 40])
        model = BlockSparseRegression(max(found, 1e-3), fit_intercept=False)
        model.fit(np.concatenate(inputs), np.concatenate(targets), tasks=labels)
        left = "still has weights" if model.coef_.any() else "would do with a smaller one"
        raise WrongAnswer(
            f"the fit with α = {found:.3g} {left}: at W = 0 the gradient of the losses has the "
            "rows X_tᵀ y_t / n_t over the tasks, and each row must not be longer than α"
        )


def explained_variance(
    y: Float[np.ndarray, " examples"],
    predicted: Float[np.ndarray, " examples"],
    schools: Shaped[np.ndarray, " examples"],
    within: bool,
) -> float:
    """100 (1 − Σ (y − ŷ)² / Σ (y − m)²) with the mean of each school, or of all examples."""
    means = np.full(len(y), y.mean())
    if within:
        for school in np.unique(schools):
            means[schools == school] = y[schools == school].mean()
    return float(100 * (1 - ((y - predicted) ** 2).sum() / ((y - means) ** 2).sum()))


@exercise(
    "5.1.c",
    "Write both definitions of the explained variance: of all students, and within schools.",
    reference=explained_variance,
    hints=("Only the denominator differs: m is the mean of all students, or that of each school.",),
)
def check_explained_variance(
    answer: Callable[[np.ndarray, np.ndarray, np.ndarray, bool], float],
) -> None:
    """Accept both definitions for predictions between the two means."""
    schools = np.array(["north", "south", "north", "south", "south"])
    y = np.array([1.0, 5.0, 2.0, 8.0, 9.0])
    predicted = np.array([2.0, 6.0, 2.0, 7.0, 8.0])
    total = answer(y, predicted, schools, False)
    if not np.isclose(total, explained_variance(y, predicted, schools, False)):
        raise WrongAnswer(
            "without `within` it is 100 (1 − Σ (y − ŷ)² / Σ (y − m)²), with the mean m of all y"
        )
    inside = answer(y, predicted, schools, True)
    if np.isclose(inside, total):
        raise WrongAnswer("with `within` the mean m is that of the student's own school")
    by_school = [
        explained_variance(y[own], predicted[own], schools[own], False)
        for own in (schools == "north", schools == "south")
    ]
    if np.isclose(inside, np.mean(by_school)):
        raise WrongAnswer("add up the squares over all schools first, and divide once")
    if not np.isclose(inside, explained_variance(y, predicted, schools, True)):
        raise WrongAnswer("only the denominator changes: the errors of the prediction stay")


prediction(
    "5.1.d",
    "Turn the number of shared features from 6 down to 0. What happens to the excess risk of ℓ1/ℓ∞ "
    "against that of the single-task lasso?",
    choices=DIRECTIONS,
    answer="rises",
    because="The lasso does not notice the dial, since each task is fitted by itself. Under ℓ1/ℓ∞ "
    "a feature of one task alone is as cheap as one of both and brings a false weight into the "
    "other task; to keep these out the strength must rise, which shrinks the true weights. With 6 "
    "shared features the ratio is about one half, with none between two and three.",
    hints=("What does a feature cost that only one of the tasks needs?",),
)
