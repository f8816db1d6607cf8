"""What all networks ask of their users: a function that makes stages, and named heads."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

from torch import nn

from mtlbook.errors import UsageError

# Makes the stages of a network, from the input on, anew at each call.
Stages = Callable[[], Sequence[nn.Module]]


def make(stages: Stages) -> list[nn.Module]:
    """The stages that one call makes.

    Raises:
        UsageError: for layers in place of a function that makes them.
    """
    if isinstance(stages, nn.Module) or not callable(stages):
        raise UsageError(
            "stages is a function that makes new layers at each call, such as "
            "lambda: [nn.Linear(8, 16), nn.Tanh()], and not the layers themselves."
        )
    return list(stages())


def check_apart(made: Sequence[Sequence[nn.Module]], behind: int = 0) -> None:
    """Check that networks have equally many stages, which share no parameter or buffer.

    Arguments:
        made: the stages of each network, from one call each.
        behind: how many stages, from the input on, may be shared.

    Raises:
        UsageError: where they differ in number, or a tensor belongs to two of them.
    """
    depths = [len(own) for own in made]
    if len(set(depths)) > 1:
        raise UsageError(
            f"stages() made {depths} stages at its calls: it must make the same number each time."
        )
    owned = [{id(tensor) for tensor in _tensors(own[behind:])} for own in made]
    if len(set().union(*owned)) < sum(map(len, owned)):
        raise UsageError(
            "stages() gave the same layers at two calls, so that the networks would share their "
            "parameters: make new layers inside of the function."
        )


def named(heads: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """The heads as a module.

    Raises:
        UsageError: for no head, or a name that a module cannot have.
    """
    if not heads:
        raise UsageError("A network needs at least one head: heads={'task': nn.Linear(16, 1)}.")
    try:
        return nn.ModuleDict(heads)
    except KeyError as error:
        raise UsageError(
            f"A task's name becomes part of its parameters' names, and one cannot: {error.args[0]}."
        ) from error


def _tensors(stages: Sequence[nn.Module]) -> chain:
    modules = nn.ModuleList(stages)
    return chain(modules.parameters(), modules.buffers())
