"""Houses, blocks and halls with flat, gable and hip roofs, and storage tanks."""

import numpy as np

from .canvas import Patch
from .noise import band, fractal, stripes
from .palette import choose, tone
from .shapes import Shape, box, disc, rectangle, union
from .site import Site, Thing

HOUSE_COLOURS = {"red": 2, "brown": 2, "grey": 2, "orange": 1.5, "black": 0.7, "white": 0.4}
FLAT_COLOURS = {"white": 2.5, "grey": 3, "brown": 0.7}
HALL_COLOURS = {"white": 3, "grey": 2, "blue": 1.5, "red": 0.7, "green": 0.7}
TANK_COLOURS = {"white": 5, "grey": 2, "green": 0.5, "brown": 0.7, "red": 0.4}


def _pitched(patch: Patch, wing: Shape, length: float, width: float, paint: np.ndarray, hip: bool, random, courses: float) -> None:
    """One wing's roof: faces lit by the way they look, rows of tiles, a light ridge."""
    u, v = wing.local(patch.x, patch.y)
    distance = wing.distance(u, v)
    angle = wing.angle
    c, s = np.cos(angle), np.sin(angle)
    sun = patch.canvas.sun
    across = sun.facing(-s, c)  # of the face towards +v
    along = sun.facing(c, s)    # of the hip towards +u
    end = (np.abs(u) - np.float32((length - width) / 2)) > np.abs(v) if hip else np.zeros(u.shape, bool)
    light = np.where(end, np.sign(u) * np.float32(along), np.sign(v) * np.float32(across))
    downhill = np.where(end, u, v)
    tiles = np.sin(downhill * np.float32(2 * np.pi / courses)) * 0.03
    wear = 0.05 * fractal(random, patch.size, 24, 0.8) + 0.03 * stripes(random, np.where(end, v, u), 0.7)
    patch.cover(distance, np.clip(paint * (0.92 + 0.24 * light + tiles + wear)[..., None], 0, 1))
    ridge = np.maximum(np.abs(v) - 0.12, np.abs(u) - np.float32((length - width * hip) / 2))
    patch.cover(np.maximum(ridge, distance), np.clip(paint * 1.25, 0, 1), 0.7)
    if hip:
        seam = np.abs(np.abs(u) - np.float32((length - width) / 2) - np.abs(v)) * 0.7 - 0.08
        patch.cover(np.maximum(seam, distance), np.clip(paint * 1.2, 0, 1), 0.5)


def house(site: Site, x: float, y: float, angle: float, length: float, width: float, colour: str | None = None) -> Thing:
    """A dwelling with a gable or hip roof, often with a second wing, a chimney, a dormer."""
    random = site.random
    colour = colour or choose(random, HOUSE_COLOURS)
    paint = tone(random, colour, 0.05, random.uniform(0.2, 0.4) if colour in ("red", "orange") else 0.0)
    hip, courses = random.random() < 0.5, random.uniform(0.5, 0.9)
    main = box(x, y, length, width, angle)
    wings = [(main, length, width)]
    if random.random() < 0.5:
        side, deep, broad = random.choice([-1, 1]), width * random.uniform(1.25, 1.6), width * random.uniform(0.55, 0.8)
        u = random.uniform(-0.5, 0.5) * (length - broad)
        place = main.world(u, side * (deep - width) / 2)
        wings.append((box(*place, deep, broad, angle + np.pi / 2), deep, broad))
    chimney = (random.uniform(-0.3, 0.3) * length, random.uniform(-0.25, 0.25) * width)
    panels = random.random() < 0.15

    def draw(patch: Patch) -> None:
        for wing, long, broad in reversed(wings):
            _pitched(patch, wing, long, broad, paint, hip, random, courses)
        patch.cover(rectangle(patch.u - chimney[0] - 0.4, patch.v - chimney[1], 1.2, 0.7), paint * 0.45, 0.6)
        patch.cover(rectangle(patch.u - chimney[0], patch.v - chimney[1], 0.8, 0.7), (0.62, 0.55, 0.5))
        if panels:
            area = rectangle(patch.u, patch.v - width * 0.25, length * 0.5, width * 0.32)
            grid = np.maximum(np.cos(patch.u * 6.3), np.cos(patch.v * 4.0)) > 0.93
            patch.cover(area, np.where(grid[..., None], np.float32(0.4), np.array([0.09, 0.11, 0.2], np.float32)))

    shape = union([wing for wing, _, _ in wings]) if len(wings) > 1 else main
    height = random.uniform(5.0, 7.5)
    return Thing("house", colour, shape, height, draw, casts=[(wing, height) for wing, _, _ in wings])


def flat_building(site: Site, x: float, y: float, angle: float, length: float, width: float, height: float | None = None,
                  colour: str | None = None) -> Thing:
    """A block with a flat roof: parapet, membrane, ventilators, stairheads."""
    random = site.random
    colour = colour or choose(random, FLAT_COLOURS)
    paint = tone(random, colour)
    height = height or random.uniform(6.0, 18.0)
    main = box(x, y, length, width, angle)
    parts = [main]
    if random.random() < 0.45:
        long, broad = length * random.uniform(0.3, 0.5), width * random.uniform(1.4, 1.9)
        side, end = random.choice([-1, 1]), random.choice([-1, 1])
        parts.append(box(*main.world(end * (length - long) / 2, side * (broad - width) / 2), long, broad, angle))
    shape = union(parts) if len(parts) > 1 else main
    boxes = [(random.uniform(-0.42, 0.42) * length, random.uniform(-0.36, 0.36) * width, *random.uniform(1.2, 3.2, 2),
              random.uniform(0.45, 0.9)) for _ in range(int(np.clip(length * width / 70, 2, 12)))]

    def draw(patch: Patch) -> None:
        sun = patch.canvas.sun
        noise = 0.025 * fractal(random, patch.size, 200, 0.7) + 0.015 * band(random, patch.size, 2)
        patch.cover(patch.distance, np.clip(paint * (1 + noise)[..., None], 0, 1))
        seams = np.abs((patch.u / 4.0) % 1 - 0.5) * 4.0 - 0.05
        patch.cover(np.maximum(seams, patch.distance), paint * 0.85, 0.3)
        # The parapet shades the roof on the sun's side.
        du, dv = patch.direction(1, 0), patch.direction(0, 1)
        su, sv = sun.x * du[0] + sun.y * du[1], sun.x * dv[0] + sun.y * dv[1]
        back = shape.distance(patch.u - np.float32(su * sun.length), patch.v - np.float32(sv * sun.length))
        patch.cover(np.maximum(-(back + 0.5), patch.distance), paint * 0.55, 0.5)
        patch.cover(np.maximum(-(patch.distance + 0.55), patch.distance), np.clip(paint * 1.1, 0, 1), 0.9)
        for u, v, long, broad, light in boxes:
            far = 1.2 * sun.length
            patch.cover(rectangle(patch.u - np.float32(u + su * far * 0.5), patch.v - np.float32(v + sv * far * 0.5),
                                  long + abs(su) * far, broad + abs(sv) * far), paint * 0.5, 0.6)
            patch.cover(rectangle(patch.u - np.float32(u), patch.v - np.float32(v), long, broad), np.full(3, light))

    return Thing("building", colour, shape, height, draw, casts=[(part, height) for part in parts])


def warehouse(site: Site, x: float, y: float, angle: float, length: float, width: float, colour: str | None = None) -> Thing:
    """A long hall of metal sheets with a low gable, skylights in rows, ventilators on the ridge."""
    random = site.random
    colour = colour or choose(random, HALL_COLOURS)
    paint = tone(random, colour, 0.04, random.uniform(0.1, 0.35) if colour not in ("white", "grey") else 0.0)
    bays = max(1, int(round(width / random.uniform(18, 30))))
    gap = random.uniform(5.0, 8.0)
    skylights = random.random() < 0.7

    def draw(patch: Patch) -> None:
        u, v = patch.u, patch.v
        sun = patch.canvas.sun
        bay = width / bays
        place = (v + np.float32(width / 2)) % np.float32(bay) - np.float32(bay / 2)
        nx, ny = patch.direction(0, 1)
        light = np.sign(place) * np.float32(0.10 * sun.facing(nx, ny))
        sheet = 0.025 * np.sin(u * np.float32(2 * np.pi / max(1.0, 3 * patch.canvas.metres_per_pixel)))
        rust = 0.05 * fractal(random, patch.size, 64, 0.7) + 0.03 * stripes(random, u, 2.0)
        patch.cover(patch.distance, np.clip(paint * (0.96 + light + sheet + rust)[..., None], 0, 1))
        inside = patch.distance + 1.0
        if skylights:
            strip = np.maximum(np.abs((u / gap) % 1 - 0.5) * gap - 0.6, np.abs(np.abs(place) - np.float32(bay / 4)) - np.float32(bay / 9))
            patch.cover(np.maximum(strip, inside), np.clip(paint * 0.6 + 0.3, 0, 1), 0.6)
        ridge = np.maximum(np.abs(place) - 0.25, patch.distance)
        patch.cover(ridge, np.clip(paint * 1.2, 0, 1), 0.6)
        valley = np.maximum(np.abs(np.abs(place) - np.float32(bay / 2)) - 0.25, patch.distance + 0.3)
        if bays > 1:
            patch.cover(valley, paint * 0.6, 0.6)

    return Thing("warehouse", colour, box(x, y, length, width, angle), random.uniform(7.0, 11.0), draw)


def storage_tank(site: Site, x: float, y: float, radius: float, colour: str | None = None) -> Thing:
    """A tank with a cone roof, or with a floating one that its wall shades."""
    random = site.random
    colour = colour or choose(random, TANK_COLOURS)
    paint = tone(random, colour)
    height = radius * random.uniform(0.35, 0.8) + 3
    floating = random.random() < 0.35
    spokes, start = random.integers(8, 17), random.uniform(0, 6.3)

    def draw(patch: Patch) -> None:
        u, v, sun = patch.u, patch.v, patch.canvas.sun
        r = np.hypot(u, v)
        tilt = (u * np.float32(-sun.x) + v * np.float32(-sun.y)) / np.maximum(r, 0.5)
        dirt = 0.03 * fractal(random, patch.size, 32, 0.7)
        if floating:
            patch.cover(patch.distance, np.clip(paint * (0.95 + dirt)[..., None], 0, 1))
            fall = radius * random.uniform(0.25, 0.5)
            lit = np.hypot(u - np.float32(sun.x * fall), v - np.float32(sun.y * fall)) - np.float32(radius - 0.5)
            patch.cover(np.maximum(-lit, patch.distance + 0.4), paint * 0.5, 0.75)
            patch.cover(np.abs(r - np.float32(radius * 0.86)) - 0.15, paint * 0.75, 0.6)
        else:
            patch.cover(patch.distance, np.clip(paint * (0.95 + 0.10 * tilt + dirt)[..., None], 0, 1))
            turn = np.arctan2(v, u) * np.float32(spokes / (2 * np.pi)) + start
            seam = np.abs(turn % 1 - 0.5) * r * np.float32(2 * np.pi / spokes) - 0.06
            patch.cover(np.maximum(seam, patch.distance + 0.6), paint * 0.85, 0.4)
        patch.cover(np.abs(r - np.float32(radius - 0.3)) - 0.25, np.clip(paint * 1.12, 0, 1), 0.9)
        patch.cover(np.hypot(u - np.float32(radius * 0.1), v) - np.float32(0.08 * radius + 0.3), paint * 0.7, 0.8)
        stairs = np.maximum(np.abs(v) - 0.5, np.abs(u - np.float32(radius * 0.8)) - np.float32(radius * 0.2))
        patch.cover(np.maximum(stairs, patch.distance), paint * 0.7, 0.5)

    return Thing("storage tank", colour, disc(x, y, radius), height, draw)
