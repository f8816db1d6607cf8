"""Labelled images with the division into training and test part that they were published with."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Grey images between 0 (background) and 1 (ink), and the digit that each shows.

    Plain tensors, not `MultiTaskData`: recipes such as overlaid digits or a change of domain are
    made from images. Pixels are float32, since they come in 8 bits or fewer digits and are many.
    """

    train_images: Float[Tensor, "train height width"]
    train_labels: Int[Tensor, " train"]
    test_images: Float[Tensor, "test height width"]
    test_labels: Int[Tensor, " test"]
