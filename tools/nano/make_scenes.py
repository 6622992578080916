#!/usr/bin/env python3
"""Draws procedural scenes and writes them for training and evaluation.

As a data set (the default): FOLDER/images/SEED.tif, GeoTIFFs in UTM zones, and FOLDER/scenes.json, a list like
GeoPixelD.json: {id, conversations, image, segmentation, meta}, one record a question; `segmentation` has a mask in COCO
run lengths for each [SEG], in order, and `meta` what the format has no place for: {question, seed, setting,
metres_per_pixel, targets: [{kind, is_group, box, instances}]}. gcg.json and refseg.json beside it hold the scenes' descriptions
and the referring expressions alone, for the two tasks of `geopixel eval`.

As a cache for training (--cache): FOLDER/shard-SEED.npz with 64 scenes each; scenes/cache.py reads them.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from scenes import ask, render
from scenes.cache import target_record, write_cache
from scenes.geotiff import write_geotiff

SHARD = 64
FILES = {"scenes.json": (), "gcg.json": ("gcg",), "refseg.json": ("referring",)}  # the kinds of question in each; (): all


def draw(seed: int, size: int, difficulty: tuple[float, float]):
    """The scene of a seed, with its questions; its difficulty lies between the two given."""
    random = np.random.default_rng([seed, 512])
    scene = render(seed, size, round(float(random.uniform(*difficulty)), 3))
    return scene, ask(scene, random)


def write_shard(folder: Path, seeds: range, size: int, difficulty: tuple[float, float]) -> int:
    write_cache(folder / f"shard-{seeds[0]:09d}.npz", [draw(seed, size, difficulty) for seed in seeds])
    return len(seeds)


def write_scene(folder: Path, seed: int, size: int, difficulty: tuple[float, float], compression: str) -> list[dict]:
    """Writes the picture of a seed; gives the records of its questions."""
    scene, questions = draw(seed, size, difficulty)
    name = f"images/{seed:09d}.tif"
    write_geotiff(folder / name, scene, compression)
    records = []
    for number, question in enumerate(questions):
        targets = [target_record(target) for target in question.targets]
        records.append({
            "id": f"{seed}-{number}",
            "conversations": [{"from": "human", "value": question.prompt}, {"from": "bot", "value": question.answer}],
            "image": name,
            "segmentation": [target.pop("mask") for target in targets],
            "meta": {"question": question.kind, "seed": seed, "setting": scene.setting, "metres_per_pixel": scene.metres_per_pixel,
                     "targets": targets},
        })
    return records


def difficulty_range(text: str) -> tuple[float, float]:
    """"0.5" or "0..1"."""
    low, _, high = text.partition("..")
    low, high = float(low), float(high or low)
    if not 0 <= low <= high <= 1:
        raise argparse.ArgumentTypeError(f"{text}: not a..b with 0 <= a <= b <= 1")
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to write; made if it is not there")
    parser.add_argument("--count", type=int, required=True, help="scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the first scene; the others follow (0)")
    parser.add_argument("--size", type=int, default=512, help="width and height in pixels (512)")
    parser.add_argument("--difficulty", type=difficulty_range, default=(0.0, 1.0), help="a..b or one number (0..1)")
    parser.add_argument("--processes", type=int, default=1, help="at a time (1)")
    parser.add_argument("--compression", choices=("deflate", "jpeg"), default="deflate", help="of the GeoTIFFs (deflate, exact)")
    parser.add_argument("--cache", action="store_true", help="write shards for training in place of a data set")
    arguments = parser.parse_args()
    if arguments.count < 1 or arguments.seed < 0 or arguments.processes < 1:
        parser.error("--count and --processes are at least 1, --seed at least 0")
    if not 64 <= arguments.size <= 8192:
        parser.error(f"--size {arguments.size} is not in 64 to 8192")
    folder, seeds = arguments.folder, range(arguments.seed, arguments.seed + arguments.count)
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.processes) as pool:
        if arguments.cache:
            shards = [seeds[first:first + SHARD] for first in range(0, len(seeds), SHARD)]
            jobs = [pool.submit(write_shard, folder, shard, arguments.size, arguments.difficulty) for shard in shards]
            drawn = 0
            for job in jobs:
                drawn += job.result()
                print(f"{drawn} of {len(seeds)} scenes", flush=True)
            return
        (folder / "images").mkdir(exist_ok=True)
        jobs = [pool.submit(write_scene, folder, seed, arguments.size, arguments.difficulty, arguments.compression) for seed in seeds]
        records = [record for job in jobs for record in job.result()]
    for name, kinds in FILES.items():
        chosen = [record for record in records if not kinds or record["meta"]["question"] in kinds]
        (folder / name).write_text(json.dumps(chosen, indent=1) + "\n")
    print(f"{len(seeds)} scenes, {len(records)} questions in {folder}/scenes.json")


if __name__ == "__main__":
    main()
