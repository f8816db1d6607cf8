"""What training asks a page for, where there is none: for studies."""

from collections.abc import Sequence
from typing import cast

from mtlbook import devices
from mtlbook.book.page import Page


class WithoutPage(Page):
    """A section's seeds and device, without a notebook: nothing is claimed or drawn.

    Arguments:
        section: for the progress bar.
        seeds: a replicate each.
        device: as for `fit`.

    Example:
        >>> WithoutPage("7.5", [3, 5], "cpu").seeds
        [3, 5]
    """

    def __init__(self, section: str, seeds: Sequence[int], device: str) -> None:
        self.section, self.device = section, devices.resolve(device)
        self.seeds = cast(range, seeds)  # Training asks for nothing but their order.
