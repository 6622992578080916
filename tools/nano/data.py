"""Batches from the shards that `make_scenes.py --cache` writes.

Two kinds: pictures with masks that a class and a box ask for (the grounding half), and pictures with questions and answers (the
language half). What a [SEG] should say of its object is `described`: a fixed code of class, box and whether it is a group, so
that both halves can be trained at the same time, one to read the code, the other to write it.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from model import SIZES, TURNS, cell_places, place_code, place_frequencies, short_code
from scenes import load_cache
from scenes.questions import Question, Target
from tokenizer import BOS, Tokenizer

KINDS = ["airplane", "apron", "basketball court", "boat", "building", "car", "container", "field", "football pitch", "forest",
         "harbour", "house", "lake", "parking lot", "pier", "pond", "river", "road", "running track", "runway", "sea", "ship",
         "storage tank", "swimming pool", "tennis court", "tree", "truck", "warehouse"]
CODE = 256
FREQUENCIES = (0.5, 1.0, 2.0, 4.0)  # of the box's sides and size, in turns a picture


class Scenes:
    """All scenes of the folders' shards."""

    def __init__(self, folders: list[Path], most: int | None = None):
        shards = sorted(shard for folder in folders for shard in folder.glob("shard-*.npz"))
        self.scenes = [scene for shard in shards for scene in load_cache(shard)][:most]

    def __len__(self) -> int:
        return len(self.scenes)

    def draw(self, random: np.random.Generator, count: int) -> list:
        return [self.scenes[i] for i in random.integers(len(self.scenes), size=count)]


# ---- what a [SEG] says

_fixed = torch.Generator().manual_seed(2501)
_KIND_CODES = 0.5 * torch.randn(len(KINDS) + 1, 64, generator=_fixed)
_GROUP_CODES = 0.5 * torch.randn(2, 16, generator=_fixed)
_REST = torch.randn(128, 2, 2, 64 // len(TURNS), len(TURNS), generator=_fixed)  # a place's code is the same along dimension 3
_REST = torch.linalg.qr((_REST - _REST.mean(3, keepdim=True)).flatten(1).T)[0].T * math.sqrt(128 / 44)  # [128, 256]


def kind_number(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def described(kinds: Tensor, boxes: Tensor, groups: Tensor) -> Tensor:
    """kinds and groups i64 [n], boxes f32 [n, 4] (x0, y0, x1, y1 as shares of the picture) → codes [n, 256]:
    the place of the centre as the mask decoder writes it, and beside it the rest."""
    low, high = boxes[:, :2], boxes[:, 2:]
    place = place_code(low + high - 1, place_frequencies())
    angle = 2 * math.pi * torch.cat([low, high, high - low], 1)[:, :, None] * torch.tensor(FREQUENCIES)
    rest = torch.cat([angle.sin().flatten(1), angle.cos().flatten(1), _KIND_CODES[kinds], _GROUP_CODES[groups]], 1)
    return place + rest @ _REST


@dataclass
class Wanted:
    """What is to be masked: [n] each; `picture` says in which picture of the batch."""
    picture: Tensor
    kinds: Tensor
    boxes: Tensor
    groups: Tensor
    masks: Tensor  # [n, h, w], the share of each cell that the object covers

    def codes(self, boxes: Tensor | None = None) -> Tensor:
        return described(self.kinds, self.boxes if boxes is None else boxes, self.groups)


def wanted(targets: list[Target], pictures: list[int], side: int) -> Wanted:
    masks = torch.from_numpy(np.stack([t.mask for t in targets])).float()[:, None]
    return Wanted(torch.tensor(pictures), torch.tensor([kind_number(t.kind) for t in targets]),
                  torch.tensor([t.box for t in targets], dtype=torch.float32), torch.tensor([int(t.is_group) for t in targets]),
                  F.adaptive_avg_pool2d(masks, side)[:, 0])


def doubtful_codes(asked: Wanted, random: np.random.Generator, guesses: int = 6) -> Tensor:
    """Codes as a language model writes them that is more or less sure of the box: a wrong box, and of it not the code but the
    mean of those that are as likely, which is what squared error makes of doubt."""
    doubt = torch.from_numpy(random.choice([0.1, 0.5, 1.0, 2.0], size=(len(asked.boxes), 1))).float()
    middle = jittered(asked.boxes, doubt, random)
    return torch.stack([asked.codes(jittered(middle, doubt, random)) for _ in range(guesses)]).mean(0)


def jittered(boxes: Tensor, doubt: Tensor, random: np.random.Generator) -> Tensor:
    """Boxes moved and scaled at random; at doubt 1 by a tenth of their size and a fiftieth of the picture."""
    noise = torch.from_numpy(random.normal(size=(len(boxes), 4))).float() * doubt
    size = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + noise[:, :2] * (0.02 + 0.1 * size)
    size = size * (0.2 * noise[:, 2:]).exp()
    return torch.cat([centre - size / 2, centre + size / 2], 1)


# ---- pictures

def scaled(picture: np.ndarray, side: int) -> np.ndarray:
    return picture if len(picture) == side else np.asarray(Image.fromarray(picture).resize((side, side), Image.BILINEAR))


def stacked(pictures: list[np.ndarray]) -> Tensor:
    """u8 [h, w, 3] each → [n, 3, h, w]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def turned(target: Target, flip: bool, quarters: int) -> Target:
    mask = np.rot90(target.mask[:, ::-1] if flip else target.mask, quarters)
    x0, y0, x1, y1 = target.box
    if flip:
        x0, x1 = 1 - x1, 1 - x0
    for _ in range(quarters):  # anticlockwise: (x, y) → (y, 1 − x)
        x0, y0, x1, y1 = y0, 1 - x1, y1, 1 - x0
    return Target(np.ascontiguousarray(mask), target.kind, target.is_group, (x0, y0, x1, y1), target.instances)


@dataclass
class Shown:
    """What the cells of a map show, [pictures, cells]: the kind of thing (−1: unknown), whether that is a single object, and of
    that the code of its centre and the logarithms of its sides [pictures, cells, CODED + 2]."""
    kinds: Tensor
    single: Tensor
    values: Tensor


def shown(targets: list[list[Target]], side: int) -> Shown:
    """At the centres of side × side cells of each picture."""
    kinds = torch.full((len(targets), side * side), -1)
    single = torch.zeros(len(targets), side * side, dtype=torch.bool)
    boxes = torch.ones(len(targets), side * side, 4)
    for row, those in enumerate(targets):
        for target in sorted(those, key=lambda t: -int(t.mask.sum())):  # small things last
            at = ((np.arange(side) + 0.5) * len(target.mask) / side).astype(int)
            here = torch.from_numpy(target.mask[np.ix_(at, at)]).flatten()
            kinds[row, here] = kind_number(target.kind)
            if not target.is_group:
                single[row, here] = True
                boxes[row, here] = torch.tensor(target.box, dtype=torch.float32)
    low, high = boxes[..., :2], boxes[..., 2:]
    return Shown(kinds, single, torch.cat([short_code(low + high - 1), (high - low).clamp(min=1e-3).log()], 2))


def together(parts: list[Shown]) -> Shown:
    return Shown(*(torch.cat([getattr(part, name) for part in parts], 1) for name in ("kinds", "single", "values")))


def ground_batch(scenes: list, random: np.random.Generator, each: int, side: int) -> tuple[Tensor, Wanted, list[Shown]]:
    """Pictures in any of eight turns [n, 3, side, side], `each` objects of each, and what cells show of 16² and 8² pixels."""
    pictures, targets, owners, all_targets = [], [], [], []
    for scene in scenes:
        flip, quarters = bool(random.integers(2)), int(random.integers(4))
        found = [t for q in scene.questions for t in q.targets]
        picture = np.rot90(scene.image[:, ::-1] if flip else scene.image, quarters)
        found = [turned(t, flip, quarters) for t in found]
        all_targets.append(found)
        for i in random.choice(len(found), each, replace=len(found) < each):
            targets.append(found[i])
            owners.append(len(pictures))
        pictures.append(scaled(np.ascontiguousarray(picture), side))
    return stacked(pictures), wanted(targets, owners, side // 4), [shown(all_targets, side // cell) for cell in (16, 8)]


@dataclass
class Conversation:
    """Questions about pictures, ready for the language model: all of a picture's one after the other behind its image, each
    blind to the others; padded on the right."""
    divided: Tensor  # u8 [pictures, 3, grid·side, grid·side]
    grid: int
    ids: Tensor        # [pictures, length], questions and answers
    questions: Tensor  # [pictures, length], which question; −1 for padding
    positions: Tensor  # [pictures, length], counted from the image's end
    learnt: Tensor     # bool [pictures, length]: ids of answers
    segs: Tensor       # bool [pictures, length]: where [SEG] is the input
    wanted: Wanted     # one an entry of `segs`, in order
    seen: Tensor       # u8 [pictures, 3, side, side], what the grounding encoder sees
    classes: Tensor    # [pictures, 1 + grid², 256]: the kind at the centre of each patch, −1 where it is not known
    shown: "Shown"     # by the cells of the image tokens that lie anywhere


def conversation(scenes: list, chosen: list[list[Question]], tokenizer: Tokenizer, grid: int, side: int) -> Conversation:
    """`side` is that of the picture that the grounding encoder will see."""
    crop = SIZES["vision"]["image_size"]
    pictures = [scene.image for scene in scenes]
    texts = [[(tokenizer.question(q.prompt), tokenizer.answer(q.answer)) for q in questions] for questions in chosen]
    shape = (len(pictures), max(sum(len(q) + len(a) for q, a in row) for row in texts))
    ids, positions = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    questions, learnt = torch.full(shape, -1), torch.zeros(shape, dtype=torch.bool)
    for row, pairs in enumerate(texts):
        at = 0
        for number, (question, answer) in enumerate(pairs):
            middle, end = at + len(question), at + len(question) + len(answer)
            ids[row, at:end], positions[row, at:end] = torch.tensor(question + answer), torch.arange(end - at)
            questions[row, at:end], learnt[row, middle:end], at = number, True, end
    targets = [(t, i) for i, row in enumerate(chosen) for q in row for t in q.targets]
    everything = [[t for q in scene.questions for t in q.targets] for scene in scenes]
    classes = [patch_classes(those, len(p), grid) for those, p in zip(everything, pictures)]
    cells = crop // SIZES["vision"]["patch_size"] // 2
    return Conversation(stacked([scaled(p, crop * grid) for p in pictures]), grid, ids, questions, positions, learnt,
                        learnt & (ids == tokenizer.seg), wanted([t for t, _ in targets], [i for _, i in targets], side // 4),
                        stacked([scaled(p, side) for p in pictures]), torch.stack(classes),
                        together([shown(everything, cells), shown(everything, cells * grid)]))


def sight(talk: Conversation, images: int) -> tuple[Tensor, Tensor]:
    """For rows <s>, image, texts: positions [pictures, rows], and who sees whom [pictures, 1, rows, rows]."""
    length = talk.ids.shape[1]
    before = 1 + images
    positions = torch.cat([torch.arange(before).expand(len(talk.ids), -1), before + talk.positions], 1)
    seen = torch.ones(before + length, before + length, dtype=torch.bool).tril().repeat(len(talk.ids), 1, 1)
    seen[:, before:, before:] &= talk.questions[:, :, None] == talk.questions[:, None, :]
    return positions, seen[:, None]


def patch_classes(targets: list[Target], size: int, grid: int) -> Tensor:
    """The kind of what lies at the centre of each of the encoder's patches: of the whole view, then of each crop."""
    patches = SIZES["vision"]["image_size"] // SIZES["vision"]["patch_size"]
    kinds = np.full((size, size), -1, np.int64)
    for target in sorted(targets, key=lambda t: -int(t.mask.sum())):  # small things last
        kinds[target.mask] = kind_number(target.kind)

    def at_centres(count: int) -> np.ndarray:
        centres = ((np.arange(count) + 0.5) * size / count).astype(int)
        return kinds[np.ix_(centres, centres)]

    crops = at_centres(patches * grid).reshape(grid, patches, grid, patches).transpose(0, 2, 1, 3).reshape(grid * grid, -1)
    return torch.from_numpy(np.concatenate([at_centres(patches).reshape(1, -1), crops]))


def token_places(grid: int) -> tuple[Tensor, Tensor]:
    """Where the image tokens of grid × grid crops lie: the places of those that lie anywhere [n, 2] (x, y as shares of the
    picture), and which they are, bool [tokens]; the separators are nowhere."""
    side = SIZES["vision"]["image_size"] // SIZES["vision"]["patch_size"] // 2

    def view(count: int) -> tuple[Tensor, Tensor]:
        inside = F.pad(torch.ones(count, count, dtype=torch.bool), (0, 1)).flatten()  # a separator after each row
        return (cell_places(count) + 1) / 2, inside

    whole, crops = view(side), view(side * grid)
    return torch.cat([whole[0], crops[0]]), torch.cat([whole[1], torch.zeros(1, dtype=torch.bool), crops[1]])


def token_cover(masks: Tensor, grid: int) -> Tensor:
    """masks [n, h, w] → the share that each covers of each image token's cell [n, tokens]; of separators nothing."""
    side = SIZES["vision"]["image_size"] // SIZES["vision"]["patch_size"] // 2
    whole, crops = (F.pad(F.adaptive_avg_pool2d(masks[:, None], count)[:, 0], (0, 1)).flatten(1) for count in (side, side * grid))
    return torch.cat([whole, torch.zeros(len(masks), 1), crops], 1)


def beginning(model, tokens: Tensor) -> Tensor:
    """Image tokens [n, t, hidden] with <s> before them."""
    return torch.cat([model.embedded(torch.full((len(tokens), 1), BOS)), tokens], 1)
