"""An airport: apron with aircraft at their stands, taxiway, terminals, runway."""

import numpy as np

from .aircraft import airplane
from .buildings import flat_building, warehouse
from .ground import asphalt, concrete, lay_meadow
from .layouts import Plot, count, park
from .shapes import box
from .site import Site
from .vehicles import car, truck
from .ways import YELLOW, Way, lay_runway


def airport(site: Site) -> None:
    """A runway or a taxiway beside an apron with aircraft at their stands and a terminal behind."""
    random, extent = site.random, site.extent
    lay_meadow(site)
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
