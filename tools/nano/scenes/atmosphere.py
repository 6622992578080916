"""From the ground to the file: light, haze, the blur and noise of the camera, JPEG."""

import io

import numpy as np
from PIL import Image
from scipy import ndimage

from .noise import fractal


def photograph(image: np.ndarray, random: np.random.Generator, difficulty: float) -> np.ndarray:
    """u8 [size, size, 3] from the painted colours, float32 0 … 1."""
    size = image.shape[0]
    image = image * np.float32(random.uniform(0.9, 1.12)) * (1 + random.normal(0, 0.012, 3)).astype(np.float32)
    haze = difficulty * random.beta(1.2, 4.0) * 0.5
    if haze > 0.02:
        veil = np.clip(haze * (1 + 0.25 * fractal(random, (size, size), 512, 0.5)), 0, 0.6)[..., None]
        image += veil * (np.array([0.74, 0.78, 0.82], np.float32) - image)
    contrast = np.float32(random.uniform(0.92, 1.12))
    image = (image - np.float32(0.38)) * contrast + np.float32(0.38)
    blur = random.uniform(0.35, 0.5 + 0.35 * difficulty)
    image = ndimage.gaussian_filter(image, (blur, blur, 0), truncate=2.5)
    grain = random.uniform(0.002, 0.004 + 0.012 * difficulty)
    image += random.standard_normal(image.shape, dtype=np.float32) * np.float32(grain)
    pixels = (np.clip(image, 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)
    if random.random() < 0.7:
        packed = io.BytesIO()
        Image.fromarray(pixels).save(packed, "JPEG", quality=int(random.uniform(95 - 35 * difficulty, 96)))
        pixels = np.array(Image.open(packed).convert("RGB"))
    return pixels
