import pytest
from torch import nn

from mtlbook.errors import UsageError
from mtlbook.layers.stages import check_apart, make, named


def test_stages_are_made_anew():
    first, second = (make(lambda: [nn.Linear(2, 2), nn.Tanh()]) for _ in range(2))
    check_apart([first, second])
    assert [type(stage) for stage in first] == [nn.Linear, nn.Tanh]


@pytest.mark.parametrize("layers", [nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2))])
def test_layers_in_place_of_a_function_are_refused(layers):
    """A module is a function, too, but of tensors."""
    with pytest.raises(UsageError, match="not the layers themselves"):
        make(layers)


def test_layers_without_tensors_may_be_shared():
    activation = nn.Tanh()
    check_apart([[nn.Linear(2, 2), activation], [nn.Linear(2, 2), activation]])


@pytest.mark.parametrize("layer", [nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)])
def test_layers_of_two_calls_that_share_a_tensor_are_refused(layer):
    with pytest.raises(UsageError, match="make new layers inside of the function"):
        check_apart([[nn.Sequential(layer)], [layer]])
    check_apart([[layer, nn.Linear(2, 2)], [layer, nn.Linear(2, 2)]], behind=1)


def test_a_single_tensor_may_stand_twice_in_one_network():
    layer = nn.Linear(2, 2)
    check_apart([[layer, nn.Tanh(), layer], [nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2)]])


def test_calls_that_make_different_numbers_are_refused():
    with pytest.raises(UsageError, match=r"\[1, 2\] stages"):
        check_apart([[nn.Tanh()], [nn.Tanh(), nn.Tanh()]])


def test_networks_need_heads_with_names_that_modules_can_have():
    with pytest.raises(UsageError, match="at least one head"):
        named({})
    for name in ("type", "a.b", ""):
        with pytest.raises(UsageError, match="becomes part of its parameters' names"):
            named({name: nn.Linear(2, 1)})
