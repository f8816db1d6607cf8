"""Section 3.1, hard parameter sharing: common hidden layers, one head a task (Caruana, 1993)."""

from collections.abc import Mapping
from copy import deepcopy

from jaxtyping import Float
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.dropout import give_own_keys
from mtlbook.layers.stages import Stages, check_apart, make, named


class HardSharing(nn.Module):
    """A trunk that all tasks share, and behind it a branch and a head for each task.

    ŷ_t = h_t(b_t(f(x))), with f shared and b_t, h_t the task's own (Caruana, 1997, section 2;
    Ruder, 2017, section 3.1). The stages in front of `branch_at` form f, those behind it a branch
    b_t for each task. The two ends of the dial are the two extremes of sharing:
    `branch_at=len(stages())` shares every hidden layer, `branch_at=0` gives separate networks.

    Arguments:
        stages: makes the hidden layers, from the input on; called once for the trunk and the first
            branch, and once more for each further branch, in the order of the heads (never where
            every stage is shared).
        heads: by task, from the last stage's features to the prediction.
        branch_at: how many stages are shared; by default all.
        same_start: whether the branches start from equal weights, as soft sharing needs it: further
            branches are copies of the first.

    Attributes:
        trunk: the shared stages.
        branches: by task, the stages of its own; empty where all stages are shared.
        heads: by task.

    Raises:
        UsageError: for stages that are no function, or whose number or layers do not fit; for no
            heads; for a `branch_at` that is not among the stages.

    Example:
        >>> import torch
        >>> model = HardSharing(
        ...     lambda: [nn.Linear(8, 16), nn.Tanh()],
        ...     heads={"price": nn.Linear(16, 1), "kind": nn.Linear(16, 3)},
        ... )
        >>> {name: tuple(p.shape) for name, p in model(torch.ones(5, 8)).items()}
        {'price': (5, 1), 'kind': (5, 3)}
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        *,
        branch_at: int | None = None,
        same_start: bool = False,
    ) -> None:
        super().__init__()
        first = make(stages)
        shared = len(first) if branch_at is None else branch_at
        if not 0 <= shared <= len(first):
            raise UsageError(
                f"branch_at counts shared stages: choose 0 to {len(first)}, not {shared}."
            )
        self.trunk = nn.Sequential(*first[:shared])
        self.branches = nn.ModuleDict()
        self.heads = named(heads)
        made = [first]
        for number, name in enumerate(self.heads):
            if number == 0:
                own = first[shared:]
            elif same_start or shared == len(first):
                own = give_own_keys(deepcopy(nn.Sequential(*first[shared:])), number)
            else:
                made.append(make(stages))
                own = made[-1][shared:]
            self.branches[name] = nn.Sequential(*own)
        check_apart(made, behind=shared)

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        common = self.trunk(inputs)
        return {name: head(self.branches[name](common)) for name, head in self.heads.items()}


def separate_networks(
    stages: Stages, heads: Mapping[str, nn.Module], *, same_start: bool = False
) -> HardSharing:
    """A network for each task that shares nothing: hard sharing that branches at the input."""
    return HardSharing(stages, heads, branch_at=0, same_start=same_start)
