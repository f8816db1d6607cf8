r"""Section 2, transfer: a network for the target task starts from one trained on a source task.

With a trunk $f_\theta$ and a head $h$, the source task S gives

$$\hat\theta_S = \arg\min_\theta \min_{h_S} L_S(h_S \circ f_\theta),$$

and the target task T minimises $L_T(h_T \circ f_\theta)$ with a fresh head $h_T$: over
$\theta$ and $h_T$ from $\theta = \hat\theta_S$ on (fine-tuning), or over $h_T$ alone with
$\theta = \hat\theta_S$ held (linear probing). Unlike in multi-task learning the order matters and
only T counts: this is the transfer of parameters in the survey of Pan and Yang (*A survey on
transfer learning*, IEEE TKDE 2010); Yosinski, Clune, Bengio and Lipson (*How transferable are
features in deep neural networks?*, NeurIPS 2014) compare the two, their AnB⁺ and AnB.
"""

from collections.abc import Callable, Sequence

from torch import nn

from mtlbook.errors import UsageError

Start = Callable[[nn.Module, int], None]


def fine_tuning(source: Callable[[int], nn.Module], parts: Sequence[str] = ("trunk",)) -> Start:
    """Start from a source model's weights and train all of them: `Settings(start=...)`.

    Arguments:
        source: the trained model of a seed, such as the method `model` of a `Fit`; each seed's
            replica starts from the same seed's model.
        parts: the submodules that are copied, by their names in both models; all else keeps its
            fresh weights. The source model itself is left as it is.

    Raises:
        UsageError: (by the function returned) for a part that one of the models does not have, or
            that differs between them.

    Example:
        >>> source = nn.ModuleDict({"trunk": nn.Linear(3, 2), "head": nn.Linear(2, 1)})
        >>> target = nn.ModuleDict({"trunk": nn.Linear(3, 2), "head": nn.Linear(2, 5)})
        >>> fine_tuning(lambda seed: source)(target, 0)
        >>> bool((target["trunk"].weight == source["trunk"].weight).all())
        True
    """

    def start(model: nn.Module, seed: int) -> None:
        trained = source(seed)
        for part in parts:
            try:
                state = trained.get_submodule(part).state_dict()
                model.get_submodule(part).load_state_dict(state)
            except (AttributeError, RuntimeError) as error:
                raise UsageError(
                    f"The part {part!r} of the trained model cannot be copied: {error}. Build the "
                    "new model with the same part, or name other parts."
                ) from error

    return start


def linear_probing(source: Callable[[int], nn.Module], parts: Sequence[str] = ("trunk",)) -> Start:
    """Start from a source model's weights and hold them: only what is not copied is trained.

    With a linear head on the copied trunk this is linear regression (or logistic regression) on
    the source task's features. Arguments and errors are those of :func:`fine_tuning`. Parameters
    are held; running statistics of a normalisation layer are not parameters.
    """
    copy = fine_tuning(source, parts)

    def start(model: nn.Module, seed: int) -> None:
        copy(model, seed)
        for part in parts:
            model.get_submodule(part).requires_grad_(False)

    return start
