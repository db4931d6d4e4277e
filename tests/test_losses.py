import pytest
import torch

from caloforge.models.losses import (
    gradient_penalty,
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
