#!/usr/bin/env python3
"""Draws throughput against how many requests run together, from what `geopixel bench offline --json` wrote.

    plot_batch.py FIGURES.json PICTURE.png        needs matplotlib
"""

import json
import sys

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

if len(sys.argv) != 3:
    sys.exit(__doc__)
with open(sys.argv[1]) as file:
    report = json.load(file)
rows = [row for row in report["rows"] if "batch" in row]
figure, axes = pyplot.subplots(figsize=(5, 3.2))
axes.plot([row["batch"] for row in rows], [row["requests a second"] for row in rows], marker="o")
axes.set(xscale="log", xlabel="requests at the same time", ylabel="answers a second", title=f"{report['model']}, {report['width']} x {report['height']}")
axes.set_xticks([row["batch"] for row in rows], [str(row["batch"]) for row in rows])
axes.set_ylim(bottom=0)
axes.grid(alpha=0.3)
figure.tight_layout()
figure.savefig(sys.argv[2], dpi=90)
