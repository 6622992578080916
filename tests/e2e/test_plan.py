#!/usr/bin/env python3
"""geopixel plan: lines that add up, the largest batch, refusals. No weights, no GPU."""
import json, os, subprocess, unittest

BIN = os.environ["GEOPIXEL_BIN"]; PROGRAM = os.path.join(BIN, "geopixel"); MODEL = os.path.join(BIN, "..", "tests", "random_model")
LINES = {"weights", "converted", "kv_cache", "requests", "stage", "workspace", "sums", "others"}


def plan(*arguments): return subprocess.run([PROGRAM, "plan", *arguments], capture_output=True, text=True)


class Plan(unittest.TestCase):
    def document(self, *arguments, code=0):
        """The document; the form for people has the same exit code and tells the same batch."""
        done, plain = plan(*arguments, "--json"), plan(*arguments)
        self.assertEqual((done.returncode, plain.returncode), (code, code), done.stderr + plain.stderr); self.assertEqual(done.stderr, plain.stderr)
        found = json.loads(done.stdout)
        for memory in [found["memory"]] + ([found["largest"]["memory"]] if found["largest"] and found["largest"]["memory"] else []):
            self.assertEqual(set(memory), LINES | {"total"}); self.assertEqual(sum(memory[k] for k in LINES), memory["total"])
        if found["largest"]: self.assertIn(f"the largest batch that fits is {found['largest']['requests']}", plain.stdout)
        return found

    def test_official(self):
        """GeoPixel-7B on an H200: 8.9 G parameters of 2 bytes, 128 KiB of keys and values a token."""
        found = self.document("--model", "7b", "--gpu", "h200", "--tile", "4096"); memory, largest = found["memory"], found["largest"]
        self.assertEqual((found["model"], found["device"], found["width"], found["requests"], found["estimated"]), ("GeoPixel-7B", "cuda", 4096, 1, ["others"]))
        self.assertEqual(memory["weights"] // 10 ** 8, 178); self.assertEqual(memory["kv_cache"], found["cache_tokens"] * 131072)
        self.assertEqual(found["context"], found["image_tokens"] + found["text_tokens"] + found["max_new_tokens"]); self.assertEqual(found["cache_tokens"], -(-found["context"] // 64) * 64)
        self.assertTrue(1 < largest["requests"] < 64); self.assertLessEqual(largest["memory"]["total"], found["gpu"]["bytes"])
        for line in ("kv_cache", "requests"): self.assertEqual(largest["memory"][line], largest["requests"] * memory[line])
        more = self.document("--gpu", "h200", "--tile", "4096", "--requests", str(largest["requests"] + 1), code=1)
        self.assertGreater(more["memory"]["total"], found["gpu"]["bytes"]); self.assertEqual(more["largest"], largest)

    def test_gpus(self):
        """The language model's matrices, all but the embeddings, and keys and values are shared out; all else is on every GPU, the largest batch grows."""
        one = self.document("--gpu", "rtx4090", "--tile", "2048"); shared = (4096 * 6144 + 4096 * 4096 + 3 * 4096 * 14336) * 32 * 2 + 92544 * 4096 * 2
        for gpus in (2, 4, 8):
            found = self.document("--gpu", "rtx4090", "--tile", "2048", "--gpus", str(gpus)); memory = found["memory"]; self.assertEqual(found["gpus"], gpus)
            self.assertEqual(memory["kv_cache"] * gpus, one["memory"]["kv_cache"]); self.assertGreaterEqual(found["largest"]["requests"], one["largest"]["requests"] * 2)
            saved = one["memory"]["weights"] - memory["weights"]; self.assertGreater(saved, shared * (gpus - 1) / gpus); self.assertLess(saved, shared * (gpus - 1) / gpus * 1.09)
            for line in ("converted", "requests", "others"): self.assertEqual(memory[line], one["memory"][line])

    def test_limits(self):
        """Each limit that is tighter needs less; a checkpoint's folder is planned for as it is."""
        usual = self.document("--gpu", "30")
        for tighter in (("--crops", "4"), ("--max-crops", "4"), ("--max-new-tokens", "20"), ("--context", "2000")):
            found = self.document("--gpu", "30", *tighter); self.assertLess(found["memory"]["total"], usual["memory"]["total"], tighter); self.assertGreaterEqual(found["largest"]["requests"], usual["largest"]["requests"])
        self.assertLessEqual(self.document("--max-crops", "4")["crops"], 4); self.assertIsNone(usual["gpu"] and self.document()["largest"])
        small = self.document("--model", MODEL, "--gpu", "2", "--tile", "200"); self.assertEqual(small["largest"]["requests"], 64); self.assertLess(small["memory"]["weights"], 10 ** 8)

    def test_refusals(self):
        for code, words, arguments in ((2, "h200 h100", ("--gpu", "z9")), (2, "--gpu", ("--gpu", "-3")), (2, "--tile", ("--tile", "0")), (2, "--requests", ("--requests", "65")), (2, "--gpus", ("--gpus", "65")),
                                       (2, "no file", ("scene.tif",)), (1, "nowhere", ("--model", "nowhere")), (1, "context", ("--context", "1000000")), (1, "the GPU has 8.00 GiB", ("--gpu", "8"))):
            done = plan(*arguments); self.assertEqual(done.returncode, code, (arguments, done.stderr)); self.assertIn(words, done.stderr)
        self.assertEqual(self.document("--gpu", "8", code=1)["largest"], {"requests": 0, "memory": None}); self.assertEqual(plan("--help").returncode, 0)


if __name__ == "__main__": unittest.main()
