"""Referring expressions: what may be said of an object so that it can be no other one in its scene.

An expression is a list of conditions. Its own object meets each of them clearly; every other object of a kind that may
be taken for its kind must clearly fail one. What lies between (a centre on a cell's border, a colour next to another, a
distance that is neither near nor far) counts against the expression.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from .palette import alike
from .scene import GROUND, Object, Scene
from .words import alike_kinds, cell_of, may_be_in, position

LEAST_PIXELS = 40        # of a target, in a picture of 512²
LEAST_VISIBLE = 0.5      # share of a target that is seen
NEAR, FAR = 0.035, 0.09  # gaps as shares of the picture: "next to" is below NEAR; beyond FAR it surely is not
ON, NOT_ON = 0.6, 0.2    # shares of an object's surroundings: above ON it lies on a ground, below NOT_ON it does not
CLEARLY = 1.4            # ratio of areas that settles which is the largest
CLEARLY_ASIDE = 0.06     # difference of centres that settles which is the leftmost
EVERYWHERE = ("road", "runway", "apron", "sea", "river")  # no cell of the picture is their place
COLOURLESS = ("tree", "forest", "swimming pool", "football pitch", "running track", "road", "runway", "apron", "parking lot", "pier")
SUPPORTS = {"road": "on the road", "parking lot": "in the parking lot", "runway": "on the runway", "apron": "on the apron"}


class Index:
    """What expressions ask of a scene, computed once: who may be a target, what surrounds whom, how far apart they are."""

    def __init__(self, scene: Scene):
        self.scene, self.objects = scene, scene.objects
        self.least = LEAST_PIXELS * (scene.size / 512) ** 2
        self._on: dict[int, dict[int, float]] = {}
        self._gaps: dict[int, dict[int, float]] = {}

    def may_be_target(self, one: Object) -> bool:
        return one.area >= self.least and one.visible >= LEAST_VISIBLE

    def rivals(self, kind: str) -> list[Object]:
        return [o for o in self.objects if alike_kinds(o.kind, kind)]

    def only(self, kind: str) -> Object | None:
        """The one object of a kind, where nothing else may be taken for it."""
        rivals = self.rivals(kind)
        return rivals[0] if len(rivals) == 1 and self.may_be_target(rivals[0]) else None

    def sole(self, kind: str) -> Object | None:
        """The one object of exactly this kind."""
        found = [o for o in self.objects if o.kind == kind]
        return found[0] if len(found) == 1 else None

    def share_on(self, one: Object, ground: Object) -> float:
        """How much of the ring of two pixels around an object shows `ground`."""
        if one.number not in self._on:
            ring = max(2, round(2 * self.scene.size / 512))
            x0, y0, x1, y1 = one.box
            window = self.scene.ids[max(y0 - ring, 0):y1 + ring, max(x0 - ring, 0):x1 + ring]
            own = window == one.number
            around = window[ndimage.binary_dilation(own, iterations=ring) & ~own]
            numbers, counts = np.unique(around, return_counts=True)
            self._on[one.number] = dict(zip(numbers.tolist(), (counts / max(1, len(around))).tolist()))
        return self._on[one.number].get(ground.number, 0.0)

    def gap(self, one: Object, anchor: Object) -> float:
        """The shortest way between two objects' pixels, as a share of the picture (measured on a coarse grid)."""
        if anchor.number not in self._gaps:
            step = max(1, self.scene.size // 128)
            ids = np.pad(self.scene.ids, (0, -self.scene.size % step))
            side = len(ids)
            blocks = (ids == anchor.number).reshape(side // step, step, side // step, step).any((1, 3))
            far = ndimage.distance_transform_edt(~blocks)
            near = ndimage.minimum(np.repeat(np.repeat(far, step, 0), step, 1), ids,
                                   np.arange(1, max(o.number for o in self.objects) + 1))
            self._gaps[anchor.number] = dict(enumerate((near * step / self.scene.size).tolist(), 1))
        return self._gaps[anchor.number][one.number]


@dataclass(frozen=True)
class Expression:
    """Conditions on an object; those left at their defaults say nothing."""
    kind: str
    colour: str = ""
    scale: str = ""
    most: str = ""  # "largest", "leftmost", "rightmost"
    cell: tuple[int, int] | None = None
    on: str = ""       # a kind of ground, the only one in the scene
    next_to: str = ""  # a kind of object, the only one in the scene

    @property
    def phrase(self) -> str:
        """The noun with what stands before it: "large white storage tank"."""
        return " ".join(word for word in (self.most, self.scale, self.colour, self.kind) if word)

    @property
    def text(self) -> str:
        """All of it: "large white storage tank at the top left"."""
        tail = [SUPPORTS[self.on]] if self.on else []
        tail += [f"next to the {self.next_to}"] if self.next_to else []
        tail += [position(self.cell)] if self.cell else []
        return " ".join([self.phrase, *tail])

    def met(self, one: Object, index: Index) -> bool:
        """Whether an object clearly meets every condition but `most`."""
        return (one.kind == self.kind and (not self.colour or one.colour == self.colour)
                and (not self.scale or one.scale == self.scale)
                and (self.cell is None or cell_of(one.centre) == self.cell)
                and (not self.on or index.share_on(one, index.sole(self.on)) >= ON)
                and (not self.next_to or index.gap(one, index.only(self.next_to)) <= NEAR))

    def may_be_met(self, one: Object, target: Object, index: Index) -> bool:
        """Whether one could take an object for the target."""
        if not alike_kinds(one.kind, self.kind) or (self.colour and not alike(one.colour, self.colour)):
            return False
        if self.scale == "large" and one.area * CLEARLY < target.area or self.scale == "small" and one.area > CLEARLY * target.area:
            return False
        if self.most == "largest" and one.area * CLEARLY < target.area:
            return False
        if self.most == "leftmost" and one.centre[0] > target.centre[0] + CLEARLY_ASIDE:
            return False
        if self.most == "rightmost" and one.centre[0] < target.centre[0] - CLEARLY_ASIDE:
            return False
        if self.cell is not None and not may_be_in(one.centre, self.cell):
            return False
        if self.on and index.share_on(one, index.sole(self.on)) < NOT_ON:
            return False
        return not (self.next_to and index.gap(one, index.only(self.next_to)) > FAR)

    def names_only(self, target: Object, index: Index) -> bool:
        return self.met(target, index) and not any(
            self.may_be_met(one, target, index) for one in index.objects if one is not target)


def colour_word(one: Object) -> str:
    """The colour that a text says of an object; none where all of its kind have the same."""
    return "" if one.kind in COLOURLESS else one.colour


def support(one: Object, index: Index) -> str:
    """The kind of the ground on which a vehicle or an aircraft clearly stands, where the scene has just one of it."""
    if one.kind in ("car", "truck", "airplane"):
        for kind in SUPPORTS:
            ground = index.sole(kind)
            if ground is not None and index.share_on(one, ground) >= ON:
                return kind
    return ""


def neighbours(one: Object, index: Index) -> list[str]:
    """Kinds of objects to which an object is clearly next, each the only one of its kind in the scene."""
    if one.kind in GROUND:
        return []
    kinds = {o.kind for o in index.objects} - {one.kind} - set(SUPPORTS) - {"field", "forest", "sea", "river", "tree"}
    found = [kind for kind in sorted(kinds) if not alike_kinds(kind, one.kind) and index.only(kind)]
    return [kind for kind in found if index.gap(one, index.only(kind)) <= NEAR]


def expressions(target: Object, index: Index) -> list[Expression]:
    """Every expression of the grammar that names the target and nothing else."""
    if not index.may_be_target(target) or target.instances > 1:
        return []
    cell = cell_of(target.centre) if target.kind not in EVERYWHERE else None
    tails = [{}] + ([{"cell": cell}] if cell else [])
    under = support(target, index)
    tails += [{"on": under}, {"on": under, "cell": cell}] if under else []
    tails += [{"next_to": kind} for kind in neighbours(target, index)]
    heads = [{}]
    heads += [{"colour": colour_word(target)}] if colour_word(target) else []
    heads += [dict(head, scale=target.scale) for head in heads] if target.scale else []
    if sum(o.kind == target.kind for o in index.objects) > 1:
        heads += [{"most": word} for word in ("largest", "leftmost", "rightmost")]
    found = {Expression(target.kind, **head, **tail) for tail in tails for head in heads if not (head.get("most") and tail)}
    return sorted((e for e in found if e.names_only(target, index)), key=lambda e: e.text)
