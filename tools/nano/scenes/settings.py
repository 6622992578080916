"""The settings that a scene may have, and the easiest one, open ground with a few objects."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .aircraft import airplane
from .airport import airport
from .buildings import flat_building, house, storage_tank, warehouse
from .ground import asphalt, concrete, lay_meadow, lay_water, soil
from .harbour import harbour
from .layouts import drive
from .palette import choose
from .rural import countryside, farmland
from .site import Site
from .sports import lay_basketball_court, lay_football_pitch, lay_pool, lay_tennis_court
from .town import commercial, industrial, residential, sports_ground
from .trees import tree
from .vehicles import car, truck
from .vessels import boat, ship
from .ways import Way, lay_roads


def open_ground(site: Site) -> None:
    """One kind of ground with a few large objects apart from each other: the easiest scenes."""
    random, extent = site.random, site.extent
    patch = site.canvas.whole()
    theme = choose(random, {"water": 1.2, "apron": 1, "yard": 1.5, "lawn": 1.5, "park": 1.2})
    if theme == "water":
        lay_water(site, patch, patch.distance - 50, "sea")
    elif theme == "apron":
        patch.cover(patch.distance - 1, concrete(site, patch.size, None, extent / 12, patch))
    elif theme == "yard":
        ground = random.choice([0, 1, 2])
        patch.cover(patch.distance - 1, [concrete, asphalt, soil][ground](site, patch.size))
    else:
        lay_meadow(site)

    def one(x, y):
        turn, s = random.uniform(0, 2 * np.pi), extent / 100
        if theme == "water":
            if random.random() < 0.6:
                return ship(site, x, y, turn, random.uniform(32, 55) * s)
            return boat(site, x, y, turn, random.uniform(10, 18) * s)
        if theme == "apron":
            return airplane(site, x, y, turn, random.uniform(22, 42) * s)
        if theme == "yard":
            kind = choose(random, {"tank": 2, "hall": 1, "truck": 1.2, "car": 1.2, "block": 1})
            if kind == "tank":
                return storage_tank(site, x, y, random.uniform(5, 13) * s)
            if kind == "hall":
                return warehouse(site, x, y, turn, random.uniform(28, 40) * s, random.uniform(14, 20) * s)
            if kind == "block":
                return flat_building(site, x, y, turn, random.uniform(18, 30) * s, random.uniform(10, 16) * s, random.uniform(4, 9))
            return (truck if kind == "truck" else car)(site, x, y, turn)
        if theme == "lawn":
            kind = choose(random, {"house": 2, "car": 1, "tree": 1})
            if kind == "house":
                return house(site, x, y, turn, random.uniform(15, 22) * s, random.uniform(10, 13) * s)
            return car(site, x, y, turn) if kind == "car" else tree(site, x, y, random.uniform(3, 6) * s)
        return tree(site, x, y, random.uniform(2.5, 5) * s)

    if theme in ("lawn", "park") and random.random() < (0.5 if theme == "lawn" else 1.0):
        for _ in range(2 if theme == "park" else 1):
            x, y = site.anywhere(extent * 0.2)
            turn, s = random.uniform(0, np.pi), extent / 100
            kind = choose(random, {"pool": 1, "tennis": 1, "basketball": 1, "pitch": 0.8} if theme == "park" else {"pool": 1})
            if kind == "pool":
                lay_pool(site, x, y, turn, 22 * s, 11 * s)
            elif kind == "tennis":
                lay_tennis_court(site, x, y, turn, scale=1.1 * s)
            elif kind == "basketball":
                lay_basketball_court(site, x, y, turn, scale=1.2 * s)
            else:
                lay_football_pitch(site, x, y, turn, 0.5 * s)
    if random.random() < 0.3 and theme in ("yard", "lawn"):
        way = Way(*site.anywhere(extent * 0.3), random.uniform(0, np.pi), 8.0)
        lay_roads(site, [way])
        drive(site, [way], 40)
    site.scatter(one, int(random.integers(1, 6)), 2.0, border=extent * 0.06, tries=6)


@dataclass
class Setting:
    """`name` as texts say it; metres per pixel of a 512-pixel picture, finest and coarsest; how often it is drawn."""
    name: str
    lay: Callable[[Site], None]
    finest: float
    coarsest: float
    weight: float = 1.0


SETTINGS = [
    Setting("farmland", farmland, 0.30, 0.75),
    Setting("a residential area", residential, 0.14, 0.30, 1.3),
    Setting("an industrial area", industrial, 0.22, 0.42, 1.2),
    Setting("a commercial area", commercial, 0.16, 0.32),
    Setting("a harbour", harbour, 0.25, 0.60, 1.2),
    Setting("an airport", airport, 0.22, 0.60, 1.2),
    Setting("a sports area", sports_ground, 0.18, 0.40, 1.2),
    Setting("the countryside", countryside, 0.25, 0.60),
]
OPEN_GROUND = Setting("open ground", open_ground, 0.12, 0.25)
