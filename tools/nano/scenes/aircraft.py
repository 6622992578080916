"""Aircraft on the ground: airliners with swept wings and engines, and small propeller planes."""

import numpy as np

from .canvas import Patch
from .palette import choose, tone
from .shapes import Shape, convex, rectangle
from .site import Site, Thing

AIRCRAFT_COLOURS = {"white": 6, "grey": 1.5, "blue": 0.8}
TAIL_COLOURS = {"red": 1, "blue": 1.5, "green": 0.5, "yellow": 0.5, "white": 0.6, "orange": 0.5}


def _wing(u: np.ndarray, v: np.ndarray, root: float, chord: float, tip: float, tip_chord: float, span: float) -> np.ndarray:
    """Distance to a pair of tapered wings: leading edge at `root` on the middle line and at `tip` half a span out."""
    corners = np.array([[root, 0], [tip, span / 2], [tip - tip_chord, span / 2], [root - chord, 0]])
    return convex(u, np.abs(v) + np.float32(1e-3), corners)


def airplane(site: Site, x: float, y: float, angle: float, length: float, colour: str | None = None) -> Thing:
    random = site.random
    colour = colour or choose(random, AIRCRAFT_COLOURS)
    paint, tail = tone(random, colour), tone(random, choose(random, TAIL_COLOURS))
    small = length < 16
    body = length * (0.12 if small else 0.1)
    span = length * (random.uniform(1.15, 1.35) if small else random.uniform(0.88, 1.0))
    sweep = 0.0 if small else 0.26
    engines = [] if small else ([0.17] if random.random() < 0.75 else [0.15, 0.29])

    def parts(u, v):
        fuselage = rectangle(u, v, length, body, body / 2)
        # The nose is blunt, the tail runs to a point.
        taper = np.clip((-u / np.float32(length) - 0.22) / 0.28, 0, 1)
        fuselage = np.maximum(fuselage, np.abs(v) - np.float32(body / 2) * (1 - 0.8 * taper))
        if small:
            wing = _wing(u, v, 0.22 * length, 0.17 * length, 0.20 * length, 0.12 * length, span)
            stabiliser = _wing(u, v, -0.38 * length, 0.10 * length, -0.39 * length, 0.08 * length, 0.38 * length)
        else:
            wing = _wing(u, v, 0.14 * length, 0.21 * length, 0.14 * length - sweep * length * 1.0, 0.06 * length, span)
            stabiliser = _wing(u, v, -0.36 * length, 0.10 * length, -0.44 * length, 0.045 * length, 0.36 * length)
        nacelles = None
        for place in engines:
            lead = 0.14 * length - sweep * length * 2 * place * length / span + 0.05 * length
            one = rectangle(u - np.float32(lead - 0.035 * length), np.abs(v) - np.float32(place * length), 0.085 * length, 0.045 * length,
                            0.018 * length)
            nacelles = one if nacelles is None else np.minimum(nacelles, one)
        return fuselage, wing, stabiliser, nacelles

    def distance(u, v):
        fuselage, wing, stabiliser, nacelles = parts(u, v)
        whole = np.minimum(np.minimum(fuselage, wing), stabiliser)
        return whole if nacelles is None else np.minimum(whole, nacelles)

    half = np.array([length / 2, span / 2])
    outline = np.array([[1, 0], [0.3, 0.5], [-0.25, 1], [-1, 0.4], [-1, -0.4], [-0.25, -1], [0.3, -0.5]]) * half
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    shape = Shape(x, y, angle, distance, corners, length * body * 0.9 + span * 0.13 * length + 0.03 * length * length)
    height = 0.08 * length + 0.5

    def shadow(patch: Patch) -> None:
        sun = patch.canvas.sun
        for share in (0.5, 1.0):
            far = height * share * sun.length
            moved = Shape(x + sun.x * far, y + sun.y * far, angle, distance, outline, 0)
            patch.cover(distance(*moved.local(patch.x, patch.y)), np.full(3, 0.10), 0.9 * sun.strength * share)

    def draw(patch: Patch) -> None:
        u, v = patch.u, patch.v
        shadow(patch)
        fuselage, wing, stabiliser, nacelles = parts(u, v)
        sun = patch.canvas.sun
        nx, ny = patch.direction(0, 1)
        if nacelles is not None:
            patch.cover(nacelles, paint * 0.82)
        patch.cover(wing, paint * 0.86)
        # Flaps: a darker line along the trailing edge.
        patch.cover(np.maximum(wing, -(wing + np.float32(0.012 * length))), paint * 0.72, 0.7)
        patch.cover(stabiliser, paint * 0.86)
        light = np.clip(1 + 0.18 * sun.facing(nx, ny) * v / np.float32(body / 2), 0.7, 1.2)
        patch.cover(fuselage, np.clip(paint * light[..., None], 0, 1))
        patch.cover(rectangle(u - np.float32(0.455 * length), v, 0.02 * length, 0.5 * body), (0.12, 0.14, 0.18), 0.9)
        fin = np.maximum(np.abs(v) - np.float32(0.012 * length), np.abs(u + np.float32(0.42 * length)) - np.float32(0.07 * length))
        patch.cover(fin, tail)
        if small:
            patch.cover(rectangle(u - np.float32(0.49 * length), v, 0.03 * length, 0.24 * length, 0.01), (0.2, 0.2, 0.2), 0.5)

    return Thing("airplane", colour, shape, 0.0, draw, margin=height * site.canvas.sun.length + 1)
