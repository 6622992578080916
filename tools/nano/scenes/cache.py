"""Shards of finished scenes for training: drawing costs more than reading.

A shard is an .npz file: `images`, the bytes of all JPEG pictures one after the other; `offsets` int64 [n + 1], where each
begins; `scenes`, UTF-8 JSON: a list of {seed, setting, metres_per_pixel, difficulty, questions}, a question being {kind,
prompt, answer, targets}, a target {mask, kind, is_group, box, instances} with its mask as COCO run lengths.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import rle
from .questions import Question, Target
from .scene import Scene

JPEG_QUALITY = 95


@dataclass
class CachedScene:
    seed: int
    setting: str
    metres_per_pixel: float
    difficulty: float
    _jpeg: bytes
    _questions: list[dict]

    @property
    def image(self) -> np.ndarray:
        """u8 [size, size, 3]."""
        return np.array(Image.open(io.BytesIO(self._jpeg)).convert("RGB"))

    @property
    def questions(self) -> list[Question]:
        """The questions, with their masks unpacked."""
        return [Question(q["kind"], q["prompt"], q["answer"], [
            Target(rle.decode(t["mask"]), t["kind"], t["is_group"], tuple(t["box"]), t["instances"]) for t in q["targets"]])
            for q in self._questions]


def target_record(target: Target) -> dict:
    return {"mask": rle.encode(target.mask), "kind": target.kind, "is_group": target.is_group, "box": list(target.box),
            "instances": target.instances}


def write_cache(path: Path, scenes: list[tuple[Scene, list[Question]]]) -> None:
    """Writes a shard; it appears whole or not at all."""
    pictures, records = [], []
    for scene, questions in scenes:
        packed = io.BytesIO()
        Image.fromarray(scene.image).save(packed, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        pictures.append(packed.getvalue())
        records.append({"seed": scene.seed, "setting": scene.setting, "metres_per_pixel": scene.metres_per_pixel,
                        "difficulty": scene.difficulty, "questions": [
                            {"kind": q.kind, "prompt": q.prompt, "answer": q.answer, "targets": [target_record(t) for t in q.targets]}
                            for q in questions]})
    unfinished = Path(f"{path}.unfinished")
    with open(unfinished, "wb") as file:
        np.savez(file, images=np.frombuffer(b"".join(pictures), np.uint8),
                 offsets=np.cumsum([0] + [len(p) for p in pictures], dtype=np.int64),
                 scenes=np.frombuffer(json.dumps(records).encode(), np.uint8))
    unfinished.replace(path)


def load_cache(path: str | Path) -> list[CachedScene]:
    """The scenes of one shard; pictures and masks are unpacked when they are asked for."""
    with np.load(path) as shard:
        images, offsets = shard["images"].tobytes(), shard["offsets"]
        records = json.loads(shard["scenes"].tobytes())
    return [CachedScene(r["seed"], r["setting"], r["metres_per_pixel"], r["difficulty"], images[a:b], r["questions"])
            for r, a, b in zip(records, offsets, offsets[1:])]
