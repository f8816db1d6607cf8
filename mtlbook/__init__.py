"""mtlbook: the executable companion to Ruder's overview of multi-task learning (2017)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtlbook.architectures.cross_stitch import CrossStitch
    from mtlbook.architectures.deep_relationship_networks import DeepRelationshipNetwork
    from mtlbook.architectures.fully_adaptive_sharing import TreeNetwork
    from mtlbook.architectures.joint_many_task import JointManyTask
    from mtlbook.architectures.low_supervision import LowSupervision
    from mtlbook.architectures.mixture_of_experts import MixtureOfExperts
    from mtlbook.architectures.multi_task_attention import MultiTaskAttention
    from mtlbook.architectures.progressive_layered_extraction import ProgressiveLayeredExtraction
    from mtlbook.architectures.sluice_networks import Sluice
    from mtlbook.architectures.tensor_factorisation import TensorFactorisation
    from mtlbook.auxiliary.adversarial import AdversarialSharing, GradientReversal
    from mtlbook.balancing.task_gradients import task_gradients
    from mtlbook.combiner import Combiner
    from mtlbook.data.multi_task_data import Consecutive, Holdout, MultiTaskData
    from mtlbook.errors import UsageError
    from mtlbook.sharing.hard import HardSharing, separate_networks
    from mtlbook.tasks import Task
    from mtlbook.training.fit import TrainingDivergedError, fit, fit_trials
    from mtlbook.training.grouping import group_tasks
    from mtlbook.training.objective import Objective
    from mtlbook.training.results import Fit
    from mtlbook.training.selection import select
    from mtlbook.training.settings import Settings, Trial

__version__ = "0.1.0"

_HOMES = {
    "AdversarialSharing": "mtlbook.auxiliary.adversarial",
    "Combiner": "mtlbook.combiner",
    "Consecutive": "mtlbook.data.multi_task_data",
    "CrossStitch": "mtlbook.architectures.cross_stitch",
    "DeepRelationshipNetwork": "mtlbook.architectures.deep_relationship_networks",
    "Fit": "mtlbook.training.results",
    "GradientReversal": "mtlbook.auxiliary.adversarial",
    "HardSharing": "mtlbook.sharing.hard",
    "Holdout": "mtlbook.data.multi_task_data",
    "JointManyTask": "mtlbook.architectures.joint_many_task",
    "LowSupervision": "mtlbook.architectures.low_supervision",
    "MixtureOfExperts": "mtlbook.architectures.mixture_of_experts",
    "MultiTaskAttention": "mtlbook.architectures.multi_task_attention",
    "MultiTaskData": "mtlbook.data.multi_task_data",
    "Objective": "mtlbook.training.objective",
    "ProgressiveLayeredExtraction": "mtlbook.architectures.progressive_layered_extraction",
    "Settings": "mtlbook.training.settings",
    "Sluice": "mtlbook.architectures.sluice_networks",
    "Task": "mtlbook.tasks",
    "TensorFactorisation": "mtlbook.architectures.tensor_factorisation",
    "TrainingDivergedError": "mtlbook.training.fit",
    "TreeNetwork": "mtlbook.architectures.fully_adaptive_sharing",
    "Trial": "mtlbook.training.settings",
    "UsageError": "mtlbook.errors",
    "fit": "mtlbook.training.fit",
    "fit_trials": "mtlbook.training.fit",
    "group_tasks": "mtlbook.training.grouping",
    "select": "mtlbook.training.selection",
    "separate_networks": "mtlbook.sharing.hard",
    "task_gradients": "mtlbook.balancing.task_gradients",
}

__all__ = [
    "AdversarialSharing",
    "Combiner",
    "Consecutive",
    "CrossStitch",
    "DeepRelationshipNetwork",
    "Fit",
    "GradientReversal",
    "HardSharing",
    "Holdout",
    "JointManyTask",
    "LowSupervision",
    "MixtureOfExperts",
    "MultiTaskAttention",
    "MultiTaskData",
    "Objective",
    "ProgressiveLayeredExtraction",
    "Settings",
    "Sluice",
    "Task",
    "TensorFactorisation",
    "TrainingDivergedError",
    "TreeNetwork",
    "Trial",
    "UsageError",
    "fit",
    "fit_trials",
    "group_tasks",
    "select",
    "separate_networks",
    "task_gradients",
]


def __getattr__(name: str) -> Any:
    """Import a public name's module when it is first asked for: PyTorch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
