#!/usr/bin/env python3
"""Draws how a training went, from the .csv files that train.py writes.

    curves.py --run FOLDER --to curves.png
"""

import argparse
import csv
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

STAGES = {"ground": "masks, asked by class and box", "language": "words and places", "joint": "both, through the masks"}
FIGURES = ("told mIoU", "told P@0.5", "held box IoU", "asked mIoU", "asked P@0.5")  # shares; everything else is a loss


def read(path: Path) -> dict[str, tuple[list[float], list[float]]]:
    """Minutes and values by name."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    with open(path, newline="") as file:
        for seconds, _, name, value in csv.reader(file):
            minutes, values = curves.setdefault(name, ([], []))
            minutes.append(float(seconds) / 60)
            values.append(float(value))
    return curves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the folder that train.py wrote")
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    stages = [stage for stage in STAGES if (options.run / f"{stage}.csv").exists()]
    figure, axes = pyplot.subplots(2, len(stages), figsize=(5 * len(stages), 7), squeeze=False)
    for column, stage in enumerate(stages):
        losses, shares = axes[0][column], axes[1][column]
        for name, (minutes, values) in read(options.run / f"{stage}.csv").items():
            if name in FIGURES:
                shares.plot(minutes, values, marker="o", label=name.replace("held ", ""))
            elif not name.startswith("held"):
                losses.plot(minutes, values, linewidth=1, label=name)
        losses.set(title=f"{stage}: {STAGES[stage]}", yscale="log", ylabel="loss" if column == 0 else "")
        shares.set(xlabel="minutes on two cores", ylim=(0, 1), ylabel="held-out scenes" if column == 0 else "")
        for one in (losses, shares):
            one.grid(alpha=0.3)
            one.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(options.to, dpi=80)


if __name__ == "__main__":
    main()
