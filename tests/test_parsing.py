from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloforge.errors import CaloforgeError
from caloforge.parsing import parse_angles, parse_energies, parse_pair, parse_span


def test_what_is_allowed() -> None:
    assert parse_energies("50") == (50.0,)
    assert parse_energies("10:100") == (10.0, 100.0)
    assert parse_energies("10,20,50") == (10.0, 20.0, 50.0)
    assert parse_span("-50:50", "--position") == (-50.0, 50.0)
    assert parse_pair("2.5,-1:1", "--position") == (2.5, (-1.0, 1.0))
    assert parse_pair("2.5", "--position") == (2.5, 2.5)
    assert parse_angles("0.1,-0.2:0.2") == (math.tan(0.1), (math.tan(-0.2), math.tan(0.2)))


@pytest.mark.parametrize("text", ["", "ten", "1:2:3", "1,,2", "nan", "inf", "10:"])
def test_bad_energies_are_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(CaloforgeError, match="--energy"):
        parse_energies(text)


@given(st.text(alphabet="0123456789.,:-+einfa ", max_size=12))
def test_never_anything_but_a_value_or_a_sentence(text: str) -> None:
    for parse in (parse_energies, parse_angles, lambda t: parse_pair(t, "--position")):
        try:
            parse(text)
        except CaloforgeError as error:
            assert "\n" not in str(error)


def test_angles_past_the_plane_are_refused() -> None:
    with pytest.raises(CaloforgeError, match="past the detector's plane"):
        parse_angles("2,0")
