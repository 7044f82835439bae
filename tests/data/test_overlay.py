import numpy as np
import pandas as pd

from gitract_kit.data.overlay import PALETTE, contact_sheet, draw_outlines, slices_worth_showing, to_gray


def test_an_outline_is_drawn_round_the_mask_and_leaves_its_inside():
    masks = np.zeros((2, 20, 20), dtype=bool)
    masks[1, 5:15, 5:15] = True

    picture = draw_outlines(np.full((20, 20), 100, dtype=np.uint8), masks, zoom=2)

    assert picture.shape == (40, 40, 3)
    assert tuple(picture[10, 20]) == PALETTE[1]
    assert tuple(picture[20, 20]) == (100, 100, 100)
    assert tuple(picture[2, 2]) == (100, 100, 100)


def test_gray_spans_the_given_range():
    assert to_gray(np.array([[0, 100, 200, 900]], dtype=np.uint16), 100, 200).tolist() == [[0, 0, 255, 255]]


def test_a_sheet_holds_pictures_of_different_sizes():
    pictures = [np.full((h, w, 3), 200, dtype=np.uint8) for h, w in ((30, 40), (20, 60), (10, 10))]

    sheet = contact_sheet(pictures, ["a", "b", "c"], columns=2)

    assert sheet.shape == (2 * (30 + 22), 2 * 60, 3)
    assert (sheet == 200).sum() >= 3 * (30 * 40 + 20 * 60 + 100)


def test_a_thicker_outline_covers_the_thin_one_and_leaves_the_inside():
    masks = np.zeros((1, 20, 20), dtype=bool)
    masks[0, 5:15, 5:15] = True
    gray = np.full((20, 20), 100, dtype=np.uint8)
    thin, thick = (
        (draw_outlines(gray, masks, zoom=3, thickness=t) == PALETTE[0]).all(axis=2) for t in (1, 3)
    )
    assert thick[thin].all()
    assert 2.5 < thick.sum() / thin.sum() < 3.5
    assert not thick[25:35, 25:35].any()


def test_slices_worth_showing_hold_most_organs_and_are_spread():
    organs = ["a", "b"]
    index = pd.DataFrame(
        {"id": [f"s{i:02d}" for i in range(40)], "a": ["1 2"] * 40, "b": [""] * 10 + ["3 4"] * 20 + [""] * 10}
    )
    assert slices_worth_showing(index, organs, 4) == ["s12", "s17", "s22", "s27"]
    assert slices_worth_showing(index[:11], organs, 1) == ["s10"]
    assert slices_worth_showing(index[:11], organs, 3) == ["s01", "s05", "s09"]
    assert slices_worth_showing(index[:2], organs, 3) == ["s00", "s01"]
