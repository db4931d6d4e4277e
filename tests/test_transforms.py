import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from caloforge.errors import CaloforgeError
from caloforge.transforms import TRANSFORMS, BoxCox, Compose, Log, Standardise, Threshold, build_transform

CHAINS = {
    "log": [{"name": "log", "scale": 0.1}],
    "logit": [{"name": "scale", "scale": 2e5}, {"name": "logit", "delta": 1e-4}],
    "box-cox fitted": [{"name": "box-cox", "offset": 0.5}],
    "box-cox given": [{"name": "box-cox", "offset": 2.0, "exponent": 0.3}],
    "box-cox negative": [{"name": "box-cox", "offset": 100.0, "exponent": -0.1}],
    "standardise": [{"name": "standardise", "per": "layer"}],
    "standardise all": [{"name": "standardise", "per": "all", "centre": False}],
    "standardise voxel": [{"name": "standardise", "per": "voxel"}],
    "scale": [{"name": "scale", "scale": 7.0}],
    "per incident energy": [{"name": "per-incident-energy"}],
    "threshold": [{"name": "threshold", "threshold": 0.0}],
    "clamp": [{"name": "clamp"}],
    "long": [
        {"name": "threshold"},
        {"name": "per-incident-energy"},
        {"name": "box-cox", "offset": 1e-4},
        {"name": "standardise", "per": "all", "centre": False},
    ],
    "nothing": [],
}


@st.composite
def samples(draw):
    """Showers (B, L, Y, X) up to 100 GeV a voxel, most voxels empty, with incident energies (B,)."""
    shape = draw(st.tuples(st.integers(2, 5), st.integers(1, 3), st.integers(1, 4), st.integers(2, 4)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    energy = rng.uniform(1e3, 1e5, shape[0])
    x = rng.uniform(0, 1, shape) ** draw(st.integers(1, 8)) * energy[:, None, None, None]
    x[rng.uniform(0, 1, shape) < 0.5] = 0
    x.flat[0], x.flat[1] = 1.0, 2.0
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(energy.astype(np.float32))


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@settings(deadline=None, max_examples=15)
@given(sample=samples())
def test_the_inverse_undoes_forward(chain, sample):
    x, energy = sample
    transform = build_transform(chain).fit(x, energy)
    y = transform(x, energy)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()
    back = transform.inverse(y, energy)
    # float32 through a logarithm or a logit keeps about this much
    torch.testing.assert_close(back, x, rtol=2e-3, atol=2e-4 * float(x.max()))


@pytest.mark.parametrize(
    "chain", [c for n, c in CHAINS.items() if n not in ("logit", "standardise", "standardise voxel")]
)
def test_zero_stays_zero(chain):
    x, energy = torch.tensor([[[[0.0, 5.0], [1.0, 0.0]]]] * 3), torch.full((3,), 10.0)
    y = build_transform(chain).fit(x, energy)(x, energy)
    assert (y[x == 0] == 0).all()


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_config_and_state_rebuild_the_transform(chain):
    rng = torch.Generator().manual_seed(0)
    x, energy = torch.rand(6, 2, 3, 4, generator=rng) * 50, torch.rand(6, generator=rng) * 50 + 50
    transform = build_transform(chain).fit(x, energy)
    again = build_transform(transform.config)
    again.load_state_dict(transform.state_dict())
    assert again.fitted
    assert torch.equal(again(x, energy), transform(x, energy))
    assert again.config == transform.config == build_transform(chain).config


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
def test_any_network_output_maps_to_finite_values(chain):
    rng = torch.Generator().manual_seed(0)
    x, energy = torch.rand(6, 1, 3, 4, generator=rng) * 50, torch.full((6,), 60.0)
    transform = build_transform(chain).fit(x, energy)
    wild = torch.tensor([-1e4, -50.0, -1.0, 0.0, 1.0, 50.0, 1e4]).repeat(6, 1, 1, 1)[..., :4]
    assert torch.isfinite(transform.inverse(wild.expand(6, 1, 3, 4), energy)).all()


@pytest.mark.parametrize("name", ["standardise", "box-cox", "threshold", "clamp"])
def test_unfitted_transforms_raise(name):
    transform = build_transform([{"name": name}])
    assert not transform.fitted
    with pytest.raises(CaloforgeError, match=f"'compose' is not fitted|'{name}' is not fitted"):
        transform(torch.ones(2, 3), torch.ones(2))
    with pytest.raises(CaloforgeError, match="not fitted"):
        transform.inverse(torch.ones(2, 3), torch.ones(2))


def test_conditions_are_standardised_one_by_one():
    rng = torch.Generator().manual_seed(0)
    conditions = torch.randn(500, 3, generator=rng) * torch.tensor([1.0, 100.0, 0.0]) + torch.tensor([0.0, 5e3, 7.0])
    transform = build_transform([{"name": "standardise"}]).fit(conditions, torch.ones(500))
    y = transform(conditions, torch.ones(500))
    torch.testing.assert_close(y.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(y.std(0), torch.tensor([1.0, 1.0, 0.0]), atol=2e-3, rtol=0)


def test_box_cox_finds_the_exponent_that_makes_values_normal():
    rng = torch.Generator().manual_seed(0)
    normal = 6 + torch.randn(20000, 1, 1, 1, generator=rng)
    for exponent in (0.25, 0.5, 1.0):
        x = (normal * exponent + 1) ** (1 / exponent) - 1
        fitted = BoxCox(offset=1.0).fit(x, torch.ones(20000))
        assert float(fitted.exponent) == pytest.approx(exponent, abs=0.05)
    lognormal = torch.expm1(normal / 6 + 2)
    assert float(BoxCox(offset=1.0).fit(lognormal, torch.ones(20000)).exponent) == pytest.approx(0, abs=0.05)


def test_box_cox_with_exponent_zero_is_the_logarithm():
    x, energy = torch.rand(3, 1, 4, 4) * 100, torch.ones(3)
    torch.testing.assert_close(BoxCox(offset=2.0, exponent=0.0)(x, energy), Log(scale=2.0)(x, energy))


def test_closed_forms():
    x, energy = torch.tensor([[[[0.0, 3.0]]]]), torch.tensor([2.0])
    of = lambda name, **options: build_transform([{"name": name, **options}])(x, energy)  # noqa: E731
    assert of("log", scale=3.0)[0, 0, 0, 1] == pytest.approx(np.log(2))
    assert of("per-incident-energy")[0, 0, 0, 1] == 1.5
    assert of("scale", scale=6.0)[0, 0, 0, 1] == 0.5
    assert of("box-cox", offset=1.0, exponent=0.5)[0, 0, 0, 1] == pytest.approx(2.0)


def test_threshold_and_clamp_act_on_the_way_back_only():
    x, energy = torch.tensor([[[[0.0, 0.2, 3.0]]]]), torch.ones(1)
    threshold = Threshold(0.5)
    assert torch.equal(threshold(x, energy), x)
    assert threshold.inverse(x, energy).flatten().tolist() == [0.0, 0.0, 3.0]
    assert threshold.inverse(torch.tensor([[float("nan")]]), energy).isnan().all()
    assert float(Threshold().fit(x, energy).threshold) == pytest.approx(0.2, rel=2e-3)
    clamp = build_transform([{"name": "clamp", "low": 0.1, "high": 1.0}])
    assert torch.equal(clamp(x, energy), x)
    assert clamp.inverse(x, energy).flatten().tolist() == pytest.approx([0.1, 0.2, 1.0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([{"name": "lg"}], "did you mean 'log'"),
        ([{"name": "log", "scal": 1}], "did you mean 'scale'"),
        ([{"name": "log", "scale": -1}], "'scale'.*greater than 0"),
        ([{"name": "log", "scale": float("nan")}], "'scale'"),
        ([{"name": "scale"}], "'scale'.*required"),
        ([{"name": "standardise", "per": "row"}], "'per'"),
        ([{"name": "logit", "delta": 0.7}], "between 0 and 0.5"),
        ([{"scale": 1}], "with its name and options"),
        (["log"], "with its name and options"),
    ],
)
def test_bad_configs_are_explained(config, message):
    with pytest.raises(CaloforgeError, match=message):
        build_transform(config)


@pytest.mark.parametrize(
    ("chain", "x", "message"),
    [
        ([{"name": "log"}], [[-1.0, 2.0]], "-1 to 2"),
        ([{"name": "logit"}], [[0.0, 2.0]], "maps 0 to 1"),
        ([{"name": "box-cox"}], [[0.0, 0.0]], "fewer than two"),
        ([{"name": "standardise"}], [[float("nan"), 0.0]], "NaN"),
        ([{"name": "standardise"}], np.zeros((0, 2)), "0 rows"),
    ],
)
def test_samples_that_cannot_be_fitted_are_refused(chain, x, message):
    with pytest.raises(CaloforgeError, match=message):
        build_transform(chain).fit(torch.as_tensor(x), torch.ones(len(x)))


def test_showers_without_energy_are_refused_by_per_incident_energy():
    with pytest.raises(CaloforgeError, match="not positive"):
        build_transform([{"name": "per-incident-energy"}]).fit(torch.ones(2, 2), torch.tensor([1.0, 0.0]))


def test_names_and_repr():
    assert all(name == kind.name for name, kind in TRANSFORMS.items())
    assert "per='voxel'" in repr(Standardise(per="voxel"))
    assert len(Compose([Log(), Log()])) == 2


@pytest.mark.parametrize("name", TRANSFORMS)
def test_what_maps_by_value_needs_no_zeros(name):
    """Transforms that say so take the values that are not zero alone, each with its shower's incident energy."""
    x, energy = torch.rand(6, 3, 4, 2).pow(3), torch.rand(6) * 1000 + 50
    x[x < 0.2] = 0
    transform = build_transform([{"name": name, **({"scale": 2.0} if name == "scale" else {})}]).fit(x, energy)
    y = x.clone()
    whole = transform.inverse(y, energy)
    if transform.by_value:
        hit = y != 0
        shower = hit.nonzero()[:, 0]
        alone = transform.inverse(y[hit].unsqueeze(1), energy[shower]).squeeze(1)
        torch.testing.assert_close(alone, whole[hit])
        assert (whole[~hit] == 0).all()
    else:
        assert name in {"logit", "standardise", "clamp"}
