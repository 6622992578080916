"""COCO's run lengths, in the compressed form: runs down the columns, differences, five bits a character.

The format is that of the COCO mask API: counts of zeros and ones in turn, beginning with zeros; from the fourth on, the
difference to the count two before; each number in groups of five bits, low first, bit 5 set where more follow.
"""

import numpy as np

_GROUPS = 7  # of five bits: enough for any 32-bit difference


def encode(mask: np.ndarray) -> dict:
    """{"size": [height, width], "counts": text} of a bool mask [height, width]."""
    flat = np.asarray(mask, bool).T.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [len(flat)]]))
    if len(flat) and flat[0]:
        counts = np.concatenate([[0], counts])
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]
    characters = np.zeros((len(numbers), _GROUPS), np.uint8)
    present = np.zeros((len(numbers), _GROUPS), bool)
    going = np.ones(len(numbers), bool)
    for group in range(_GROUPS):
        bits = numbers & 31
        numbers = numbers >> 5
        more = np.where(bits & 16, numbers != -1, numbers != 0)
        present[:, group] = going
        characters[:, group] = bits + 32 * more + 48
        going &= more
    return {"size": [int(mask.shape[0]), int(mask.shape[1])], "counts": characters[present].tobytes().decode("ascii")}


def decode(rle: dict) -> np.ndarray:
    """bool [height, width] of a compressed run-length mask."""
    height, width = rle["size"]
    codes = np.frombuffer(rle["counts"].encode("ascii"), np.uint8).astype(np.int64) - 48
    last = (codes & 32) == 0
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 16, np.int64(1) << (5 * (ends - starts + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    if numbers.min() < 0 or numbers.sum() != height * width:
        raise ValueError(f"run lengths sum to {numbers.sum()}, the mask has {height} by {width} pixels")
    return np.repeat(np.arange(len(numbers)) % 2 == 1, numbers).reshape(width, height).T
