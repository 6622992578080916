"""The small vocabulary of the texts: plurals, numbers, places in the picture, kinds that look alike."""

import re

PLURALS = {"football pitch": "football pitches"}

# Kinds that one may take for each other: an expression must tell its object from all of these.
_FAMILIES = [{"house", "building", "warehouse"}, {"car", "truck"}, {"truck", "container"}, {"ship", "boat"},
             {"river", "lake", "pond", "sea"}, {"road", "runway", "parking lot", "apron"}, {"tree", "forest"}]

# Other kinds that the plural of a kind would take in: "all buildings" is no question where there are houses too.
INCLUDES = {"building": ("house", "warehouse"), "tree": ("forest",)}

COLUMNS, ROWS = ("left", "", "right"), ("top", "", "bottom")
MARGIN = 0.05   # share of the picture: nearer than that to a cell's border, a place has no certain name
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


def alike_kinds(one: str, other: str) -> bool:
    return one == other or any(one in family and other in family for family in _FAMILIES)


def plural(noun: str) -> str:
    return PLURALS.get(noun, noun + "s")


def article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def cells(x: float, margin: float) -> set[int]:
    """The thirds 0, 1, 2 of the picture in which a coordinate 0 … 1 may be said to lie, with borders `margin` wide."""
    return {third for third in range(3) if third / 3 - margin <= x <= (third + 1) / 3 + margin}


def cell_of(centre: tuple[float, float]) -> tuple[int, int] | None:
    """The (column, row) of a place that is `MARGIN` clear of every other cell; None on a border."""
    column, row = cells(centre[0], MARGIN), cells(centre[1], MARGIN)
    return (column.pop(), row.pop()) if len(column) == len(row) == 1 else None


def may_be_in(centre: tuple[float, float], cell: tuple[int, int]) -> bool:
    return cell[0] in cells(centre[0], MARGIN) and cell[1] in cells(centre[1], MARGIN)


def position(cell: tuple[int, int]) -> str:
    """"at the top left", "at the right", "in the center"."""
    where = " ".join(word for word in (ROWS[cell[1]], COLUMNS[cell[0]]) if word)
    return f"at the {where}" if where else "in the center"


def number(instances: int, exact: bool) -> str:
    """How many: a number word up to five where the count is certain, else several or many."""
    if exact and instances in NUMBERS:
        return NUMBERS[instances]
    return "several" if instances <= 10 else "many"


def length(text: str) -> int:
    """Words, punctuation marks and tags, about what a word-level tokenizer makes of a text."""
    return len(re.findall(r"<p>|</p>|\[SEG\]|\w+|[^\w\s]", text))
