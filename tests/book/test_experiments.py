from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

from mtlbook.book.experiments import (
    adam,
    adamw,
    adamw_trials,
    contrasts,
    crossed,
    dense,
    error_reduction,
    error_reductions,
    errors,
    estimate,
    hard_sharing,
    mean_error,
    means,
    mlp,
    mostly_chosen,
    relative_loss,
    scores,
    search,
    separate_networks,
    standing,
    text_table,
    tidy,
    train,
    trained_network,
    tuned,
    units,
    with_interval,
)
from mtlbook.book.page import Page
from mtlbook.book.parameters import OneOf
from mtlbook.data.multi_task_data import Holdout, MultiTaskData
from mtlbook.errors import UsageError
from mtlbook.randomness import generator
from mtlbook.statistics import Effect, interval
from mtlbook.tasks import Task
from mtlbook.training.sampling import Balanced, Mixed, RoundRobin
from mtlbook.weighting.linear_scalarisation import LinearScalarisation

TASKS = [Task.regression("sum"), Task.binary("sign", metric="accuracy")]
SPLIT = Holdout(train=30, validation=15, test=15)


@pytest.fixture
def page(monkeypatch, tmp_path):
    monkeypatch.setenv("MTLBOOK_OUTPUT", str(tmp_path))
    notebook = {"seeds": 3, "first_seed": 5, "device": "cpu", "dataset": "one"}
    return Page("3.1", notebook, dataset=OneOf("one"))


def data(seed):
    x = torch.randn(60, 4, generator=generator(seed, "test data"), dtype=torch.float64)
    sign = (x[:, 0] * x[:, 1] > 0).double()
    return MultiTaskData.multi_label(TASKS, x, {"sum": x.sum(1), "sign": sign})


def small(page, build=mlp, **settings):
    return train(page, build, data, **{"width": 3, "split": SPLIT, "steps": 4} | settings)


class TestNetworks:
    def test_each_width_is_a_stage(self):
        first, second = list[Any](dense(5, 4, 3, activation=nn.ReLU)())
        assert [tuple(p.shape) for p in first.parameters()] == [(4, 5), (4,)]
        assert [tuple(p.shape) for p in second.parameters()] == [(3, 4), (3,)]
        assert isinstance(second[1], nn.ReLU)

    def test_stages_are_drawn_before_heads(self):
        torch.manual_seed(0)
        model: Any = hard_sharing(dense(5, 4), TASKS, 4)
        torch.manual_seed(0)
        assert torch.equal(model.trunk[0][0].weight, nn.Linear(5, 4).weight)

    def test_separate_networks_share_no_parameter_and_no_draw(self):
        model: Any = separate_networks(dense(5, 4), TASKS, 4)
        assert not list(model.trunk.parameters())
        one, other = (branch[0][0].weight for branch in model.branches.values())
        assert not torch.equal(one, other)

    def test_branches_draw_their_own_layers_only(self):
        torch.manual_seed(0)
        model: Any = hard_sharing(dense(5, 4, 3), TASKS, 3, branch_at=1)
        torch.manual_seed(0)
        trunk, *branches = nn.Linear(5, 4), nn.Linear(4, 3), nn.Linear(4, 3)
        assert torch.equal(model.trunk[0][0].weight, trunk.weight)
        for branch, layer in zip(model.branches.values(), branches, strict=True):
            assert torch.equal(branch[0][0].weight, layer.weight)

    def test_separate_networks_may_start_alike(self):
        model: Any = separate_networks(dense(5, 4), TASKS, 4, same_start=True)
        one, other = (branch[0][0].weight for branch in model.branches.values())
        assert torch.equal(one, other)
        assert one is not other

    def test_perceptron_without_hidden_layers_is_linear(self):
        model: Any = mlp(data(0), 0, width=7, depth=0).double()
        x = data(0).inputs
        for head, predicted in zip(model.heads.values(), model(x).values(), strict=True):
            torch.testing.assert_close(predicted, x @ head.weight.T + head.bias)


class TestTraining:
    def test_page_gives_the_seeds(self, page):
        assert small(page).seeds == (5, 6, 7)
        assert small(page, seeds=[1, 2]).seeds == (1, 2)

    def test_one_step_of_gradient_descent(self, page):
        """Against a step by hand on all training rows of one seed."""
        rate = 0.1
        options = {
            "sampler": Mixed(None),
            "optimiser": lambda named: torch.optim.SGD([p for _, p in named], lr=rate),
            "combiner": LinearScalarisation({"sum": 1.0, "sign": 3.0}),
            "stopping": None,
        }
        moved = trained_network(small(page, steps=1, **options), 5)
        model: Any = trained_network(small(page, steps=1, **options, schedule=lambda _: 0.0), 5)
        model.requires_grad_(True)
        rows = SPLIT.draw(data(5), 5).train
        own = {name: values[rows] for name, values in data(5).targets.items()}
        predicted = model(data(5).inputs[rows])
        losses = [task.loss(predicted[task.name], own[task.name]) for task in TASKS]
        (losses[0].mean() + 3 * losses[1].mean()).backward()
        for before, after in zip(model.parameters(), moved.parameters(), strict=True):
            torch.testing.assert_close(after, before.detach() - rate * before.grad)

    def test_schedule_is_given_the_progress(self, page):
        asked = []
        small(page, steps=4, schedule=lambda progress: asked.append(progress) or 1.0)
        assert asked == [0.0, 0.25, 0.5, 0.75]

    def test_after_step_and_regulariser_are_given_the_context(self, page):
        def halve(model, context):
            return {"heads.sum.bias": 0 * model.heads["sum"].bias + context.learning_rate}

        def penalty(model, context):
            return 0.0 * model.heads["sum"].weight.sum()

        trained = small(page, after_step=halve, regulariser=penalty, learning_rate=0.25)
        assert trained_network(trained, 5).get_parameter("heads.sum.bias").item() == 0.25

    def test_training_continues_from_an_earlier_one(self, page):
        first = small(page)
        second = small(page, steps=1, learning_rate=1e-12, start=first, stopping=None)
        for one, other in zip(
            trained_network(first, 6).parameters(),
            trained_network(second, 6).parameters(),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)

    @pytest.mark.parametrize("sampler", [Mixed(8), Balanced(8), RoundRobin(8)])
    def test_samplers_serve_their_rows(self, page, sampler):
        trained = small(page, sampler=sampler, steps=2, stopping=None)
        rows = {Mixed: 8, Balanced: 16, RoundRobin: 8}[type(sampler)]
        operations = 3 * trained.cost.inference * rows * 2
        assert trained.cost.training.tolist() == [operations] * 3

    def test_build_sees_the_tasks_that_are_trained(self, page):
        seen = []

        def build(data, seed):
            seen.append([task.name for task in data.tasks])
            return mlp(data, seed, width=2)

        train(page, build, data, tasks=["sign"], split=SPLIT, steps=1)
        assert seen == [["sign"]] * 3

    def test_trials_at_once_are_trials_alone(self, page):
        trials = crossed(units(2, 3), {"slow": {"optimiser": adamw(0.01, 0.5)}, "fast": {}})
        together = search(page, mlp, data, trials, split=SPLIT, steps=6)
        assert list(together) == [
            "2 units, slow",
            "2 units, fast",
            "3 units, slow",
            "3 units, fast",
        ]
        for name, trial in trials.items():
            alone = train(page, mlp, data, split=SPLIT, steps=6, **trial)
            np.testing.assert_allclose(scores(together[name]), scores(alone), rtol=1e-9)

    def test_trials_differ_in_what_they_change(self, page):
        trials = {
            "plain": {},
            "one task": {"combiner": LinearScalarisation({"sum": 1.0, "sign": 0.0})},
            "pulled": {
                "regulariser": lambda model, _: 1e3 * model.heads["sum"].weight.square().sum()
            },
        }
        found = search(page, mlp, data, trials, width=3, split=SPLIT, steps=20, learning_rate=0.1)
        weights = {
            name: trained_network(trial, 5).get_parameter("heads.sum.weight").norm()
            for name, trial in found.items()
        }
        assert weights["pulled"] < weights["plain"] / 3
        assert not np.allclose(scores(found["plain"]), scores(found["one task"]))

    def test_names_of_settings_are_checked(self, page):
        with pytest.raises(UsageError, match=r"'every': .*; the network's are width, depth"):
            small(page, every=3)

    def test_two_learning_rates_are_refused(self, page):
        with pytest.raises(UsageError, match="its own learning rate"):
            small(page, optimiser=adam(0.1), learning_rate=0.2)


class TestTuning:
    def test_least_validation_loss_wins(self, page):
        trials = {"still": {"learning_rate": 1e-9}, "moving": {"learning_rate": 0.05}}
        best = tuned(page, mlp, data, trials, width=8, split=SPLIT, steps=60, stopping="each")
        losses = {name: scores(trial, "loss", "validation") for name, trial in best.fits.items()}
        least = np.where(losses["still"] <= losses["moving"], "still", "moving")
        assert (best.choices.to_numpy() == least).all()
        assert mostly_chosen(best, "sum") == "moving"

    @pytest.mark.parametrize(("stopping", "apart"), [("sum", False), ("each", True), ("sum", True)])
    def test_tasks_choose_together_unless_they_stop_apart(self, page, stopping, apart):
        trials = adamw_trials([0.001, 0.3], [0.0, 1.0])
        options = {"width": 4, "split": SPLIT, "steps": 30, "stopping": stopping}
        best = tuned(page, mlp, data, trials, each_task=apart or None, **options)
        agree = best.choices["sum"].tolist() == best.choices["sign"].tolist()
        assert agree or apart

    def test_network_of_the_chosen_trial(self, page):
        best = tuned(page, mlp, data, units(2, 5), split=SPLIT, steps=3)
        for seed in page.seeds:
            model = trained_network(best, seed)
            chosen = best.choices.loc[seed, "sum"]
            assert f"{len(model.get_parameter('trunk.0.0.bias'))} units" == chosen
            assert not any(p.requires_grad for p in model.parameters())


class TestResults:
    def test_scores_and_errors(self, page):
        trained = small(page)
        assert scores(trained).shape == (3, 2)
        np.testing.assert_array_equal(scores(trained)[:, 1], trained.score("sign", "accuracy"))
        np.testing.assert_allclose(errors(trained), [0, 1] + [1, -1] * scores(trained))
        np.testing.assert_allclose(mean_error(trained, tasks=["sum"]), trained.score("sum"))

    def test_relative_loss_of_the_baseline_itself_is_one_on_average(self, page):
        trained = small(page)
        assert relative_loss(trained, trained).mean() == pytest.approx(1)

    def test_error_reduction(self):
        error, baseline = np.array([1.0, 2.0, 2.5]), np.array([2.0, 2.0, 4.0])
        assert error_reductions(error, baseline).mean() == pytest.approx(100 * (1 - 5.5 / 8))
        assert error_reduction(error, baseline).estimate == pytest.approx(100 * (1 - 5.5 / 8))
        assert error_reduction(baseline, error).estimate < 0


class TestTables:
    def test_tidy_frame_with_seeds_and_several_columns(self):
        values = {("a", 1): {"x": [1, 2], "y": [3, 4]}, ("b", 2): {"x": [5, 6], "y": [7, 8]}}
        frame = tidy(values, "name", "n", seeds=range(2))
        assert frame.to_dict("list") == {
            "name": ["a", "a", "b", "b"],
            "n": [1, 1, 2, 2],
            "seed": [0, 1, 0, 1],
            "x": [1, 2, 5, 6],
            "y": [3, 4, 7, 8],
        }

    def test_nested_entries_are_turned_into_values(self):
        nested = {"a": {1: "x", 2: "yy"}, "b": {1: ""}}
        frame = tidy(nested, "name", "n", value="length", of=lambda text: [len(text), -len(text)])
        assert frame["length"].tolist() == [1, -1, 2, -2, 0, 0]
        flat = {(name, n): text for name, inner in nested.items() for n, text in inner.items()}
        again = tidy(flat, "name", "n", value="length", of=lambda text: [len(text), -len(text)])
        pd.testing.assert_frame_equal(frame, again)

    def test_scalars_are_one_row(self):
        frame = tidy({1: 0.5, 2: np.array([1.0, 2.0])}, "k", value="error")
        assert frame.to_numpy().tolist() == [[1, 0.5], [2, 1.0], [2, 2.0]]

    def test_keys_without_names_are_refused(self):
        with pytest.raises(ValueError, match="zip"):
            tidy({("a", 1): [1.0]}, "name")

    def test_contrasts_of_effects_and_of_values(self):
        values = np.array([1.0, 2.0, 4.0])
        frame = contrasts({"known": Effect(1.0, 0.5, 2.0, 0.1, 3), "measured": values}, "contrast")
        low, high = interval(values)
        assert frame.to_numpy().tolist() == [
            ["known", 1.0, 0.5, 2.0],
            ["measured", values.mean(), low, high],
        ]

    def test_means_have_their_intervals(self):
        values = np.array([1.0, 2.0, 4.0])
        (row,) = means({("a", 8): values}, "network", "units").to_dict("records")
        assert row == {"network": "a", "units": 8} | estimate(values, "mean")
        assert (row["low"], row["high"]) == interval(values)

    def test_text_table(self):
        rows = {
            ("hard", 8): {
                "error": np.array([0.5, 0.5]),
                "change, %": Effect(5.0, -1.0, 9.0, 0.2, 2),
            },
            ("soft", 8): {"error": np.array([0.25, 0.25]), "chosen": "8 units"},
        }
        table = text_table(rows, "network", "labels", styles={"error": ".2f"})
        expected = pd.DataFrame(
            [
                ("hard", 8, "0.50 [0.50, 0.50]", "+5.0 [-1.0, +9.0]", np.nan),
                ("soft", 8, "0.25 [0.25, 0.25]", np.nan, "8 units"),
            ],
            columns=["network", "labels", "error", "change, %", "chosen"],
        )
        pd.testing.assert_frame_equal(table, expected, check_dtype=False)

    def test_text_has_the_mean_inside_its_interval(self):
        values = stats.norm(loc=0.4, scale=0.1).rvs(16, random_state=0)
        estimate, low, high = (
            float(part.strip("[],")) for part in with_interval(values, ".6f").split()
        )
        assert low < estimate < high
        assert estimate == pytest.approx(values.mean(), abs=1e-6)

    @pytest.mark.parametrize(
        ("low", "high", "word"),
        [
            (1.0, 2.0, "better"),
            (-2.0, -1.0, "worse"),
            (-1.0, 1.0, "undecided"),
            (0.0, 0.0, "the same"),
        ],
    )
    def test_standing(self, low, high, word):
        assert standing(Effect((low + high) / 2, low, high, 0.1, 4)) == word
