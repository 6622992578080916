"""Pieces that several settings share: plots between roads, lots with houses, traffic, trees, car parks with cars."""

from dataclasses import dataclass

import numpy as np

from .buildings import house
from .ground import concrete, grass
from .shapes import Shape, box
from .site import Site
from .sports import lay_pool
from .trees import tree
from .vehicles import car, truck
from .ways import Way, lay_car_park


@dataclass
class Plot:
    """A rectangle of ground between roads: its middle, its size along and across `angle`."""
    x: float
    y: float
    length: float
    width: float
    angle: float

    def at(self, u: float, v: float) -> tuple[float, float]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.x + u * c - v * s, self.y + u * s + v * c

    def shape(self, margin: float = 0.0) -> Shape:
        return box(self.x, self.y, self.length - 2 * margin, self.width - 2 * margin, self.angle)


def count(site: Site, most: float) -> int:
    """How many of something: up to `most`, fewer where the scene is easy."""
    return int(site.random.uniform(0.3, 1.0) * most * (0.25 + 0.75 * site.difficulty) + site.random.random())


def plots(site: Site, angle: float, length: float, width: float, road: float, footpath: float) -> tuple[list[Way], list[Plot]]:
    """A grid of roads with plots of about `length` by `width` metres between them, covering the picture."""
    random = site.random
    reach = site.extent * 0.75

    def cuts(step: float) -> list[float]:
        places = [random.uniform(-0.5, 0.0) * step]
        while places[-1] < reach:
            places.append(places[-1] + step * random.uniform(0.85, 1.15))
        while places[0] > -reach:
            places.insert(0, places[0] - step * random.uniform(0.85, 1.15))
        return places

    along, across = cuts(length), cuts(width)
    c, s = np.cos(angle), np.sin(angle)
    ways = [Way(-v * s, v * c, angle, road) for v in across] + [Way(u * c, u * s, angle + np.pi / 2, road) for u in along]
    half = site.extent / 2 * (abs(c) + abs(s)) + road
    ways = [way for way in ways if abs(way.x * -np.sin(way.angle) + way.y * np.cos(way.angle)) < half]
    found = []
    for u0, u1 in zip(along, along[1:]):
        for v0, v1 in zip(across, across[1:]):
            edge = road + 2 * footpath
            u, v = (u0 + u1) / 2, (v0 + v1) / 2
            plot = Plot(u * c - v * s, u * s + v * c, u1 - u0 - edge, v1 - v0 - edge, angle)
            if site.canvas.patch(plot.shape()) is not None and min(plot.length, plot.width) > 8:
                found.append(plot)
    return ways, found


def pave(site: Site, plot: Plot, margin: float = 0.0, slab: float = 0.0, tone=None) -> None:
    """Concrete over a plot."""
    patch = site.canvas.patch(plot.shape(margin))
    if patch is not None:
        patch.cover(patch.distance, concrete(site, patch.size, tone, slab, patch))


def drive(site: Site, ways: list[Way], gap: float, trucks: float = 0.15) -> None:
    """Traffic on paved roads, on the right, about `gap` metres apart in each lane."""
    random, reach = site.random, site.extent * 0.75
    for way in ways:
        if not way.paved:
            continue
        lane = way.width / way.lanes
        for number in range(way.lanes):
            right = (number + 0.5) * lane - way.width / 2
            along = -reach + random.uniform(0, gap)
            while along < reach:
                x, y, heading = way.at(along, right)
                heading += np.pi if right < 0 else 0.0
                make = truck if random.random() < trucks else car
                if abs(x) < site.extent * 0.55 and abs(y) < site.extent * 0.55:
                    site.place(make(site, x, y, heading + random.normal(0, 0.01)), 0.6, paved=True)
                along += max(9.0, random.exponential(gap))


def park(site: Site, plot: Plot, full: float) -> None:
    """A car park over a plot, with a share `full` of its stalls taken."""
    random = site.random
    for x, y, heading in lay_car_park(site, plot.x, plot.y, plot.length, plot.width, plot.angle):
        if random.random() < full and max(abs(x), abs(y)) < site.extent * 0.53:
            turn = np.pi if random.random() < 0.5 else 0.0
            site.add(car(site, x + random.normal(0, 0.12), y + random.normal(0, 0.12), heading + turn + random.normal(0, 0.015)))


def plant(site: Site, number: int, smallest: float = 1.6, largest: float = 4.5, margin: float = 0.3) -> None:
    """Trees wherever the ground is free, single ones and clumps whose crowns touch."""
    random = site.random
    while number > 0:
        x, y = site.anywhere()
        clump = int(min(number, 1 if random.random() < 0.5 else random.integers(2, 9)))
        spread = largest * 0.9 * clump**0.5
        for _ in range(clump):
            radius = random.uniform(smallest, largest)
            place = (x, y) if clump == 1 else (x + random.normal(0, spread), y + random.normal(0, spread))
            site.place(tree(site, *place, radius), margin if clump == 1 else -0.35 * radius, share=0.5)
        number -= clump


def tree_row(site: Site, way: Way, right: float, gap: float, radius: float) -> None:
    """Trees along a road, `right` metres from its middle."""
    random, reach = site.random, site.extent * 0.75
    along = -reach
    while along < reach:
        x, y, _ = way.at(along + random.normal(0, gap * 0.1), right)
        if max(abs(x), abs(y)) < site.extent * 0.5:
            site.place(tree(site, x, y, radius * random.uniform(0.75, 1.2)), -0.5 * radius, share=0.3)
        along += gap


def lots(site: Site, plot: Plot) -> None:
    """Houses along both long sides of a block, with drives, cars, gardens and pools."""
    random = site.random
    for side in (-1, 1):
        u = -plot.length / 2 + 1
        street = plot.angle + (np.pi / 2) * side  # from the garden towards the street
        while u + 15 < plot.length / 2:
            broad = min(random.uniform(16, 24), plot.length / 2 - u)
            deep = plot.width / 2
            _lot(site, plot, u + broad / 2, side, broad, deep, street)
            u += broad


def _lot(site: Site, plot: Plot, u: float, side: int, broad: float, deep: float, street: float) -> None:
    random = site.random
    ground = box(*plot.at(u, side * deep / 2), broad - 0.6, deep - 0.4, plot.angle)
    patch = site.canvas.patch(ground)
    if patch is None:
        return
    patch.cover(patch.distance + 0.2, grass(site, patch.size) * np.float32(random.uniform(0.88, 1.12)))
    patch.cover(np.abs(patch.distance) - 0.25, np.asarray(site.season.forest, np.float32) * 1.3, 0.6)
    length, width = random.uniform(10, min(15, broad - 5)), random.uniform(7.5, 10)
    front = deep - random.uniform(5, 8) - width / 2
    shift = random.choice([-1, 1])
    home = plot.at(u + shift * (broad - length - 3) / 2 * 0.7, side * front)
    drive_u = u - shift * (broad / 2 - 2.3)
    drive = box(*plot.at(drive_u, side * (deep - 6.5)), 13.0, 3.2, street)
    lane = site.canvas.patch(drive)
    if lane is not None:
        lane.cover(lane.distance, concrete(site, lane.size))
    path = site.canvas.patch(box(*plot.at(u, side * (deep - 3.0)), 6.0, 1.2, street))
    if path is not None:
        path.cover(path.distance, concrete(site, path.size))
    terrace = site.canvas.patch(box(*plot.at(u + shift * (broad - length - 3) / 2 * 0.7, side * (front - width / 2 - 1.6)),
                                    random.uniform(4, 8), 4.0, plot.angle))
    if terrace is not None and random.random() < 0.7:
        stone = random.choice([(0.62, 0.57, 0.5), (0.5, 0.36, 0.27), (0.6, 0.6, 0.59)])
        terrace.cover(terrace.distance, concrete(site, terrace.size, stone))
    site.place(house(site, *home, plot.angle, length, width), 0.3, share=0.2)
    if random.random() < 0.3 + 0.4 * site.difficulty:
        site.place(car(site, *plot.at(drive_u, side * (deep - random.uniform(3.5, 8.5))), street + (np.pi if random.random() < 0.5 else 0)),
                   0.0, share=0.5)
    if random.random() < 0.33 and front - width / 2 > 8:
        long = random.uniform(6.5, 10)
        lay_pool(site, *plot.at(u + random.uniform(-2, 2), side * (front - width / 2) * random.uniform(0.35, 0.55)),
                 plot.angle + random.choice([0, np.pi / 2]), long, long * random.uniform(0.42, 0.55))
    for _ in range(count(site, 4)):
        place = plot.at(u + random.uniform(-0.5, 0.5) * broad, side * random.uniform(0, 1) * deep)
        site.place(tree(site, *place, random.uniform(1.4, 3.6)), 0.0, share=0.4)
