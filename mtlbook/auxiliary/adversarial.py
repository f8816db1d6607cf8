r"""Section 7.2, an adversarial auxiliary task: features that cannot tell two domains apart.

A trunk f feeds a head for the labels and, behind a gradient reversal R_λ, a head that guesses from
which domain an input comes. Labels are known in the source domain only; the domain of every input
is. Training seeks the saddle point of (Ganin and Lempitsky, 2015; Ganin et al., 2016, equations 9
to 18; Ruder, 2017, section 7.2)

    E(θ_f, θ_y, θ_d) = L_y(θ_f, θ_y) − λ L_d(θ_f, θ_d),

the least over θ_f and θ_y and the greatest over θ_d, by plain gradient steps on L_y + L_d:

    R_λ(x) = x,    ∂R_λ / ∂x = −λ I.

The domain head minimises its own loss, which λ does not touch; only what reaches the trunk is
reversed. Early in training the domain head knows nothing and its gradient is noise, hence λ grows
from 0 to 1 over the training, see `GradientReversal`.

**Where it fails.** Where the proportions of the labels differ between the domains, features that
serve the label must tell the domains apart, and a trunk that hides the domain gives up labels.
Invariance in the mean also does not ask that each class meets its own.

Two tasks and their data, of which the target rows carry no label:

    >>> from mtlbook.data.multi_task_data import MultiTaskData
    >>> from mtlbook.tasks import Task
    >>> tasks = [Task.classification("digit", classes=10), Task.binary("domain")]
    >>> from_source = torch.tensor([True, True, False, False])
    >>> data = MultiTaskData.partial(
    ...     tasks,
    ...     torch.rand(4, 64),
    ...     {"digit": torch.tensor([3, 7, 0, 0]), "domain": from_source.double()},
    ...     {"digit": from_source, "domain": torch.ones(4, dtype=torch.bool)},
    ... )
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.schedule import Scheduled
from mtlbook.layers.stages import Stages, make, named


def reverse_gradient(
    inputs: Float[Tensor, "*shape"], strength: float | Float[Tensor, ""]
) -> Float[Tensor, "*shape"]:
    """R_λ(x) = x, whose derivative is −λ.

    Arguments:
        inputs: x.
        strength: λ.

    Example:
        >>> x = torch.tensor(3.0, requires_grad=True)
        >>> reverse_gradient(x, 0.5).square().backward()
        >>> x.grad  # 2x would be the gradient without the reversal
        tensor(-3.)
    """
    # The second term is 0, but has a gradient: R needs no rule of its own, also under torch.func.
    constant = inputs.detach()
    return constant + strength * (constant - inputs)


def warm_up(progress: Float[Tensor, ""], steepness: float = 10.0) -> Float[Tensor, ""]:
    """λ_p = 2 / (1 + exp(−γ p)) − 1, from 0 at the start towards 1 (Ganin et al., 2016, p. 21).

    Arguments:
        progress: p, the part of the training that is done, 0 to 1.
        steepness: γ; the paper's is 10.

    Example:
        >>> [round(float(warm_up(torch.tensor(p))), 3) for p in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.462, 0.987, 1.0]
    """
    return 2 / (1 + torch.exp(-steepness * progress)) - 1


def annealing(progress: float) -> float:
    """μ_p / μ_0 = (1 + 10 p)^(−0.75), the learning rate by the same paper.

    Arguments:
        progress: p, the part of the training that is done, 0 to 1.

    Example:
        >>> optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01, momentum=0.9)
        >>> steps = 1000
        >>> scheduler = torch.optim.lr_scheduler.LambdaLR(
        ...     optimiser, lambda step: annealing(step / steps)
        ... )
    """
    return (1 + 10 * progress) ** -0.75


class GradientReversal(Scheduled):
    """The identity, whose gradient is −λ times the one that arrives; λ grows while training.

    λ = `strength` · `schedule(p)`, with p the part of the training that is done. `fit` sets p; in a
    loop of your own, call `mtlbook.layers.schedule.advance` before each step, or λ stays that of
    the start.

    Arguments:
        strength: what λ grows to. 0 cuts the trunk off from what lies behind.
        schedule: from p to the part of the strength that is reached; None for a constant λ.

    Example:
        >>> from mtlbook.layers.schedule import advance
        >>> reversal = GradientReversal()
        >>> advance(reversal, 49 / 100)  # before the 50th step of 100
        >>> x = torch.ones(2, requires_grad=True)
        >>> torch.autograd.grad(reversal(x).sum(), x)
        (tensor([-0.9852, -0.9852]),)
    """

    def __init__(
        self,
        strength: float = 1.0,
        schedule: Callable[[Float[Tensor, ""]], Float[Tensor, ""]] | None = warm_up,
    ) -> None:
        super().__init__()
        if not 0 <= strength < float("inf"):
            raise UsageError(
                f"The strength of a gradient reversal is a finite λ of at least 0, not {strength}: "
                "the reversal itself has the minus sign."
            )
        self.strength = strength
        self.schedule = schedule

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """The inputs as they are."""
        if self.schedule is None:
            return reverse_gradient(inputs, self.strength)
        reached = self.schedule(self.progress).to(inputs.dtype)
        return reverse_gradient(inputs, self.strength * reached)


class AdversarialSharing(nn.Module):
    """A trunk with heads that it serves and, behind a gradient reversal, heads that it deceives.

    ŷ_t = h_t(f(x)) for the heads and ŷ_t = h_t(R_λ(f(x))) for the adversaries: the domain-
    adversarial network of Ganin et al. (2016, figure 1). Train it on the plain sum of the losses: a
    weight on the adversary's loss would also change how fast the adversary itself learns, λ changes
    only what the trunk receives of it.

    Arguments:
        stages: makes the trunk f, from the input on; called once.
        heads: by task, from the trunk's features to the prediction.
        adversaries: the same for the tasks that the trunk is to make impossible.
        reversal: R_λ with its schedule; by default λ grows to 1.

    Attributes:
        trunk, heads, adversaries, reversal: the parts of the network.

    Raises:
        UsageError: for stages that are no function, a task on both sides, or a side without tasks.

    Example:
        >>> model = AdversarialSharing(
        ...     lambda: [nn.Linear(64, 32), nn.ReLU()],
        ...     heads={"digit": nn.Linear(32, 10)},
        ...     adversaries={"domain": nn.Linear(32, 1)},
        ... )
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(5, 64)).items()}
        {'digit': (5, 10), 'domain': (5, 1)}
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        adversaries: Mapping[str, nn.Module],
        reversal: GradientReversal | None = None,
    ) -> None:
        super().__init__()
        both = sorted(set(heads) & set(adversaries))
        if both:
            raise UsageError(f"{both} are both heads and adversaries: the trunk can only do one.")
        if not heads or not adversaries:
            raise UsageError("Adversarial sharing needs at least one head and one adversary.")
        self.trunk = nn.Sequential(*make(stages))
        self.heads = named(heads)
        self.adversaries = named(adversaries)
        self.reversal = reversal or GradientReversal()

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        features = self.trunk(inputs)
        reversed_features = self.reversal(features)
        helped = {name: head(features) for name, head in self.heads.items()}
        deceived = {name: head(reversed_features) for name, head in self.adversaries.items()}
        return helped | deceived


def adversarial_sgd(
    named_parameters: Iterable[tuple[str, Tensor]],
    learning_rate: float,
    adversary_speed: float = 3.0,
) -> torch.optim.SGD:
    """Plain gradient descent in which the adversaries of an `AdversarialSharing` learn faster.

    Without momentum, which drives the two players of a game in circles, and with longer steps for
    the adversaries, which must keep up with features that evade them: a trunk that has outrun its
    adversary hides nothing from the next one.

    Arguments:
        named_parameters: as a model's `named_parameters` or `fit` gives them; the
            model may be part of another.
        learning_rate: of all else.
        adversary_speed: the adversaries' learning rate as a multiple of it.

    Raises:
        UsageError: where there are no adversaries.

    Example:
        >>> model = AdversarialSharing(
        ...     lambda: [nn.Linear(64, 32)],
        ...     heads={"digit": nn.Linear(32, 10)},
        ...     adversaries={"domain": nn.Linear(32, 1)},
        ... )
        >>> optimiser = adversarial_sgd(model.named_parameters(), learning_rate=0.5)
        >>> [group["lr"] for group in optimiser.param_groups]
        [0.5, 1.5]
    """
    adversaries, others = [], []
    for name, values in named_parameters:
        (adversaries if "adversaries" in name.split(".") else others).append(values)
    if not adversaries:
        raise UsageError("There is no adversary of an AdversarialSharing among these parameters.")
    groups = [
        {"params": others, "lr": learning_rate},
        {"params": adversaries, "lr": adversary_speed * learning_rate},
    ]
    return torch.optim.SGD(groups)
