#!/usr/bin/env python3
"""Tests of the scenes and their texts, on fresh random seeds (printed; `test_scenes.py SEED` repeats a run)."""

import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

try:
    import numpy as np
    import PIL  # noqa: F401
    import scipy  # noqa: F401
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scenes import ask, load_cache, render, rle  # noqa: E402
from scenes.cache import write_cache  # noqa: E402

SCENES = 48
LEAST_PIXELS = 40  # of a target, at 512²
MOST_WORDS = 90
LOOK_ALIKE = [("house", "building", "warehouse"), ("car", "truck"), ("truck", "container"), ("ship", "boat"),
              ("river", "lake", "pond", "sea"), ("road", "runway", "parking lot", "apron"), ("tree", "forest")]
SAME_COLOUR = [("white", "grey"), ("grey", "black"), ("red", "orange"), ("red", "brown"), ("orange", "brown"), ("blue", "black")]
COLOURS = ("white", "grey", "black", "red", "blue", "green", "yellow", "brown", "orange")
SURFACES = {"on the road": "road", "in the parking lot": "parking lot", "on the runway": "runway", "on the apron": "apron"}

failures = []


def check(right, message):
    if not right:
        failures.append(message)
        print("FAILED:", message)


def same_kind(one, other):
    return one == other or any(one in group and other in group for group in LOOK_ALIKE)


def same_colour(one, other):
    return one == other or not one or (one, other) in SAME_COLOUR or (other, one) in SAME_COLOUR


class Measured:
    """An object measured again, from its mask alone."""

    def __init__(self, one):
        self.one, self.mask = one, one.mask
        self.rows, self.columns = np.nonzero(self.mask)
        self.area = len(self.rows)
        self.x = (self.columns.mean() + 0.5) / self.mask.shape[1]
        self.y = (self.rows.mean() + 0.5) / self.mask.shape[0]

    def surroundings(self):
        """The pixels that touch the object or lie one farther, by moving its mask (the picture is padded, not wrapped)."""
        height, width = self.mask.shape
        padded = np.pad(self.mask, 2)
        grown = np.zeros((height, width), bool)
        for down in range(5):
            for right in range(5):
                if abs(down - 2) + abs(right - 2) <= 2:
                    grown |= padded[down:down + height, right:right + width]
        return grown & ~self.mask

    def distance(self, other):
        """The shortest way to another object's pixels, in shares of the picture."""
        near = np.inf
        rows, columns = other.rows[::3], other.columns[::3]
        for r, c in zip(self.rows[::5], self.columns[::5]):
            near = min(near, ((rows - r) ** 2 + (columns - c) ** 2).min())
        return near**0.5 / self.mask.shape[0]


def possible(text, target, measured):
    """The objects that the words `text` may mean, read from the text: everything but what they clearly exclude."""
    kinds = sorted({m.one.kind for m in measured}, key=len, reverse=True)
    body, _, anchor = text.partition(" next to the ")
    surface = next((kind for words, kind in SURFACES.items() if words in body), None)
    for words in SURFACES:
        body = body.replace(" " + words, "")
    place = re.search(r" (at the (top|bottom)?\s?(left|right)?|in the center)$", body)
    if place:
        body = body[:place.start()]
    kind = next(kind for kind in kinds if body.endswith(kind))
    adjectives = body[:-len(kind)].split()
    left = [m for m in measured if same_kind(m.one.kind, kind)]
    for word in adjectives:
        if word in COLOURS:
            left = [m for m in left if same_colour(m.one.colour, word)]
        elif word in ("large", "largest"):
            left = [m for m in left if m.area > target.area / 1.3]
        elif word == "small":
            left = [m for m in left if m.area < target.area * 1.3]
        elif word == "leftmost":
            left = [m for m in left if m.x < target.x + 0.05]
        elif word == "rightmost":
            left = [m for m in left if m.x > target.x - 0.05]
        else:
            check(False, f"unknown word {word!r} in {text!r}")
    if place:
        words = place.group(0)
        column = 0 if "left" in words else 2 if "right" in words else 1
        row = 0 if "top" in words else 2 if "bottom" in words else 1
        left = [m for m in left if column / 3 - 0.04 < m.x < (column + 1) / 3 + 0.04 and row / 3 - 0.04 < m.y < (row + 1) / 3 + 0.04]
        check(column / 3 < target.x < (column + 1) / 3 and row / 3 < target.y < (row + 1) / 3, f"{text!r} is not where it is said to be")
    if surface:
        ground = [m for m in measured if m.one.kind == surface]
        check(len(ground) == 1, f"{text!r}: {len(ground)} of {surface}")
        left = [m for m in left if (m.surroundings() & ground[0].mask).sum() > 0.25 * m.surroundings().sum()]
    if anchor:
        anchors = [m for m in measured if same_kind(m.one.kind, anchor)]
        check(len(anchors) == 1, f"{text!r}: {len(anchors)} that may be its {anchor}")
        left = [m for m in left if m.distance(anchors[0]) < 0.06]
    return left


def test_scene(seed, size, difficulty, words, seen):
    scene = render(seed, size, difficulty)
    where = f"seed {seed} size {size} difficulty {difficulty}"
    check(scene.image.shape == (size, size, 3) and scene.image.dtype == np.uint8, f"{where}: the picture's shape")
    check(scene.image.std() > 3, f"{where}: a flat picture")
    taken = np.zeros((size, size), np.int32)
    for one in scene.objects:
        mask = one.mask
        taken += mask
        rows, columns = np.nonzero(mask)
        check(one.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), f"{where}: box of {one.kind} {one.number}")
        check(one.area == len(rows), f"{where}: area of {one.kind} {one.number}")
        seen[one.kind] += 1
    check(taken.max() <= 1, f"{where}: objects overlap")
    measured = [Measured(one) for one in scene.objects]
    questions = ask(scene, np.random.default_rng(seed))
    least = LEAST_PIXELS * (size / 512) ** 2
    for question in questions:
        words.update(re.findall(r"\w+", question.answer))
        about = f"{where}: {question.kind} {question.answer!r}"
        check(question.answer.count("[SEG]") == len(question.targets) == question.answer.count("<p>") == question.answer.count("</p>"),
              f"{about}: {len(question.targets)} targets")
        check(1 <= len(question.targets) <= 8, f"{about}: number of targets")
        check(len(re.findall(r"</?p>|\[SEG\]|\w+|[^\w\s]", question.answer)) <= MOST_WORDS, f"{about}: too long")
        for target in question.targets:
            check(target.mask.sum() >= least, f"{about}: {target.kind} of {target.mask.sum()} pixels")
            check(target.is_group == (target.instances > 1), f"{about}: group of {target.instances}")
            rows, columns = np.nonzero(target.mask)
            box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / size
            check(np.allclose(box, target.box, atol=1e-9), f"{about}: box {target.box}")
        stacked = np.sum([t.mask for t in question.targets], axis=0)
        check(stacked.max() <= 1, f"{about}: masks overlap")
        expression = re.match(r"(?:Could you provide a segmentation mask for|Describe|Where is) the (.*?)"
                              r"(?: in this image\?| and give its|\? Please)", question.prompt)
        if question.kind in ("referring", "object"):
            target = next(m for m in measured if (m.mask == question.targets[0].mask).all())
            found = possible(expression.group(1), target, measured)
            check([m.one.number for m in found] == [target.one.number],
                  f"{where}: {expression.group(1)!r} may be any of {[(m.one.kind, m.one.colour, m.one.number) for m in found]}")
        if question.kind == "group":
            prompt = re.match(r"(?:Segment all|Are there) (.*?) in this image[.?]", question.prompt).group(1)
            kind = question.targets[0].kind
            text = prompt.replace("football pitches", "football pitch").replace(kind + "s", kind)
            members = [m for m in measured if (m.mask & question.targets[0].mask).any()]
            found = [m for m in possible(text, members[0], measured) if m.one.kind == kind]
            check(found == members and len(members) == question.targets[0].instances,
                  f"{where}: {prompt!r} has {len(members)} members and may have {len(found)}")
            check(question.targets[0].mask.sum() == sum(m.area for m in members), f"{where}: {prompt!r} covers parts of objects")
    check(any(q.kind == "gcg" for q in questions) or not scene.objects, f"{where}: no description")
    return scene, questions


def test_same_seed(seed):
    one, other = render(seed, 256, 0.7), render(seed, 256, 0.7)
    check((one.image == other.image).all() and (one.ids == other.ids).all(), f"seed {seed}: two runs differ")
    texts = [[(q.prompt, q.answer) for q in ask(s, np.random.default_rng(1))] for s in (one, other)]
    check(texts[0] == texts[1], f"seed {seed}: two runs ask differently")
    check((render(seed + 1, 256, 0.7).image != one.image).any(), f"seeds {seed} and {seed + 1} give the same picture")


def test_run_lengths(random):
    for _ in range(200):
        height, width = random.integers(1, 60, 2)
        mask = random.random((height, width)) < random.choice([0.0, 0.02, 0.5, 1.0])
        packed = rle.encode(mask)
        check((rle.decode(packed) == mask).all(), f"run lengths of a mask {height}x{width}")
    # By hand, down the columns: 000 010 010 100.
    mask = np.array([[0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    runs, counts = [4, 1, 2, 1, 1, 1, 2], []
    for place, run in enumerate(runs):
        counts.append(run if place < 3 else run - runs[place - 2])
    text = "".join(chr(48 + (n & 31)) for n in counts)  # each fits five bits
    check(rle.encode(mask)["counts"] == text, f"run lengths {rle.encode(mask)['counts']!r} are not {text!r}")


def test_cache(scene, questions):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.npz"
        write_cache(path, [(scene, questions)] * 2)
        for cached in load_cache(path):
            difference = np.abs(cached.image.astype(int) - scene.image).mean()
            check(difference < 4, f"the cached picture is {difference:.1f} away")
            for one, other in zip(cached.questions, questions, strict=True):
                check((one.kind, one.prompt, one.answer) == (other.kind, other.prompt, other.answer), "a cached text differs")
                for a, b in zip(one.targets, other.targets, strict=True):
                    check((a.mask == b.mask).all() and a.box == b.box and a.instances == b.instances, "a cached target differs")


def main():
    start = int(sys.argv[1]) if len(sys.argv) > 1 else time.time_ns() % 1_000_000_000
    print(f"seed {start}")
    random = np.random.default_rng(start)
    test_run_lengths(random)
    test_same_seed(start)
    words, seen = set(), Counter()
    scene = questions = None
    for number in range(SCENES):
        size = 768 if number % 12 == 11 else 512
        scene, questions = test_scene(start + number, size, round(number % 8 / 7, 3), words, seen)
    test_cache(scene, questions)
    print(f"{sum(seen.values())} objects of {len(seen)} kinds, {len(words)} different words in the answers")
    print(f"{len(failures)} failures")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
