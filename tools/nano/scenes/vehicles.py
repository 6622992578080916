"""Cars and trucks, seen from above."""

import numpy as np

from .canvas import Patch
from .palette import choose, tone
from .shapes import box, rectangle
from .site import Site, Thing

CAR_COLOURS = {"white": 4, "grey": 3, "black": 3, "red": 1.5, "blue": 1.5, "yellow": 0.3}
TRUCK_COLOURS = {"white": 4, "grey": 1, "blue": 1.5, "red": 1.5, "green": 0.7, "yellow": 0.7}
GLASS = np.array([0.12, 0.15, 0.19], np.float32)


def car(site: Site, x: float, y: float, angle: float, colour: str | None = None) -> Thing:
    random = site.random
    colour = colour or choose(random, CAR_COLOURS)
    paint = tone(random, colour)
    length, width = random.uniform(4.1, 4.9), random.uniform(1.75, 1.95)

    def draw(patch: Patch) -> None:
        u, v = patch.u, patch.v
        patch.cover(patch.distance, paint * 0.92)
        patch.cover(rectangle(u + 0.3, v, length * 0.52, width - 0.15, 0.3), GLASS, 0.9)
        patch.cover(rectangle(u + 0.35, v, length * 0.32, width - 0.42, 0.25), np.minimum(paint * 1.12, 1))
        patch.cover(rectangle(u - length * 0.36, v, length * 0.12, width - 0.5, 0.1), np.minimum(paint * 1.05, 1), 0.6)

    return Thing("car", colour, box(x, y, length, width, angle, 0.45), 1.5, draw)


def truck(site: Site, x: float, y: float, angle: float, colour: str | None = None) -> Thing:
    """A lorry with a box, or an articulated one."""
    random = site.random
    colour = colour or choose(random, TRUCK_COLOURS)
    load, cab = tone(random, colour), tone(random, choose(random, TRUCK_COLOURS))
    length, width = random.uniform(9.0, 16.0), 2.6
    ribs = random.random() < 0.5

    def draw(patch: Patch) -> None:
        u, v = patch.u, patch.v
        patch.cover(patch.distance, (0.16, 0.16, 0.17))
        body = rectangle(u + 1.5, v, length - 3.0, width, 0.05)
        shade = 1 + 0.05 * np.sin(u * np.float32(2 * np.pi / 0.9)) if ribs else np.ones(patch.size, np.float32)
        patch.cover(body, load * shade[..., None])
        patch.cover(np.maximum(body, np.abs(v) - 0.08), load * 0.9, 0.5)
        patch.cover(rectangle(u - (length / 2 - 1.15), v, 2.3, width, 0.2), cab)
        patch.cover(rectangle(u - (length / 2 - 0.35), v, 0.5, width - 0.4, 0.1), GLASS)

    return Thing("truck", colour, box(x, y, length, width, angle, 0.15), 3.4, draw)
