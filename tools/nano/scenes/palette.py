"""Colours by name: what a text may say of an object, and the tones that it is painted in."""

import numpy as np

# Several tones (sRGB 0 … 1) a name; a painter takes one and varies it.
PAINT = {
    "white": [(0.90, 0.90, 0.89), (0.85, 0.86, 0.87)],
    "grey": [(0.56, 0.56, 0.57), (0.60, 0.60, 0.58)],
    "black": [(0.11, 0.11, 0.13), (0.15, 0.15, 0.16)],
    "red": [(0.66, 0.13, 0.11), (0.72, 0.20, 0.16)],
    "blue": [(0.13, 0.28, 0.60), (0.18, 0.38, 0.70)],
    "green": [(0.16, 0.42, 0.24), (0.22, 0.47, 0.30)],
    "yellow": [(0.86, 0.72, 0.16), (0.90, 0.78, 0.25)],
    "brown": [(0.45, 0.31, 0.21), (0.50, 0.36, 0.26)],
    "orange": [(0.85, 0.43, 0.14), (0.80, 0.39, 0.18)],
}

# Pairs that haze and shade may blur: an expression may not rest on the difference.
_ALIKE = [{"white", "grey"}, {"grey", "black"}, {"red", "orange"}, {"red", "brown"}, {"orange", "brown"},
          {"yellow", "orange"}, {"yellow", "brown"}, {"blue", "grey"}, {"green", "black"}, {"blue", "black"}, {"brown", "black"},
          {"yellow", "white"}, {"brown", "grey"}, {"blue", "green"}]


def alike(one: str, other: str) -> bool:
    """Whether two colour names may be taken for each other; an object without a colour name may have any."""
    return one == other or not one or not other or {one, other} in _ALIKE


def tone(random: np.random.Generator, name: str, spread: float = 0.03, faded: float = 0.0) -> np.ndarray:
    """[3] a tone of a named colour, `faded` 0 … 1 towards grey, as sun and rain leave roofs and courts."""
    tones = PAINT[name]
    colour = np.array(tones[random.integers(len(tones))], np.float32)
    colour += np.float32(faded) * (colour.mean() * np.float32(0.6) + np.float32(0.16) - colour)
    return np.clip(colour + random.normal(0, spread) + random.normal(0, spread / 3, 3), 0.03, 0.97).astype(np.float32)


def choose(random: np.random.Generator, weights: dict[str, float]) -> str:
    """A name by weight."""
    names = list(weights)
    shares = np.array([weights[n] for n in names], np.float64)
    return names[random.choice(len(names), p=shares / shares.sum())]
