"""Figures on held-out scenes while training: how well masks answer a class and a box, and a [SEG]."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data import Scenes, conversation, scaled, stacked, wanted


def overlaps(logits: Tensor, masks: list[np.ndarray]) -> list[float]:
    """IoU of each chosen logit map, brought to the scene's size, with its mask."""
    found = []
    for one, mask in zip(logits, masks):
        drawn = F.interpolate(one[None, None].float(), mask.shape, mode="bilinear", align_corners=False)[0, 0].numpy() > 0
        found.append(float((drawn & mask).sum() / max(1, (drawn | mask).sum())))
    return found


def summary(name: str, found: list[float]) -> dict[str, float]:
    return {f"{name} mIoU": float(np.mean(found)), f"{name} P@0.5": float(np.mean(np.array(found) >= 0.5))}


def evaluate_ground(model, held: Scenes, side: int) -> dict[str, float]:
    """Masks of what referring questions ask for, given the true class and box."""
    found = []
    for scene in held.scenes:
        targets = [t for q in scene.questions if q.kind == "referring" for t in q.targets]
        if not targets:
            continue
        asked = wanted(targets, [0] * len(targets), side // 4)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits, iou = model.masks(asked.codes(), model.grounding(stacked([scaled(scene.image, side)])), asked.picture)
        found += overlaps(model.chosen(logits.float(), iou.float()), [t.mask for t in targets])
    return summary("told", found)


def evaluate_language(model, helpers, held: Scenes, tokenizer, side: int, masks: bool) -> dict[str, float]:
    """With the answers given word by word: the share of words foreseen, of [SEG] codes near the right ones, and, where the
    grounding half is trained too, the masks of referring questions."""
    from train import language_losses  # which needs this file too

    sums: dict[str, list[float]] = {}
    found = []
    for scene in held.scenes:
        questions = [q for q in scene.questions if q.kind == "referring"]
        if not questions:
            continue
        talk = conversation([scene], [questions], tokenizer, 2, side)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses, segs = language_losses(model, helpers, talk)
            for name, value in losses.items():
                sums.setdefault(f"held {name}", []).append(float(value))
            boxes = helpers.box(segs).float()
            if masks:
                logits, iou = model.masks(segs, model.grounding(stacked([scaled(scene.image, side)])), talk.wanted.picture)
                found += overlaps(model.chosen(logits.float(), iou.float()), [t.mask for q in questions for t in q.targets])
        low, high = torch.maximum(boxes[:, :2], talk.wanted.boxes[:, :2]), torch.minimum(boxes[:, 2:], talk.wanted.boxes[:, 2:])
        both = (high - low).clamp(min=0).prod(1)
        areas = [(b[:, 2:] - b[:, :2]).clamp(min=0).prod(1) for b in (boxes, talk.wanted.boxes)]
        sums.setdefault("held box IoU", []).append(float((both / (areas[0] + areas[1] - both).clamp(min=1e-9)).mean()))
    figures = {name: float(np.mean(values)) for name, values in sums.items()}
    return {**figures, **(summary("asked", found) if masks else {})}
