"""Ships and boats, with the wakes of those under way."""

import numpy as np

from .canvas import Patch
from .noise import band, fractal
from .palette import PAINT, choose, tone
from .shapes import Shape, box, rectangle
from .site import Site, Thing

SHIP_COLOURS = {"red": 2, "blue": 1.5, "black": 1.5, "grey": 1.5, "white": 1, "green": 0.7, "brown": 0.5}
BOAT_COLOURS = {"white": 6, "blue": 0.7, "red": 0.5}


def _hull(x: float, y: float, angle: float, length: float, width: float, bluntness: float) -> Shape:
    """A hull with its bow towards +u: full in the middle, pointed ahead, a little narrower at the stern."""

    def distance(u, v):
        t = u / np.float32(length / 2)
        bow = np.clip((t - np.float32(bluntness)) / np.float32(1 - bluntness), 0, 1)
        stern = np.clip((-t - 0.75) / 0.25, 0, 1)
        half = np.float32(width / 2) * (1 - bow * bow) * (1 - 0.25 * stern * stern)
        return np.maximum(np.abs(v) - half, np.abs(u) - np.float32(length / 2))

    points = np.array([[-1, -0.8], [-0.7, -1], [bluntness, -1], [1, 0], [bluntness, 1], [-0.7, 1], [-1, 0.8]])
    return Shape(x, y, angle, distance, points * (length / 2, width / 2), length * width * (0.6 + 0.3 * bluntness))


def ship(site: Site, x: float, y: float, angle: float, length: float, colour: str | None = None) -> Thing:
    """A freighter: container ship, tanker or bulk carrier."""
    random = site.random
    colour = colour or choose(random, SHIP_COLOURS)
    deck = tone(random, colour)
    width = length * random.uniform(0.14, 0.18)
    trade = choose(random, {"containers": 1, "tanker": 1, "bulk": 1})
    stacks = random.integers(0, len(PAINT), (40, 12))
    tones = np.array([p[0] for p in PAINT.values()], np.float32)
    shape = _hull(x, y, angle, length, width, 0.62)

    def draw(patch: Patch) -> None:
        u, v = patch.u, patch.v
        sun = patch.canvas.sun
        noise = 0.05 * fractal(random, patch.size, 24, 0.7)
        patch.cover(patch.distance, deck * 0.75)
        patch.cover(patch.distance + np.float32(0.05 * width), np.clip(deck * (1.05 + noise)[..., None], 0, 1))
        hold = rectangle(u - np.float32(0.08 * length), v, 0.62 * length, 0.7 * width)
        if trade == "containers":
            row = np.clip((u / 6.5 + 20).astype(int), 0, 39)
            column = np.clip((v / 2.6 + 6).astype(int), 0, 11)
            gap = (np.abs((u / 6.5) % 1 - 0.5) > 0.45) | (np.abs((v / 2.6) % 1 - 0.5) > 0.44)
            # Most containers have the ship's own colour, so that its name holds.
            own = (stacks[row, column] > 2)[..., None]
            paint = np.where(own, deck * (0.85 + 0.05 * (stacks[row, column] % 4))[..., None], tones[stacks[row, column]])
            patch.cover(hold, np.where(gap[..., None], np.float32(0.15), paint))
        elif trade == "bulk":
            bay = 0.62 * length / 5
            hatch = np.maximum(np.abs((u - 0.08 * length) / bay - np.round((u - 0.08 * length) / bay)) * bay - bay * 0.36,
                               np.abs(v) - 0.28 * width)
            patch.cover(np.maximum(hatch, hold), np.clip(deck * 0.7 + 0.12, 0, 1))
        else:
            patch.cover(np.maximum(np.abs(v) - 0.04 * width, hold), (0.6, 0.6, 0.58))
            patch.cover(np.maximum(np.abs(u) - 0.012 * length, np.abs(v) - 0.4 * width), (0.6, 0.6, 0.58))
        bridge, su, sv = -0.36 * length, *_sun_here(patch)
        far = 0.12 * width * sun.length + 1
        patch.cover(np.maximum(rectangle(u - np.float32(bridge + su * far), v - np.float32(sv * far), 0.09 * length, 0.8 * width),
                               patch.distance), deck * 0.35, 0.6)
        patch.cover(rectangle(u - np.float32(bridge), v, 0.09 * length, 0.84 * width, 0.5), (0.86, 0.86, 0.84))
        patch.cover(rectangle(u - np.float32(bridge + 0.025 * length), v, 0.02 * length, 0.9 * width), (0.7, 0.71, 0.72))
        patch.cover(rectangle(u - np.float32(bridge - 0.02 * length), v, 0.025 * length, 0.25 * width), deck * 0.6)

    return Thing("ship", colour, shape, max(4.0, width * 0.35), draw)


def boat(site: Site, x: float, y: float, angle: float, length: float, colour: str | None = None) -> Thing:
    """A yacht or motor boat with cabin and cockpit."""
    random = site.random
    colour = colour or choose(random, BOAT_COLOURS)
    paint = tone(random, colour)
    width = length * random.uniform(0.27, 0.34)
    inside = random.uniform(0.45, 0.7)

    def draw(patch: Patch) -> None:
        u, v = patch.u, patch.v
        patch.cover(patch.distance, paint)
        patch.cover(rectangle(u + np.float32(0.28 * length), v, 0.3 * length, 0.6 * width, 0.2), np.array([0.55, 0.42, 0.3]) * inside * 1.6)
        patch.cover(rectangle(u - np.float32(0.05 * length), v, 0.3 * length, 0.6 * width, 0.3), np.clip(paint * 0.8, 0, 1))
        patch.cover(rectangle(u - np.float32(0.13 * length), v, 0.06 * length, 0.55 * width), (0.12, 0.15, 0.2), 0.8)

    return Thing("boat", colour, _hull(x, y, angle, length, width, 0.2), 1.8, draw)


def _sun_here(patch: Patch) -> tuple[float, float]:
    sun = patch.canvas.sun
    along, across = patch.direction(1, 0), patch.direction(0, 1)
    return sun.x * along[0] + sun.y * along[1], sun.x * across[0] + sun.y * across[1]


def lay_wake(site: Site, vessel: Thing, length: float) -> None:
    """Foam behind a vessel under way: a bright churned strip and two spreading waves, on the water already painted.

    Nothing else may lie close behind.
    """
    shape = vessel.shape
    site.take(box(*shape.world(-length, 0), 2 * length, 0.4 * length, shape.angle))
    tail = 4.0 * length
    back = Shape(*shape.world(-tail / 2, 0), shape.angle, lambda u, v: rectangle(u, v, tail + length, tail * 0.4),
                 np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * ((tail + length) / 2, tail * 0.2), 0.0)
    patch = site.canvas.patch(back)
    if patch is None:
        return
    behind = np.float32((tail + length) / 2) - patch.u  # metres behind the bow
    fade = np.clip(behind / (0.5 * length), 0, 1) * np.clip(1 - behind / (tail + length), 0, 1)
    froth = 0.6 + 0.35 * fractal(site.random, patch.size, 16, 0.8)
    strip = np.exp(-(patch.v / (0.07 * length + 0.03 * behind)) ** 2) * np.clip(behind / length - 0.75, 0, 1)
    arms = np.exp(-((np.abs(patch.v) - 0.16 * behind) / (0.03 * length + 0.012 * behind)) ** 2) * 0.6
    ripple = 0.5 + 0.5 * np.sin(behind * np.float32(2 * np.pi / (0.35 * length))) * 0.4 + 0.1 * band(site.random, patch.size, 4)
    water = np.isin(site.canvas.ids[patch.rows, patch.columns], site.numbers("sea", "river"))
    patch.mix((np.clip(fade * froth * (0.9 * strip + arms * ripple), 0, 1) * water).astype(np.float32), (0.82, 0.87, 0.88))
