import numpy as np
import pytest
from scipy import stats

from caloforge.models.noise import VoxelNoise


def test_any_showers_may_be_asked_for():
    noise = VoxelNoise(3, 1000)
    whole = noise(0, 9)
    assert whole.shape == (9, 1000)
    for start, stop in ((0, 1), (2, 7), (8, 9), (4, 4)):
        assert np.array_equal(noise(start, stop), whole[start:stop])
    assert np.array_equal(VoxelNoise(3, 1000)(5, 6), whole[5:6])
    assert not np.array_equal(VoxelNoise(4, 1000)(5, 6), whole[5:6])
    assert len(np.unique(whole[0])) > 990


def test_numbers_are_standard_normal_and_independent():
    x = VoxelNoise(1, 5000)(0, 200).numpy().astype(np.float64)
    n = x.size
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    assert abs(x.mean()) < 4 / n**0.5
    assert abs(x.var() - 1) < 4 * (2 / n) ** 0.5
    for a, b in ((x[:, 1:], x[:, :-1]), (x[1:], x[:-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / n**0.5


@pytest.mark.parametrize("level", [2.6, 3.0, 3.7, 4.3])
def test_tails_are_finer_than_the_table(level):
    """Beyond the levels, the steps of the table and far within them, as many as there should be, on both sides."""
    x = VoxelNoise(2, 27000)(0, 150).numpy()
    expected = x.size * stats.norm.sf(level)
    for n in ((x > level).sum(), (x < -level).sum()):
        assert abs(n - expected) < 4.5 * expected**0.5
    outer = x[np.abs(x) > 3]
    assert len(np.unique(outer)) > 0.98 * len(outer)


def test_a_small_shower_has_noise_too():
    assert VoxelNoise(0, 1)(3, 5).shape == (2, 1)
    assert VoxelNoise(0, 0)(3, 5).shape == (2, 0)
