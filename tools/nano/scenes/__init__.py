"""Procedural overhead imagery with exact masks and questions, to train and to try a small GeoPixel on.

    scene = render(seed, size=512, difficulty=1.0)      # Scene: image, objects, setting, metres_per_pixel
    questions = ask(scene, numpy.random.default_rng(0))  # list of Question: kind, prompt, answer, targets

`Scene.image` is u8 [size, size, 3]. `Scene.objects` has one Object for all that can be named: `kind`, `colour` (a name or
empty), `scale` ("large", "small" or empty, against the others of its kind in the scene), `mask` (bool [size, size], its
visible pixels; masks never overlap), `box` (x0, y0, x1, y1 in pixels), `area`, `visible`, `centre`, `instances`.

A Question's `kind` is "gcg", "object", "group" or "referring"; its `answer` has one `[SEG]` for each of its `targets`, in
order; a Target has `mask`, `kind`, `is_group`, `box` (x0, y0, x1, y1 as shares of the picture) and `instances`, the number
of objects under the mask. `load_cache(path)` gives the scenes of a shard that make_scenes.py --cache wrote. The same seeds
give the same pictures and texts.
"""

from .cache import CachedScene, load_cache
from .questions import Question, Target, ask
from .scene import Object, Scene, render

__all__ = ["CachedScene", "Object", "Question", "Scene", "Target", "ask", "load_cache", "render"]
