"""A scene: the picture, its objects with exact masks, and what the texts need to know of them."""

from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from .atmosphere import photograph
from .canvas import Canvas, Sun
from .settings import OPEN_GROUND, SETTINGS
from .site import Site

GROUND = ("field", "forest", "river", "lake", "pond", "sea", "road", "runway", "apron", "parking lot")
SCALE_RATIO = 1.5  # "large": that many times the median area of its kind; "small": the same below


@dataclass
class Object:
    """One object as it is seen. `scale` is "large", "small" or empty, against the others of its kind in the scene."""
    number: int  # its value in Scene.ids
    kind: str
    colour: str  # a name of the palette, or empty
    instances: int  # roads of a network count as one object with several instances
    box: tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels, the last ones exclusive
    area: int  # visible pixels
    visible: float  # share of the whole object that is seen (1 for ground)
    centre: tuple[float, float]  # of the visible pixels, 0 … 1 of the picture, x then y
    _ids: np.ndarray = field(repr=False)
    scale: str = ""

    @property
    def mask(self) -> np.ndarray:
        """bool [size, size], the visible pixels."""
        return self._ids == self.number


@dataclass
class Scene:
    seed: int
    image: np.ndarray  # u8 [size, size, 3]
    ids: np.ndarray  # int32 [size, size]: the number of the object that a pixel shows, or of none
    objects: list[Object]
    setting: str  # "a harbour", "farmland" …
    metres_per_pixel: float
    difficulty: float

    @property
    def size(self) -> int:
        return self.image.shape[0]


def render(seed: int, size: int = 512, difficulty: float = 1.0) -> Scene:
    """Draws the scene of a seed: the same seed, size and difficulty give the same bytes.

    `difficulty` 0: a few large, well contrasted objects on plain ground; 1: full clutter, haze and small objects. A
    larger picture shows somewhat more ground, in finer detail.
    """
    if not 64 <= size <= 8192 or not 0.0 <= difficulty <= 1.0:
        raise ValueError(f"size {size} is not in 64 … 8192, or difficulty {difficulty} not in 0 … 1")
    random = np.random.default_rng([seed, size, int(round(difficulty * 1000))])
    shares = np.array([s.weight for s in SETTINGS])
    setting = SETTINGS[random.choice(len(SETTINGS), p=shares / shares.sum())]
    if random.random() < max(0.05, 1 - 1.3 * difficulty):
        setting = OPEN_GROUND
    spread = random.random() * (0.3 + 0.7 * difficulty)
    resolution = setting.finest * (setting.coarsest / setting.finest) ** spread * (512 / size) ** 0.5
    turn = random.uniform(0, 2 * np.pi)
    sun = Sun(np.cos(turn), np.sin(turn), random.uniform(0.35, 1.3), random.uniform(0.45, 0.68))
    site = Site(Canvas(size, resolution, sun), random, difficulty)
    setting.lay(site)
    site.paint()
    image = photograph(site.canvas.image, random, difficulty)
    return Scene(seed, image, site.canvas.ids, _objects(site), setting.name, resolution, difficulty)


def _objects(site: Site) -> list[Object]:
    """The objects of which at least four pixels are seen."""
    ids, size = site.canvas.ids, site.canvas.size
    found = []
    for number, (record, window) in enumerate(zip(site.records, ndimage.find_objects(ids, len(site.records))), 1):
        if window is None:
            continue
        rows, columns = np.nonzero(ids[window] == number)
        if len(rows) < 4:
            continue
        top, left = window[0].start, window[1].start
        whole = record.whole_area / site.canvas.metres_per_pixel**2
        centre = ((columns.mean() + left + 0.5) / size, (rows.mean() + top + 0.5) / size)
        found.append(Object(number, record.kind, record.colour, record.instances,
                            (left, top, window[1].stop, window[0].stop), len(rows),
                            min(1.0, len(rows) / whole) if whole else 1.0, centre, ids))
    for kind in {o.kind for o in found}:
        alike = [o for o in found if o.kind == kind]
        if len(alike) < 2:
            continue
        median = np.median([o.area for o in alike])
        for one in alike:
            if one.area >= SCALE_RATIO * median:
                one.scale = "large"
            elif one.area * SCALE_RATIO <= median and one.visible > 0.8:
                one.scale = "small"
    return found
