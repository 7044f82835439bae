import numpy as np

from gitract_kit.data.overlay import PALETTE, contact_sheet, draw_outlines, to_gray


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
