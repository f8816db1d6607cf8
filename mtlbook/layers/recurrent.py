"""Recurrent layers that `torch.func.vmap` can vectorise: plain products and a loop over time.

PyTorch's `nn.LSTM` and `nn.GRU` have no rule for vmap. These have the same parameters, by name and
shape, so that a state dict of the one loads into the other, and give the same numbers.
"""

from abc import abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mtlbook.errors import UsageError

# A state, or the weights of a layer, has the directions in front: one or two.
_State = tuple[Tensor, ...]


class _Recurrent(nn.Module):
    """What LSTM and GRU share: layers, directions, masks; see `LSTM`."""

    gates: ClassVar[int]
    state_parts: ClassVar[int]

    def __init__(
        self,
        inputs: int,
        units: int,
        layers: int = 1,
        *,
        bidirectional: bool = True,
        separate: bool = False,
    ) -> None:
        super().__init__()
        if min(inputs, units, layers) < 1:
            raise UsageError(
                f"A recurrent network of {inputs} inputs, {units} units and {layers} layers: give "
                "at least one of each."
            )
        self.units = units
        self.layers = layers
        self.separate = separate
        self.directions = ("", "_reverse") if bidirectional else ("",)
        below = units if separate else units * len(self.directions)
        for layer in range(layers):
            width = below if layer else inputs
            for end in self.directions:
                for name, shape in (
                    ("weight_ih", (self.gates * units, width)),
                    ("weight_hh", (self.gates * units, units)),
                    ("bias_ih", (self.gates * units,)),
                    ("bias_hh", (self.gates * units,)),
                ):
                    self.register_parameter(
                        f"{name}_l{layer}{end}", nn.Parameter(torch.empty(shape))
                    )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, uniform between ±1/√units."""
        for values in self.parameters():
            nn.init.uniform_(values, -(self.units**-0.5), self.units**-0.5)

    def forward(
        self,
        sequence: Float[Tensor, "examples length inputs"],
        mask: Bool[Tensor, "examples length"] | None = None,
    ) -> Float[Tensor, "examples length features"]:
        """The states of the last layer at every position, the directions' side by side.

        Positions outside the mask are skipped: they change the state of neither direction, and
        have the output 0.
        """
        marks = None if mask is None else self._directed(mask.unsqueeze(-1))
        states = self._directed(sequence)
        for layer in range(self.layers):
            if layer and not self.separate:
                states = self._directed(self._side_by_side(states))
            states = self._layer(layer, states, marks)
        return self._side_by_side(states)

    @abstractmethod
    def step(self, given: Tensor, state: _State, weight: Tensor, bias: Tensor) -> _State:
        """The next state; `given` is W x + b of all gates, `weight` and `bias` act on the state."""

    def _layer(self, layer: int, below: Tensor, marks: Tensor | None) -> Tensor:
        """The states of one layer, each direction in the order of its own time."""
        weight, bias = self._stacked("weight_ih", layer), self._stacked("bias_ih", layer)
        # The inputs' part of all gates, for all positions at once.
        given = (below.flatten(1, 2) @ weight.mT + bias.unsqueeze(1)).unflatten(1, below.shape[1:3])
        weight, bias = self._stacked("weight_hh", layer).mT, self._stacked("bias_hh", layer)
        start = given.new_zeros(*given.shape[:2], self.units)
        state = (start,) * self.state_parts
        outputs = []
        known = [None] * given.shape[2] if marks is None else marks.unbind(2)
        for now, here in zip(given.unbind(2), known, strict=True):
            following = self.step(now, state, weight, bias.unsqueeze(1))
            if here is not None:
                following = tuple(
                    torch.where(here, new, old) for new, old in zip(following, state, strict=True)
                )
            state = following
            outputs.append(state[0])
        states = torch.stack(outputs, 2)
        return states if marks is None else states * marks

    def _stacked(self, name: str, layer: int) -> Tensor:
        return torch.stack([getattr(self, f"{name}_l{layer}{end}") for end in self.directions])

    def _directed(self, sequence: Tensor) -> Tensor:
        """The sequence once for each direction, for the reverse one from its end."""
        return torch.stack([sequence.flip(1) if end else sequence for end in self.directions])

    def _side_by_side(self, states: Tensor) -> Tensor:
        """The states of all directions at each position, in the order of the sequence."""
        ways = zip(states.unbind(0), self.directions, strict=True)
        return torch.cat([way.flip(1) if end else way for way, end in ways], -1)


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; forget gate: Gers et al., 2000).

    i, f, o = σ(W x_t + U h_{t−1} + b), g = tanh(W_g x_t + U_g h_{t−1} + b_g),
    c_t = f ⊙ c_{t−1} + i ⊙ g, h_t = o ⊙ tanh(c_t), with h_0 = c_0 = 0.

    Arguments:
        inputs: features of each position.
        units: of each direction.
        layers: one upon the other.
        bidirectional: whether a second network reads the sequence from its end (Schuster and
            Paliwal, 1997); the outputs then have 2 × `units` features.
        separate: whether each direction is a stack of its own, so that the forward states of all
            layers know nothing of what follows; otherwise every layer sees both directions of
            the layer below, as in `nn.LSTM`.

    Raises:
        UsageError: for a width or depth below 1.

    Example:
        >>> encoder = LSTM(5, 8)
        >>> encoder(torch.ones(2, 7, 5), mask=torch.arange(7) < torch.tensor([[7], [3]])).shape
        torch.Size([2, 7, 16])
        >>> encoder.load_state_dict(nn.LSTM(5, 8, bidirectional=True).state_dict())
        <All keys matched successfully>
    """

    gates = 4
    state_parts = 2

    def step(self, given: Tensor, state: _State, weight: Tensor, bias: Tensor) -> _State:
        """h_t and c_t."""
        hidden, cell = state
        i, f, g, o = (given + hidden @ weight + bias).chunk(4, -1)
        cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
        return o.sigmoid() * cell.tanh(), cell


class GRU(_Recurrent):
    """Gated recurrent units (Cho et al., 2014), with the reset gate behind the product.

    r, z = σ(W x_t + U h_{t−1} + b), n = tanh(W_n x_t + b_n + r ⊙ (U_n h_{t−1} + b'_n)),
    h_t = (1 − z) ⊙ n + z ⊙ h_{t−1}, with h_0 = 0. The paper has U_n (r ⊙ h_{t−1}); this form is
    that of `nn.GRU`.

    Arguments and errors are those of `LSTM`.

    Example:
        >>> GRU(5, 8, bidirectional=False)(torch.ones(2, 7, 5)).shape
        torch.Size([2, 7, 8])
    """

    gates = 3
    state_parts = 1

    def step(self, given: Tensor, state: _State, weight: Tensor, bias: Tensor) -> _State:
        """h_t."""
        (hidden,) = state
        r, z, n = given.chunk(3, -1)
        from_r, from_z, from_n = (hidden @ weight + bias).chunk(3, -1)
        n = (n + (r + from_r).sigmoid() * from_n).tanh()
        return (torch.lerp(n, hidden, (z + from_z).sigmoid()),)
