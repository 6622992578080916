"""The settings of scenes: what lies where in farmland, a harbour, an airport and so on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .aircraft import airplane
from .buildings import flat_building, house, storage_tank, warehouse
from .ground import CROPS, asphalt, concrete, crop, grass, lay_forest, lay_water, rough, soil
from .layouts import Plot, count, drive, lots, park, pave, plant, plots, tree_row
from .palette import PAINT, choose
from .shapes import box, disc, rectangle
from .site import Site, Thing
from .sports import lay_basketball_court, lay_football_pitch, lay_pool, lay_tennis_court
from .trees import tree
from .vehicles import car, truck
from .vessels import boat, lay_wake, ship
from .ways import YELLOW, Way, lay_footpath, lay_roads, lay_runway


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


def _meadow(site: Site) -> None:
    patch = site.canvas.whole()
    patch.cover(patch.distance - 1, grass(site, patch.size))


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
    _meadow(site)
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


def residential(site: Site) -> None:
    random = site.random
    _meadow(site)
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


def _tank_farm(site: Site, plot: Plot) -> None:
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


def _yard(site: Site, plot: Plot) -> None:
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
    _meadow(site)
    ways, blocks = plots(site, random.uniform(0, np.pi), random.uniform(85, 130), random.uniform(70, 95), random.uniform(8, 11), 1.0)
    for block in blocks:
        kind = choose(random, {"tanks": 1.3, "yard": 1.6, "cars": 0.5, "lawn": 0.15})
        if kind == "tanks":
            _tank_farm(site, block)
        elif kind == "yard":
            _yard(site, block)
        elif kind == "cars":
            lot = Plot(block.x, block.y, block.length * 0.85, min(block.width * 0.8, 46), block.angle)
            park(site, lot, random.uniform(0.2, 0.7))
        plant(site, count(site, 2), 1.8, 3.5)
    lay_roads(site, ways, 1.0)
    drive(site, ways, 70, 0.4)


def commercial(site: Site) -> None:
    random = site.random
    _meadow(site)
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


def _container(site: Site, x: float, y: float, angle: float) -> Thing:
    random = site.random
    colour = choose(random, {"red": 2, "blue": 2, "green": 1, "orange": 1, "white": 1, "grey": 0.7})
    paint = np.array(PAINT[colour][0], np.float32) * random.uniform(0.85, 1.1)

    def draw(patch) -> None:
        ribs = 1 + 0.06 * np.sin(patch.u * np.float32(2 * np.pi / 1.2))
        patch.cover(patch.distance, paint * 0.6)
        patch.cover(patch.distance + 0.15, np.clip(paint * ribs[..., None], 0, 1))

    return Thing("container", colour, box(x, y, 12.2, 2.44, angle), random.choice([2.6, 5.2, 7.8]), draw)


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
                _yard(site, Plot(plot.x, plot.y, plot.length, 48, angle))
            elif kind == "tanks":
                _tank_farm(site, plot)
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


def airport(site: Site) -> None:
    """A runway or a taxiway beside an apron with aircraft at their stands and a terminal behind."""
    random, extent = site.random, site.extent
    _meadow(site)
    angle = random.uniform(0, 2 * np.pi)
    base = Plot(0, 0, 0, 0, angle)
    small = extent < 150
    typical = random.uniform(11, 15) if small else random.uniform(28, 44)
    deep = typical * 2.7
    apron_v = random.uniform(-0.12, 0.05) * extent
    apron = box(*base.at(0, apron_v), extent * 2, deep, angle)
    patch = site.canvas.patch(apron)
    patch.cover(patch.distance, concrete(site, patch.size, None, 7.5 if not small else 5.0, patch))
    # The taxiway along the apron's edge, with its yellow line.
    taxi = apron_v + deep / 2 - typical * 0.45
    patch.cover(np.abs(patch.v - np.float32(taxi - apron_v)) - 0.2, YELLOW, 0.9)
    patch.claim(site.record("apron", "grey"))
    terminal = apron_v - deep / 2 - 14
    for u in np.arange(-extent * 0.8, extent * 0.8, 70):
        if random.random() < 0.7:
            make = flat_building if random.random() < 0.6 else warehouse
            site.place(make(site, *base.at(u + random.uniform(0, 8), terminal - 2), angle, random.uniform(40, 62), random.uniform(20, 26)),
                       0.5, share=0.25)
    lot = Plot(*base.at(random.uniform(-0.3, 0.3) * extent, terminal - 40), 60, 36, angle)
    if site.free(lot.shape()):
        park(site, lot, random.uniform(0.2, 0.7))
    if apron_v + deep / 2 + 50 < extent * 0.6:
        way = Way(*base.at(0, apron_v + deep / 2 + random.uniform(30, 60)), angle, random.uniform(24, 40) if not small else 18,
                  wave=random.uniform(-0.5, 0.5) * extent)
        lay_runway(site, way)
        x, y, _ = way.at(random.uniform(-0.3, 0.3) * extent, 0)
        if random.random() < 0.35:
            site.place(airplane(site, x, y, angle + random.choice([0, np.pi]), typical), 1.0, paved=True)
        # A connection from the taxiway to the runway.
        link_u = random.uniform(-0.35, 0.35) * extent
        top = apron_v + deep / 2
        far = -np.sin(angle) * way.x + np.cos(angle) * way.y - way.width / 2
        link = site.canvas.patch(box(*base.at(link_u, (top + far) / 2), far - top + 1, typical * 0.55, angle + np.pi / 2))
        if link is not None:
            link.cover(link.distance, asphalt(site, link.size))
            link.cover(np.maximum(np.abs(link.v) - 0.2, link.distance), YELLOW, 0.9)
    u = -extent * 0.75 + random.uniform(0, typical)
    heading = angle - np.pi / 2
    while u < extent * 0.75:
        long = typical * random.uniform(0.7, 1.15)
        if random.random() < 0.5 + 0.4 * site.difficulty:
            place = base.at(u, apron_v - deep / 2 + 4 + long / 2)
            lead = np.maximum(np.abs(patch.u - np.float32(u)) - 0.15, np.abs(patch.v + np.float32(typical * 0.2)) - typical * 0.9)
            patch.cover(lead, YELLOW, 0.7)
            site.place(airplane(site, *place, heading + random.normal(0, 0.03), long), 0.5, share=0.4)
        u += typical * random.uniform(1.12, 1.35)
    if random.random() < 0.5:
        u = random.uniform(-0.3, 0.3) * extent
        site.place(airplane(site, *base.at(u, taxi), angle + random.choice([0, np.pi]), typical * random.uniform(0.8, 1.1)), 1.0, share=0.5)
    for _ in range(count(site, 8)):
        make = car if random.random() < 0.6 else truck
        place = base.at(random.uniform(-0.5, 0.5) * extent, apron_v + random.uniform(-0.5, 0.4) * deep)
        site.place(make(site, *place, angle + random.choice([0, np.pi / 2, np.pi])), 1.5)


def sports(site: Site) -> None:
    random = site.random
    _meadow(site)
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


def countryside(site: Site) -> None:
    """A river or a lake among woods and meadows, a road, a few houses."""
    random, extent = site.random, site.extent
    _meadow(site)
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
    site.scatter(lambda x, y: house(site, x, y, random.uniform(0, np.pi), random.uniform(10, 14), random.uniform(7.5, 9.5)), count(site, 4), 4.0)
    plant(site, count(site, 40), 2.0, 5.0)


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
        _meadow(site)

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
    Setting("a sports area", sports, 0.18, 0.40, 1.2),
    Setting("the countryside", countryside, 0.25, 0.60),
]
OPEN_GROUND = Setting("open ground", open_ground, 0.12, 0.25)
