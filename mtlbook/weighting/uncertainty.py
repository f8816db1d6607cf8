r"""Section 6.6, weighting by uncertainty: each task's loss is divided by a noise that is learnt.

A task's weight is not chosen but follows from a likelihood. With σ_t the noise of task t, the same
for all inputs (homoscedastic), the negative log-likelihood is (Kendall, Gal and Cipolla, 2018,
equations 5 to 10; Ruder, 2017, section 6.6)

* regression, y ~ N(f, σ²):            L / (2σ²) + log σ, but for the constant log √(2π);
* classification, y ~ softmax(f / σ²): L / σ² + log σ, with (1/σ) Σ_c exp(f_c / σ²) replaced by
  (Σ_c exp f_c)^(1/σ²), which is exact at σ = 1,

with L the mean squared error or the cross-entropy that `Task.loss` averages. log σ keeps the noise
from growing without end. s = log σ² is what is trained: any real number is allowed, and nothing is
divided by 0.

**What is learnt.** For fixed L the minimum lies at σ² = L for a regression and at σ² = 2L for a
classification, where its value is ½ (1 + log L) and ½ (1 + log 2L): trained to its end, the method
minimises Σ_t ½ log L_t. The weight of L_t there is 1 / (2 L_t) in both cases.

**The factor ½** differs between the two forms, and between implementations. The forms are one
another's shift: in s' = s − log 2 the classification is ½ (exp(−s') L + s') + ½ log 2. Gradients,
and so the path of the training from the same initial weight, are equal; what differs is the number
that is called σ², by the factor 2, and the weight at s = 0, ½ or 1. Codes that minimise
exp(−s) L + s have the regression's σ² and twice its gradient, the network's included.

**Where it fails.** σ² is the *training* loss: a network that fits its training rows exactly drives
σ² to 0 and the weight to infinity. The combined loss can be negative. Being a negative
log-likelihood, its values are comparable between steps although the weights change.

σ² is also *late*. The gradient by s is ½ (1 − L / σ²) for a regression: hundreds at the start where
L is hundreds, below ½ near the end. Adam remembers the first ones for about 1 / (1 − β₂) steps and
takes short steps for as long. Where σ² itself matters, give s a larger learning rate than the
network (a parameter group of its own), or let it start near the logarithm of the first losses.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.combiner import Combiner
from mtlbook.errors import UsageError
from mtlbook.tasks import Task

# c_t, by the likelihood that the task's loss is the negative logarithm of.
FACTORS = {"gaussian": 0.5, "categorical": 1.0}


class UncertaintyWeighting(Combiner):
    """Σ_t c_t exp(−s_t) L_t + ½ s_t, with s_t = log σ_t² trained beside the model.

    c_t is ½ for a regression, at each pixel or not, and 1 for every kind of classification.
    `fit` trains a copy for each seed; in a loop of your own give the optimiser its parameters, too.

    Arguments:
        tasks: in the order of the losses.
        initial_log_variance: s_t before training.
        dtype: of s, by default PyTorch's own default; `fit` gives it that of the model.

    Attributes:
        log_variances: s_t, trained.

    Raises:
        UsageError: for no tasks, a start that is not finite, or a task whose loss is no
            likelihood's.

    Example:
        >>> tasks = [Task.regression("depth"), Task.classification("kind", classes=3)]
        >>> weighting = UncertaintyWeighting(tasks)
        >>> model = nn.Linear(4, 2)
        >>> optimiser = torch.optim.SGD([*model.parameters(), *weighting.parameters()], lr=0.1)
        >>> loss = weighting(torch.tensor([2.0, 0.7]))
        >>> loss  # 2 / 2 + 0.7
        tensor(1.7000, grad_fn=<SumBackward1>)
        >>> loss.backward()
        >>> optimiser.step()
        >>> weighting.variances  # each moves towards its optimum: 2 and 1.4
        tensor([1.0513, 1.0202])
    """

    log_variances: Float[Tensor, "*replicas tasks"]
    factors: Float[Tensor, "*replicas tasks"]

    def __init__(
        self,
        tasks: Sequence[Task],
        initial_log_variance: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(tasks)
        initial = torch.full((len(tasks),), initial_log_variance, dtype=dtype)
        if not bool(torch.isfinite(initial).all()):
            raise UsageError(
                f"The initial log-variance must be a finite number, not {initial_log_variance}."
            )
        self.log_variances = nn.Parameter(initial)
        factors = [_factor(task) for task in tasks]
        self.register_buffer("factors", torch.tensor(factors, dtype=dtype))

    @property
    def variances(self) -> Float[Tensor, "*replicas tasks"]:
        """σ_t²: the noise of each task, as far as training has come."""
        return self.log_variances.detach().exp()

    @property
    def weights(self) -> Float[Tensor, "*replicas tasks"]:
        """c_t / σ_t²: what each loss is multiplied by."""
        return self.factors / self.variances

    def transform(
        self, losses: Float[Tensor, "*replicas tasks"]
    ) -> Float[Tensor, "*replicas tasks"]:
        """c_t exp(−s_t) L_t + ½ s_t."""
        s = self.log_variances.to(losses)
        return self.factors.to(losses) * torch.exp(-s) * losses + s / 2


def _factor(task: Task) -> float:
    if task.likelihood is None:
        raise UsageError(
            f"The loss of task {task.name!r} ({task.kind}) is not said to be a likelihood's, so "
            "that it has no noise to learn: give the task the likelihood "
            f"{' or '.join(repr(known) for known in FACTORS)}, or choose another weighting."
        )
    return FACTORS[task.likelihood]
