r"""Section 6.2, fully-adaptive feature sharing: a thin network that branches where tasks differ.

Training starts with one thin trunk for all T tasks (`matching_pursuit` cuts it out of a wide
network) and widens it from the last stage down (Lu, Kumar, Zhai, Cheng, Javidi and Feris, 2017,
section 3; Ruder, 2017, section 6.2). An example is hard for a task, e_i = 1, where its margin
m_i = |p_i − g_i| is at least the mean margin. Two tasks are alike where the same examples are hard:

    A_ij = E[e_i e_j + (1 − e_i)(1 − e_j)]

and two branches k and l, which serve several tasks each, by the mean of both directions of

    mean over i in k of  min over j in l of  A_ij.

At each stage spectral clustering groups the d_0 branches above it, which meet in one junction, into
every number d of groups; the d is kept that minimises

    L(d) = (d − 1) L_0 2^p + α L_s,    L_s = mean over groups of (1 − mean_k min_l A_kl),

with p the poolings above the stage. Each group gets a copy of the stage: what is predicted doesn't
change. Training goes on, then comes the stage below, until d = 1. α = 0 gives hard sharing, L_0 = 0
separate networks: here the first stage may split, too, and a branch's affinity with itself counts
as 1. The equations are second-hand: the paper's text was not at hand when this was written.

**Where it fails.** A is not corrected for chance: two independent tasks of which each finds a tenth
of the examples hard have A = 0.82 (`chance_corrected` is Cohen's κ). All tasks need labels on the
same rows, and one margin each. It is greedy: what was joined above is never split below.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import count, pairwise

import torch
from jaxtyping import Float
from scipy.linalg import eigh, qr, svd
from torch import Tensor, nn

from mtlbook.errors import UsageError
from mtlbook.layers.dropout import give_own_keys
from mtlbook.layers.stages import Stages, check_apart, make, named

# What two numbers of groups may differ in by rounding alone: then the smaller number is taken.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Tree:
    """Which branch of each stage each task uses: partitions that get finer from stage to stage.

    Arguments:
        groups: by stage, from the input on, the branch of each task; any labels.

    Attributes:
        groups: the same, each stage's branches numbered from 0 in the order of their first task.

    Raises:
        UsageError: for no stage, or stages of unequal length; where branches meet again above.

    Example:
        >>> tree = Tree.trunk(tasks=3, stages=2).split(1, [0, 1, 0])
        >>> tree.groups, tree.shape
        (((0, 0, 0), (0, 1, 0)), (1, 2))
        >>> tree.members(1)
        ((0, 2), (1,))
    """

    groups: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len({len(own) for own in self.groups}) != 1 or not self.groups[0]:
            raise UsageError("A tree names a branch for each task, at least one, in every stage.")
        found = tuple(tuple(map(list(dict.fromkeys(own)).index, own)) for own in self.groups)
        object.__setattr__(self, "groups", found)
        for stage, (below, above) in enumerate(pairwise(found), start=1):
            if len(set(zip(below, above, strict=True))) > len(set(above)):
                raise UsageError(
                    f"Branches that are apart in stage {stage} meet again in stage {stage + 1}: "
                    "in a tree, tasks that share a stage share all stages below it."
                )

    @classmethod
    def trunk(cls, tasks: int, stages: int) -> "Tree":
        """Hard sharing: one branch in every stage."""
        return cls(((0,) * tasks,) * stages)

    @property
    def shape(self) -> tuple[int, ...]:
        """How many branches each stage has."""
        return tuple(len(set(own)) for own in self.groups)

    def members(self, stage: int) -> tuple[tuple[int, ...], ...]:
        """The tasks of each branch of a stage; behind the last stage each task by itself."""
        own = self.groups[stage] if stage < len(self.groups) else range(len(self.groups[0]))
        tasks = {branch: [] for branch in own}
        for task, branch in enumerate(own):
            tasks[branch].append(task)
        return tuple(map(tuple, tasks.values()))

    def split(self, stage: int, groups: Sequence[int]) -> "Tree":
        """The tree with a stage split: `groups` are those of the branches of the stage above."""
        above = self.members(stage + 1)
        if len(groups) != len(above):
            raise UsageError(f"There are {len(groups)} groups for {len(above)} branches above.")
        of_task = {task: own for own, tasks in zip(groups, above, strict=True) for task in tasks}
        changed = list(self.groups)
        changed[stage] = tuple(of_task[task] for task in range(len(of_task)))
        return type(self)(tuple(changed))

    def permuted(self, order: Sequence[int]) -> "Tree":
        """A tree of the same shape in which task t has the place of task `order[t]`."""
        return type(self)(tuple(tuple(own[task] for task in order) for own in self.groups))


class TreeNetwork(nn.Module):
    """Stages that branch like a tree, from one trunk to a head for each task.

    It is a cross-stitch network whose units are fixed and one-hot, so that networks with different
    trees stack, as long as they have room for equally many branches.

    Arguments:
        stages: makes the stages from the input to a head; called once a branch.
        heads: by task, from the last stage's features to the prediction.
        tree: which branch serves which task, in the order of the heads; by default one trunk.
        room: branches that each stage has room for; by default those of the tree. Spare branches
            are computed, but reach no head and get no gradient.

    Attributes:
        branches: by stage, its branches.
        routes: behind each stage a fixed matrix of 0 and 1, `(takers, branches)`: which branch of
            the next stage, or which head, goes on from which branch.
        heads: by task.

    Raises:
        UsageError: for stages that are no function, or whose number doesn't fit; for a tree of
            another number of stages or tasks, or with more branches than there is room for.

    Example:
        >>> heads = {name: nn.Linear(4, 1) for name in ("smiling", "hat", "glasses")}
        >>> model = TreeNetwork(lambda: [nn.Linear(8, 4), nn.Linear(4, 4)], heads)
        >>> wider = model.widened(model.tree.split(1, [0, 1, 1]))
        >>> x = torch.ones(5, 8)
        >>> all(torch.equal(wider(x)[name], own) for name, own in model(x).items())
        True
        >>> model.size, wider.size
        (71, 91)
    """

    def __init__(
        self,
        stages: Stages,
        heads: Mapping[str, nn.Module],
        tree: Tree | None = None,
        *,
        room: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.heads = named(heads)
        first = make(stages)
        if not first:
            raise UsageError("A tree needs at least one stage: without, there is nothing to share.")
        self.tree = tree or Tree.trunk(len(self.heads), len(first))
        room = self.tree.shape if room is None else tuple(room)
        depth, tasks = len(self.tree.groups), len(self.tree.groups[0])
        if (depth, tasks) != (len(first), len(self.heads)) or len(room) != depth:
            raise UsageError(
                f"The tree has {depth} stages and {tasks} tasks, the network {len(first)} and "
                f"{len(self.heads)}, and room is given for {len(room)} stages: make them equal."
            )
        if any(own < needed for own, needed in zip(room, self.tree.shape, strict=True)):
            raise UsageError(
                f"The tree's stages have {self.tree.shape} branches, more than room={room}."
            )
        made = [first, *(make(stages) for _ in range(max(room) - 1))]
        check_apart(made)
        self.branches = nn.ModuleList(
            nn.ModuleList(own[place] for own in made[:number]) for place, number in enumerate(room)
        )
        self.routes = nn.ParameterList(
            nn.Parameter(route, requires_grad=False) for route in _routes(self.tree, room)
        )

    def forward(self, inputs: Float[Tensor, "examples ..."]) -> Mapping[str, Float[Tensor, "..."]]:
        """Each task's prediction, `(examples, outputs, ...)`."""
        features = [inputs] * self.routes[0].shape[1]
        for place, route in enumerate(self.routes):
            stage = self.branches.get_submodule(str(place)).children()
            computed = torch.stack([own(taken) for own, taken in zip(stage, features, strict=True)])
            # Under autocast features may be less precise than the route.
            features = torch.tensordot(route.to(computed.dtype), computed, dims=1).unbind()
        of_tasks = zip(self.heads.items(), features, strict=True)
        return {name: head(own) for (name, head), own in of_tasks}

    @property
    def size(self) -> int:
        """Trainable parameters of the tree; spare branches don't count."""
        counted = [self.heads]
        for stage, number in zip(self.branches, self.tree.shape, strict=True):
            counted += list(stage.children())[:number]
        return sum(own.numel() for part in counted for own in part.parameters())

    def widened(self, tree: Tree, *, room: Sequence[int] | None = None) -> "TreeNetwork":
        """A network with another tree, of which each branch is a copy of the one it comes from.

        Where the new tree only splits branches of the old one the predictions are unchanged.
        """
        calls = count()

        def stages() -> list[nn.Module]:
            branch = next(calls)
            return [self._copy(place, tree.members(place), branch) for place in range(depth)]

        depth = len(self.tree.groups)
        heads = {name: deepcopy(head) for name, head in self.heads.items()}
        wider = TreeNetwork(stages, heads, tree, room=room)
        wider.routes.to(self.routes[0])
        return wider.train(self.training)

    def _copy(self, place: int, members: Sequence[Sequence[int]], branch: int) -> nn.Module:
        """The copy that becomes a branch of a wider network; a spare one is a copy of branch 0."""
        old = self.tree.groups[place][members[branch][0]] if branch < len(members) else 0
        stage = deepcopy(self.branches.get_submodule(f"{place}.{old}"))
        return give_own_keys(stage, branch) if branch else stage


def _routes(tree: Tree, room: Sequence[int]) -> list[Float[Tensor, "takers branches"]]:
    """The one-hot matrices behind each stage; what is spare takes from branch 0."""
    routes = []
    for place, own in enumerate(tree.groups):
        takers = [own[tasks[0]] for tasks in tree.members(place + 1)]
        spare = (room[place + 1] if place + 1 < len(room) else len(own)) - len(takers)
        taken = torch.tensor(takers + [0] * spare)
        routes.append(nn.functional.one_hot(taken, room[place]).to(torch.get_default_dtype()))
    return routes


# Affinity -----------------------------------------------------------------------------------------


def margins(
    probabilities: Float[Tensor, "examples tasks"], labels: Float[Tensor, "examples tasks"]
) -> Float[Tensor, "examples tasks"]:
    """The margins |p − g|, of probabilities and labels or of predictions and targets."""
    return (probabilities - labels).abs()


def difficult(margins: Float[Tensor, "examples tasks"]) -> Float[Tensor, "examples tasks"]:
    """e: 1 where a task's margin is at least its mean, else 0.

    Raises:
        UsageError: for a margin that is not finite, such as that of a row without a label.
    """
    wrong = (~torch.isfinite(margins)).any(0).nonzero().flatten().tolist()
    if wrong or not len(margins):
        raise UsageError(
            f"Tasks {wrong or 'of no row'} have no finite margin on some rows: affinity compares "
            "tasks on the same rows, so leave out rows and tasks without labels."
        )
    return (margins >= margins.mean(0)).to(margins.dtype)


def affinity(margins: Float[Tensor, "examples tasks"]) -> Float[Tensor, "tasks tasks"]:
    """A_ij = E[e_i e_j + (1 − e_i)(1 − e_j)]: how often two tasks agree on what is hard.

    Example:
        >>> affinity(torch.tensor([[0.9, 0.1], [0.1, 0.8], [0.1, 0.1], [0.2, 0.1]]))
        tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]])
    """
    hard = difficult(margins)
    return (hard.T @ hard + (1 - hard).T @ (1 - hard)) / len(hard)


def chance_corrected(margins: Float[Tensor, "examples tasks"]) -> Float[Tensor, "tasks tasks"]:
    """Cohen's κ = (A − C) / (1 − C), with C the agreement of independent tasks: 0 by chance.

    Example:
        >>> chance_corrected(torch.tensor([[0.9, 0.1], [0.1, 0.8], [0.1, 0.1], [0.2, 0.1]]))
        tensor([[ 1.0000, -0.3333],
                [-0.3333,  1.0000]])
    """
    share = difficult(margins).mean(0)
    chance = torch.outer(share, share) + torch.outer(1 - share, 1 - share)
    # Tasks of which each row is hard agree whatever the labels: nothing is left to correct.
    return torch.where(chance < 1, (affinity(margins) - chance) / (1 - chance), 1.0)


def branch_affinity(
    of_tasks: Float[Tensor, "tasks tasks"], branches: Sequence[Sequence[int]]
) -> Float[Tensor, "branches branches"]:
    """The affinity of branches that serve several tasks: symmetric, 1 with itself."""
    least = torch.stack([of_tasks[:, list(own)].amin(1) for own in branches], dim=1)
    one_way = torch.stack([least[list(own)].mean(0) for own in branches])
    return ((one_way + one_way.T) / 2).fill_diagonal_(1.0)


# Branching ----------------------------------------------------------------------------------------


def separation(of_branches: Float[Tensor, "branches branches"], groups: Sequence[int]) -> float:
    """L_s = mean over groups of 1 − mean_k min_l A_kl: 0 where every branch is by itself."""
    labels = torch.tensor(groups)
    own = [of_branches[labels == label][:, labels == label] for label in labels.unique()]
    return 1 - float(torch.stack([inside.amin(1).mean() for inside in own]).mean())


def groupings(of_branches: Float[Tensor, "branches branches"]) -> list[tuple[int, ...]]:
    """Spectral clustering into 1, 2, … groups, as many as there are branches at most.

    Normalised affinities below 0 count as 0; the leading eigenvectors become groups by their
    pivoted QR decomposition (Damle, Minden and Ying, 2019), which draws no random start.
    """
    weights = of_branches.double().cpu().clamp_min(0.0).numpy()
    number, scale = len(weights), weights.sum(1) ** -0.5
    vectors = eigh(scale[:, None] * weights * scale)[1][:, ::-1]
    found = [(0,) * number]
    for groups in range(2, number):
        # The embedding of random-walk clustering, D^(−1/2) v.
        leading = scale[:, None] * vectors[:, :groups]
        pivots = qr(leading.T, mode="r", pivoting=True)[-1][:groups]
        left, _, right = svd(leading[pivots].T)
        found.append(tuple(abs(leading @ (left @ right)).argmax(1).tolist()))
    return [*found, tuple(range(number))][:number]


def best_grouping(
    of_branches: Float[Tensor, "branches branches"], *, alpha: float, cost: float
) -> tuple[int, ...]:
    """The grouping with the least (d − 1) · cost + α L_s; of equal ones that with fewer groups."""
    if not (alpha >= 0 and cost >= 0):
        raise UsageError(f"alpha and cost are weights of at least 0, not {alpha} and {cost}.")
    tried = groupings(of_branches)
    losses = [(len(set(own)) - 1) * cost + alpha * separation(of_branches, own) for own in tried]
    least = min(losses)
    return tried[next(place for place, own in enumerate(losses) if own <= least + ROUNDING)]


def widen(
    tree: Tree,
    stage: int,
    of_tasks: Float[Tensor, "tasks tasks"],
    *,
    alpha: float,
    unit_cost: float = 1.0,
    poolings: int = 0,
) -> Tree:
    """The tree with a stage split as the affinities of the branches above it suggest.

    Arguments:
        tree: as it is.
        stage: which to split, counted from 0; those above it have had their turn.
        of_tasks: the affinity of tasks.
        alpha: α, the weight of dissimilar branches in one group.
        unit_cost: L_0, what a further branch costs.
        poolings: p, how many layers above the stage halve the resolution.
    """
    if tree.shape[stage] != 1 or not 0 <= stage < len(tree.groups):
        raise UsageError(f"Stage {stage} is split already: the trunk ends below it.")
    above = tree.members(stage + 1)
    cost = unit_cost * 2.0**poolings
    return tree.split(
        stage, best_grouping(branch_affinity(of_tasks, above), alpha=alpha, cost=cost)
    )
