from __future__ import annotations

import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from caloforge.config import Choice, read_config, to_toml
from caloforge.errors import CaloforgeError
from caloforge.training.settings import TrainConfig

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.toml"))

MINIMAL: dict[str, Any] = {
    "model": {"name": "wgan", "latent": 10},
    "data": {"conditions": ["energy"]},
    "transform": [{"name": "log", "scale": 0.1}],
    "training": {"phases": [{"steps": 10}, {"steps": 20}]},
}


def read(*overrides: str, **sections: Any) -> TrainConfig:
    return read_config(MINIMAL | sections, TrainConfig, overrides)


def fault(*overrides: str, **sections: Any) -> str:
    with pytest.raises(CaloforgeError) as caught:
        read(*overrides, **sections)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_and_options() -> None:
    config = read()
    assert config.model.name == "wgan"
    assert config.model.options == {"latent": 10}
    assert config.training.batch_size == 128
    assert [p.steps for p in config.training.phases] == [10, 20]


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.batch_size=64", 64),
        ("training.batch_size = 1_000", 1000),
        ("training.phases.1.steps=5", 5),
        ("training.optimisers.critic.lr=1e-4", 1e-4),
        ("training.optimisers.critic.name=sgd", "sgd"),
        ("training.optimisers.critic.name='sgd'", "sgd"),
        ("data.conditions=['x', 'y']", ["x", "y"]),
        ("transform.0.scale=2.5", 2.5),
        ("model.channels=[4, 2]", [4, 2]),
    ],
)
def test_overrides(override: str, value: Any) -> None:
    data = read(override).model_dump()
    for key in override.partition("=")[0].strip().split("."):
        data = data[int(key)] if isinstance(data, list) else data[key]
    assert data == value


def test_overrides_do_not_change_what_is_given() -> None:
    read("training.phases.0.steps=99")
    assert MINIMAL["training"]["phases"][0]["steps"] == 10


def test_objectives_inherit_from_default() -> None:
    config = read("training.optimisers.default.lr=0.5", "training.optimisers.critic.name='sgd'")
    assert config.training.optimiser("critic").lr == 0.5
    assert config.training.optimiser("critic").name == "sgd"
    assert config.training.optimiser("generator").name == "adam"
    assert config.training.optimiser("generator").lr == 0.5


def test_unknown_key_names_the_nearest() -> None:
    message = fault(training={"phases": [{"steps": 1}], "batchsize": 3})
    assert "'batchsize' is not a key of [training]; did you mean 'batch_size'?" in message
    assert "ema_decay" in message
    assert "[training.phases.0]" in fault(training={"phases": [{"steps": 1, "step": 2}]})
    message = fault("training.optimisers.critic.lrr=1")
    assert message.startswith("--set 'training.optimisers.critic.lrr=1': 'lrr' is not a key")
    assert "weight_decay" in message
    assert "the configuration" in fault(trainning={})


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.batch_size=0", "training.batch_size"),
        ("training.batch_size=1.5", "training.batch_size"),
        ("training.batch_size='8'", "training.batch_size"),
        ("training.seed=true", "training.seed"),
        ("training.optimisers.critic.lr=nan", "training.optimisers.critic.lr"),
        ("training.precision=half", "training.precision"),
        ("data.conditions=['energi']", "did you mean 'energy'"),
        ("data.conditions=['x','x']", "name one twice"),
        ("model.latent=1979-05-27", "option 'latent'"),
        ("model.latent=inf", "option 'latent'"),
        ("training.batch_size", "not KEY=VALUE"),
        ("=3", "not KEY=VALUE"),
        ("training..seed=3", "not KEY=VALUE"),
        ("training.seed.x=3", "fault"),
        ("training.phases.7.steps=3", "from 0 to 1"),
        ("training.phases.x.steps=3", "from 0 to 1"),
        ("training.phases.-1.steps=3", "from 0 to 1"),
        ("training.phases=[]", "training.phases"),
    ],
)
def test_wrong_values_are_named(override: str, said: str) -> None:
    base = MINIMAL | {"training": MINIMAL["training"] | {"seed": 1}}
    with pytest.raises(CaloforgeError) as caught:
        read_config(base, TrainConfig, [override])
    assert said in str(caught.value) or said == "fault"


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    cases = {"toml": b"a = = 1", "binary": bytes(range(256)), "deep": b"a = " + b"[" * 100_000, "empty": b""}
    for name, content in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CaloforgeError, match=name):
            read_config(path, TrainConfig)
    with pytest.raises(CaloforgeError, match="does not exist"):
        read_config(tmp_path / "none.toml", TrainConfig)
    with pytest.raises(CaloforgeError, match="cannot be read"):
        read_config(tmp_path, TrainConfig)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_shipped_configs_read_and_survive_writing(path: Path) -> None:
    config = read_config(path, TrainConfig)
    data = config.model_dump(mode="json", exclude_none=True)
    again = read_config(tomllib.loads(to_toml(data)), TrainConfig)
    assert again.model_dump(mode="json", exclude_none=True) == data


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from("training model data transform name steps phases optimisers default lr seed betas 0 1".split())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.lists(keys | st.text(max_size=5), min_size=1, max_size=4), value=plain)
def test_no_data_makes_a_traceback(path: list[str], value: Any) -> None:
    data: dict[str, Any] = {k: v for k, v in MINIMAL.items() if k != path[0]}
    nested = value
    for key in reversed(path):
        nested = {key: nested}
    with suppress(CaloforgeError):
        read_config(data | nested, TrainConfig)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(path=st.lists(keys | st.text(max_size=5), min_size=1, max_size=4), value=st.text(max_size=12))
def test_no_override_makes_a_traceback(path: list[str], value: str) -> None:
    with suppress(CaloforgeError):
        read(".".join(path) + "=" + value)


toml_values = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=8), toml_values, max_size=4))
def test_written_toml_reads_back(data: dict[str, Any]) -> None:
    assert repr(_sorted(tomllib.loads(to_toml(data)))) == repr(_sorted(data))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def test_config_loads_without_torch() -> None:
    code = "import sys, caloforge.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_choice_keeps_odd_option_names() -> None:
    choice = Choice.model_validate({"name": "a", "options": 1, "model_config": 2, "copy": 3})
    assert choice.options == {"options": 1, "model_config": 2, "copy": 3}
