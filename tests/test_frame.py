"""Where blocks are laid on images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.models.frame import Frame, Places, picked


def some(n, shape, seed=0, share=0.1):
    rng = torch.Generator().manual_seed(seed)
    return 20 * torch.rand(n, 1, *shape, generator=rng) * (torch.rand(n, 1, *shape, generator=rng) < share)


def block_sums(image, small):
    rows, columns = image.shape[2] // small, image.shape[3] // small
    return image.reshape(-1, rows, small, columns, small).sum((2, 4))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 4, 8]), st.integers(0, 1000))
def test_images_come_back(rows, columns, small, seed):
    image = some(6, (rows * small, columns * small), seed)
    frame = Frame.best(image, small)
    laid = frame.laid(image)
    assert laid.shape == (6, 1, (rows + 1) * small, columns * small)
    assert ((frame.before >= 0) & (frame.before < small) & (frame.turn >= 0) & (frame.turn < small)).all()
    assert torch.equal(frame.back(laid), image)
    torch.testing.assert_close(laid.sum((1, 2, 3)), image.sum((1, 2, 3)))
    assert (laid[(frame.inside() == 0).expand_as(laid)] == 0).all()
    assert frame.inside().sum(2).flatten().tolist() == [rows * small] * 6


def test_blocks_lie_where_the_sum_of_their_squares_is_largest():
    """Against all places that there are; of so small blocks towers are not blurred."""
    image = some(40, (12, 8))
    frame = Frame.best(image, 4)
    held = []
    for before in range(4):
        for turn in range(4):
            n = torch.ones(40, dtype=torch.long)
            laid = Frame(before * n, turn * n, 4, (12, 8)).laid(image)
            held.append(block_sums(laid, 4).square().sum((1, 2)))
    found = block_sums(frame.laid(image), 4).square().sum((1, 2))
    best = torch.stack(held).amax(0)
    assert (found >= best * (1 - 2e-4)).all()
    assert float((best / held[0]).median()) > 1.1, "it matters where they lie"


@pytest.mark.parametrize("row", [0, 5, 8, 12, 23])
@pytest.mark.parametrize("column", [0, 7, 13, 23])
def test_no_jet_that_stands_alone_is_cut(row, column):
    image = torch.zeros(1, 1, 24, 24)
    near = torch.arange(-2, 3)
    rows = (row + near)[((row + near) >= 0) & ((row + near) < 24)]
    image[0, 0, rows[:, None], ((column + near) % 24)[None]] = 1.0
    image[0, 0, row, column] = 10.0
    sums = block_sums(Frame.best(image, 8).laid(image), 8)
    assert float(sums.amax()) == float(image.sum())


def test_a_place_depends_on_its_image_alone_and_is_there_for_empty_ones():
    image = some(9, (16, 16))
    image[4] = 0.0
    frame = Frame.best(image, 8)
    for i in range(9):
        alone = Frame.best(image[i : i + 1], 8)
        assert (alone.before, alone.turn) == (frame.before[i], frame.turn[i])
    assert (frame.before[4], frame.turn[4]) == (7, 0)
    scaled = Frame.best(1e-3 * image, 8)
    assert torch.equal(scaled.before, frame.before) and torch.equal(scaled.turn, frame.turn)


@pytest.mark.parametrize("rows", [5, 6])
def test_rows_are_told_apart_up_to_the_sign_of_eta(rows):
    places = Places(rows, 3)
    found = places(torch.arange(-2, rows + 2)[None])[0, :, :, 0].T
    assert torch.equal(found, found.flip(0))
    assert (found[:2] == found[0]).all(), "all beyond the ends is one"
    assert len({tuple(each.tolist()) for each in found}) == -(-rows // 2) + 1


def test_rows_and_columns_of_each_image_are_picked():
    image = torch.arange(24.0).reshape(2, 1, 3, 4)
    found = picked(image, torch.tensor([[2, 0], [1, 1]]), torch.tensor([[3], [0]]))
    assert found.flatten().tolist() == [11, 3, 16, 16] and found.shape == (2, 1, 2, 1)
