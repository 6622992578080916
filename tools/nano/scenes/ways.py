"""Roads, runways and car parks: surfaces with markings, and the places along them where vehicles stand."""

from dataclasses import dataclass

import numpy as np

from .canvas import Patch
from .ground import asphalt, concrete, soil, textured
from .noise import stripes
from .shapes import box
from .site import Site

WHITE = np.array([0.86, 0.86, 0.84], np.float32)
YELLOW = np.array([0.84, 0.70, 0.25], np.float32)


@dataclass
class Way:
    """A road across the scene: a line at `angle` through (x, y), bent by a sine of `bend` metres over `wave` metres."""
    x: float
    y: float
    angle: float
    width: float
    bend: float = 0.0
    wave: float = 400.0
    phase: float = 0.0
    paved: bool = True
    lanes: int = 2

    def frame(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Metres along the way and metres to the right of its middle."""
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        x, y = x - np.float32(self.x), y - np.float32(self.y)
        u, v = x * c + y * s, y * c - x * s
        if self.bend:
            turn = u * np.float32(2 * np.pi / self.wave) + np.float32(self.phase)
            slope = np.float32(self.bend * 2 * np.pi / self.wave) * np.cos(turn)
            v = (v - np.float32(self.bend) * np.sin(turn)) / np.sqrt(1 + slope * slope)
        return u, v

    def at(self, along: float, right: float) -> tuple[float, float, float]:
        """The place and the heading `along` metres on and `right` metres beside the middle."""
        turn = along * 2 * np.pi / self.wave + self.phase
        offset = self.bend * np.sin(turn)
        heading = np.arctan(self.bend * 2 * np.pi / self.wave * np.cos(turn))
        u, v = along - right * np.sin(heading), offset + right * np.cos(heading)
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.x + u * c - v * s, self.y + u * s + v * c, self.angle + heading


def lay_roads(site: Site, ways: list[Way], pavement: float = 0.0) -> None:
    """Paints a network of roads as one object, with `pavement` metres of footpath on both sides of paved ones."""
    canvas, random = site.canvas, site.random
    patch = canvas.whole()
    frames = [way.frame(patch.x, patch.y) for way in ways]
    edges = [np.abs(v) - np.float32(way.width / 2) for way, (_, v) in zip(ways, frames)]
    verge = concrete(site, patch.size) if pavement else soil(site, patch.size)
    wet = np.isin(canvas.ids, site.numbers("river", "lake", "pond"))
    for way, edge in zip(ways, edges):
        beside = pavement if way.paved else 0.0
        patch.cover(edge - np.float32(beside or 0.8), verge, 0.95 if beside else 0.6)
        if wet.any():
            _bridge(site, patch, edge, wet)
    dark = asphalt(site, patch.size)
    track = soil(site, patch.size) * 1.12
    road = np.zeros(patch.size, bool)
    for way, edge, (u, v) in zip(ways, edges, frames):
        if way.paved:
            # Tyres darken two lines in each lane; patches of newer asphalt lie along the road.
            lane = way.width / way.lanes
            wheel = np.cos(v * np.float32(4 * np.pi / lane)) * 0.03
            patch.cover(edge, dark * (1 + wheel + 0.015 * stripes(random, v, 0.8))[..., None])
        else:
            ruts = np.clip(1 - np.abs(np.abs(v) - 0.9) / 0.5, 0, 1)
            patch.cover(edge, track * (0.92 + 0.13 * ruts)[..., None], 0.9)
        road |= edge <= 0
        site.taken |= np.abs(way.frame(site.coarse_x, site.coarse_y)[1]) <= way.width / 2 + max(pavement, 1.0)
    for index, (way, (u, v)) in enumerate(zip(ways, frames)):
        if not way.paved:
            continue
        elsewhere = np.full(patch.size, 1e3, np.float32)
        for other, edge in enumerate(edges):
            if other != index:
                elsewhere = np.minimum(elsewhere, edge - 1.0)
        _mark(patch, way, u, v, elsewhere, random)
    canvas.ids[road] = site.record("road", instances=len(ways))


def _bridge(site: Site, patch: Patch, edge: np.ndarray, wet: np.ndarray) -> None:
    """Where a road crosses water: parapets of concrete, and the bridge's shadow beside it."""
    sun, pixel = site.canvas.sun, site.canvas.metres_per_pixel
    reach = 4.0 * sun.length / pixel
    shadow = np.roll(edge, (round(sun.y * reach), round(sun.x * reach)), (0, 1))
    patch.darken(np.clip(0.5 - shadow / pixel, 0, 1) * wet, 0.5)
    patch.mix(np.clip(0.5 - (edge - 0.7) / pixel, 0, 1) * wet, (0.66, 0.65, 0.62))


def lay_footpath(site: Site, way: Way) -> None:
    """A path of gravel; it is no object, and other things may lie across it."""
    patch = site.canvas.whole()
    _, v = way.frame(patch.x, patch.y)
    patch.cover(np.abs(v) - np.float32(way.width / 2), concrete(site, patch.size, (0.60, 0.55, 0.46)), 0.85)


def _mark(patch: Patch, way: Way, u: np.ndarray, v: np.ndarray, elsewhere: np.ndarray, random: np.random.Generator) -> None:
    """Edge lines, dashes between lanes; none where another road crosses."""
    open_road = np.clip(elsewhere, 0, 1)
    tone = YELLOW if random.random() < 0.3 else WHITE
    wear = random.uniform(0.45, 0.9)
    lane = way.width / way.lanes

    def line(distance, colour):
        alpha = np.clip(0.5 - distance / patch.canvas.metres_per_pixel, 0, 1) * open_road
        patch.mix(alpha * np.float32(wear), colour)

    for number in range(1, way.lanes):
        right = number * lane - way.width / 2
        middle = np.abs(v - np.float32(right)) - 0.09
        dash = np.abs((u / 9.0) % 1 - 0.5) * 9.0 - 1.8
        solid = abs(right) < 0.1 and way.lanes > 2
        line(middle if solid else np.maximum(middle, dash), tone)
    if way.width > 6.5:
        line(np.abs(np.abs(v) - np.float32(way.width / 2 - 0.4)) - 0.07, WHITE)


def lay_runway(site: Site, way: Way) -> None:
    """A runway: dark tyre marks, centre line, edge lines and the stripes of its threshold."""
    canvas, random = site.canvas, site.random
    patch = canvas.whole()
    u, v = way.frame(patch.x, patch.y)
    edge = np.abs(v) - np.float32(way.width / 2)
    patch.cover(edge - 5.0, concrete(site, patch.size, np.full(3, 0.47)), 0.7)
    surface = asphalt(site, patch.size, random.uniform(0.36, 0.48))
    rubber = np.exp(-((np.abs(v) - 4.0) / 4.0) ** 2) * (0.6 + 0.4 * stripes(random, v, 1.5) * 0.4)
    patch.cover(edge, surface * (1 - 0.22 * rubber)[..., None])
    start = -way.wave
    patch.cover(np.maximum(np.abs(v) - 0.5, np.abs((u / 50.0) % 1 - 0.5) * 50.0 - 15.0), WHITE, 0.85)
    patch.cover(np.abs(np.abs(v) - np.float32(way.width / 2 - 1.2)) - 0.45, WHITE, 0.85)
    bars = np.maximum(np.abs((v / 3.6) % 1 - 0.5) * 3.6 - 0.9, np.abs(v) - np.float32(way.width / 2 - 3.5))
    patch.cover(np.maximum(bars, np.abs(u - np.float32(start)) - 15.0), WHITE, 0.9)
    canvas.ids[edge <= 0] = site.record("runway", "grey")
    site.taken |= np.abs(way.frame(site.coarse_x, site.coarse_y)[1]) <= way.width / 2 + 5


def lay_car_park(site: Site, x: float, y: float, length: float, width: float, angle: float) -> list[tuple[float, float, float]]:
    """A car park with rows of stalls; gives the middle and heading of every stall."""
    canvas, random = site.canvas, site.random
    ground = box(x, y, length, width, angle)
    site.take(ground, 1.0)
    patch = canvas.patch(ground, 2.0)
    stalls = []
    if patch is None:
        return stalls
    patch.cover(patch.distance - 0.6, textured(np.full(3, 0.62), np.zeros(patch.size, np.float32)))
    patch.cover(patch.distance, asphalt(site, patch.size, random.uniform(0.30, 0.46)))
    depth, aisle, pitch = 5.2, 6.2, 2.7
    v = -width / 2 + 0.6
    inner = length - 3.0
    single = True  # the first row backs on the edge; later ones come in pairs, nose to nose
    while v + depth + aisle * 0.7 <= width / 2 + 0.1:
        for row in range(1 if single else 2):
            if v + depth > width / 2:
                break
            middle = v + depth / 2
            count = int(inner / pitch)
            first = -count * pitch / 2
            marks = np.maximum(np.abs((patch.u - first) / pitch - np.round((patch.u - first) / pitch)) * pitch - 0.06,
                               np.maximum(np.abs(patch.v - np.float32(middle)) - depth / 2, np.abs(patch.u) - count * pitch / 2 - 0.1))
            patch.cover(marks, WHITE, 0.75)
            for number in range(count):
                stalls.append((*ground.world(first + (number + 0.5) * pitch, middle), angle + np.pi / 2))
            v += depth
            if not single and row == 0:
                patch.cover(np.maximum(np.abs(patch.v - np.float32(v)) - 0.06, np.abs(patch.u) - count * pitch / 2), WHITE, 0.6)
        v += aisle
        single = False
    patch.claim(site.record("parking lot", "grey"))
    return stalls
