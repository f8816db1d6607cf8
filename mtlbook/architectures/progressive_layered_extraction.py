r"""Section 8.1, progressive layered extraction: experts of each task beside experts of all.

In a *customised gate control* (CGC) each task k has m_k experts of its own beside m_s experts that
all tasks share, and its gate mixes these alone: another task's own experts are out of its reach,
and get no gradient from it (Tang, Liu, Zhao and Gong, 2020, equations 2 to 5):

    g_k(x) = w_k(x) S_k(x),  w_k(x) = softmax(W_k x),  S_k = [E_k1, …, E_km_k, E_s1, …, E_sm_s]

*Progressive layered extraction* (PLE, equations 6 and 7) stacks such levels. Above the first, a
task's experts and gate read its own mixture of the level below, and the shared experts read the
shared path's: a mixture of *all* experts of the level, by a gate of its own. The last level needs
no shared path, and has none. One level is CGC; without own experts it is the multi-gate mixture;
without shared ones separate networks; and one shared expert alone is hard parameter sharing.

**Where it fails.** It has more dials than a mixture (own and shared experts, levels), and more
parameters for as many experts a task: compare at equal parameters. Public versions differ from the
paper; some have no shared gate.
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.architectures.mixture_of_experts import gate_scores, linear_gate, mixture, stacked
from mtlbook.errors import UsageError
from mtlbook.layers.stages import Stages, check_apart, make, named

Features = Float[Tensor, "examples ..."]
Gates = Float[Tensor, "examples experts"]


class ProgressiveLayeredExtraction(nn.Module):
    """Levels of own and shared experts, gates that mix them, a head (tower) for each task.

    Arguments:
        stages: makes one expert of each level, from the input on: a stage a level. Called once for
            each expert: for the first task's own, the next task's, …, then for the shared ones. One
            stage gives CGC.
        heads: by task, from the last level's mixture to the prediction: the towers.
        inputs: numbers in what the gates of each level read as one row: those of one example, then
            those that the experts of the level below give.
        own: experts of each task in each level.
        shared: experts of all tasks in each level.
        bias: whether gates have a bias, which the paper's lack.

    Attributes:
        own: by task, its experts; the stages of each are the levels.
        shared: the shared experts.
        task_gates: for each level, by task, the linear layer of its gate over its own experts and
            the shared ones, in this order.
        shared_gates: for each level but the last, that of the shared path over all experts: those
            of the tasks, in the order of the heads, and the shared ones.
        heads: by task.

    Raises:
        UsageError: for no experts or heads; for stages that are no function, or whose layers or
            number do not fit; for other numbers of `inputs` than levels; when called, for what does
            not fit `inputs`, or experts whose outputs differ in shape.

    Example:
        >>> model = ProgressiveLayeredExtraction(
        ...     lambda: [nn.Sequential(nn.Linear(8, 6), nn.ReLU()), nn.Linear(6, 4)],
        ...     heads={"views": nn.Linear(4, 1), "likes": nn.Linear(4, 1)},
        ...     inputs=[8, 6],
        ...     own=1,
        ...     shared=2,
        ... )
        >>> import torch
        >>> x = torch.ones(5, 8)
        >>> {name: tuple(p.shape) for name, p in model(x).items()}
        {'views': (5, 1), 'likes': (5, 1)}
        >>> [tuple(level["views"].shape) for level in model.gates(x)]
        [(5, 3), (5, 3)]
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        inputs: Sequence[int],
        own: int = 1,
        shared: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads = named(heads)
        tasks = len(self.heads)
        if min(own, shared) < 0 or own + shared < 1:
            raise UsageError(
                f"Each task mixes its {own} own and {shared} shared experts: give it at least one, "
                "and none below 0."
            )
        made = [make(stages) for _ in range(tasks * own + shared)]
        check_apart(made)
        levels = len(made[0])
        if not levels or len(inputs) != levels:
            raise UsageError(
                f"There are {len(inputs)} numbers of inputs for experts of {levels} stages: a "
                "stage is a level, of which there is at least one, and each has its own number."
            )
        experts = [nn.Sequential(*expert) for expert in made]
        self.own = nn.ModuleDict(
            {
                name: nn.ModuleList(experts[place * own : (place + 1) * own])
                for place, name in enumerate(self.heads)
            }
        )
        self.shared = nn.ModuleList(experts[tasks * own :])
        self.task_gates = nn.ModuleList(
            nn.ModuleDict({name: linear_gate(size, own + shared, bias) for name in self.heads})
            for size in inputs
        )
        # Without shared experts nothing reads the shared path, and behind the last level nothing.
        self.shared_gates = nn.ModuleList(
            linear_gate(size, len(experts), bias) for size in inputs[: levels - 1] if shared
        )

    def gates(self, inputs: Features) -> list[dict[str, Gates]]:
        """For each level and task the weights of its experts, the task's own first."""
        return self._levels(inputs)[1]

    def forward(self, inputs: Features) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        features, _ = self._levels(inputs)
        return {name: head(features[name]) for name, head in self.heads.items()}

    def _levels(self, inputs: Features) -> tuple[dict[str, Features], list[dict[str, Gates]]]:
        """Each task's mixture behind the last level, and its gates in every level."""
        paths, common, weights = dict.fromkeys(self.heads, inputs), inputs, []
        for level, gates in enumerate(self.task_gates):
            stage = str(level)
            shared = [expert.get_submodule(stage)(common) for expert in self.shared]
            own = {
                name: [expert.get_submodule(stage)(paths[name]) for expert in experts.children()]
                for name, experts in self.own.items()
            }
            found = {name: _weights(gate, paths[name]) for name, gate in gates.named_children()}
            weights.append(found)
            if level < len(self.shared_gates):
                every = [features for experts in own.values() for features in experts]
                common = _mixed(_weights(self.shared_gates[level], common), every + shared)
            paths = {name: _mixed(found[name], own[name] + shared) for name in self.heads}
        return paths, weights


def _weights(gate: nn.Module, features: Features) -> Gates:
    assert isinstance(gate, nn.Linear)
    return gate_scores(gate, features).softmax(-1)


def _mixed(gates: Gates, computed: Sequence[Features]) -> Features:
    return mixture(gates[:, None], stacked(computed))[0]
