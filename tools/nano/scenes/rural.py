"""Farmland and countryside: fields, woods, rivers, lakes, farms."""

import numpy as np

from .buildings import house, storage_tank, warehouse
from .ground import CROPS, crop, lay_forest, lay_meadow, lay_water, rough
from .layouts import Plot, count, drive, pave, plant, tree_row
from .palette import choose
from .shapes import box, disc
from .site import Site
from .vehicles import car
from .vessels import boat, lay_wake
from .ways import Way, lay_roads


def _fields(site: Site, angle: float, smallest: float) -> None:
    """Covers the picture with fields: a rectangle at `angle`, cut in two again and again."""
    random = site.random

    def split(u0, v0, u1, v1):
        long, broad = u1 - u0, v1 - v0
        if max(long, broad) > 2.2 * smallest or (max(long, broad) > 1.5 * smallest and random.random() < 0.6):
            cut = random.uniform(0.35, 0.65)
            if long > broad:
                middle = u0 + cut * long
                split(u0, v0, middle, v1)
                split(middle, v0, u1, v1)
            else:
                middle = v0 + cut * broad
                split(u0, v0, u1, middle)
                split(u0, middle, u1, v1)
            return
        plot = Plot(0, 0, 0, 0, angle)
        turned = random.random() < 0.4
        shape = box(*plot.at((u0 + u1) / 2, (v0 + v1) / 2), *((broad, long) if turned else (long, broad)),
                    angle + (np.pi / 2 if turned else 0.0))
        patch = site.canvas.patch(shape)
        if patch is None:
            return
        gap = random.uniform(0.8, 3.0)
        patch.distance = rough(site, patch, patch.distance + gap, 0.5)
        if not (patch.distance <= 0).any():
            return
        kind = random.integers(len(CROPS))
        patch.cover(patch.distance, crop(site, patch, kind))
        patch.claim(site.record("field", CROPS[kind][0]))

    reach = site.extent * 0.75
    offset = random.uniform(-0.2, 0.2, 2) * site.extent
    split(-reach + offset[0], -reach + offset[1], reach + offset[0], reach + offset[1])


def _woods(site: Site, share: float) -> None:
    """A forest over about `share` of the picture, beyond a wavy line, but not in water."""
    random = site.random
    patch = site.canvas.whole()
    turn = random.uniform(0, 2 * np.pi)
    beyond = patch.x * np.float32(np.cos(turn)) + patch.y * np.float32(np.sin(turn))
    distance = rough(site, patch, np.float32(site.extent * (0.55 - share)) - beyond, site.extent * 0.035)
    distance[np.isin(site.canvas.ids, site.numbers("river", "lake", "pond"))] = site.extent
    step = site.canvas.size / len(site.taken)
    index = np.minimum((np.arange(len(site.taken)) + 0.5) * step, site.canvas.size - 1).astype(int)
    site.taken |= distance[np.ix_(index, index)] < 0
    lay_forest(site, patch, distance)


def _lake(site: Site, x: float, y: float, radius: float) -> None:
    patch = site.canvas.whole()
    turn = site.random.uniform(0, np.pi)
    u, v = disc(x, y, radius).local(patch.x, patch.y)
    along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    distance = np.hypot(along * np.float32(0.8), across * np.float32(1.2)) - np.float32(radius)
    distance = rough(site, patch, distance, radius * 0.12)
    lay_water(site, patch, distance, "pond" if radius < 25 else "lake")
    site.take(disc(x, y, radius * 1.35))


def farmland(site: Site) -> None:
    random = site.random
    angle = random.uniform(0, np.pi)
    lay_meadow(site)
    _fields(site, angle, site.extent * random.uniform(0.28, 0.5))
    if random.random() < 0.35:
        _lake(site, *site.anywhere(site.extent * 0.1), random.uniform(0.06, 0.13) * site.extent)
    if random.random() < 0.5:
        _woods(site, random.uniform(0.1, 0.25))
    ways = []
    if random.random() < 0.8:
        way = Way(*site.anywhere(site.extent * 0.2), angle + random.choice([0, np.pi / 2]), random.uniform(5.5, 8), random.uniform(0, 8),
                  site.extent * random.uniform(0.8, 1.6), random.uniform(0, 6), paved=random.random() < 0.7)
        ways.append(way)
        lay_roads(site, ways)
        drive(site, ways, 130)
        if random.random() < 0.5:
            tree_row(site, way, way.width / 2 + 3, random.uniform(9, 14), 3.0)
    x, y = site.anywhere(site.extent * 0.15)
    yard = Plot(x, y, random.uniform(38, 60), random.uniform(32, 46), angle)
    if site.extent > 110 and random.random() < 0.75 and site.free(yard.shape()):
        pave(site, yard, tone=np.array(site.season.soil) * 1.15)
        site.place(house(site, *yard.at(-yard.length * 0.3, 0), angle, random.uniform(11, 15), random.uniform(8, 10)), share=0.5)
        for _ in range(2):
            long = random.uniform(18, 30)
            site.place(warehouse(site, *yard.at(random.uniform(-0.1, 0.35) * yard.length, random.choice([-1, 1]) * yard.width * 0.28),
                                 angle + random.choice([0, np.pi / 2]), long, long * random.uniform(0.4, 0.55)), share=0.5)
        for _ in range(count(site, 3)):
            site.place(car(site, *yard.at(*(random.uniform(-0.45, 0.45, 2) * (yard.length, yard.width))), random.uniform(0, 6.3)))
        for _ in range(count(site, 2)):
            site.place(storage_tank(site, *yard.at(random.uniform(0.1, 0.5) * yard.length, random.uniform(-0.5, 0.5) * yard.width),
                                    random.uniform(2.5, 4.5), choose(random, {"grey": 1, "white": 1})))
    plant(site, count(site, 14), 2.0, 4.5)


def countryside(site: Site) -> None:
    """A river or a lake among woods and meadows, a road, a few houses."""
    random, extent = site.random, site.extent
    lay_meadow(site)
    if random.random() < 0.5:
        _fields(site, random.uniform(0, np.pi), extent * 0.5)
    angle = random.uniform(0, np.pi)
    if random.random() < 0.3:
        _lake(site, *site.anywhere(extent * 0.15), random.uniform(0.16, 0.3) * extent)
        river = None
    else:
        river = Way(*site.anywhere(extent * 0.3), angle, random.uniform(0.08, 0.2) * extent, random.uniform(0.03, 0.10) * extent,
                    extent * random.uniform(0.6, 1.2), random.uniform(0, 6))
        patch = site.canvas.whole()
        _, v = river.frame(patch.x, patch.y)
        lay_water(site, patch, rough(site, patch, np.abs(v) - np.float32(river.width / 2), river.width * 0.06), "river")
        site.taken |= np.abs(river.frame(site.coarse_x, site.coarse_y)[1]) < river.width * 0.6
    if random.random() < 0.75:
        _woods(site, random.uniform(0.12, 0.4))
    if random.random() < 0.7:
        way = Way(*site.anywhere(extent * 0.2), angle + np.pi / 2 + random.uniform(-0.3, 0.3), random.uniform(7, 9), random.uniform(0, 6),
                  extent * random.uniform(0.8, 1.6), random.uniform(0, 6))
        lay_roads(site, [way])
        drive(site, [way], 70, 0.2)
    for _ in range(count(site, 5) if river else 0):
        x, y, heading = river.at(random.uniform(-0.5, 0.5) * extent, random.uniform(-0.25, 0.25) * river.width)
        vessel = boat(site, x, y, heading + random.choice([0, np.pi]), random.uniform(8, 18))
        if site.lies_on(vessel.shape, 3.0, site.numbers("river")) and site.place(vessel, 1.0, share=0.6, paved=True):
            if random.random() < 0.5:
                lay_wake(site, vessel, 10)
    site.scatter(lambda x, y: house(site, x, y, random.uniform(0, np.pi), random.uniform(10, 14), random.uniform(7.5, 9.5)),
                 count(site, 4), 4.0)
    plant(site, count(site, 40), 2.0, 5.0)
