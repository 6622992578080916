#!/usr/bin/env python3
"""geopixel-nano as it ships: the engine gives the ids and masks that the recipe's PyTorch model gave of the same weights
(tools/nano/expected.json, written by tools/nano/compare_engine.py --keep), and what it draws is right."""
import json, os, subprocess, sys, tempfile, unittest

sys.path.insert(0, os.path.join(os.environ["GEOPIXEL_SOURCE"], "tools", "nano"))
from scenes.rle import decode  # noqa: E402

NANO = os.path.join(os.environ["GEOPIXEL_SOURCE"], "tools", "nano"); PROGRAM = os.path.join(os.environ["GEOPIXEL_BIN"], "geopixel")
MODEL, SCENE = os.path.join(NANO, "model"), os.path.join(NANO, "scene")
SAME = 0.999  # of a mask's pixels: logits differ by the rounding of sums in another order, and those nearer to 0 than that may fall either way


class Nano(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(); self.addCleanup(self.folder.cleanup); self.json = os.path.join(self.folder.name, "out.json")

    def program(self, *arguments):
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True); self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_as_trained(self):
        expected = json.load(open(os.path.join(NANO, "expected.json"))); self.assertGreater(len(expected), 5); self.assertGreater(sum(len(e["masks"]) for e in expected), 5)
        for want in expected:
            self.program("run", os.path.join(SCENE, want["image"]), "--model", MODEL, "--prompt", want["prompt"], "--crops", str(want["crops"]), "--device", "cpu", "-q", "--json", self.json)
            told = json.load(open(self.json)); self.assertEqual(told["token_ids"], want["ids"], want["prompt"]); self.assertEqual(len(told["masks"]), len(want["masks"]))
            for i, (ours, theirs) in enumerate(zip(told["masks"], want["masks"])):
                self.assertGreaterEqual((decode(ours["rle"]) == decode(theirs)).mean(), SAME, f"{want['prompt']}: mask {i}")

    def test_right(self):
        """More than half of what the questions about the shipped scene ask for is masked with IoU 0.5 and more."""
        self.program("eval", "--task", "refseg", "--data", os.path.join(SCENE, "refseg.json"), "--model", MODEL, "--crops", "4", "-q", "--json", self.json)
        figures = json.load(open(self.json)); self.assertGreater(figures["questions"], 2); self.assertEqual(figures["without mask"], 0); self.assertGreater(figures["P@0.5"], 0.5)


if __name__ == "__main__": unittest.main()
