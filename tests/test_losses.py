import math

import pytest
import torch

from caloforge.models.losses import (
    flip_labels,
    gaussian_kernel,
    gradient_penalty,
    inverse_multiquadric_kernel,
    kl_divergence,
    label_loss,
    mmd,
    percentage_error,
    r1_penalty,
    sorted_kernel_mmd,
    wasserstein_critic_loss,
    wasserstein_generator_loss,
    weighted_mean,
)


def rng():
    return torch.Generator().manual_seed(0)


def test_wasserstein_losses_in_closed_form():
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [2.0]])
    assert float(wasserstein_critic_loss(real, fake)) == -1
    assert float(wasserstein_generator_loss(fake)) == -1
    weight = torch.tensor([0.5, 1.5])
    assert float(wasserstein_critic_loss(real, 2 * fake, weight)) == pytest.approx((0.5 * -1 + 1.5 * 1) / 2)
    assert float(wasserstein_generator_loss(fake, weight)) == pytest.approx(-1.5)


def test_weights_of_one_change_nothing():
    values = torch.randn(7, 2, 3, generator=rng())
    torch.testing.assert_close(weighted_mean(values, torch.ones(7)), weighted_mean(values))
    torch.testing.assert_close(weighted_mean(values), values.mean())


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 3.0])
def test_penalty_of_a_linear_critic(slope):
    direction = torch.randn(2, 3, 4, generator=rng())
    direction *= slope / direction.norm()
    real, fake = torch.randn(5, 2, 3, 4, generator=rng()), torch.randn(5, 2, 3, 4, generator=rng())
    penalty = gradient_penalty(lambda x: (x * direction).sum((1, 2, 3)), real, fake, rng())
    assert float(penalty.detach()) == pytest.approx((slope - 1) ** 2, abs=1e-5)


def test_penalty_of_a_quadratic_critic_is_taken_between_real_and_fake():
    real, fake = torch.full((4000, 1), 1.0), torch.zeros(4000, 1)
    # D = x^2 / 2 has gradient x; x uniform in 0..1 gives E (x - 1)^2 = 1/3.
    penalty = gradient_penalty(lambda x: (x**2 / 2).sum(1), real, fake, rng())
    assert float(penalty.detach()) == pytest.approx(1 / 3, abs=0.02)


def test_penalty_weights_and_gradients():
    slope = torch.tensor([[2.0]], requires_grad=True)
    real, fake = torch.ones(2, 1), torch.zeros(2, 1, requires_grad=True)
    scale = torch.tensor([[1.0], [0.5]])
    penalty = gradient_penalty(lambda x: x * slope * scale, real, fake, rng(), torch.tensor([2.0, 0.0]))
    assert float(penalty.detach()) == pytest.approx(1.0)
    penalty.backward()
    assert float(slope.grad) == pytest.approx(2.0)  # d/ds (s - 1)^2 at 2
    assert fake.grad is None


def test_penalty_depends_on_the_passed_rng_only():
    real, fake = torch.ones(9, 1), torch.zeros(9, 1)
    state = torch.get_rng_state()
    values = [gradient_penalty(lambda x: x**3, real, fake, rng()).item() for _ in range(2)]
    assert values[0] == values[1]
    assert torch.equal(torch.get_rng_state(), state)


def test_kl_divergence_in_closed_form():
    mean, deviation = torch.tensor([[0.5, -2.0], [0.0, 0.0]]), torch.tensor([[0.3, 2.0], [1.0, 1.0]])
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(torch.distributions.Normal(mean, deviation), normal).sum(1)
    assert float(expected[1]) == 0
    torch.testing.assert_close(kl_divergence(mean, 2 * deviation.log()), expected.mean())
    torch.testing.assert_close(kl_divergence(mean, 2 * deviation.log(), torch.tensor([2.0, 0.0])), expected[0])


@pytest.mark.parametrize("kernel", [gaussian_kernel(0.7), inverse_multiquadric_kernel(2.0), gaussian_kernel(0.1, 3.0)])
def test_mmd_in_closed_form(kernel):
    sample = torch.randn(9, 4, generator=rng())
    assert float(mmd(sample, sample.flip(0), kernel)) == pytest.approx(0, abs=1e-6)
    # Two points: k(0) + k(0) - 2 k(d), however often each is drawn.
    x, y = torch.zeros(3, 2), torch.tensor([[0.6, 0.8]] * 5)
    none, one = kernel(torch.tensor(0.0)), kernel(torch.tensor(1.0))
    torch.testing.assert_close(mmd(x, y, kernel), 2 * none - 2 * one)


def test_kernels_in_closed_form():
    square = torch.tensor([0.0, 2.0])
    torch.testing.assert_close(gaussian_kernel(0.5, 1.0)(square), torch.tensor([2.0, math.exp(-1) + math.exp(-2)]))
    torch.testing.assert_close(inverse_multiquadric_kernel(2.0)(square), torch.tensor([1.0, 0.5]))


def test_mmd_weights_are_as_good_as_repeated_rows():
    x, y, kernel = torch.randn(3, 2, generator=rng()), torch.randn(4, 2, generator=rng()), gaussian_kernel(0.5)
    weighted = mmd(x, y, kernel, torch.tensor([1.5, 1.5, 0.0]), torch.tensor([2.0, 0.0, 2.0, 0.0]))
    torch.testing.assert_close(weighted, mmd(x[:2], y[::2], kernel))


def test_sorted_kernel_mmd_sees_the_spectrum_only():
    real = torch.rand(3, 4, 5, 5, generator=rng())
    kernel = gaussian_kernel(10.0)
    moved = real.flatten(1)[:, torch.randperm(100, generator=rng())].reshape(real.shape)
    options = {"window": 20, "stride": 10, "cells": 60}
    assert float(sorted_kernel_mmd(real, moved, kernel, **options)) == pytest.approx(0, abs=1e-6)
    assert float(sorted_kernel_mmd(real, 0.5 * moved, kernel, **options)) > 0.1
    # Cells beyond the leading 60 do not count.
    faint = real.flatten(1).sort(dim=1, descending=True).values
    faint[:, 60:] = 0
    assert float(sorted_kernel_mmd(real, faint, kernel, **options)) == pytest.approx(0, abs=1e-6)


def test_sorted_kernel_mmd_in_closed_form():
    # All cells of a shower alike: every window compares two points.
    real, fake = torch.tensor([1.0, 2.0]), torch.tensor([1.5, 2.0])
    showers = [x[:, None].expand(2, 30) for x in (real, fake)]
    kernel = gaussian_kernel(2.0)
    expected = 2 - 2 * math.exp(-2.0 * 0.25)
    assert float(sorted_kernel_mmd(*showers, kernel, window=10, stride=5)) == pytest.approx(expected / 2, rel=1e-5)
    for weight, mean in (((2.0, 0.0), expected), ((0.0, 2.0), 0.0)):
        value = sorted_kernel_mmd(*showers, kernel, window=100, weight=torch.tensor(weight))
        assert float(value) == pytest.approx(mean, rel=1e-5, abs=1e-6)


def test_label_loss_in_closed_form():
    logit, label = torch.tensor([0.0, math.log(3.0)]), torch.tensor([1.0, 0.0])
    # -log sigmoid(0) = log 2; -log(1 - sigmoid(log 3)) = log 4.
    assert float(label_loss(logit, label)) == pytest.approx(1.5 * math.log(2))
    assert float(label_loss(logit, label, torch.tensor([0.0, 2.0]))) == pytest.approx(math.log(4))
    # Labels that are sometimes wrong: least at the logit of their mean.
    assert float(label_loss(torch.zeros(4), torch.full((4,), 0.5))) == pytest.approx(math.log(2))


def test_flipped_labels():
    label = torch.ones(20_000)
    flipped = flip_labels(label, 0.05, rng())
    assert set(flipped.tolist()) == {0.0, 1.0}
    assert 1 - float(flipped.mean()) == pytest.approx(0.05, abs=0.006)
    assert torch.equal(flip_labels(label, 0.0, rng()), label)
    assert torch.equal(flip_labels(label, 0.05, rng()), flipped)


def test_percentage_error_in_closed_form():
    read, target = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 2.0])
    assert float(percentage_error(read, target)) == pytest.approx(50)
    assert float(percentage_error(read + 2, target, torch.tensor([2.0, 0.0]))) == pytest.approx(50)
    # A target of nearly nothing counts as 0.1 of the mean.
    assert float(percentage_error(torch.tensor([0.1, 2.0]), torch.tensor([0.0, 2.0]), floor=0.1)) == pytest.approx(50)
    assert float(percentage_error(torch.zeros(3), torch.zeros(3))) == 0


def test_r1_of_a_linear_and_a_quadratic_discriminator():
    direction = torch.randn(2, 3, 4, generator=rng())
    real = torch.randn(5, 2, 3, 4, generator=rng())
    penalty = r1_penalty(lambda x: (x * direction).sum((1, 2, 3)), real)
    torch.testing.assert_close(penalty.detach(), direction.square().sum())
    # D = a |x|^2 / 2 has gradient a x.
    a = torch.tensor(2.0, requires_grad=True)
    length = real.flatten(1).square().sum(1)
    weight = torch.tensor([5.0, 0, 0, 0, 0])
    penalty = r1_penalty(lambda x: a * x.flatten(1).square().sum(1) / 2, real, weight)
    torch.testing.assert_close(penalty.detach(), 4 * length[0])
    penalty.backward()
    torch.testing.assert_close(a.grad, 4 * length[0])
    assert real.grad is None
