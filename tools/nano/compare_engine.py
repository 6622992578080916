#!/usr/bin/env python3
"""Asks the engine and the recipe's model the same questions, and compares ids and masks.

    make_scenes.py --help                         draws held-out scenes as GeoTIFFs with questions
    compare_engine.py MODEL SCENES --engine build/bin/geopixel

The recipe's model computes in f32 from the checkpoint's bf16 weights, as the engine does on the CPU. Exit code 1 where an id
differs, or where less than 99.9 % of a mask's pixels agree: logits differ by the rounding of f32 sums in another order, about 1e-5
of their size, and pixels whose logit is nearer to 0 than that may fall either way.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from data import beginning, scaled, stacked
from model import SIZES, Nano
from scenes.rle import decode, encode
from tokenizer import EOS, Tokenizer

LIMIT, SAME = 300, 0.999


@torch.no_grad()
def answer(model: Nano, tokenizer: Tokenizer, picture: np.ndarray, prompt: str, grid: int) -> tuple[list[int], np.ndarray]:
    """Greedy ids, and the masks bool [segs, h, w] of a square picture in grid × grid crops."""
    crops = model.crops(stacked([scaled(picture, grid * SIZES["vision"]["image_size"])]))
    tokens = model.image_tokens(model.vit(crops.flatten(0, 1)).unflatten(0, crops.shape[:2]), (grid, grid))
    question = model.embedded(torch.tensor([tokenizer.question(prompt)]))
    ids, segs, cache = [], [], []
    hidden = model.language(torch.cat([beginning(model, tokens), question], 1), tokens.shape[1], cache)[:, -1]
    while len(ids) < LIMIT:
        ids.append(int(model.logits(hidden)[0].argmax()))
        if ids[-1] == EOS:
            break
        hidden = model.language(model.embedded(torch.tensor([ids[-1:]])), 0, cache)[:, -1]
        if ids[-1] == tokenizer.seg:
            segs.append(hidden)
    if not segs:
        return ids, np.zeros((0, *picture.shape[:2]), bool)
    side = SIZES["grounding"]["image_size"]
    seen = F.interpolate(stacked([picture]).float(), (side, side), mode="bilinear", align_corners=False, antialias=True)
    logits, iou = model.masks(model.seg_embeddings(torch.cat(segs)), model.grounding(seen), torch.zeros(len(segs), dtype=torch.int64))
    drawn = F.interpolate(model.chosen(logits, iou)[:, None], picture.shape[:2], mode="bilinear", align_corners=False)[:, 0] > 0
    return ids, drawn.numpy()


def ask_engine(options: argparse.Namespace, image: str, prompt: str, out: Path) -> dict:
    subprocess.run([options.engine, "run", options.scenes / image, "--model", options.model, "--prompt", prompt, "--crops",
                    str(options.grid ** 2), "--device", "cpu", "--quiet", "--json", out], check=True, stdout=subprocess.DEVNULL)
    return json.loads(out.read_text())


def differences(told: dict, ids: list[int], drawn: np.ndarray) -> list[str]:
    """What the engine's answer has otherwise."""
    if told["token_ids"] != ids or len(told["masks"]) != len(drawn):
        return [f"the engine's ids are {told['token_ids']}, the recipe's {ids}"]
    same = [float((decode(mask["rle"]) == ours).mean()) for mask, ours in zip(told["masks"], drawn)]
    return [f"mask {i}: {share:.6f} of its pixels agree" for i, share in enumerate(same) if share < SAME]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("scenes", type=Path, help="a folder that make_scenes.py wrote")
    parser.add_argument("--engine", default="build/bin/geopixel")
    parser.add_argument("--grid", type=int, default=2, help="crops a side")
    parser.add_argument("--count", type=int, default=50, help="scenes; one question of each, of every kind in turn")
    parser.add_argument("--all", action="store_true", help="every question of each scene")
    parser.add_argument("--keep", type=Path, help="write the recipe's ids and masks, for tests where there is no PyTorch")
    options = parser.parse_args()
    tokenizer = Tokenizer(options.model)
    model = Nano(tokenizer.vocabulary)
    model.load(options.model)
    by_image: dict[str, list[dict]] = {}
    for record in json.loads((options.scenes / "scenes.json").read_text()):
        by_image.setdefault(record["image"], []).append(record)
    asked = []
    for number, (image, records) in enumerate(list(by_image.items())[:options.count]):
        for record in records if options.all else [records[number % len(records)]]:
            asked.append((image, record["conversations"][0]["value"]))
    kept, failures = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for image, prompt in asked:
            told = ask_engine(options, image, prompt, Path(folder) / "answer.json")
            picture = np.asarray(Image.open(options.scenes / image).convert("RGB"))
            ids, drawn = answer(model, tokenizer, picture, prompt, options.grid)
            found = differences(told, ids, drawn)
            failures += len(found)
            for line in found:
                print(f"{image}: \"{prompt}\": {line}")
            kept.append({"image": image, "prompt": prompt, "crops": options.grid ** 2, "ids": ids, "masks": [encode(m) for m in drawn]})
    if options.keep:
        options.keep.write_text("[\n" + ",\n".join(json.dumps(one) for one in kept) + "\n]\n")
    tokens, masks = (sum(len(one[what]) for one in kept) for what in ("ids", "masks"))
    print(f"{len(kept)} answers of {min(options.count, len(by_image))} scenes, {tokens} ids, {masks} masks; {failures} failures")
    return 1 if failures or len(by_image) < options.count else 0


if __name__ == "__main__":
    sys.exit(main())
