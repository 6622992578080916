#!/usr/bin/env python3
"""geopixel bench: rows, files, refusals. How fast anything is, no test says."""
import json, os, pty, re, select, shutil, subprocess, tempfile, unittest

BIN = os.environ["GEOPIXEL_BIN"]; PROGRAM = os.path.join(BIN, "geopixel"); MODEL = os.path.join(BIN, "..", "tests", "random_model")


def bench(*arguments): return subprocess.run([PROGRAM, "bench", *arguments], capture_output=True, text=True)


class Bench(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(); self.addCleanup(self.folder.cleanup); self.json = os.path.join(self.folder.name, "bench.json")

    def measure(self, *arguments):
        done = bench(*arguments, "--model", MODEL, "--tile", "64", "--crops", "1", "--max-new-tokens", "5", "--json", self.json); self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, json.load(open(self.json))

    def test_offline(self):
        """One row a batch, doubling up to the one that was named, and the session's; shares of the first row."""
        out, report = self.measure("offline", "--requests", "5", "--batch", "3")
        rows = report["rows"]; self.assertEqual([r["batch"] for r in rows[:-1]], [1, 2, 3]); self.assertEqual(rows[0]["beside batch 1"], 1)
        for row in rows[:-1]:
            self.assertAlmostEqual(row["beside batch 1"], row["requests a second"] / rows[0]["requests a second"], places=9); self.assertGreater(row["prompt tokens a second"], row["tokens a second"])
        self.assertGreater(rows[-1]["seconds apart"], 0); self.assertGreater(rows[-1]["seconds in a session"], 0)
        self.assertIn("5 requests, 64 x 64 pixels", out); self.assertIn("5 questions about one picture", out); self.assertEqual(report["requests"], 5)

    def test_latency(self):
        out, report = self.measure("latency", "--requests", "6", "--rate", "50", "--batch", "2")
        names = [r["seconds"] for r in report["rows"]]; self.assertEqual(names, ["to the first token", "a token after it", "to the end"])
        for row in report["rows"]: self.assertTrue(0 < row["p50"] <= row["p90"] <= row["p99"], row)
        self.assertLess(report["rows"][0]["p50"], report["rows"][2]["p50"]); self.assertIn("50 a second asked", out)

    def test_devices(self):
        """Copies of the model and parts of it: each request is answered."""
        out, report = self.measure("offline", "--requests", "4", "--batch", "2", "--tp", "2", "--dp", "2", "--threads", "4"); self.assertEqual((report["ranks"], report["replicas"], len(report["rows"])), (2, 2, 3))

    def test_dummy_weights(self):
        """Neither folder has weights: one the tokenizer, one sizes."""
        tokens, sizes = (os.path.join(self.folder.name, name) for name in ("tokens", "sizes"))
        for folder, names in ((tokens, ("tokenizer.model", "added_tokens.json", "special_tokens_map.json")), (sizes, ("config.json",))):
            os.mkdir(folder)
            for name in names: shutil.copy(os.path.join(MODEL, name), folder)
        done = bench("offline", "--model", tokens, "--dummy-weights", sizes, "--requests", "2", "--batch", "2", "--tile", "64", "--crops", "1", "--max-new-tokens", "5", "--json", self.json)
        self.assertEqual(done.returncode, 0, done.stderr); report = json.load(open(self.json))
        self.assertEqual((report["dummy weights"], [r["batch"] for r in report["rows"][:-1]]), (sizes, [1, 2])); self.assertGreater(report["rows"][0]["tokens a second"], 0)
        for words, arguments in (("config.json", ("--model", tokens)), ("nowhere", ("--model", tokens, "--dummy-weights", "nowhere")), ("tokenizer.model", ("--model", sizes, "--dummy-weights", sizes))):
            done = bench("offline", *arguments); self.assertEqual(done.returncode, 1, done.stdout); self.assertIn(words, done.stderr)

    def test_loading(self):
        """A bar on a terminal's standard error, taken away at the end; nothing where that is none."""
        arguments = ("offline", "--model", MODEL, "--requests", "1", "--batch", "1", "--tile", "64", "--crops", "1", "--max-new-tokens", "3")
        self.assertEqual(bench(*arguments).stderr, "")
        master, slave = pty.openpty(); self.addCleanup(os.close, master); self.addCleanup(os.close, slave); seen = ""
        child = subprocess.Popen([PROGRAM, "bench", *arguments], stdout=subprocess.DEVNULL, stderr=slave, env={**os.environ, "TERM": "xterm"})
        while child.poll() is None or select.select([master], [], [], 0)[0]:
            if select.select([master], [], [], 0.1)[0]: seen += os.read(master, 4096).decode()
        self.assertEqual(child.returncode, 0, seen); first = seen.split("\r\x1b[K" * 2)[0]
        shares = [(len(full), len(rest), int(percent)) for full, rest, percent in re.findall(r"loading the model \[(#*)(\.*)\] (\d+) %", first)]
        self.assertEqual((shares[0], shares[-1]), ((0, 20, 0), (20, 0, 100))); self.assertEqual(shares, sorted(shares, key=lambda s: s[2]))
        for full, rest, percent in shares: self.assertEqual((full, full + rest), (percent // 5, 20))
        self.assertTrue(seen.endswith("\r\x1b[K"), seen[-80:])

    def test_refusals(self):
        for code, words, arguments in ((2, "offline or latency", ()), (2, "sideways is no measurement", ("sideways", "--model", MODEL)), (2, "--model is missing", ("offline",)),
                                       (2, "--batch", ("offline", "--model", MODEL, "--batch", "65")), (1, "none.tif", ("offline", "--model", MODEL, "--image", "none.tif")),
                                       (1, "nowhere", ("latency", "--model", "nowhere")), (1, "context", ("offline", "--model", MODEL, "--tile", "64", "--max-new-tokens", "5000"))):
            done = bench(*arguments); self.assertEqual(done.returncode, code, (arguments, done.stderr)); self.assertIn(words, done.stderr)
        done = bench("offline", "--model", "nowhere", "--json", self.json); self.assertEqual((done.returncode, os.listdir(self.folder.name)), (1, []))
        self.assertEqual(bench("--help").returncode, 0)


if __name__ == "__main__": unittest.main()
