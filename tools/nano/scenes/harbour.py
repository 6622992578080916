"""A harbour: the quay with halls, tanks and containers, ships alongside and under way, a marina."""

import numpy as np

from .ground import concrete, lay_water
from .layouts import Plot, count, drive, park
from .palette import PAINT, choose
from .shapes import box, disc
from .site import Site, Thing
from .town import tank_farm, yard
from .vessels import boat, lay_wake, ship
from .ways import Way, lay_roads


def harbour(site: Site) -> None:
    """A straight quay: land on one side, ships alongside and under way on the other, perhaps a marina's piers."""
    random, extent = site.random, site.extent
    angle = random.uniform(0, 2 * np.pi)
    quay = Plot(0, 0, extent * 1.6, 0, angle)  # u along the quay, v > 0 is water
    offset = random.uniform(-0.15, 0.1) * extent
    patch = site.canvas.whole()
    u, v = box(0, 0, 1, 1, angle).local(patch.x, patch.y)
    shore = v - np.float32(offset)
    patch.cover(shore - 2, concrete(site, patch.size))
    lay_water(site, patch, -shore, "sea")
    edge = np.abs(shore + 1.0) - 1.2
    patch.cover(edge, (0.66, 0.65, 0.62))
    patch.cover(np.abs(shore - 0.4) - 0.4, (0.15, 0.15, 0.15), 0.8)
    # The land: road, halls, containers, tanks.
    inland = extent * 0.5 * (abs(np.cos(angle)) + abs(np.sin(angle))) + offset
    road_v = offset - random.uniform(24, 40)
    way = Way(*quay.at(0, road_v), angle, random.uniform(8, 11))
    lay_roads(site, [way], 0.0)
    drive(site, [way], 45, 0.5)
    place = -extent * 0.75
    while place < extent * 0.75:
        long = random.uniform(40, 80)
        plot = Plot(*quay.at(place + long / 2, road_v - way.width / 2 - 26), long - 8, 44, angle)
        kind = choose(random, {"hall": 2, "tanks": 1.2, "cars": 0.6, "containers": 1})
        if inland > 60 and site.canvas.patch(plot.shape()) is not None:
            if kind == "hall":
                yard(site, Plot(plot.x, plot.y, plot.length, 48, angle))
            elif kind == "tanks":
                tank_farm(site, plot)
            elif kind == "cars":
                park(site, Plot(plot.x, plot.y, plot.length, 36, angle), random.uniform(0.2, 0.7))
            else:
                _stack(site, plot)
        place += long
    for u in np.arange(-extent * 0.7, extent * 0.7, 45):
        if random.random() < 0.45:
            _stack(site, Plot(*quay.at(u, (offset + road_v) / 2 + 1), 34, abs(offset - road_v) - way.width - 6, angle))
    marina = random.random() < 0.45
    if marina:
        _piers(site, quay, offset)
    else:
        u = -extent * 0.7 + random.uniform(0, 40)
        while u < extent * 0.7:
            long = random.uniform(0.16, 0.42) * min(extent, 420) + 10
            if random.random() < 0.7:
                vessel = ship(site, *quay.at(u + long / 2, offset + long * 0.085 + 2.0), angle + random.choice([0, np.pi]), long)
                site.place(vessel, 0.0, share=0.35)
            u += long * 1.2 + 8

    def afloat(x, y):
        long = random.uniform(0.12, 0.3) * min(extent, 420) + 8
        return ship(site, x, y, random.uniform(0, 2 * np.pi), long)

    for _ in range(count(site, 5) + 1):
        for _ in range(12):
            x, y = site.anywhere()
            if -np.sin(angle) * x + np.cos(angle) * y < offset + 20:
                continue
            vessel = afloat(x, y) if random.random() < 0.5 else boat(site, x, y, random.uniform(0, 6.3), random.uniform(7, 16))
            bow = vessel.shape.outline[:, 0].max()
            room = disc(x, y, bow + 3)
            if (vessel.shape.points() @ (-np.sin(angle), np.cos(angle))).min() > offset + 4 and site.free(room):
                under_way = random.random() < 0.6 and site.seen(vessel.shape, 0.5)
                if site.place(vessel, 1.0, share=0.5) and under_way:
                    lay_wake(site, vessel, 2 * bow)
                break


def _container(site: Site, x: float, y: float, angle: float) -> Thing:
    random = site.random
    colour = choose(random, {"red": 2, "blue": 2, "green": 1, "orange": 1, "white": 1, "grey": 0.7})
    paint = np.array(PAINT[colour][0], np.float32) * random.uniform(0.85, 1.1)

    def draw(patch) -> None:
        ribs = 1 + 0.06 * np.sin(patch.u * np.float32(2 * np.pi / 1.2))
        patch.cover(patch.distance, paint * 0.6)
        patch.cover(patch.distance + 0.15, np.clip(paint * ribs[..., None], 0, 1))

    return Thing("container", colour, box(x, y, 12.2, 2.44, angle), random.choice([2.6, 5.2, 7.8]), draw)


def _stack(site: Site, plot: Plot) -> None:
    """Containers in rows."""
    random = site.random
    for row in np.arange(-plot.width / 2 + 1.5, plot.width / 2 - 1, 2.75):
        for column in np.arange(-plot.length / 2 + 6.2, plot.length / 2 - 6, 12.9):
            if random.random() < 0.5 * (0.3 + 0.7 * site.difficulty):
                thing = _container(site, *plot.at(column, row), plot.angle)
                if site.seen(thing.shape, 0.4):
                    site.add(thing)


def _piers(site: Site, quay: Plot, offset: float) -> None:
    """A marina: piers at right angles to the quay with boats on both sides."""
    random = site.random
    out = min(site.extent * 0.4, 90)
    for u in np.arange(-site.extent * 0.6, site.extent * 0.6, random.uniform(42, 55)):
        pier = box(*quay.at(u, offset + out / 2), out, 2.6, quay.angle + np.pi / 2)
        patch = site.canvas.patch(pier)
        if patch is None:
            continue
        site.canvas.cast(pier, 1.2)
        site.canvas.settle_shade()
        planks = 0.05 * np.sin(patch.u * np.float32(2 * np.pi / max(0.9, 3 * site.canvas.metres_per_pixel)))
        patch.cover(patch.distance, np.array([0.60, 0.55, 0.48], np.float32) * (1 + planks)[..., None])
        patch.claim(site.record("pier", "brown"))
        site.take(pier)
        for v in np.arange(8, out - 3, 6.2):
            for side in (-1, 1):
                if random.random() < 0.3 + 0.4 * site.difficulty:
                    long = random.uniform(8, 14)
                    heading = quay.angle + (0 if side > 0 else np.pi)
                    vessel = boat(site, *quay.at(u + side * (long / 2 + 1.9), offset + v), heading, long)
                    if site.seen(vessel.shape, 0.4):
                        site.add(vessel)
