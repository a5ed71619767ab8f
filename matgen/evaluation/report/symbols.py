"""Elements and space groups as a page shows them: colours, places in the periodic table, symbols in HTML."""

import colorsys
import re
from functools import cache

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.space_group import hermann_mauguin_symbol
from matgen.evaluation.report.svg import esc

CRYSTAL_SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")
SYSTEM_STARTS = (1, 3, 16, 75, 143, 168, 195, 231)
"""First space group of each crystal system, and one past the last."""

# The colours that chemists expect; all others are drawn from the place in the table.
_CUSTOMARY = {
    "H": "#eceff1", "C": "#4d5258", "N": "#3d5fe0", "O": "#e23b33", "F": "#74d27c", "Cl": "#35b84a", "Br": "#a4472c",
    "I": "#8a35b0", "S": "#efcf3a", "P": "#f08b33", "Si": "#d8b892", "B": "#f2aea2", "Fe": "#d4672f", "Cu": "#c8814a",
    "Au": "#f4c83f", "Ag": "#c3cad2", "Li": "#b98be4", "Na": "#9163dc", "K": "#7a45c8", "Se": "#e79a2e",
    "As": "#b07fd6",
}  # fmt: skip


@cache
def table_place(number: int) -> tuple[int, int]:
    """Row and column (from 1) of an element; lanthanides and actinides stand in rows 8 and 9."""
    if 57 <= number <= 71:
        return 8, number - 57 + 3
    if 89 <= number <= 103:
        return 9, number - 89 + 3
    starts = (1, 3, 11, 19, 37, 55, 87, 119)
    row = next(i for i in range(1, 8) if number < starts[i])
    place = number - starts[row - 1] + 1
    if row == 1:
        return 1, 1 if place == 1 else 18
    if row <= 3:
        return row, place if place <= 2 else place + 10
    if row <= 5:
        return row, place
    return row, place if place <= 2 else place - 14


@cache
def element_color(number: int) -> str:
    """Colour of an element as #rrggbb."""
    symbol = SYMBOLS[number]
    if symbol in _CUSTOMARY:
        return _CUSTOMARY[symbol]
    row, column = table_place(number)
    if row >= 8:
        hue, light, saturation = 0.46 + 0.008 * column, 0.56 + 0.012 * (column - 9) / 2, 0.45
        hue += 0.45 if row == 9 else 0.0
    elif column <= 2:
        hue, light, saturation = (0.75, 0.52, 0.5) if column == 1 else (0.31, 0.48 + 0.03 * (row - 3), 0.5)
    elif column <= 12:
        hue, light, saturation = 0.54 + 0.035 * (column - 3), 0.68 - 0.06 * (row - 4), 0.3
    else:
        hue, light, saturation = (0.05 + 0.06 * (column - 13)) % 1, 0.62 - 0.03 * (row - 4), 0.38
    red, green, blue = colorsys.hls_to_rgb(hue % 1, light, saturation)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def formula_html(formula: str) -> str:
    """A formula with its numbers as subscripts."""
    return re.sub(r"(?<=[A-Za-z)])(\d+)", r"<sub>\1</sub>", esc(formula))


@cache
def space_group_html(number: int) -> str:
    """Hermann-Mauguin symbol with bars, screw axes and italic letters; text from data never comes in here."""
    if not 1 <= number <= 230:
        return "–"
    return "".join(_symbol_part(part) for part in hermann_mauguin_symbol(number).split())


def _symbol_part(part: str) -> str:
    """One direction of a symbol, such as P, -3, 21/c or m."""
    axis = re.match(r"(-?)(\d)_?(\d?)", part)
    html = ""
    if axis:
        bar, order, screw = axis.groups()
        html = f'<span class="bar">{order}</span>' if bar else order
        html += f"<sub>{screw}</sub>" if screw else ""
        part = part[axis.end() :]
    return html + re.sub(r"([A-Za-z])", r"<i>\1</i>", part)


def space_group_text(number: int) -> str:
    """Symbol and number as plain text."""
    return f"{hermann_mauguin_symbol(number).replace(' ', '')} ({number})" if 1 <= number <= 230 else "none found"
