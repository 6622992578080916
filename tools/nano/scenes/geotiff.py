"""Writes a scene as a GeoTIFF in a UTM zone, through Pillow's TIFF tags."""

from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from .scene import Scene

_PIXEL_SCALE, _TIE_POINT, _KEY_DIRECTORY, _KEY_TEXT = 33550, 33922, 34735, 34737
_PROJECTED, _PIXEL_IS_AREA, _METRE = 1, 1, 9001


def write_geotiff(path: Path, scene: Scene, compression: str) -> None:
    """Writes `scene.image`; `compression` is "deflate" (exact) or "jpeg" (smaller). The place follows from the seed."""
    random = np.random.default_rng([scene.seed, 4326])
    zone, north = int(random.integers(1, 61)), bool(random.random() < 0.7)
    east, northing = round(random.uniform(250_000, 750_000)), round(random.uniform(1_000_000, 7_000_000))
    text = f"WGS 84 / UTM zone {zone}{'N' if north else 'S'}|"
    keys = [(1024, 0, 1, _PROJECTED), (1025, 0, 1, _PIXEL_IS_AREA), (1026, _KEY_TEXT, len(text), 0),
            (3072, 0, 1, (32600 if north else 32700) + zone), (3076, 0, 1, _METRE)]
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    resolution = scene.metres_per_pixel
    for tag, kind, value in (
        (_PIXEL_SCALE, 12, (resolution, resolution, 0.0)),
        (_TIE_POINT, 12, (0.0, 0.0, 0.0, float(east), float(northing), 0.0)),
        (_KEY_DIRECTORY, 3, tuple(n for key in [(1, 1, 0, len(keys)), *keys] for n in key)),
        (_KEY_TEXT, 2, text),
    ):
        tags.tagtype[tag] = kind
        tags[tag] = value
    options = {"deflate": {"compression": "tiff_adobe_deflate"}, "jpeg": {"compression": "jpeg", "quality": 92}}[compression]
    Image.fromarray(scene.image).save(path, "TIFF", tiffinfo=tags, **options)
