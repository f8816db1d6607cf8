r"""Section 8.1, mixtures of experts: every task mixes the same experts, by a gate of its own.

All tasks share n experts f_1, …, f_n, networks with outputs of one shape. A gate gives each example
n weights that add up to 1, and the mixture goes to the task's tower h_k (Ma, Zhao, Yi, Chen, Hong
and Chi, 2018, equations 6 to 8):

    ŷ_k = h_k(f_k(x)),    f_k(x) = Σ_i g_ki(x) f_i(x),    g_k(x) = softmax(W_k x)

With a gate for each task this is the multi-gate mixture (MMoE), with one gate for all tasks the
one-gate mixture (OMoE, from equation 5), which gives all towers the same features. Exact limits:
one expert is hard parameter sharing; W = 0 is the plain average of the experts; equal gates
are the one-gate mixture; and gates with a bias, driven to ±∞, pick an expert each: separate
networks.

**Where it fails.** The paper's gate has no bias. Then g_i(−x) / g_j(−x) = g_j(x) / g_i(x): where x
and −x are equally likely, a gate prefers an expert here as much as it rejects it there, and no task
can prefer an expert on average. Give it a bias (`bias=True`). Gates *collapse* where one expert
gets all the weight (`effective_experts`); dropping experts from the gates in training works against
that (Zhao et al., 2019). The gates are parameters, too: count them before comparing.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages, check_apart, make, named


class MixtureOfExperts(nn.Module):
    """Shared experts, gates that mix them for each task or for all, a head (tower) for each task.

    Arguments:
        stages: makes the stages of one expert, from the input on; called once an expert. The
            experts may differ in layers, but not in the shape of what they give.
        heads: by task, from the mixture to the prediction: the paper's towers.
        inputs: numbers in one example, which a gate reads as one row.
        experts: how many, n.
        multi_gate: a gate for each task; otherwise one gate for all.
        bias: whether gates have a bias, which the paper's lack.
        dropout: the probability with which an expert is left out of a gate in training; the
            weights of the others are scaled up to add up to 1.

    Attributes:
        experts: the experts, each a plain network.
        gate: one linear layer for all gates; its outputs are those of `gate_weights`, row by row.
        heads: by task.

    Raises:
        UsageError: for no expert or heads; for a number of inputs below 1; for stages that are no
            function, or whose layers or number do not fit; for a dropout probability of 1 or more;
            when called, for inputs of another size or experts whose outputs differ in shape.

    Example:
        >>> model = MixtureOfExperts(
        ...     lambda: [nn.Linear(8, 16), nn.ReLU()],
        ...     heads={"income": nn.Linear(16, 1), "education": nn.Linear(16, 3)},
        ...     inputs=8,
        ...     experts=4,
        ... )
        >>> x = torch.ones(5, 8)
        >>> {name: tuple(p.shape) for name, p in model(x).items()}
        {'income': (5, 1), 'education': (5, 3)}
        >>> {name: tuple(g.shape) for name, g in model.gates(x).items()}
        {'income': (5, 4), 'education': (5, 4)}
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        inputs: int,
        experts: int = 8,
        multi_gate: bool = True,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if experts < 1:
            raise UsageError(f"A mixture needs at least one expert, not {experts}.")
        self.heads = named(heads)
        made = [make(stages) for _ in range(experts)]
        check_apart(made)
        self.experts = nn.ModuleList(nn.Sequential(*own) for own in made)
        self.gate = linear_gate(inputs, (len(self.heads) if multi_gate else 1) * experts, bias)
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout is a probability from 0 to below 1, not {dropout}.")
        self.dropout = nn.Dropout(dropout) if dropout else None

    @property
    def gate_weights(self) -> Float[Tensor, "gates experts inputs"]:
        """W of each gate: one a task in the order of the heads, or one for all."""
        return self.gate.weight.unflatten(0, (-1, len(self.experts)))

    def gates(
        self, inputs: Float[Tensor, "examples ..."]
    ) -> dict[str, Float[Tensor, "examples experts"]]:
        """g_k(x): for each task the weight of each expert, example by example."""
        of_tasks = self._weights(inputs).expand(-1, len(self.heads), -1).unbind(1)
        return dict(zip(self.heads, of_tasks, strict=True))

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        computed = stacked([expert(inputs) for expert in self.experts])
        features = mixture(self._weights(inputs), computed)
        of_tasks = features.expand(len(self.heads), *features.shape[1:]).unbind()
        return {
            name: head(own) for (name, head), own in zip(self.heads.items(), of_tasks, strict=True)
        }

    def _weights(
        self, inputs: Float[Tensor, "examples ..."]
    ) -> Float[Tensor, "examples gates experts"]:
        scores = gate_scores(self.gate, inputs).unflatten(1, (-1, len(self.experts)))
        gates = scores.softmax(-1)
        return gates if self.dropout is None else without_some(gates, self.dropout)


def mixture(
    gates: Float[Tensor, "examples gates experts"],
    computed: Float[Tensor, "examples experts ..."],
) -> Float[Tensor, "gates examples ..."]:
    """Σ_i g_ki(x) f_i(x), for each gate k.

    Example:
        >>> gates = torch.tensor([[[0.5, 0.5], [1.0, 0.0]]])  # two gates at one example
        >>> mixture(gates, torch.tensor([[[10.0], [20.0]]]))[:, 0]
        tensor([[15.],
                [10.]])
    """
    mixed = gates @ computed.flatten(2)
    return mixed.transpose(0, 1).unflatten(2, computed.shape[2:])


def effective_experts(gates: Float[Tensor, "... examples experts"]) -> Float[Tensor, "..."]:
    """How many experts a gate uses over all examples: exp of the entropy of its mean weights.

    From 1, where one expert gets all the weight (a collapse), to n, where all get the same.

    Example:
        >>> effective_experts(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        tensor(2.)
    """
    mean = gates.mean(-2)
    return torch.special.entr(mean).sum(-1).exp()


def linear_gate(inputs: int, outputs: int, bias: bool) -> nn.Linear:
    """The linear layer of gates on rows of `inputs` numbers."""
    if inputs < 1:
        raise UsageError(f"inputs counts the numbers that a gate reads: at least 1, not {inputs}.")
    return nn.Linear(inputs, outputs, bias=bias)


def gate_scores(
    gate: nn.Linear, inputs: Float[Tensor, "examples ..."]
) -> Float[Tensor, "examples outputs"]:
    """What a gate computes of each example's numbers in a row, before the softmax."""
    rows = inputs.flatten(1)
    if rows.shape[1] != gate.in_features:
        raise UsageError(
            f"A gate for {gate.in_features} numbers meets examples of {rows.shape[1]}: name the "
            "size of what it reads in inputs."
        )
    return gate(rows)


def without_some(
    gates: Float[Tensor, "*shape experts"], dropout: nn.Module
) -> Float[Tensor, "*shape experts"]:
    """Gates with some experts dropped, scaled to add up to 1; where all were dropped, as given."""
    kept = dropout(torch.ones_like(gates)) * gates
    total = kept.sum(-1, keepdim=True)
    return torch.where(total > 0, kept / torch.where(total > 0, total, 1.0), gates)


def stacked(computed: Sequence[Tensor]) -> Float[Tensor, "examples experts ..."]:
    """What the experts computed, side by side."""
    shapes = [tuple(own.shape[1:]) for own in computed]
    if len(set(shapes)) > 1:
        raise UsageError(
            f"The experts compute features of different shapes, {shapes}: give them stages with "
            "equal outputs."
        )
    return torch.stack(list(computed), dim=1)
