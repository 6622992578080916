"""A scene being laid out: what stands where, so that nothing overlaps, and painting it in the order of heights."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import Canvas, Patch
from .shapes import Shape

LOW = 3.6  # metres: what is lower is painted before the shadows of what is higher
COARSE = 4  # the map of taken ground has a quarter of the picture's resolution


@dataclass
class Season:
    """The tones that the time of year and the climate give to plants and soil (sRGB 0 … 1)."""
    grass: tuple
    meadow: tuple
    forest: tuple
    soil: tuple


SEASONS = [
    Season((0.30, 0.40, 0.20), (0.36, 0.44, 0.24), (0.13, 0.23, 0.12), (0.47, 0.39, 0.29)),  # summer
    Season((0.35, 0.45, 0.21), (0.42, 0.50, 0.26), (0.19, 0.30, 0.13), (0.43, 0.35, 0.27)),  # spring
    Season((0.42, 0.40, 0.26), (0.50, 0.46, 0.31), (0.24, 0.25, 0.13), (0.52, 0.43, 0.32)),  # dry summer
    Season((0.38, 0.38, 0.22), (0.42, 0.40, 0.25), (0.32, 0.25, 0.12), (0.42, 0.33, 0.25)),  # autumn
]


@dataclass
class Record:
    """What the texts need to know of an object; its number on the canvas is its place in the list plus one."""
    kind: str
    colour: str  # a name of the palette, or empty where none fits
    instances: int = 1
    whole_area: float = 0.0  # square metres, unhidden; 0 for ground, whose extent is what is seen


@dataclass
class Thing:
    """An object that stands on the ground; `draw` paints it into its patch, claiming is done for it."""
    kind: str
    colour: str
    shape: Shape
    height: float
    draw: Callable[[Patch], None]
    margin: float = 0.0  # metres around the shape that `draw` paints without claiming them
    casts: list[tuple[Shape, float]] | None = None  # shapes and heights, where the shadow is not simply the shape's
    taper: float = 1.0  # width of the top against that of the foot


class Site:
    def __init__(self, canvas: Canvas, random: np.random.Generator, difficulty: float):
        self.canvas, self.random, self.difficulty = canvas, random, difficulty
        self.season = SEASONS[random.integers(len(SEASONS))]
        self.records: list[Record] = []
        self.low: list[Thing] = []
        self.tall: list[Thing] = []
        self.extent = canvas.extent
        coarse = -(-canvas.size // COARSE)
        self._step = canvas.metres_per_pixel * COARSE
        line = ((np.arange(coarse) + 0.5) * self._step - canvas.extent / 2).astype(np.float32)
        self.coarse_x, self.coarse_y = line[None, :], line[:, None]
        self.taken = np.zeros((coarse, coarse), bool)     # by roads, courts and all that stands
        self.standing = np.zeros((coarse, coarse), bool)  # by what stands alone

    def record(self, kind: str, colour: str = "", instances: int = 1, whole_area: float = 0.0) -> int:
        self.records.append(Record(kind, colour, instances, whole_area))
        return len(self.records)

    def numbers(self, *kinds: str) -> list[int]:
        """The numbers of the objects recorded so far that are of these kinds."""
        return [number for number, record in enumerate(self.records, 1) if record.kind in kinds]

    def _window(self, shape: Shape, margin: float):
        points = shape.points()
        edge = margin + self._step
        low = np.floor((points.min(0) - edge + self.extent / 2) / self._step).astype(int)
        high = np.ceil((points.max(0) + edge + self.extent / 2) / self._step).astype(int)
        low, high = np.clip(low, 0, len(self.taken)), np.clip(high, 0, len(self.taken))
        rows, columns = slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
        distance = shape.distance(*shape.local(self.coarse_x[:, columns], self.coarse_y[rows]))
        return rows, columns, distance

    def free(self, shape: Shape, margin: float = 0.0, paved: bool = False) -> bool:
        """Whether a shape with `margin` metres around it meets nothing; `paved`: roads and car parks are no hindrance."""
        rows, columns, distance = self._window(shape, margin)
        hindrance = self.standing if paved else self.taken
        return not (hindrance[rows, columns] & (distance <= margin + self._step * 0.5)).any()

    def lies_on(self, shape: Shape, margin: float, numbers: list[int]) -> bool:
        """Whether what is seen of a shape with `margin` metres around it lies wholly on these objects."""
        patch = self.canvas.patch(shape, margin)
        if patch is None:
            return False
        return bool(np.isin(self.canvas.ids[patch.rows, patch.columns][patch.distance <= margin], numbers).all())

    def take(self, shape: Shape, margin: float = 0.0) -> None:
        rows, columns, distance = self._window(shape, margin)
        self.taken[rows, columns] |= distance <= margin + self._step * 0.5

    def seen(self, shape: Shape, share: float = 0.6) -> bool:
        """Whether at least about `share` of a shape's bounding box lies in the picture."""
        points = shape.points()
        low, high = points.min(0), points.max(0)
        half = self.extent / 2
        inside = np.clip(np.minimum(high, half) - np.maximum(low, -half), 0, None)
        return inside.prod() >= share * (high - low).prod()

    def place(self, thing: Thing, margin: float = 0.5, share: float = 0.6, paved: bool = False) -> bool:
        """Adds a thing where it is in the picture and its ground is free."""
        if not self.seen(thing.shape, share) or not self.free(thing.shape, margin, paved):
            return False
        self.add(thing)
        return True

    def add(self, thing: Thing) -> None:
        rows, columns, distance = self._window(thing.shape, 0.0)
        inside = distance <= self._step * 0.5
        self.taken[rows, columns] |= inside
        self.standing[rows, columns] |= inside
        (self.tall if thing.height > LOW else self.low).append(thing)

    def anywhere(self, border: float = 0.0) -> tuple[float, float]:
        half = self.extent / 2 - border
        return self.random.uniform(-half, half), self.random.uniform(-half, half)

    def scatter(self, make: Callable[[float, float], Thing], count: int, margin: float = 1.0, border: float = 0.0,
                tries: int = 8) -> int:
        """Places up to `count` things that `make` gives for a random place."""
        placed = 0
        for _ in range(count * tries):
            if placed == count:
                break
            placed += self.place(make(*self.anywhere(border)), margin)
        return placed

    def paint(self) -> None:
        """Paints the things: low ones with their shadows, then tall ones, whose shadows fall on all that is low."""
        for things in (self.low, self.tall):
            for thing in things:
                for shape, height in thing.casts or [(thing.shape, thing.height)]:
                    if height > 0:
                        self.canvas.cast(shape, height, thing.taper)
            self.canvas.settle_shade()
            for thing in things:
                patch = self.canvas.patch(thing.shape, thing.margin)
                if patch is None:
                    continue
                thing.draw(patch)
                patch.claim(self.record(thing.kind, thing.colour, whole_area=thing.shape.area))
