#!/usr/bin/env python3
"""complete.py COMMITTED OUT PARITY [ARGUMENT …]: makes the checkpoint of a folder of tests/parity/random in OUT, checks that it is the one the
results were computed from, and runs PARITY on it; an
argument @ stands for OUT, and without arguments OUT is the only one."""
import os, shutil, subprocess, sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../tools"))
import random_model

committed, out, parity = sys.argv[1:4]
arguments = [out if a == "@" else a for a in sys.argv[4:]] or [out]
shutil.rmtree(out, ignore_errors=True)
shutil.copytree(committed, out)
random_model.write_model(os.path.join(out, "checkpoint"), random_model.read_spec(os.path.join(out, "spec.json")))
have, want = random_model.weights_crc(os.path.join(out, "checkpoint")), int(open(os.path.join(out, "crc32")).read())
if have != want: sys.exit(f"{committed}: the weights made here have CRC-32 {have}, those of the results {want}")
sys.exit(subprocess.run([parity, *arguments]).returncode)
