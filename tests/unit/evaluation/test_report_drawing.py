"""Pictures, symbols and axes of the page."""

import re

import numpy as np
import pytest

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.evaluation.report.picture import BOND_TOLERANCE, draw, make_scene, upright
from matgen.evaluation.report.svg import Series, histogram, lines, number, percent, ticks
from matgen.evaluation.report.symbols import element_color, formula_html, space_group_html, table_place


def test_upright_cell_is_the_same_cell():
    rng = np.random.default_rng(0)
    for _ in range(20):
        lattice = rng.normal(size=(3, 3)) * 5
        turned = upright(lattice)
        np.testing.assert_allclose(turned @ turned.T, lattice @ lattice.T, atol=1e-9)
        assert np.linalg.det(turned) == pytest.approx(np.linalg.det(lattice))
        assert turned[2, 2] > 0 and abs(turned[2, :2]).max() < 1e-12


def test_cell_shows_the_atoms_on_its_faces(rock_salt):
    scene = make_scene(rock_salt)
    assert (scene.numbers == 11).sum() == 14  # 8 corners and 6 faces
    assert (scene.numbers == 17).sum() == 13  # 12 edges and the centre
    distances = np.linalg.norm(scene.positions[scene.bonds[:, 0]] - scene.positions[scene.bonds[:, 1]], axis=1)
    assert distances.max() <= BOND_TOLERANCE * 2 * 1.66
    assert len(scene.bonds) >= 54


def test_atom_just_below_one_is_on_the_face():
    scene = make_scene(Structure(np.eye(3) * 4, np.array([[0.999, 0.5, 0.5]]), np.array([3])))
    assert len(scene.positions) == 2


def test_picture_has_every_atom_and_stays_in_its_frame(rock_salt):
    text = draw(make_scene(rock_salt), "rock salt")
    circles = re.findall(r'cx="([-\d.]+)" cy="([-\d.]+)" r="([-\d.]+)"', text)
    assert len(circles) == 27
    values = np.array(circles, dtype=float)
    assert (values[:, :2] - values[:, 2:] >= 0).all() and (values[:, :2] + values[:, 2:] <= 200).all()


def test_large_cell_is_drawn_without_images_and_bonds():
    coords = np.random.default_rng(0).random((400, 3))
    scene = make_scene(Structure(np.eye(3) * 20, coords, np.full(400, 6)))
    assert len(scene.positions) == 400 and len(scene.bonds) == 0


@pytest.mark.parametrize(
    ("group", "html"),
    [
        (1, "<i>P</i>1"),
        (2, '<i>P</i><span class="bar">1</span>'),
        (14, "<i>P</i>2<sub>1</sub>/<i>c</i>"),
        (194, "<i>P</i>6<sub>3</sub>/<i>m</i><i>m</i><i>c</i>"),
        (225, '<i>F</i><i>m</i><span class="bar">3</span><i>m</i>'),
        (0, "–"),
        (231, "–"),
    ],
)
def test_space_group_symbols(group, html):
    assert space_group_html(group) == html


def test_elements_have_places_and_colors_of_their_own():
    places = [table_place(z) for z in range(1, 119)]
    assert len(set(places)) == 118
    known = {"H": (1, 1), "He": (1, 18), "B": (2, 13), "Sc": (4, 3), "La": (8, 3), "Lu": (8, 17), "Hf": (6, 4)}
    known |= {"Rn": (6, 18), "U": (9, 6), "Ti": (4, 4), "Xe": (5, 18)}
    assert {symbol: table_place(SYMBOLS.index(symbol)) for symbol in known} == known
    assert all(re.fullmatch("#[0-9a-f]{6}", element_color(z)) for z in range(1, 119))


def test_numbers_for_people():
    assert (number(None), number(float("nan")), number(1234567.0), number(0.12345)) == ("–", "–", "1,234,567", "0.123")
    assert (percent(0.5), percent(0.999), percent(0.004), percent(1.0)) == ("50.0 %", "99.90 %", "0.40 %", "100.0 %")
    assert formula_html("C2<x>") == "C<sub>2</sub>&lt;x&gt;"


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 7.1), (0.0, 1e-5), (0.0, 12345.0), (2.0, 2.0)])
def test_ticks_are_round_and_few(low, high):
    marks = ticks(low, high)
    assert len(marks) <= 6 and all(low - 1e-9 <= mark <= high + 1e-9 for mark in marks)
    if high > low:
        assert len(marks) >= 2


def test_charts_of_nothing_and_of_the_infinite():
    empty = Series("none", "s1", np.zeros(0))
    assert "NaN" not in histogram([empty], np.linspace(0, 1, 5), "x", "empty") and "nan" not in lines([], "x", "empty")
    curve = Series("loss", "s1", np.array([1.0, np.nan, 3.0]), np.arange(3.0))
    assert "nan" not in lines([curve], "step", "loss")
