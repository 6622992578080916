"""Noise fields that every texture is made of.

A band is a tileable field of one wavelength (an octave: 2, 4, 8 … pixels), zero mean, unit deviation, computed once a
process. A texture takes windows of bands at random places, so that it costs a few additions a pixel.
"""

from functools import lru_cache

import numpy as np
from scipy import fft, ndimage
from scipy.spatial import cKDTree

PERIOD = 1024  # pixels after which a band repeats
OCTAVES = 9    # wavelengths 2 … 512 pixels
CROWN_PIXELS = 32.0  # spacing of the crowns in the crown field


@lru_cache(maxsize=None)
def _band(octave: int) -> np.ndarray:
    """[PERIOD, PERIOD] noise with wavelengths around 2**octave pixels."""
    white = np.random.default_rng(1000 + octave).standard_normal((PERIOD, PERIOD), dtype=np.float32)
    down = fft.fftfreq(PERIOD).astype(np.float32)[:, None]
    across = fft.rfftfreq(PERIOD).astype(np.float32)[None, :]
    frequency = np.sqrt(down * down + across * across) + 1e-9
    octaves_away = np.log2(frequency * 2.0**octave)
    spectrum = fft.rfft2(white) * np.exp(-0.5 * (octaves_away / 0.5) ** 2)
    spectrum[0, 0] = 0
    band = fft.irfft2(spectrum, s=(PERIOD, PERIOD)).astype(np.float32)
    return band / band.std()


def _window(field: np.ndarray, random: np.random.Generator, shape: tuple[int, int], step: float = 1.0) -> np.ndarray:
    """A window of a tileable field at a random place, every `step`-th pixel; a view where it fits without wrapping."""
    flip = random.integers(0, 4)
    turned = field[::-1] if flip & 1 else field
    turned = turned[:, ::-1] if flip & 2 else turned
    if step == 1.0 and max(shape) <= PERIOD:
        top, left = random.integers(0, PERIOD - shape[0] + 1), random.integers(0, PERIOD - shape[1] + 1)
        return turned[top:top + shape[0], left:left + shape[1]]
    top, left = random.integers(0, PERIOD, 2)
    rows = ((top + np.arange(shape[0]) * step) % PERIOD).astype(np.intp)
    columns = ((left + np.arange(shape[1]) * step) % PERIOD).astype(np.intp)
    return turned[rows].take(columns, axis=1)


def band(random: np.random.Generator, shape: tuple[int, int], wavelength: float) -> np.ndarray:
    """[h, w] noise of one wavelength in pixels; below two pixels it fades, as a sensor would average it away. Read only."""
    octave = int(np.clip(np.round(np.log2(max(wavelength, 1.0))), 1, OCTAVES))
    window = _window(_band(octave), random, shape)
    return window if wavelength >= 1.5 else window * np.float32(wavelength / 1.5)


def fractal(random: np.random.Generator, shape: tuple[int, int], longest: float, roughness: float = 0.6) -> np.ndarray:
    """[h, w] noise of all wavelengths from `longest` pixels down to two; each octave has `roughness` of the one above."""
    total = np.zeros(shape, np.float32)
    amplitude, power, wavelength = 1.0, 0.0, min(longest, 2.0**OCTAVES)
    while wavelength >= 1.5:
        total += np.float32(amplitude) * band(random, shape, wavelength)
        power += amplitude * amplitude
        amplitude *= roughness
        wavelength /= 2
    return total / np.float32(max(power, 1e-6) ** 0.5)


@lru_cache(maxsize=None)
def _line() -> np.ndarray:
    """[4096] one-dimensional noise, for stripes."""
    white = np.random.default_rng(77).standard_normal(4096)
    line = sum(ndimage.gaussian_filter1d(white, width, mode="wrap") * width**0.5 for width in (1.0, 3.0, 9.0))
    return (line / line.std()).astype(np.float32)


def stripes(random: np.random.Generator, across: np.ndarray, spacing: float) -> np.ndarray:
    """Noise that depends on one coordinate alone (`across`, metres): streaks about `spacing` metres apart."""
    place = random.uniform(0, 4096) + across * (2.0 / spacing)
    return _line()[place.astype(np.int64) % 4096]


@lru_cache(maxsize=None)
def _crowns() -> tuple[np.ndarray, np.ndarray]:
    """Tree crowns seen from above, tileable: height 0 … 1 over [PERIOD, PERIOD], and a tint for each crown."""
    random = np.random.default_rng(55)
    cells = int(PERIOD / CROWN_PIXELS)
    grid = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), -1).reshape(-1, 2)
    points = (grid + random.uniform(0.0, 1.0, grid.shape)) * CROWN_PIXELS
    places = np.stack(np.meshgrid(np.arange(PERIOD), np.arange(PERIOD), indexing="xy"), -1).reshape(-1, 2).astype(np.float64)
    # Wobbling coordinates make crowns ragged instead of polygons.
    for axis in (0, 1):
        places[:, axis] = (places[:, axis] + 2.5 * _band(3 + axis).reshape(-1)) % PERIOD
    distance, nearest = cKDTree(points % PERIOD, boxsize=PERIOD).query(places)
    radius = random.uniform(0.62, 0.95, len(points)) * CROWN_PIXELS
    height = np.sqrt(np.clip(1 - (distance / radius[nearest]) ** 2, 0, 1))
    tint = random.normal(0, 1, len(points))[nearest]
    return height.reshape(PERIOD, PERIOD).astype(np.float32), tint.reshape(PERIOD, PERIOD).astype(np.float32)


def crowns(random: np.random.Generator, shape: tuple[int, int], spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Height and tint [h, w] of a closed forest whose crowns are `spacing` pixels apart."""
    height, tint = _crowns()
    state = random.bit_generator.state
    tall = _window(height, random, shape, CROWN_PIXELS / spacing)
    random.bit_generator.state = state  # the same window of both
    return tall, _window(tint, random, shape, CROWN_PIXELS / spacing)
