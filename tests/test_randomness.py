"""Generators: the same for the same purpose, unrelated for another."""

import torch

from mtlbook.randomness import generator, standard_normal


def test_the_numbers_are_the_same_on_every_machine():
    # Fixed here so that a change of the seeding, which changes every result, does not go unseen.
    assert generator(0, "split").initial_seed() == 693575820430891217


def test_seeds_and_purposes_are_told_apart():
    purposes = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "ab"), (0, "1"), (0, 1), (1, 0)]
    states = {generator(*purpose).initial_seed() for purpose in purposes}
    assert len(states) == len(purposes)


def test_draws_do_not_depend_on_other_generators():
    expected = torch.rand(3, generator=generator(5, "a"))
    other = generator(5, "b")
    torch.rand(100, generator=other)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3, generator=generator(5, "a")), expected)


def test_normal_numbers_have_mean_0_and_variance_1_and_begin_alike_for_any_number_of_rows():
    few, many = (standard_normal(generator(3, "rows"), rows, 2, 5) for rows in (11, 4000))
    assert few.dtype == torch.float64
    assert torch.equal(few, many[:11])
    assert abs(float(many.mean())) < 0.02
    assert abs(float(many.std()) - 1) < 0.02
