#!/usr/bin/env python3
"""Writes what train.py has learnt as a checkpoint that the engine reads: model.safetensors in bf16, config.json, the tokenizer.

    export.py --run FOLDER --to FOLDER            of stage `joint`, or of the two halves where it has not begun
"""

import argparse
import shutil
from pathlib import Path

import torch

from model import Nano
from tokenizer import Tokenizer
from train import join


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the folder that train.py wrote")
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    model = Nano(Tokenizer(options.run / "tokenizer").vocabulary)
    if (options.run / "joint.pt").exists():
        model.load_state_dict(torch.load(options.run / "joint.pt", weights_only=True)["model"])
    else:
        join(model, None, options.run)
    shutil.copytree(options.run / "tokenizer", options.to, dirs_exist_ok=True)
    model.save(options.to)
    print(f"{options.to}: {sum(p.numel() for p in model.parameters())} parameters")


if __name__ == "__main__":
    main()
