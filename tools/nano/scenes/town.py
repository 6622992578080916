"""Settings of streets and plots: residential, industrial and commercial areas, sports grounds."""

import numpy as np

from .buildings import flat_building, storage_tank, warehouse
from .ground import lay_meadow, soil
from .layouts import Plot, count, drive, lots, park, pave, plant, plots, tree_row
from .palette import choose
from .site import Site
from .sports import lay_basketball_court, lay_football_pitch, lay_pool, lay_tennis_court
from .trees import tree
from .vehicles import car, truck
from .ways import Way, lay_footpath, lay_roads


def residential(site: Site) -> None:
    random = site.random
    lay_meadow(site)
    ways, blocks = plots(site, random.uniform(0, np.pi), random.uniform(110, 190), random.uniform(62, 78), random.uniform(6.5, 8.5), 1.6)
    lay_roads(site, ways, 1.6)
    for block in blocks:
        kind = random.random()
        if kind < 0.08:
            park_plot = Plot(block.x, block.y, block.length * 0.9, block.width * 0.9, block.angle)
            lay_tennis_court(site, *park_plot.at(-20, 0), block.angle + np.pi / 2)
            lay_basketball_court(site, *park_plot.at(12, 0), block.angle)
        else:
            lots(site, block)
    drive(site, ways, 55, 0.06)
    for way in ways:
        if random.random() < 0.4:
            tree_row(site, way, way.width / 2 + 3.2, random.uniform(10, 15), 2.6)
    plant(site, count(site, 26), 1.5, 4.0)


def tank_farm(site: Site, plot: Plot) -> None:
    random = site.random
    patch = site.canvas.patch(plot.shape(1.0))
    if patch is None:
        return
    patch.cover(patch.distance, soil(site, patch.size) * 1.05)
    patch.cover(np.abs(patch.distance + 1.0) - 0.5, (0.66, 0.65, 0.62))
    radius = random.uniform(6, min(14, plot.width / 5, plot.length / 5))
    pitch = radius * random.uniform(2.3, 2.8)
    columns, rows = max(1, int((plot.length - 4) / pitch)), max(1, int((plot.width - 4) / pitch))
    usual = choose(random, {"white": 3, "grey": 1})
    for column in range(columns):
        for row in range(rows):
            if random.random() < 0.12:
                continue
            u, v = (column - (columns - 1) / 2) * pitch, (row - (rows - 1) / 2) * pitch
            own = radius * (random.uniform(0.45, 0.6) if random.random() < 0.25 else random.uniform(0.93, 1.0))
            site.place(storage_tank(site, *plot.at(u, v), own, usual if random.random() < 0.7 else None), 0.5, share=0.4)
    for row in range(rows + 1):
        v = (row - rows / 2) * pitch
        pipe = np.minimum(np.abs(patch.v - np.float32(v)) - 0.25, np.abs(patch.v - np.float32(v + 1.2)) - 0.2)
        patch.cover(np.maximum(pipe, patch.distance + 2), (0.72, 0.71, 0.68), 0.8)


def yard(site: Site, plot: Plot) -> None:
    """A hall with trucks at its doors."""
    random = site.random
    pave(site, plot, 1.0)
    room = (plot.length - 8, plot.width - 22)
    if min(room) < 14:
        return
    long, broad = room[0] * random.uniform(0.6, 0.95), room[1] * random.uniform(0.7, 1.0)
    side = random.choice([-1, 1])
    v = -side * (plot.width - broad - 6) / 2
    make = warehouse if random.random() < 0.75 else flat_building
    for _ in range(3):  # a block's wing may reach too far
        if site.place(make(site, *plot.at(random.uniform(-0.5, 0.5) * (room[0] - long), v), plot.angle, long, broad), 0.5, share=0.2):
            break
    edge = v + side * broad / 2
    for u in np.arange(-long / 2 + 5, long / 2 - 4, 5.0):
        if random.random() < 0.2 + 0.4 * site.difficulty:
            site.place(truck(site, *plot.at(u, edge + side * 9.0), plot.angle + side * np.pi / 2), 0.4)
    for _ in range(count(site, 5)):
        site.place(car(site, *plot.at(random.uniform(-0.45, 0.45) * plot.length, edge + side * random.uniform(3, 12)),
                       plot.angle + random.choice([0, np.pi / 2])), 0.8)


def industrial(site: Site) -> None:
    random = site.random
    lay_meadow(site)
    ways, blocks = plots(site, random.uniform(0, np.pi), random.uniform(85, 130), random.uniform(70, 95), random.uniform(8, 11), 1.0)
    for block in blocks:
        kind = choose(random, {"tanks": 1.3, "yard": 1.6, "cars": 0.5, "lawn": 0.3})
        if kind == "tanks":
            tank_farm(site, block)
        elif kind == "yard":
            yard(site, block)
        elif kind == "cars":
            lot = Plot(block.x, block.y, block.length * 0.85, min(block.width * 0.8, 46), block.angle)
            park(site, lot, random.uniform(0.2, 0.7))
        else:
            for _ in range(count(site, 12)):
                place = block.at(*(random.uniform(-0.45, 0.45, 2) * (block.length, block.width)))
                site.place(tree(site, *place, random.uniform(1.8, 3.8)), 0.2, share=0.5)
    lay_roads(site, ways, 1.0)
    drive(site, ways, 70, 0.4)
    for way in ways:
        if random.random() < 0.35:
            tree_row(site, way, way.width / 2 + 3.2, random.uniform(11, 17), 2.2)


def commercial(site: Site) -> None:
    random = site.random
    lay_meadow(site)
    ways, blocks = plots(site, random.uniform(0, np.pi), random.uniform(120, 160), random.uniform(85, 110), random.uniform(9, 13), 2.0)
    for way in ways:
        way.lanes = 4 if way.width > 11.5 else 2
    lay_roads(site, ways, 2.0)
    for block in blocks:
        pave(site, block, 1.0)
        deep = block.width * random.uniform(0.35, 0.5)
        side = random.choice([-1, 1])
        long = block.length * random.uniform(0.6, 0.9)
        for _ in range(4):  # a wing may reach too far
            place = block.at(random.uniform(-0.5, 0.5) * (block.length - long - 8), side * (block.width - deep - 8) / 2)
            if site.place(flat_building(site, *place, block.angle, long, deep, random.uniform(7, 14)), 0.3, share=0.12):
                break
        ground = Plot(*block.at(0, -side * (deep / 2)), block.length * 0.92, block.width - deep - 16, block.angle)
        if ground.width > 12:
            park(site, ground, random.uniform(0.25, 0.85) * (0.4 + 0.6 * site.difficulty))
        for u in np.arange(-block.length / 2 + 5, block.length / 2 - 4, random.uniform(8, 14)):
            for v in (-block.width / 2 + 2.6, block.width / 2 - 2.6):
                if random.random() < 0.5:
                    site.place(tree(site, *block.at(u, v), random.uniform(1.5, 2.8)), 0.0, share=0.4)
    drive(site, ways, 40, 0.1)
    for way in ways:
        tree_row(site, way, way.width / 2 + 3.4, random.uniform(12, 18), 2.4)


def sports_ground(site: Site) -> None:
    random = site.random
    lay_meadow(site)
    angle = random.uniform(0, np.pi)
    base = Plot(0, 0, 0, 0, angle)
    for _ in range(random.integers(0, 3)):
        lay_footpath(site, Way(*site.anywhere(site.extent * 0.2), random.uniform(0, np.pi), random.uniform(1.8, 3.0),
                               random.uniform(2, 12), random.uniform(60, 160), random.uniform(0, 6)))
    if random.random() < 0.7:
        way = Way(*base.at(0, -site.extent * random.uniform(0.3, 0.42)), angle, random.uniform(7, 9))
        lay_roads(site, [way], 1.5)
        drive(site, [way], 45, 0.08)
        tree_row(site, way, way.width / 2 + 4, 11, 2.8)
    if random.random() < 0.6 and site.extent > 130:
        scale = min(1.0, site.extent / 210) * random.uniform(0.75, 1.0)
        for _ in range(5):
            if lay_football_pitch(site, *site.anywhere(site.extent * 0.15), angle + random.choice([0, np.pi / 2]), scale,
                                  random.random() < 0.5):
                break
    for _ in range(3 + count(site, 6)):
        x, y = site.anywhere(10)
        kind = choose(random, {"tennis": 3, "basketball": 2, "pool": 1, "cars": 1, "building": 1, "pitch": 0.6})
        turn = angle + random.choice([0, np.pi / 2])
        if kind == "tennis":
            row = Plot(x, y, 0, 0, turn)
            usual = choose(random, {"green": 1, "blue": 1, "red": 1})
            for number in range(random.integers(1, 5)):
                lay_tennis_court(site, *row.at(0, number * 19.5), turn, usual if random.random() < 0.75 else None)
        elif kind == "basketball":
            row = Plot(x, y, 0, 0, turn)
            for number in range(random.integers(1, 3)):
                lay_basketball_court(site, *row.at(0, number * 21.0), turn)
        elif kind == "pool":
            long = random.choice([25.0, 50.0, 18.0])
            lay_pool(site, x, y, turn, long, 12.5 if long < 40 else 20.0)
        elif kind == "cars":
            plot = Plot(x, y, random.uniform(35, 60), 34, turn)
            if site.free(plot.shape()):
                park(site, plot, random.uniform(0.2, 0.8))
        elif kind == "pitch":
            lay_football_pitch(site, x, y, turn, random.uniform(0.4, 0.6))
        else:
            site.place(flat_building(site, x, y, turn, random.uniform(20, 40), random.uniform(14, 20), random.uniform(5, 10)), 1.0)
    plant(site, count(site, 45), 1.8, 4.5)
