"""What covers the ground: grass, soil, concrete, asphalt, crops, forest, water."""

import numpy as np

from .canvas import Patch
from .noise import band, crowns, fractal, stripes
from .site import Site

# Crops: the colour's name, the tone, the contrast of its rows, the spacing of the rows in metres.
CROPS = [
    ("green", (0.24, 0.38, 0.16), 0.10, 1.6),
    ("green", (0.33, 0.46, 0.19), 0.07, 2.4),
    ("green", (0.20, 0.31, 0.14), 0.16, 3.2),
    ("yellow", (0.72, 0.62, 0.28), 0.06, 2.0),
    ("yellow", (0.78, 0.70, 0.40), 0.08, 3.0),
    ("brown", (0.43, 0.33, 0.24), 0.09, 1.8),
    ("brown", (0.52, 0.41, 0.31), 0.06, 2.6),
]


def _pixels(site: Site, metres: float) -> float:
    return metres / site.canvas.metres_per_pixel


def blend(low, high, share: np.ndarray) -> np.ndarray:
    """[h, w, 3] between two tones."""
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return low + (high - low) * np.clip(share, 0, 1)[..., None]


def textured(tone, noise: np.ndarray) -> np.ndarray:
    """[h, w, 3] a tone lightened and darkened by noise."""
    return np.asarray(tone, np.float32) * (1 + noise)[..., None]


def grass(site: Site, shape: tuple[int, int]) -> np.ndarray:
    random = site.random
    patches = fractal(random, shape, _pixels(site, 30.0), 0.7)
    cover = blend(site.season.grass, site.season.meadow, 0.5 + 0.35 * patches)
    bare = np.clip(fractal(random, shape, _pixels(site, 12.0)) - 1.5, 0, 1)
    cover = cover + (np.asarray(site.season.soil, np.float32) - cover) * (0.6 * bare)[..., None]
    worn = 0.04 * stripes(random, np.arange(shape[0], dtype=np.float32)[:, None] * site.canvas.metres_per_pixel, 3.0)
    return textured(cover, 0.025 * band(random, shape, _pixels(site, 1.2)) + 0.045 * band(random, shape, 2) + 0.3 * worn)


def lay_meadow(site: Site) -> None:
    """Grass all over the picture: what other settings begin with."""
    patch = site.canvas.whole()
    patch.cover(patch.distance - 1, grass(site, patch.size))


def soil(site: Site, shape: tuple[int, int]) -> np.ndarray:
    noise = fractal(site.random, shape, _pixels(site, 25.0), 0.65)
    return textured(site.season.soil, 0.09 * noise + 0.02 * band(site.random, shape, 2))


def concrete(site: Site, shape: tuple[int, int], tone=None, slab: float = 0.0, patch: Patch | None = None) -> np.ndarray:
    """Concrete or old asphalt; with `slab` metres between joints along u and v of `patch`."""
    random = site.random
    if tone is None:
        tone = np.full(3, random.uniform(0.52, 0.68)) * (1.0, 0.985, 0.95)
    noise = 0.05 * fractal(random, shape, _pixels(site, 20.0), 0.7) + 0.02 * band(random, shape, 2)
    stains = np.clip(fractal(random, shape, _pixels(site, 8.0)) - 1.6, 0, 1)
    cover = textured(tone, noise - 0.12 * stains)
    if slab and patch is not None:
        pixel = site.canvas.metres_per_pixel
        for across in (patch.u, patch.v):
            joint = np.abs((across / slab) % 1 - 0.5) * slab
            cover *= (1 - 0.10 * np.clip(1 - joint / pixel, 0, 1))[..., None]
            tile = np.floor(across / slab + 0.5)
            cover *= (1 + 0.02 * np.sin(tile * 12.9898 + tile * tile * 4.1))[..., None]
    return cover


def asphalt(site: Site, shape: tuple[int, int], light: float | None = None) -> np.ndarray:
    random = site.random
    light = random.uniform(0.30, 0.44) if light is None else light
    tone = light * np.array([1.0, 1.0, 1.02])
    return textured(tone, 0.05 * fractal(random, shape, _pixels(site, 15.0), 0.75) + 0.04 * band(random, shape, 2))


def crop(site: Site, patch: Patch, kind: int) -> np.ndarray:
    """[h, w, 3] a field: rows along u, tramlines of the tractor, growth that varies."""
    random = site.random
    _, tone, contrast, spacing = CROPS[kind]
    tone = np.asarray(tone) * (1 + random.normal(0, 0.06)) * (1 + random.normal(0, 0.03, 3))
    pixel = site.canvas.metres_per_pixel
    spacing = max(spacing, 3.2 * pixel)
    wobble = 0.25 * band(random, patch.size, 64)
    rows = np.sin(patch.v * np.float32(2 * np.pi / spacing) + wobble) * contrast
    broad = stripes(random, patch.v, 6.0) * 0.03
    growth = 0.10 * fractal(random, patch.size, _pixels(site, 60.0), 0.6) + 0.03 * band(random, patch.size, 2)
    cover = textured(tone, rows * (0.7 + 0.3 * np.tanh(growth * 5)) + broad + growth)
    tram = np.abs((patch.v / 18.0 + random.uniform(0, 1)) % 1 - 0.5) * 18.0
    track = np.clip(1 - np.abs(tram - 0.9) / max(0.35, pixel), 0, 1)
    return cover * (1 - 0.10 * track)[..., None]


def forest(site: Site, patch: Patch) -> np.ndarray:
    """[h, w, 3] closed crowns, lit from the sun's side, dark between."""
    random, sun = site.random, site.canvas.sun
    spacing = max(_pixels(site, random.uniform(6.0, 8.5)), 3.0)
    height, tint = crowns(random, patch.size, spacing)
    down, across = np.gradient(height)
    lit = np.clip((across * sun.x + down * sun.y) * -spacing * 0.35, -0.6, 0.7)
    light = 0.40 + 0.62 * height**0.7 + 0.28 * lit
    stand = 0.10 * fractal(random, patch.size, _pixels(site, 80.0)) + 0.08 * band(random, patch.size, 3)
    tone = np.asarray(site.season.forest, np.float32) * (1 + 0.10 * tint[..., None] * np.array([1.5, 1.0, 0.5], np.float32))
    return tone * (1.25 * light + stand)[..., None]


WATERS = [(0.10, 0.20, 0.25), (0.13, 0.25, 0.27), (0.09, 0.16, 0.22), (0.20, 0.27, 0.23), (0.14, 0.30, 0.38)]


def water(site: Site, patch: Patch, shore: np.ndarray) -> np.ndarray:
    """[h, w, 3] waves across a wind, shallower and lighter near the shore; `shore` is metres from it, inside positive."""
    random = site.random
    tone = np.asarray(WATERS[random.integers(len(WATERS))]) * (1 + random.normal(0, 0.05))
    wind = random.uniform(0, np.pi)
    along = patch.x * np.float32(np.cos(wind)) + patch.y * np.float32(np.sin(wind))
    length = max(random.uniform(2.0, 5.0), 3 * site.canvas.metres_per_pixel)
    wobble = 2.0 * fractal(random, patch.size, _pixels(site, 20.0), 0.7)
    waves = np.sin(along * np.float32(2 * np.pi / length) + wobble) * np.clip(0.5 + 0.5 * band(random, patch.size, 64), 0, 1.5)
    broad = fractal(random, patch.size, _pixels(site, 120.0), 0.5)
    glint = np.clip(band(random, patch.size, max(2, _pixels(site, 1.5))) - 2.0, 0, 1)
    cover = textured(tone, 0.05 * waves + 0.07 * broad + 0.03 * band(random, patch.size, 4))
    shallow = np.exp(-np.maximum(shore, 0) / np.float32(random.uniform(2.0, 7.0)))
    cover = cover + (np.array([0.30, 0.36, 0.30], np.float32) - cover) * (0.55 * shallow)[..., None]
    return cover + (0.25 * glint * random.uniform(0, 1))[..., None]


def rough(site: Site, patch: Patch, distance: np.ndarray, amount: float) -> np.ndarray:
    """A distance with a natural edge: `amount` metres of wobble, most of it long."""
    return distance + np.float32(amount) * fractal(site.random, patch.size, _pixels(site, amount * 14), 0.42)


def lay_forest(site: Site, patch: Patch, distance: np.ndarray) -> None:
    """A forest where `distance` is negative: its shadow on what lies beside it, the crowns, the object."""
    canvas, sun = site.canvas, site.canvas.sun
    inside = distance <= 0
    if not inside.any():
        return
    reach = 9.0 * sun.length / canvas.metres_per_pixel
    for step in (0.35, 0.7, 1.0):
        right, down = int(round(sun.x * reach * step)), int(round(sun.y * reach * step))
        moved = np.zeros_like(inside)
        height, width = inside.shape
        moved[max(down, 0):height + min(down, 0), max(right, 0):width + min(right, 0)] = \
            inside[max(-down, 0):height + min(-down, 0), max(-right, 0):width + min(-right, 0)]
        window = canvas.shade[patch.rows, patch.columns]
        np.maximum(window, moved * np.float32(0.9), out=window)
    canvas.settle_shade()
    patch.cover(distance, forest(site, patch))
    canvas.ids[patch.rows, patch.columns][inside] = site.record("forest", "green")


def lay_water(site: Site, patch: Patch, distance: np.ndarray, kind: str) -> None:
    """Water where `distance` is negative, with a bank of sand or mud around it."""
    if not (distance <= 0).any():
        return
    bank = site.random.uniform(1.0, 3.0)
    patch.cover(distance - np.float32(bank), soil(site, patch.size) * 0.95, 0.8)
    patch.cover(distance, water(site, patch, -distance))
    site.canvas.ids[patch.rows, patch.columns][distance <= 0] = site.record(kind)
