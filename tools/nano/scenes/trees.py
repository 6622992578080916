"""Single trees: ragged crowns with a lit and a dark side, and their shadows."""

import numpy as np

from .canvas import Patch
from .noise import band
from .shapes import Shape
from .site import LOW, Site, Thing


def tree(site: Site, x: float, y: float, radius: float) -> Thing:
    random = site.random
    paint = np.asarray(site.season.forest, np.float32) * (1.45 + random.normal(0, 0.16)) * (1 + random.normal(0, 0.08, 3))
    phases, lobes = random.uniform(0, 6.3, 3), (3, 5, 9)

    def distance(u, v):
        turn = np.arctan2(v, u)
        edge = 1 + sum(np.float32(a) * np.sin(turn * n + np.float32(p)) for a, n, p in zip((0.07, 0.07, 0.05), lobes, phases))
        return np.hypot(u, v) - np.float32(radius) * edge

    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    outline = radius * 1.1 * np.stack([np.cos(turn), np.sin(turn)], 1)
    shape = Shape(x, y, 0.0, distance, outline, np.pi * radius * radius)
    height = radius * random.uniform(1.0, 1.7)

    def draw(patch: Patch) -> None:
        sun = patch.canvas.sun
        lit = (patch.u * np.float32(-sun.x) + patch.v * np.float32(-sun.y)) / np.float32(radius)
        dome = np.clip(-patch.distance / np.float32(radius), 0, 1)
        leaves = 0.16 * band(random, patch.size, max(2.5, 1.1 / patch.canvas.metres_per_pixel)) + 0.06 * band(random, patch.size, 2)
        patch.cover(patch.distance, np.clip(paint * (0.80 + 0.30 * lit + 0.25 * dome + leaves)[..., None], 0, 1))

    return Thing("tree", "green", shape, max(height, LOW + 0.1), draw, taper=0.55)
