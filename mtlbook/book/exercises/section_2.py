"""The exercises of section 2, motivation and relatives."""

from collections.abc import Callable, Mapping

import torch
from torch import nn

from mtlbook.book.exercises import DIRECTIONS, WrongAnswer, exercise, prediction

RELATIVES = (
    "transfer",
    "domain adaptation",
    "multi-label",
    "multi-output regression",
    "multi-task over several data sets",
    "meta-learning",
)

# What makes each of the settings of exercise 2.a what it is.
SETTINGS = {
    "photographs": ("multi-label", "one image carries several yes-or-no labels"),
    "robot": ("multi-output regression", "one state carries several real targets"),
    "hospitals": (
        "multi-task over several data sets",
        "each example carries the label of its own task only, and every task counts",
    ),
    "parser": ("transfer", "the source comes first, and only the target counts"),
    "spam": (
        "domain adaptation",
        "the labels mean the same in both places, and only the inputs' distribution differs",
    ),
    "alphabets": ("meta-learning", "what counts is how fast a task not seen before is learnt"),
}
RELATIVE_OF = {setting: relative for setting, (relative, _) in SETTINGS.items()}


def hold_the_trunk(model: nn.Module, source: nn.Module) -> None:
    """Copy the trunk of a trained model, and train only what stands on it."""
    trunk = model.get_submodule("trunk")
    trunk.load_state_dict(source.get_submodule("trunk").state_dict())
    trunk.requires_grad_(False)


def parameters(inputs: int, width: int, tasks: int, shared: bool) -> int:
    """How many numbers are trained for tasks of one output each, behind one hidden layer."""
    trunk = (inputs + 1) * width
    head = width + 1
    return trunk + tasks * head if shared else tasks * (trunk + head)


@exercise(
    "2.a",
    "Name the relative of multi-task learning that each setting is.",
    reference=RELATIVE_OF,
)
def _check_relatives(answer: object) -> None:
    if not isinstance(answer, Mapping):
        raise WrongAnswer("give a dictionary from each setting's name to that of its relative")
    unknown = sorted(set(map(str, answer.values())) - set(RELATIVES))
    if unknown:
        raise WrongAnswer(f"{unknown[0]!r} is no name in the table; they are {list(RELATIVES)}")
    for setting, (relative, reason) in SETTINGS.items():
        if answer.get(setting) != relative:
            raise WrongAnswer(f"{setting}: think of this: {reason}")


@exercise(
    "2.b",
    "Write a linear probe's start: copy the source's trunk into the model, and hold it.",
    reference=hold_the_trunk,
)
def _check_linear_probe(answer: Callable[[nn.Module, nn.Module], None]) -> None:
    def network(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.ModuleDict({"trunk": nn.Linear(3, 4), "heads": nn.Linear(4, 2)})

    model, source, fresh = network(0), network(1), network(0)
    answer(model, source)
    trunk, heads = model.get_submodule("trunk"), model.get_submodule("heads")
    if not _alike(trunk, network(1).get_submodule("trunk")):
        raise WrongAnswer("the model's trunk does not have the weights of the source's trunk")
    if not _alike(heads, fresh.get_submodule("heads")):
        raise WrongAnswer("the target has a head of its own: leave the fresh one as it is")
    if not all(weight.requires_grad for weight in heads.parameters()):
        raise WrongAnswer("the head is what a probe trains: do not hold it")
    if any(weight.requires_grad for weight in trunk.parameters()):
        raise WrongAnswer("the trunk would still be trained: that is fine-tuning")
    if any(not weight.requires_grad for weight in source.parameters()):
        raise WrongAnswer("the source model is not yours to change: hold the copy")


@exercise(
    "2.c",
    "How many parameters do K tasks need with one hidden layer, shared or separate?",
    reference=parameters,
)
def _check_parameters(answer: Callable[[int, int, int, bool], int]) -> None:
    one = answer(20, 64, 1, True)
    if one == 20 * 64 + 64:
        raise WrongAnswer("do not forget the biases, of the hidden layer and of the heads")
    if one != answer(20, 64, 1, False):
        raise WrongAnswer("for a single task there is nothing to share: both must agree")
    for inputs, width, tasks in ((20, 64, 1), (20, 64, 5), (3, 2, 7)):
        for shared in (True, False):
            if answer(inputs, width, tasks, shared) != _counted(inputs, width, tasks, shared):
                how = "with one shared trunk" if shared else "with separate networks"
                raise WrongAnswer(
                    f"not what PyTorch counts for {inputs} inputs, {width} hidden units and "
                    f"{tasks} tasks {how}"
                )


def _alike(first: nn.Module, second: nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(values, other[name]) for name, values in first.state_dict().items())


def _counted(inputs: int, width: int, tasks: int, shared: bool) -> int:
    trunks = [nn.Linear(inputs, width) for _ in range(1 if shared else tasks)]
    heads = [nn.Linear(width, 1) for _ in range(tasks)]
    return sum(weight.numel() for part in trunks + heads for weight in part.parameters())


prediction(
    "2.d",
    "The tasks share fewer and fewer features. What happens to the relative error reduction of "
    "joint training?",
    choices=DIRECTIONS,
    answer="falls",
    because="What the trunk learns from the related task is of use to the target only as far as "
    "the two have features in common. It does not fall far below zero: both networks stop on the "
    "target's validation loss.",
    hints=("Which weights of the target's network does the related task train?",),
)
