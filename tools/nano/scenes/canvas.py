"""The picture under way: colours, the number of the object that each pixel shows, and the shade on it."""

from dataclasses import dataclass

import numpy as np

from .shapes import Shape, hull, polygon

SPARSE_FROM = 20_000  # pixels of a window


@dataclass
class Sun:
    """`x`, `y`: the direction in which shadows fall (a unit vector); `length`: metres of shadow for a metre of height."""
    x: float
    y: float
    length: float
    strength: float  # share of the light that a shadow takes away

    def facing(self, nx: float, ny: float) -> float:
        """−1 … 1: how much a slope that looks towards (nx, ny) is turned to the sun."""
        return -(nx * self.x + ny * self.y)


class Patch:
    """A window of the canvas around a shape, in that shape's own coordinates u, v [h, w] in metres."""

    def __init__(self, canvas: "Canvas", shape: Shape, rows: slice, columns: slice):
        self.canvas, self.rows, self.columns = canvas, rows, columns
        self.x, self.y = canvas.x[:, columns], canvas.y[rows]
        self.u, self.v = shape.local(self.x, self.y)
        self.angle = shape.angle
        self.distance = shape.distance(self.u, self.v)
        self.size = (rows.stop - rows.start, columns.stop - columns.start)

    def cover(self, distance: np.ndarray, colour, strength: float = 1.0) -> None:
        """Paints where `distance` (metres, negative inside) says; `colour` is [3] or [h, w, 3]."""
        alpha = np.clip(0.5 - distance * np.float32(1 / self.canvas.metres_per_pixel), 0, 1) * np.float32(strength)
        self.mix(alpha, colour)

    def mix(self, alpha: np.ndarray, colour) -> None:
        window = self.canvas.image[self.rows, self.columns]
        colour = np.asarray(colour, np.float32)
        if alpha.size > SPARSE_FROM:
            # Lines and roads cover little of their window: only what they cover is touched.
            covered = alpha > 0
            if np.count_nonzero(covered) < 0.4 * alpha.size:
                old = window[covered]
                new = colour[covered] if colour.ndim == 3 else colour
                window[covered] = old + alpha[covered][:, None] * (new - old)
                return
        window += alpha[..., None] * (colour - window)

    def darken(self, alpha: np.ndarray, strength: float) -> None:
        self.canvas.image[self.rows, self.columns] *= (1 - np.float32(strength) * alpha)[..., None]

    def claim(self, identity: int) -> None:
        """The pixels whose middle lies in the shape now show this object."""
        self.canvas.ids[self.rows, self.columns][self.distance <= 0] = identity

    def direction(self, du: float, dv: float) -> tuple[float, float]:
        """A direction of the shape's own coordinates in the scene's."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        return du * c - dv * s, du * s + dv * c


class Canvas:
    """image [size, size, 3] float32 0 … 1; ids [size, size]; x [1, size] and y [size, 1] in metres from the middle."""

    def __init__(self, size: int, metres_per_pixel: float, sun: Sun):
        self.size, self.metres_per_pixel, self.sun = size, metres_per_pixel, sun
        self.image = np.zeros((size, size, 3), np.float32)
        self.ids = np.zeros((size, size), np.int32)
        self.shade = np.zeros((size, size), np.float32)
        line = ((np.arange(size) + 0.5 - size / 2) * metres_per_pixel).astype(np.float32)
        self.x, self.y = line[None, :], line[:, None]
        self.extent = size * metres_per_pixel

    def patch(self, shape: Shape, margin: float = 0.0) -> Patch | None:
        """The window that holds a shape and `margin` metres around it; None where that is outside the picture."""
        points = shape.points()
        edge = margin + self.metres_per_pixel
        low = np.floor((points.min(0) - edge) / self.metres_per_pixel + self.size / 2).astype(int)
        high = np.ceil((points.max(0) + edge) / self.metres_per_pixel + self.size / 2).astype(int)
        low, high = np.clip(low, 0, self.size), np.clip(high, 0, self.size)
        if (high <= low).any():
            return None
        return Patch(self, shape, slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))

    def whole(self) -> Patch:
        """The whole picture as a patch, in the scene's own coordinates."""
        half = self.extent / 2
        everything = polygon(np.array([[-half, -half], [half, -half], [half, half], [-half, half]]))
        return Patch(self, everything, slice(0, self.size), slice(0, self.size))

    def cast(self, shape: Shape, height: float, taper: float = 1.0) -> None:
        """Notes the shadow of a shape that stands `height` metres high; `settle_shade` darkens the ground with it.

        The top is `taper` times as wide as the foot.
        """
        points = shape.points()
        far = (shape.x, shape.y) + (points - (shape.x, shape.y)) * taper
        far = far + np.array([self.sun.x, self.sun.y]) * self.sun.length * height
        shadow = self.patch(polygon(hull(np.concatenate([points, far]))))
        if shadow is None:
            return
        # The farther from what casts it, the softer a shadow's edge.
        soft = self.metres_per_pixel + 0.02 * height * self.sun.length
        alpha = np.clip(0.5 - shadow.distance * np.float32(1 / soft), 0, 1)
        window = self.shade[shadow.rows, shadow.columns]
        np.maximum(window, alpha, out=window)

    def settle_shade(self) -> None:
        """Darkens the picture where shadows were noted; what is left is the blue light of the sky."""
        sky = np.array([1.0, 0.94, 0.82], np.float32) * np.float32(self.sun.strength)
        self.image *= 1 - self.shade[..., None] * sky
        self.shade[:] = 0
