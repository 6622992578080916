#!/usr/bin/env python3
"""Trains geopixel-nano, half by half, then together.

    train.py tokenizer --data FOLDER …            learns the tokenizer from the answers
    train.py ground   --data …                    grounding encoder and mask decoder, asked by class and box
    train.py language --data …                    vision encoder and language model, [SEG] writes class and box
    train.py joint    --data …                    both, through the masks

Each stage goes on where its checkpoint in --run was left, for --minutes in all, and writes a line a minute to
--run/STAGE.csv. `joint` begins with what the two others have. Runs on the CPU, in --processes of one thread each, which do more
than as many threads.
"""

import argparse
import csv
import math
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed as distributed
import torch.nn.functional as F
from torch import Tensor, nn

from data import CODE, KINDS, Conversation, Scenes, Shown, beginning, conversation, doubtful_codes, ground_batch, sight, token_cover, token_places
from evaluate import evaluate_ground, evaluate_language
from model import CODED, SIZES, VISUAL, Nano
from tokenizer import Tokenizer, learn

WARM_UP, DECAY, CLIP = 100, 0.05, 1.0
SIDE = SIZES["grounding"]["image_size"]
GRIDS, GRID_SHARES = [1, 2, 3], [0.25, 0.4, 0.35]  # of crops, as P = 1, 4 and 9 divide a picture
SAVE_EVERY, EVALUATE_EVERY = 300, 600  # seconds


class Helpers(nn.Module):
    """Heads that training alone has: what a patch, an image token or a cell of the grounding maps shows, where an image token
    lies, and the box that a [SEG] means."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.patch = nn.Linear(width, len(KINDS) + 1)
        self.place = nn.Linear(hidden, 2)
        self.cells = nn.ModuleList(nn.Linear(channels, len(KINDS) + 1 + CODED + 2) for channels in (CODE, 64))
        self.box = nn.Sequential(nn.Linear(CODE, 128), nn.ReLU(), nn.Linear(128, 4))
        self.tokens = nn.Linear(hidden, len(KINDS) + 1 + CODED + 2)


# ---- losses

def mask_loss(logits: Tensor, iou: Tensor, masks: Tensor) -> Tensor:
    """2·BCE + 0.5·dice of mask 0, a part of the same of the best of the other three, and the predicted IoUs. The paper's
    weights; logits [n, 4, h, w], masks [n, h, w]."""
    logits, target = logits.float(), masks[:, None].expand_as(logits)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((-1, -2))
    share = logits.sigmoid()
    dice = 1 - (2 * (share * target).sum((-1, -2)) + 1) / (share.sum((-1, -2)) + target.sum((-1, -2)) + 1)
    each = 2 * bce + 0.5 * dice
    inside, truth = logits > 0, target > 0.5
    true_iou = (inside & truth).sum((-1, -2)) / (inside | truth).sum((-1, -2)).clamp(min=1)
    return each[:, 0].mean() + 0.3 * each[:, 1:].min(1).values.mean() + 0.2 * F.mse_loss(iou.float(), true_iou)


def cell_losses(helpers: Helpers, maps: tuple[Tensor, Tensor, Tensor], shown: list[Shown]) -> dict[str, Tensor]:
    """What cells of 16² and 8² pixels show: the kind, and the centre and sides of the object that they belong to."""
    found = [shown_losses(head(one.flatten(2).transpose(1, 2)).float(), truth)
             for head, one, truth in zip(helpers.cells, (maps[0], maps[2]), shown)]
    return {"cell kind": sum(kind for kind, _ in found) / 2, "cell centre": sum(centre for _, centre in found) / 2}


def shown_losses(told: Tensor, truth: Shown) -> tuple[Tensor, Tensor]:
    """Of the kind, and of centre and sides; told [pictures, cells, kinds and values]."""
    known = truth.kinds >= 0
    return (F.cross_entropy(told[known][:, :len(KINDS) + 1], truth.kinds[known]),
            F.mse_loss(told[truth.single][:, len(KINDS) + 1:], truth.values[truth.single]))


def look_loss(looks: list[tuple[Tensor, Tensor]], talk: Conversation, seen: Tensor, images: int) -> Tensor:
    """How little the first heads look from a [SEG] at the image tokens that its object covers."""
    cover = token_cover(talk.wanted.masks, talk.grid)
    cover = (cover / cover.amax(1, keepdim=True).clamp(min=1e-6)).clamp(min=1e-6).log()
    owner, row = talk.segs.nonzero(as_tuple=True)
    row = 1 + images + row
    losses = []
    for queries, keys in looks:
        scores = torch.einsum("sd,std->st", queries[owner, row].float(), keys[owner].float()) / math.sqrt(keys.shape[-1])
        shares = scores.masked_fill(~seen[owner, 0, row], -torch.inf).log_softmax(1)[:, 1:1 + images]
        losses.append(-(shares + cover).logsumexp(1).mean())
    return sum(losses) / len(losses)


def language_losses(model: Nano, helpers: Helpers, talk: Conversation) -> tuple[dict[str, Tensor], Tensor]:
    """The losses by name, and the embedding of each [SEG] [segs, 256]."""
    crops = model.crops(talk.divided)
    features = model.vit(crops.flatten(0, 1)).unflatten(0, crops.shape[:2])
    tokens = model.image_tokens(features, (talk.grid, talk.grid))
    images = tokens.shape[1]
    x = torch.cat([beginning(model, tokens), model.embedded(talk.ids)], 1)
    looks, whole_sight = {}, sight(talk, images)
    hidden = model.language(x, images, sight=whole_sight, looks=looks)
    places, inside = token_places(talk.grid)
    told = helpers.place(hidden[:, 1:1 + images][:, inside]).float()
    hidden = hidden[:, images:]  # the row before each text row, then the last one
    losses = {"text": F.cross_entropy(model.logits(hidden[:, :-1][talk.learnt]).float(), talk.ids[talk.learnt])}
    losses["place"] = F.l1_loss(told, places.expand_as(told))
    segs = model.seg_embeddings(hidden[:, 1:][talk.segs]).float()
    tokens_show = helpers.tokens(looks["before"][:, 1:1 + images][:, inside]).float()
    losses["token kind"], losses["token centre"] = shown_losses(tokens_show, talk.shown)
    losses["look"] = look_loss(looks["heads"], talk, whole_sight[1], images)
    losses["code"] = F.mse_loss(segs, talk.wanted.codes())
    losses["box"] = F.l1_loss(helpers.box(segs).float(), talk.wanted.boxes)
    shown = helpers.patch(features[:, :, 1:]).float()
    known = talk.classes >= 0
    losses["patch"] = F.cross_entropy(shown[known], talk.classes[known])
    return losses, segs


# ---- stages

def batch_language(scenes: Scenes, random: np.random.Generator, tokenizer: Tokenizer, pictures: int, each: int, side: int) -> Conversation:
    drawn = scenes.draw(random, pictures)
    chosen = []
    for scene in drawn:
        questions = scene.questions
        chosen.append([questions[i] for i in random.permutation(len(questions))[:each]])
    return conversation(drawn, chosen, tokenizer, int(random.choice(GRIDS, p=GRID_SHARES)), side)


def step_ground(model, helpers, scenes, random, tokenizer, options) -> dict[str, Tensor]:
    pictures, asked, shown = ground_batch(scenes.draw(random, options.pictures), random, 8, SIDE)
    maps = model.grounding(pictures)
    logits, iou = model.masks(doubtful_codes(asked, random), maps, asked.picture)
    return {"mask": mask_loss(logits, iou, asked.masks), **cell_losses(helpers, maps, shown)}


def step_language(model, helpers, scenes, random, tokenizer, options) -> dict[str, Tensor]:
    return language_losses(model, helpers, batch_language(scenes, random, tokenizer, options.pictures, 5, SIDE))[0]


def step_joint(model, helpers, scenes, random, tokenizer, options) -> dict[str, Tensor]:
    talk = batch_language(scenes, random, tokenizer, options.pictures, 5, SIDE)
    losses, segs = language_losses(model, helpers, talk)
    few = torch.from_numpy(random.permutation(len(segs))[:8 * options.pictures])
    logits, iou = model.masks(segs[few], model.grounding(talk.seen), talk.wanted.picture[few])
    losses["mask"] = mask_loss(logits, iou, talk.wanted.masks[few])
    return losses


STAGES = {"ground": (step_ground, (VISUAL,)), "language": (step_language, ("vit.", "vision_proj", "plora", "model.layers", "model.norm",
          "model.tok", "output", "model.text")), "joint": (step_joint, ("",))}
WEIGHTS = {"text": 1.0, "place": 1.0, "code": 1.0, "box": 2.0, "patch": 0.5, "look": 0.5, "mask": 2.0, "cell kind": 0.3,
           "cell centre": 1.0, "token kind": 0.3, "token centre": 1.0}


def run(options: argparse.Namespace) -> None:
    if options.processes > 1:
        distributed.init_process_group("gloo")
    rank = distributed.get_rank() if distributed.is_initialized() else 0
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    tokenizer = Tokenizer(options.run / "tokenizer")
    model = Nano(tokenizer.vocabulary)
    helpers = Helpers(SIZES["vision"]["hidden_size"], SIZES["language"]["hidden_size"])
    if options.compile:
        model.grounding, model.masks, model.vit = (torch.compile(part) for part in (model.grounding, model.masks, model.vit))
    step, prefixes = STAGES[options.stage]
    matrices, others = divided(model, prefixes)
    trained = [*matrices, *others, *helpers.parameters()]
    optimizers = [torch.optim.Muon(matrices, lr=0, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw"),
                  torch.optim.AdamW([*others, *helpers.parameters()], lr=0, betas=(0.9, 0.98), weight_decay=DECAY)]
    place, seconds, steps = options.run / f"{options.stage}.pt", 0.0, 0
    if place.exists():
        state = torch.load(place, weights_only=True)
        model.load_state_dict(state["model"]), helpers.load_state_dict(state["helpers"])
        for optimizer, its_state in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(its_state)
        seconds, steps = state["seconds"], state["steps"]
    elif options.stage == "joint":
        join(model, helpers, options.run)
    scenes, held = Scenes(options.data), Scenes([options.held], 96)
    random = np.random.default_rng([options.seed, steps, rank])
    print(f"{options.stage}: {len(scenes)} scenes, {sum(p.numel() for p in trained)} parameters, {seconds:.0f} s done", flush=True)
    begun = first_clock() - seconds
    saved = evaluated = told = time.time()
    sums: dict[str, list[float]] = {}
    while seconds < 60 * options.minutes:
        rate = options.rate * min(1, (steps + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * seconds / (60 * options.minutes))))
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = rate
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = step(model, helpers, scenes, random, tokenizer, options)
        sum(WEIGHTS[name] * loss for name, loss in losses.items()).backward()
        average(trained)
        nn.utils.clip_grad_norm_(trained, CLIP)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        steps += 1
        for name, loss in losses.items():
            sums.setdefault(name, []).append(float(loss.detach()))
        now = first_clock()
        seconds = now - begun
        last = seconds >= 60 * options.minutes
        if rank > 0:
            continue
        if now - told >= 60 or last:
            write_line(options, seconds, steps, {name: sum(v) / len(v) for name, v in sums.items()})
            sums, told = {}, now
        if now - evaluated >= EVALUATE_EVERY or last:
            with torch.no_grad():
                figures = {}
                if options.stage != "language":
                    figures.update(evaluate_ground(model, held, SIDE))
                if options.stage != "ground":
                    figures.update(evaluate_language(model, helpers, held, tokenizer, SIDE, options.stage == "joint"))
            write_line(options, seconds, steps, figures)
            evaluated = time.time()
        if now - saved >= SAVE_EVERY or last:
            unfinished = place.with_suffix(".unfinished")
            torch.save({"model": model.state_dict(), "helpers": helpers.state_dict(), "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                        "seconds": seconds, "steps": steps}, unfinished)
            unfinished.replace(place)
            saved = now


def average(trained: list[nn.Parameter]) -> None:
    """Makes the gradients of all processes their mean."""
    if not distributed.is_initialized():
        return
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
    flat = torch.cat([g.flatten() for g in gradients])
    distributed.all_reduce(flat)
    flat /= distributed.get_world_size()
    for p, part in zip(trained, flat.split([g.numel() for g in gradients])):
        p.grad = part.view_as(p)


def first_clock() -> float:
    """The first process's time, so that all end together."""
    clock = torch.tensor([time.time()], dtype=torch.float64)
    if distributed.is_initialized():
        distributed.broadcast(clock, 0)
    return float(clock)


def divided(model: Nano, prefixes: tuple[str, ...]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What a stage trains: the matrices between activations, which Muon makes quicker work of, and everything else."""
    trained = model.of(*prefixes)
    tables = ("tok_embeddings", "output.weight", "position", "Plora", "token.weight", "tokens.weight", "mem_embed", "mask_embed", "point_embed")
    matrices = {id(p) for name, p in model.named_parameters() if p.ndim == 2 and not any(t in name.replace("/", ".") for t in tables)}
    return [p for p in trained if id(p) in matrices], [p for p in trained if id(p) not in matrices]


def join(model: Nano, helpers: Helpers | None, folder: Path) -> None:
    """Each half from its own stage."""
    halves = {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in ("ground", "language")}
    visual = VISUAL.replace(".", "/")
    model.load_state_dict({name: halves["ground" if name.startswith(visual) else "language"]["model"][name] for name in model.state_dict()})
    if helpers is not None:
        helpers.load_state_dict({name: halves["ground" if name.startswith("cells") else "language"]["helpers"][name]
                                 for name in helpers.state_dict()})


def write_line(options: argparse.Namespace, seconds: float, steps: int, values: dict[str, float]) -> None:
    print(f"{seconds / 60:7.1f} min {steps:6d} steps  " + "  ".join(f"{name} {value:.4f}" for name, value in values.items()), flush=True)
    with open(options.run / f"{options.stage}.csv", "a", newline="") as file:
        csv.writer(file).writerows([f"{seconds:.0f}", steps, name, f"{value:.5f}"] for name, value in values.items())


def start(processes: int) -> None:
    """This program again, as often as it is to run, until all have ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {**os.environ, "WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    all_of_them = [subprocess.Popen([sys.executable, *sys.argv], env={**shared, "RANK": str(rank)}) for rank in range(processes)]
    sys.exit(max(abs(one.wait()) for one in all_of_them))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=["tokenizer", *STAGES])
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of shards to learn from")
    parser.add_argument("--held", type=Path, help="the folder of shards to evaluate on")
    parser.add_argument("--run", type=Path, required=True, help="where checkpoints and curves go")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--pictures", type=int, default=4, help="a step")
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--compile", action="store_true", help="minutes of compiling, then steps in two thirds of the time")
    parser.add_argument("--processes", type=int, default=1, help="that share a step, --pictures each")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.stage == "tokenizer":
        texts = [text for scene in Scenes(options.data, 512).scenes for q in scene.questions for text in (q.prompt, q.answer)]
        learn(texts, options.run / "tokenizer")
    elif options.held is None:
        parser.error("--held: what to evaluate on?")
    elif options.processes > 1 and "RANK" not in os.environ:
        start(options.processes)
    else:
        run(options)


if __name__ == "__main__":
    main()
