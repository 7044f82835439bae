"""Charts are well-formed, say in words what they show, and put values where they belong."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from gitract_kit.report.charts import Line, Strip, draw_lines, draw_strips

NAN = float("nan")


def dots(svg: str) -> list[tuple[float, float]]:
    return [
        (float(dot.get("cx")), float(dot.get("cy"))) for dot in ElementTree.fromstring(svg).iter("circle")
    ]


def test_lines_go_up_where_values_do():
    svg = draw_lines("Score", "epoch", [Line("fold 0", 0, [1, 2, 3], [0.1, 0.5, 0.9])], (0.0, 1.0))
    (line,) = ElementTree.fromstring(svg).iter("polyline")
    points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
    assert [x for x, _ in points] == sorted(x for x, _ in points)
    assert [y for _, y in points] == sorted((y for _, y in points), reverse=True)


def test_a_chart_says_in_words_what_it_shows():
    svg = draw_lines("Score", "epoch", [Line("fold 0", 0, [1, 2], [0.1, 0.52])], (0.0, 1.0))
    assert ElementTree.fromstring(svg).get("aria-label") == "Score: fold 0 ends at 0.52"
    svg = draw_strips("Dice", [Strip("stomach", 0, [0.2, NAN, 0.4], "abc")], 1.0)
    assert ElementTree.fromstring(svg).get("aria-label") == "Dice: stomach median 0.300"


def test_one_epoch_is_a_dot():
    svg = draw_lines("Loss", "epoch", [Line("fold 0", 0, [1], [0.7])])
    assert len(dots(svg)) == 1


def test_an_epoch_without_a_value_is_left_out():
    svg = draw_lines("Loss", "epoch", [Line("fold 0", 0, [1, 2, 3], [0.7, NAN, 0.6])])
    assert "nan" not in svg
    (line,) = ElementTree.fromstring(svg).iter("polyline")
    assert len(line.get("points").split()) == 2


def test_dots_stand_at_their_values_and_do_not_hide_each_other():
    svg = draw_strips("Dice", [Strip("stomach", 0, [0.5, 0.5, 0.5, 1.0], "abcd")], 1.0)
    places = dots(svg)
    assert len({x for x, _ in places[:3]}) == 1
    assert len({y for _, y in places[:3]}) == 3
    assert places[3][0] > places[0][0]


def test_a_strip_without_values_says_so():
    svg = draw_strips("Dice", [Strip("stomach", 0, [NAN], "a")], 1.0)
    assert "median none" in svg
    assert dots(svg) == []


@pytest.mark.parametrize("text", ["<script>", 'a"b', "a & b"])
def test_names_are_escaped(text):
    for svg in (
        draw_lines(text, text, [Line(text, 0, [1, 2], [1, 2])]),
        draw_strips(text, [Strip(text, 0, [0.1], [text])], 1.0),
    ):
        assert text in " ".join(ElementTree.fromstring(svg).itertext())
