import re
from pathlib import Path

import torch

README = Path(__file__).parents[1] / "README.md"


def test_the_training_loop_of_the_readme_runs_and_learns():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    names: dict = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        exec(compile(example, "README.md", "exec"), names)
        before = names["HardSharing"](names["stages"], names["tasks"], width=32, branch_at=2)
    final = float(names["loss"].detach())
    untrained = before(names["inputs"])
    targets = names["targets"]
    start = sum(
        weight * float(task.loss(untrained[task.name], targets[task.name]).mean().detach())
        for task, weight in zip(names["tasks"], (1.0, 0.5), strict=True)
    )
    assert final < start
    assert len(names["model"].branches) == 2
