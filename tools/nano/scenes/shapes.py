"""Shapes on the ground: signed distances in metres, so that one function gives soft edges and exact masks.

A shape has a place (x to the right, y down, metres from the middle of the scene) and an angle; its distance function
takes its own coordinates (u along, v across) and is negative inside.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass
class Shape:
    x: float
    y: float
    angle: float  # radians, of u against x
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    outline: np.ndarray  # [n, 2] points (u, v) whose convex hull holds the shape
    area: float  # square metres

    def local(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c, s = np.float32(np.cos(self.angle)), np.float32(np.sin(self.angle))
        x, y = x - np.float32(self.x), y - np.float32(self.y)
        return x * c + y * s, y * c - x * s

    def world(self, u: float, v: float) -> tuple[float, float]:
        c, s = np.cos(self.angle), np.sin(self.angle)
        return self.x + u * c - v * s, self.y + u * s + v * c

    def points(self) -> np.ndarray:
        """[n, 2] the outline in the scene's metres."""
        x, y = self.world(self.outline[:, 0], self.outline[:, 1])
        return np.stack([x, y], 1)


def rectangle(u: np.ndarray, v: np.ndarray, length: float, width: float, corner: float = 0.0) -> np.ndarray:
    """Distance to a rectangle about the origin, with rounded corners."""
    du, dv = np.abs(u) - np.float32(length / 2 - corner), np.abs(v) - np.float32(width / 2 - corner)
    inside = np.minimum(np.maximum(du, dv), 0)
    if corner == 0.0:
        return np.maximum(du, dv)
    return np.hypot(np.maximum(du, 0), np.maximum(dv, 0)) + inside - np.float32(corner)


def convex(u: np.ndarray, v: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distance to a convex polygon (corners in either order): the largest distance to an edge's line."""
    following = np.roll(corners, -1, axis=0)
    turn = np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1])
    distance = None
    for (u0, v0), (u1, v1) in zip(corners, following):
        length = np.hypot(u1 - u0, v1 - v0)
        if length < 1e-9:
            continue
        nu, nv = (v1 - v0) / length * np.sign(turn), -(u1 - u0) / length * np.sign(turn)
        edge = np.float32(nu) * u + (np.float32(nv) * v - np.float32(nu * u0 + nv * v0))
        distance = edge if distance is None else np.maximum(distance, edge)
    return distance


def hull(points: np.ndarray) -> np.ndarray:
    """The convex hull of [n, 2] points, in order (Andrew's monotone chain)."""
    ordered = sorted(map(tuple, points))

    def chain(points):
        kept = []
        for p in points:
            while len(kept) > 1 and (kept[-1][0] - kept[-2][0]) * (p[1] - kept[-2][1]) <= (
                kept[-1][1] - kept[-2][1]) * (p[0] - kept[-2][0]):
                kept.pop()
            kept.append(p)
        return kept[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]))


def box(x: float, y: float, length: float, width: float, angle: float, corner: float = 0.0) -> Shape:
    outline = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (length / 2, width / 2)
    return Shape(x, y, angle, lambda u, v: rectangle(u, v, length, width, corner), outline, length * width)


def disc(x: float, y: float, radius: float) -> Shape:
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    outline = radius * np.stack([np.cos(turn), np.sin(turn)], 1)
    return Shape(x, y, 0.0, lambda u, v: np.hypot(u, v) - np.float32(radius), outline, np.pi * radius * radius)


def polygon(points: np.ndarray) -> Shape:
    """A convex polygon given in the scene's metres."""
    middle = points.mean(0)
    corners = points - middle
    following = np.roll(corners, -1, axis=0)
    area = abs(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1])) / 2
    return Shape(*middle, 0.0, lambda u, v: convex(u, v, corners), corners, area)


def union(shapes: list[Shape]) -> Shape:
    """Several shapes as one; u and v are those of the first."""
    first = shapes[0]
    offsets = [(s, *first.local(np.float32(s.x), np.float32(s.y)), s.angle - first.angle) for s in shapes]

    def distance(u, v):
        nearest = None
        for shape, du, dv, turn in offsets:
            c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            one = shape.distance((u - du) * c + (v - dv) * s, (v - dv) * c - (u - du) * s)
            nearest = one if nearest is None else np.minimum(nearest, one)
        return nearest

    outline = np.concatenate([np.stack(first.local(*s.points().T.astype(np.float32)), 1) for s in shapes])
    return Shape(first.x, first.y, first.angle, distance, outline, sum(s.area for s in shapes))
