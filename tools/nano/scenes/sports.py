"""Courts, pitches, running tracks and swimming pools: flat, with their lines."""

import numpy as np

from .canvas import Patch
from .ground import grass, textured
from .noise import band, fractal
from .palette import choose, tone
from .shapes import Shape, box, rectangle
from .site import Site

LINE = np.array([0.90, 0.90, 0.88], np.float32)
COURT_COLOURS = {"green": 2, "blue": 2, "red": 1.5, "brown": 0.6}
BASKETBALL_COLOURS = {"orange": 1, "grey": 1, "green": 1, "blue": 1, "red": 1}


def _frame(u, v, length, width, line=0.06):
    """Distance to the outline of a rectangle."""
    return np.abs(rectangle(u, v, length, width)) - np.float32(line)


def _segment(u, v, u0, u1, v0, v1, line=0.06):
    """Distance to a line along one axis."""
    return np.maximum(np.abs(u - np.float32((u0 + u1) / 2)) - np.float32(abs(u1 - u0) / 2 + line),
                      np.abs(v - np.float32((v0 + v1) / 2)) - np.float32(abs(v1 - v0) / 2 + line))


def _lay(site: Site, shape: Shape, kind: str, colour: str, draw, margin: float = 0.0) -> bool:
    """Paints a flat object at once, where its ground is free and in the picture."""
    if not site.seen(shape, 0.6) or not site.free(shape, margin):
        return False
    site.take(shape, margin)
    _paint(site, shape, kind, colour, draw, margin)
    return True


def _paint(site: Site, shape: Shape, kind: str, colour: str, draw, margin: float = 0.0) -> None:
    patch = site.canvas.patch(shape, margin)
    if patch is not None:
        draw(patch)
        patch.claim(site.record(kind, colour, whole_area=shape.area))


def lay_tennis_court(site: Site, x: float, y: float, angle: float, colour: str | None = None, scale: float = 1.0) -> bool:
    """A court of 23.77 by 10.97 metres within its run-off of the same colour, lighter or darker."""
    random = site.random
    colour = colour or choose(random, COURT_COLOURS)
    paint = tone(random, colour, 0.03, random.uniform(0.1, 0.35))
    rim = np.clip(paint * np.float32(random.choice([0.78, 1.2])), 0, 1)

    def draw(patch: Patch) -> None:
        u, v = patch.u / np.float32(scale), patch.v / np.float32(scale)
        wear = 0.03 * fractal(random, patch.size, 64, 0.7) + 0.015 * band(random, patch.size, 2)
        patch.cover(patch.distance, np.clip(rim * (1 + wear)[..., None], 0, 1))
        patch.cover(rectangle(u, v, 23.77, 10.97), np.clip(paint * (1 + wear)[..., None], 0, 1))
        for line in (_frame(u, v, 23.77, 10.97), _frame(u, v, 23.77, 8.23), _segment(u, v, -6.4, -6.4, -4.11, 4.11),
                     _segment(u, v, 6.4, 6.4, -4.11, 4.11), _segment(u, v, -6.4, 6.4, 0, 0)):
            patch.cover(line, LINE, 0.95)
        sun = patch.canvas.sun
        patch.cover(_segment(u, v, -0.3 * sun.x, 0.5 * sun.x + 0.3, -6, 6, 0.1), paint * 0.5, 0.5)
        patch.cover(_segment(u, v, 0, 0, -6.2, 6.2, 0.06), (0.82, 0.82, 0.82), 0.9)

    return _lay(site, box(x, y, 36.0 * scale, 17.6 * scale, angle), "tennis court", colour, draw, 1.5)


def lay_basketball_court(site: Site, x: float, y: float, angle: float, colour: str | None = None, scale: float = 1.0) -> bool:
    random = site.random
    colour = colour or choose(random, BASKETBALL_COLOURS)
    paint = tone(random, colour, 0.03, random.uniform(0.1, 0.35) if colour != "grey" else 0.0)
    key = np.clip(paint * random.choice([0.7, 1.3]), 0, 1)

    def draw(patch: Patch) -> None:
        u, v = patch.u / np.float32(scale), patch.v / np.float32(scale)
        wear = 0.04 * fractal(random, patch.size, 64, 0.7) + 0.02 * band(random, patch.size, 2)
        patch.cover(patch.distance, np.clip(paint * (1 + wear)[..., None], 0, 1))
        half = np.abs(u)
        patch.cover(rectangle(half - 11.1, v, 5.8, 4.9), key)
        patch.cover(np.hypot(u, v) - 1.8, key)
        arc = np.where(half < 12.4, np.abs(np.hypot(half - 12.42, v) - 6.75), np.abs(np.abs(v) - 6.75)) - 0.06
        arc = np.maximum(arc, rectangle(u, v, 28.0, 15.0))
        for line in (_frame(u, v, 28.0, 15.0), _segment(u, v, 0, 0, -7.5, 7.5), _frame(half - 11.1, v, 5.8, 4.9),
                     np.abs(np.hypot(u, v) - 1.8) - 0.06, arc):
            patch.cover(line, LINE, 0.95)

    return _lay(site, box(x, y, 31.0 * scale, 18.0 * scale, angle), "basketball court", colour, draw, 1.5)


def lay_football_pitch(site: Site, x: float, y: float, angle: float, scale: float = 1.0, track: bool = False) -> bool:
    """A pitch of 105 by 68 metres times `scale`, mown in stripes; with a running track around it if asked."""
    random = site.random
    paint = np.array([0.25, 0.45, 0.20]) * (1 + random.normal(0, 0.06))

    def draw(patch: Patch) -> None:
        u, v = patch.u / np.float32(scale), patch.v / np.float32(scale)
        mown = 0.07 * np.sign(np.sin(u * np.float32(2 * np.pi / 11.67)))
        wear = 0.06 * fractal(random, patch.size, 128, 0.65) + 0.04 * band(random, patch.size, 2)
        goal = np.exp(-((np.abs(u) - 50) / 6) ** 2 - (v / 5) ** 2) * random.uniform(0, 0.5)
        cover = textured(paint, mown + wear)
        patch.cover(patch.distance, cover + (np.asarray(site.season.soil, np.float32) - cover) * goal[..., None])
        half = np.abs(u)
        arc = np.maximum(np.abs(np.hypot(half - 41.5, v) - 9.15) - 0.1, half - 36.0)
        for line in (_frame(u, v, 105, 68, 0.1), _segment(u, v, 0, 0, -34, 34, 0.1), np.abs(np.hypot(u, v) - 9.15) - 0.1,
                     _frame(half - 44.25, v, 16.5, 40.3, 0.1), _frame(half - 49.75, v, 5.5, 18.3, 0.1), arc):
            patch.cover(line, LINE, 0.9)
        for end in (-1, 1):
            patch.cover(_frame(u - end * np.float32(53.3), v, 1.6, 7.3, 0.1), LINE, 0.9)

    pitch = box(x, y, 111.0 * scale, 74.0 * scale, angle)
    if not track:
        return _lay(site, pitch, "football pitch", "green", draw, 1.0)
    red = tone(random, "red", 0.03, 0.3)

    def ring(u, v):
        inner = rectangle(u, v, 176.0 * scale, 92.0 * scale, 46.0 * scale - 0.1)
        return np.abs(inner) - np.float32(4.9 * scale)

    def draw_track(patch: Patch) -> None:
        wear = 0.04 * fractal(random, patch.size, 64, 0.7)
        inner = rectangle(patch.u, patch.v, 176.0 * scale, 92.0 * scale, 46.0 * scale - 0.1)
        patch.cover(inner, grass(site, patch.size))
        patch.cover(patch.distance, np.clip(red * (1 + wear)[..., None], 0, 1))
        for lane in range(9):
            patch.cover(np.abs(inner - np.float32((lane - 4) * 1.22 * scale)) - 0.04, LINE, 0.6)

    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (93.0 * scale, 51.0 * scale)
    oval = Shape(x, y, angle, ring, corners, 2 * 4.9 * scale * (2 * 84.0 + 2 * np.pi * 46.0) * scale)
    ground = box(x, y, 186 * scale, 102 * scale, angle)
    if not site.seen(oval, 0.5) or not site.free(ground):
        return False
    site.take(ground)
    _paint(site, oval, "running track", "red", draw_track)
    _paint(site, pitch, "football pitch", "green", draw)
    return True


def lay_pool(site: Site, x: float, y: float, angle: float, length: float, width: float) -> bool:
    """A swimming pool, rectangular or kidney shaped, with a pale rim; the object is the water."""
    random = site.random
    kidney = random.random() < 0.3 and length < 15
    lanes = length > 20
    water = np.array([0.25, 0.66, 0.76]) * (1 + random.normal(0, 0.06)) + random.normal(0, 0.02, 3)
    rim = np.array([0.82, 0.79, 0.72]) * random.uniform(0.9, 1.08)

    def distance(u, v):
        if not kidney:
            return rectangle(u, v, length, width, min(0.5, width / 6))
        one = np.hypot(u + np.float32(length * 0.22), v) - np.float32(width * 0.48)
        other = np.hypot(u - np.float32(length * 0.25), v - np.float32(0.12 * width)) - np.float32(width * 0.40)
        k = np.float32(0.6 * width)
        h = np.clip(0.5 + 0.5 * (other - one) / k, 0, 1)
        return other + (one - other) * h - k * h * (1 - h)

    def draw(patch: Patch) -> None:
        sun = patch.canvas.sun
        pavers = 0.04 * band(random, patch.size, 4)
        patch.cover(patch.distance - np.float32(1.4), np.clip(rim * (1 + pavers)[..., None], 0, 1))
        caustic = 0.05 * band(random, patch.size, max(2.5, 0.8 / patch.canvas.metres_per_pixel))
        deep = np.float32(0.10) * patch.u / np.float32(length)
        patch.cover(patch.distance, np.clip(water * (1 + caustic - deep)[..., None], 0, 1))
        back = patch.canvas.patch(shape, 1.6)
        moved = Shape(x + sun.x * 0.4 * sun.length, y + sun.y * 0.4 * sun.length, angle, distance, shape.outline, 0)
        patch.cover(np.maximum(-distance(*moved.local(back.x, back.y)), patch.distance), water * 0.6, 0.6)
        patch.cover(np.abs(patch.distance - 0.15) - 0.15, (0.93, 0.93, 0.92))
        if lanes:
            lane = np.maximum(np.abs((patch.v / 2.5) % 1 - 0.5) * 2.5 - 0.12, patch.distance + 0.8)
            patch.cover(lane, water * 0.55, 0.7)

    shape = Shape(x, y, angle, distance, np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (length / 2, width / 2),
                  length * width * (0.75 if kidney else 1.0))
    return _lay(site, shape, "swimming pool", "blue", draw, 1.6)
