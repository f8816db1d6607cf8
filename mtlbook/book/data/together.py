r"""Section 4, the five mechanisms together: a switch for each.

Each of the other sections of the chapter has data in which one mechanism is alone at work. Here all
can be switched on and off in one data set, so that what each contributes can be told from what the
others do (`mtlbook.book.experiments.factorial` has the design).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import combinations
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import (
    GAIN,
    SyntheticDataset,
    check_counts,
    hidden,
    reference_inputs,
    regressions,
    unit_variance,
)
from mtlbook.randomness import generator, standard_normal


@dataclass(frozen=True)
class Switches:
    """Which mechanisms can work in a data set; all are off by default.

    Attributes:
        independent_noise: the tasks' noise is independent (4.1); off: all have the same.
        irrelevant_inputs: most inputs are irrelevant (4.2); off: there are relevant ones only.
        plain_tasks: the accompanying tasks are linear in the features (4.3); off: all tasks use
            products of them.
        same_features: all tasks use the same features (4.4); off: each has its own.
    """

    independent_noise: bool = False
    irrelevant_inputs: bool = False
    plain_tasks: bool = False
    same_features: bool = False


def main_and_other_tasks(
    seed: int,
    switches: Switches,
    *,
    rows: int,
    main: int = 2,
    others: int = 4,
    relevant: int = 6,
    irrelevant: int = 30,
    features: int = 3,
    noise: float = 0.5,
) -> SyntheticDataset:
    r"""Main tasks that use products of features, and others beside them.

    With $x \sim N(0, I)$, of which the first `relevant` entries $x'$ count, for task $t$

    $$h_t = \tanh(x' B_t), \qquad
      f_t = \begin{cases} \sum_{i<j} a_{t,ij}\, h_{t,i}\, h_{t,j} & \text{difficult} \\
                          \sum_i a_{t,i}\, h_{t,i} & \text{plain} \end{cases} \qquad
      y_t = f_t / s_t + \sigma \varepsilon_t,$$

    where the entries of $B_t$ are $N(0, 4 / \text{relevant})$, those of $a_t$ and $\varepsilon_t$
    are $N(0, 1)$, and $s_t$ is the standard deviation of $f_t$, estimated from 10,000 further
    inputs. The main tasks are always difficult. The switches choose $B_t = B$ or $B_t$ of the
    task's own, other tasks that are plain or difficult, $\varepsilon_t$ of the task's own or
    $\varepsilon_t = \varepsilon$, and whether there are irrelevant inputs at all.

    A switch changes what it names and leaves every other draw as it was.

    Arguments:
        seed: of everything drawn.
        switches: which mechanisms can work.
        rows: examples, each labelled for all tasks; the first rows are the same for any number.
        main: tasks `main_1`, `main_2`, …, which are measured.
        others: tasks `other_1`, `other_2`, … beside them.
        relevant: inputs that count.
        irrelevant: inputs that do not, where they are switched on.
        features: width of $h_t$, at least 2.
        noise: $\sigma$.

    Returns:
        A data set with the matrices $B_t$ and the weights $a_t$.
    """
    check_counts(rows=rows, main=main, relevant=relevant)
    check_counts(2, features=features)
    check_counts(0, others=others, irrelevant=irrelevant)

    def draw(rows: int, columns: int, *purpose: str) -> Float[Tensor, "rows columns"]:
        return standard_normal(generator(seed, "mechanisms together", *purpose), rows, columns)

    x = draw(rows, relevant, "inputs")
    reference = _reference(seed, relevant)
    noiseless, matrices, heads, targets = {}, {}, {}, {}
    names = [f"main_{n}" for n in range(1, main + 1)] + [f"other_{n}" for n in range(1, others + 1)]
    for name in names:
        owner = "all" if switches.same_features else name
        matrix = GAIN / sqrt(relevant) * draw(relevant, features, "features", owner)
        plain = switches.plain_tasks and name.startswith("other")
        terms = hidden if plain else _products
        width = terms(reference[:1], matrix).shape[1]
        head = draw(1, width, "head", name, "plain" if plain else "difficult")[0]
        signal = partial(_signal, terms=terms, matrix=matrix, head=head)
        noiseless[name] = unit_variance(signal, x, reference)
        source = name if switches.independent_noise else "all"
        targets[name] = noiseless[name] + noise * draw(rows, 1, "noise", source)
        matrices[name], heads[name] = matrix, head
    inputs = [x]
    if switches.irrelevant_inputs:
        inputs.append(draw(rows, irrelevant, "irrelevant inputs"))
    data = regressions(torch.cat(inputs, dim=1), targets)
    return SyntheticDataset(data, noiseless, matrices, heads)


def with_copies(made: SyntheticDataset, task: str, copies: int) -> MultiTaskData:
    """A task and copies of it with the same noise: tasks from which nothing can be learnt.

    Arguments:
        made: whose inputs and targets are taken.
        task: the name of the task.
        copies: how many, `copy_1`, `copy_2`, … beside the task itself.

    Example:
        >>> made = main_and_other_tasks(0, Switches(), rows=5)
        >>> [task.name for task in with_copies(made, "main_2", 2).tasks]
        ['main_2', 'copy_1', 'copy_2']
    """
    names = [task, *(f"copy_{number}" for number in range(1, copies + 1))]
    return regressions(made.data.inputs, dict.fromkeys(names, made.data.targets[task]))


@lru_cache(maxsize=64)
def _reference(seed: int, relevant: int) -> Float[Tensor, "rows inputs"]:
    # The data sets of a seed, with whatever switches, have the same.
    return reference_inputs(seed, relevant, "mechanisms together")


def _signal(
    x: Float[Tensor, "rows inputs"],
    terms: Callable[[Tensor, Tensor], Tensor],
    matrix: Float[Tensor, "inputs features"],
    head: Float[Tensor, " terms"],
) -> Float[Tensor, " rows"]:
    return terms(x, matrix) @ head


def _products(
    x: Float[Tensor, "rows inputs"], matrix: Float[Tensor, "inputs features"]
) -> Float[Tensor, "rows pairs"]:
    h = hidden(x, matrix)
    first, second = zip(*combinations(range(h.shape[1]), 2), strict=True)
    return h[:, first] * h[:, second]


def switched(switches: Switches, run: Mapping[str, bool]) -> Switches:
    """The switches with those of a run that they have; the others of the run are not theirs."""
    return replace(switches, **{k: on for k, on in run.items() if hasattr(switches, k)})
