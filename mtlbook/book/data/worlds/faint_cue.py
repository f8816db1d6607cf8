r"""Home of focusing attention (section 7.4): a large pattern beside a small, faint, varied cue."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mtlbook.data.multi_task_data import MultiTaskData
from mtlbook.data.synthetic import SyntheticDataset, check_counts, check_noise, check_shares
from mtlbook.errors import UsageError
from mtlbook.randomness import generator, standard_normal
from mtlbook.tasks import Task

HEIGHT, WIDTH, LARGE, SMALL = 8, 12, 8, 4  # pixels of the image, the pattern, and a cue
SHAPES = 4  # of a cue, two for each value of its bit; each is light on dark or dark on light
LOOKS = 2 * SHAPES
TASKS = (
    Task.binary("label", metric="error rate"),
    Task.classification("cue", classes=LOOKS, metric="error rate"),
    Task.classification("other_cue", classes=LOOKS, metric="error rate"),
    Task.binary("pattern", metric="error rate"),
)


def cued_bits(
    uniform: Callable[[str], Float[Tensor, " rows"]],
    pattern: float,
    reliability: float,
    *,
    decoupled: bool,
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"], Int[Tensor, " rows"]]:
    """The label, the pattern's bit and the cue's bit, independent of each other given the label.

    Arguments:
        uniform: draws numbers between 0 and 1 for a purpose.
        pattern: how often the pattern's bit agrees with the label.
        reliability: how often the cue's does.
        decoupled: the pattern's bit says nothing about the label.
    """
    label = (uniform("label") < 0.5).long()
    bit = torch.where(uniform("pattern") < pattern, label, 1 - label)
    if decoupled:
        bit = (uniform("decoupled") < 0.5).long()
    return label, bit, torch.where(uniform("cue") < reliability, label, 1 - label)


def faint_cue(
    seed: int,
    *,
    rows: int,
    cue: float = 0.6,
    pattern: float = 0.85,
    reliability: float = 0.98,
    noise: float = 0.5,
    decoupled: bool = False,
) -> SyntheticDataset:
    r"""Images of 8 × 12 pixels: a pattern of 8 × 8 on the left, two cues of 4 × 4 on the right.

    A label $y$ is 0 or 1. The bit of the pattern agrees with it with probability `pattern`, the
    bit of the upper cue with probability `reliability`, independently given $y$; the lower cue has
    nothing to do with it. Pixels are

    $$\pm P, \quad a\, (\pm C_k), \quad a\, (\pm C'_l), \quad \text{plus } \sigma \varepsilon .$$

    The pattern's sign is its bit. A cue has a shape $k$, two shapes for each value of its bit, and
    is light on dark or dark on light with equal odds: on average it is nothing, so that no linear
    function of the image tells its bit. Its eight *looks* (shape and sign) are linear to tell.
    $P$ is made of signs, shapes are orthogonal, all have pixels of mean square 1.

    Arguments:
        seed: of everything drawn.
        rows: examples; the first rows are the same for any number.
        cue: the dial $a$, the amplitude of both cues; 0 takes the mechanism away.
        pattern: how often the pattern agrees with the label.
        reliability: how often the cue does.
        noise: $\sigma$.
        decoupled: the same images, but that the bit of the pattern is drawn anew without regard to
            the label.

    Returns:
        Tasks `label` (binary), `cue` and `other_cue` (the look, 8 classes), `pattern` (its bit);
        `relevant` has the inputs that each depends on, `features["cue"]` the cue's four shapes.

    Raises:
        UsageError: for no row, and for dials out of range.

    Example:
        >>> made = faint_cue(0, rows=5)
        >>> made.data.inputs.shape, int(made.relevant["cue"].sum())
        (torch.Size([5, 96]), 16)
    """
    check_counts(rows=rows)
    check_shares(pattern=pattern, reliability=reliability)
    check_noise(noise)
    if not 0 <= cue < float("inf"):
        raise UsageError(f"cue is an amplitude of at least 0, not {cue}.")

    def uniform(purpose: str) -> Float[Tensor, " rows"]:
        source = generator(seed, "faint cue", purpose)
        return torch.rand(rows, generator=source, dtype=torch.float64)

    label, bit, told = cued_bits(uniform, pattern, reliability, decoupled=decoupled)
    look = 2 * (2 * uniform("shape")).long() + told + SHAPES * (uniform("sign") < 0.5)
    other = (LOOKS * uniform("other_cue")).long()

    areas = regions()
    large = torch.sign(standard_normal(generator(seed, "faint cue", "large"), LARGE**2))
    looks = {name: _looks(seed, name) for name in ("cue", "other_cue")}
    inputs = noise * standard_normal(generator(seed, "faint cue", "noise"), rows, HEIGHT * WIDTH)
    inputs[:, areas["pattern"]] += (2 * bit - 1)[:, None] * large
    for name, number in (("cue", look), ("other_cue", other)):
        inputs[:, areas[name]] += cue * looks[name][number]
    targets: dict[str, Int[Tensor, " rows"] | Float[Tensor, " rows"]] = {
        "label": label.double(),
        "cue": look,
        "other_cue": other,
        "pattern": bit.double(),
    }
    drawn = torch.zeros(HEIGHT * WIDTH, SHAPES, dtype=torch.float64)
    drawn[areas["cue"]] = looks["cue"][:SHAPES].T
    return SyntheticDataset(
        MultiTaskData.multi_label(TASKS, inputs, targets),
        features={"cue": drawn},
        relevant={"label": areas["pattern"] | areas["cue"], **areas},
    )


def regions() -> dict[str, Bool[Tensor, " inputs"]]:
    """The inputs of the pattern and of each cue, by the task that asks for it."""
    corners = {
        "pattern": (0, 0, LARGE),
        "cue": (0, LARGE, SMALL),
        "other_cue": (SMALL, LARGE, SMALL),
    }
    found = {}
    for name, (top, left, side) in corners.items():
        area = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
        area[top : top + side, left : left + side] = True
        found[name] = area.flatten()
    return found


def _looks(seed: int, name: str) -> Float[Tensor, "looks pixels"]:
    """Orthogonal shapes of mean square 1, and behind them the same with the other sign."""
    drawn = standard_normal(generator(seed, "faint cue", "shapes", name), SMALL**2, SHAPES)
    shapes = SMALL * torch.linalg.qr(drawn).Q.T
    return torch.cat([shapes, -shapes])
