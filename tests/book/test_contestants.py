"""Section 6's contestants, and what a network costs."""

import torch
from torch import nn

from mtlbook.architectures.cross_stitch import CrossStitch
from mtlbook.book.experiments import adam, dense, scores, trained_network
from mtlbook.book.experiments.contestants import Bench
from mtlbook.book.experiments.cost import cost, training_flops
from mtlbook.book.page import Page
from mtlbook.data import Holdout
from mtlbook.data.constructed import related_tasks
from mtlbook.sharing.hard import HardSharing
from mtlbook.training.sampling import Mixed

NAMES = ("task_1", "task_2")


def bench() -> Bench:
    page = Page("6.3", {"seeds": 2, "first_seed": 0, "device": "cpu"})
    return Bench(
        page=page,
        data=lambda seed: related_tasks(seed, tasks=2, rows=60, inputs=6, same_inputs=True).data,
        stages=dense(6, 5, 4),
        width=4,
        trials={"slow": {"optimiser": adam(0.001)}, "fast": {"optimiser": adam(0.03)}},
        settings={
            "split": Holdout(train=20, validation=20, test=20),
            "steps": 5,
            "sampler": Mixed(10),
        },
    )


def test_single_task_networks_choose_each_for_itself_and_share_nothing():
    chosen = bench().single_task()
    assert list(chosen.fits) == ["slow", "fast"]
    names = [name for name, _ in trained_network(chosen, 0).named_parameters()]
    assert not [name for name in names if name.startswith("trunk")]
    assert scores(chosen, "loss").shape == (2, 2)


def test_the_best_split_tries_every_depth_and_hard_sharing_the_last():
    ours = bench()
    split, hard = ours.best_split(), ours.hard_sharing()
    assert list(split.fits) == [
        f"split after {depth}, {trial}" for depth in (1, 2) for trial in ("slow", "fast")
    ]
    torch.testing.assert_close(
        split.fits["split after 2, slow"].score("task_1", "loss", "test"),
        hard.fits["slow"].score("task_1", "loss", "test"),
    )
    assert list(ours.best_split(depths=[1]).fits) == ["split after 1, slow", "split after 1, fast"]


def test_the_cost_counts_products_forward_and_backward_and_what_trains():
    heads = {name: nn.Linear(4, 1) for name in NAMES}
    hard = HardSharing(dense(6, 4), heads)
    inputs = torch.ones(10, 6)
    # 2 operations a multiply–accumulate: forward and the weights' gradient of all, and through the
    # heads the features'.
    assert training_flops(hard, inputs) == 2 * (2 * 24 + 3 * 2 * 4)
    hard.trunk.requires_grad_(False)
    assert cost(hard, inputs)["parameters"] == 2 * 5
    columns = CrossStitch(dense(6, 4), {name: nn.Linear(4, 1) for name in NAMES})
    assert training_flops(columns, inputs) > 2 * (4 * 24)
    assert all(values.grad is None for values in columns.parameters())
