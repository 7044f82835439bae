"""The codec: round trips, known strings, and a sentence for every kind of malformed string."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gitract_kit.competition.rle import check_rle, rle_decode, rle_decode_batch, rle_encode, rle_encode_batch
from gitract_kit.errors import InputError, RLEError

# Row 0: pixels 2 and 3; row 1: pixel 4 to the end; row 2: its first pixel, so that the run wraps.
KNOWN = np.array([[0, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 0, 0, 0, 0]], dtype=bool)
KNOWN_RLE = "2 2 9 3"

# pixels on the border of the mask and of a 64-bit word are where a codec goes wrong: small sides make them common
SIDES = st.integers(1, 20)
MASKS = hnp.arrays(bool, st.tuples(SIDES, SIDES))
BATCHES = hnp.arrays(bool, st.tuples(st.integers(0, 5), SIDES, SIDES))


def test_known_mask_encodes_in_row_major_order_from_one():
    assert rle_encode(KNOWN) == KNOWN_RLE


def test_known_string_decodes_in_row_major_order_from_one():
    decoded = rle_decode(KNOWN_RLE, (3, 5))
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, KNOWN)


@given(MASKS)
def test_decode_undoes_encode(mask):
    np.testing.assert_array_equal(rle_decode(rle_encode(mask), mask.shape), mask)


@given(BATCHES)
def test_batch_forms_agree_with_single_forms(masks):
    rles = rle_encode_batch(masks)
    assert rles == [rle_encode(mask) for mask in masks]
    decoded = rle_decode_batch(rles, masks.shape[1:])
    assert decoded.dtype == bool
    np.testing.assert_array_equal(decoded, masks)


@given(st.data())
def test_encode_undoes_decode_of_separated_runs(data):
    gaps = data.draw(st.lists(st.integers(1, 30), max_size=12))
    lengths = data.draw(st.lists(st.integers(1, 30), min_size=len(gaps), max_size=len(gaps)))
    n_pixels = sum(gaps) + sum(lengths) + data.draw(st.integers(0, 9)) or 1
    end, pairs = 0, []
    for gap, length in zip(gaps, lengths, strict=True):
        pairs.append(f"{end + gap + 1} {length}")
        end += gap + length
    rle = " ".join(pairs)
    assert rle_encode(rle_decode(rle, (1, n_pixels))) == rle


@given(MASKS)
def test_string_lists_each_foreground_pixel_once(mask):
    numbers = [int(word) for word in rle_encode(mask).split()]
    pixels = [
        start + offset for start, n in zip(numbers[::2], numbers[1::2], strict=True) for offset in range(n)
    ]
    assert pixels == [position + 1 for position, value in enumerate(mask.ravel()) if value]


@pytest.mark.parametrize(
    "missing", ["", " ", None, float("nan"), np.float64("nan"), np.float32("nan"), pd.NA]
)
def test_missing_string_is_an_empty_mask(missing):
    assert not rle_decode(missing, (4, 6)).any()
    assert rle_decode_batch([missing, missing], (4, 6)).shape == (2, 4, 6)
    check_rle(missing, (4, 6))


def test_empty_and_full_masks():
    assert rle_encode(np.zeros((4, 6), dtype=bool)) == ""
    assert rle_encode(np.ones((4, 6), dtype=bool)) == "1 24"
    assert rle_decode("1 24", (4, 6)).all()


def test_full_masks_of_a_batch_do_not_run_into_each_other():
    masks = np.ones((3, 4, 6), dtype=bool)
    assert rle_encode_batch(masks) == ["1 24"] * 3
    assert rle_decode_batch(["1 24", "", "1 24"], (4, 6)).sum(axis=(1, 2)).tolist() == [24, 0, 24]


def test_empty_batch():
    assert rle_encode_batch(np.zeros((0, 4, 6), dtype=bool)) == []
    assert rle_decode_batch([], (4, 6)).shape == (0, 4, 6)


def test_masks_without_pixels():
    assert rle_encode(np.zeros((0, 6), dtype=bool)) == ""
    assert rle_encode_batch(np.zeros((2, 0, 6), dtype=bool)) == ["", ""]
    assert rle_decode("", (0, 6)).shape == (0, 6)
    assert rle_decode_batch(["", ""], (0, 6)).shape == (2, 0, 6)
    with pytest.raises(RLEError, match="the mask has 0"):
        rle_decode_batch(["1 1"], (0, 6))


def test_touching_runs_decode_and_are_joined_by_encode():
    mask = rle_decode("1 2 3 4", (2, 5))
    np.testing.assert_array_equal(mask.ravel(), [1] * 6 + [0] * 4)
    assert rle_encode(mask) == "1 6"


@pytest.mark.parametrize("text", ["2 2\t9 3", " 2 2  9 3 ", "2 2 9 3\r\n"])
def test_any_white_space_separates_numbers(text):
    np.testing.assert_array_equal(rle_decode(text, (3, 5)), KNOWN)
    np.testing.assert_array_equal(rle_decode_batch(["", text], (3, 5))[1], KNOWN)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int8])
def test_integers_zero_and_one_are_a_mask(dtype):
    assert rle_encode(KNOWN.astype(dtype)) == KNOWN_RLE


def test_encode_reads_views_in_any_memory_order():
    assert rle_encode(np.asfortranarray(KNOWN)) == KNOWN_RLE
    assert rle_encode(KNOWN[:, ::-1]) == rle_encode(KNOWN[:, ::-1].copy())
    masks = np.stack([KNOWN, ~KNOWN], axis=-1)
    assert rle_encode_batch(np.moveaxis(masks, -1, 0)) == [rle_encode(KNOWN), rle_encode(~KNOWN)]


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (KNOWN.astype(np.float32), "float32"),
        (KNOWN.astype(np.uint8) * 255, "0 to 255"),
        (-KNOWN.astype(int), "-1 to 0"),
        (KNOWN[None], r"shape \(1, 3, 5\)"),
        (KNOWN.tolist(), "list"),
    ],
)
def test_encode_rejects_what_is_not_a_mask(mask, found):
    with pytest.raises(InputError, match=f"found .*{found}.*expected"):
        rle_encode(mask)


def test_encode_batch_rejects_a_single_mask():
    with pytest.raises(InputError, match=r"shape \(3, 5\), expected a numpy array \(n, h, w\)"):
        rle_encode_batch(KNOWN)


MALFORMED = [
    ("5", r"pair 1 \('5'\) has a start and no length"),
    ("1 2 9", r"pair 2 \('9'\) has a start and no length.*found 3"),
    ("1 2 x 3", "pair 2: its start is 'x', expected a whole number"),
    ("1 2.0", "pair 1: its length is '2.0', expected a whole number"),
    ("+1 2", "pair 1: its start is '\\+1', expected a whole number"),
    ("1e3 2", "pair 1: its start is '1e3', expected a whole number"),
    ("1 ٣", "pair 1: its length is '٣', expected a whole number"),
    ("1,2", "pair 1: its start is '1,2', expected a whole number"),
    ("0 3", "pair 1: its start is 0, expected 1 or more"),
    ("3 00", "pair 1: its length is 0, expected 1 or more"),
    ("1 2 5 -2", "pair 2: its length is -2, expected 1 or more"),
    ("-4 2", "pair 1: its start is -4, expected 1 or more"),
    ("9 2 1 2", r"pair 2 \('1 2'\) starts before pair 1 \(9 to 10\): sort"),
    ("1 2 1 2", r"pair 2 \('1 2'\) overlaps pair 1"),
    ("1 3 3 2", r"pair 2 \('3 2'\) overlaps pair 1 \(1 to 3\)"),
    ("1 1 3 4 5 1", r"pair 3 \('5 1'\) overlaps pair 2 \(3 to 6\)"),
    ("14 3", r"pair 1 \('14 3'\) ends at pixel 16, but the mask has 15"),
    ("1 1 16 1", r"pair 2 \('16 1'\) ends at pixel 16, but the mask has 15"),
    ("1 9223372036854775807 5 1", "pair 1 .* ends at pixel 9223372036854775807, but the mask has 15"),
    ("1 900000000000000000 5 1", "pair 1 .* ends at pixel 900000000000000000"),
    ("1 2 3" + "0" * 5000 + " 1", "pair 2: its start has 5001 digits"),
]


@pytest.mark.parametrize(("text", "reason"), MALFORMED)
def test_malformed_string_is_named_by_pair_and_reason(text, reason):
    for attempt in (
        lambda: rle_decode(text, (3, 5)),
        lambda: check_rle(text, (3, 5)),
        lambda: check_rle(text, 15),
    ):
        with pytest.raises(RLEError, match=reason) as caught:
            attempt()
        assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("text", "reason"), MALFORMED)
def test_malformed_string_in_a_batch_is_named_by_its_position_too(text, reason):
    with pytest.raises(RLEError, match=f"mask 2 of 3: ({reason})"):
        rle_decode_batch(["1 2", text, "1 15"], (3, 5))


def test_batch_does_not_read_strings_across_their_ends():
    # joined with a space these would be four numbers, and valid
    with pytest.raises(RLEError, match=r"mask 1 of 2: pair 1 \('3'\) has a start and no length"):
        rle_decode_batch(["3", "4 5 1"], (3, 5))


@pytest.mark.parametrize("value", [3, 2.5, b"1 2", ["1 2"]])
def test_other_types_are_rejected(value):
    with pytest.raises(RLEError, match="expected text of 'start length' pairs"):
        rle_decode(value, (3, 5))


@given(st.text(alphabet="0123456789 -.x\t", max_size=24))
def test_check_and_both_decoders_agree_on_what_is_malformed(text):
    verdicts = set()
    for attempt in (
        lambda: check_rle(text, 40),
        lambda: rle_decode(text, (4, 10)),
        lambda: rle_decode_batch(["1 40", text], (4, 10)),
    ):
        try:
            attempt()
            verdicts.add("well-formed")
        except RLEError as error:
            verdicts.add(str(error).removeprefix("mask 2 of 2: "))
    assert len(verdicts) == 1


def test_check_accepts_what_fills_the_mask_and_builds_none():
    # a mask of this many pixels could not be allocated
    check_rle(f"1 {10**15}", 10**15)


def test_every_real_row_comes_back_as_the_same_string(real_labels, real_sizes):
    rows = real_labels.merge(real_sizes, on="id", validate="many_to_one")
    assert len(rows) == len(real_labels) == 4752
    for shape, group in rows.groupby(["height", "width"]):
        decoded = rle_decode_batch(group.segmentation, shape)
        assert rle_encode_batch(decoded) == group.segmentation.tolist()
    for rle, height, width in zip(rows.segmentation, rows.height, rows.width, strict=True):
        assert rle_encode(rle_decode(rle, (height, width))) == rle
