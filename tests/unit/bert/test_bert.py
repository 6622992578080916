#!/usr/bin/env python3
"""runtime/bert.c beside bert_reference.py, on random models and texts: ids, embeddings, similarities, refusals. Needs python3-numpy.
GEOPIXEL_TEST_SEED repeats a run."""
import json, math, os, random, shutil, subprocess, sys, tempfile, unittest

try:
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}"); sys.exit(77)
import bert_reference as bert

EMBED = os.path.join(os.environ.get("GEOPIXEL_BIN", "build/bin"), "../tests/bert_embed")
SEED = int(os.environ.get("GEOPIXEL_TEST_SEED", "0"), 0) or random.SystemRandom().randrange(1, 1 << 32)
print(f"seed: GEOPIXEL_TEST_SEED={SEED}", flush=True)
rng = np.random.default_rng(SEED)


class Base(unittest.TestCase):
    def new_folder(self):
        folder = tempfile.mkdtemp(prefix="geopixel-bert-"); self.addCleanup(shutil.rmtree, folder); return folder

    def make(self, texts, hidden=48, heads=3, inner=77, layers=2, positions=40, kinds=2, extra=3, words=None, **how):
        """A random model whose vocabulary cuts the texts."""
        words = words or {}; pieces = bert.random_pieces(rng, texts, **words)
        config = {"model_type": "bert", "hidden_act": "gelu", "vocab_size": len(pieces) + extra, "hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": inner,
                  "num_hidden_layers": layers, "max_position_embeddings": positions, "type_vocab_size": kinds, "layer_norm_eps": 1e-12}
        folder = self.new_folder()
        self.weights = bert.write_folder(folder, config, bert.random_weights(rng, config), pieces, **how)
        self.config, self.pieces, self.vocabulary = config, pieces, {p: i for i, p in enumerate(pieces)}
        return folder

    def ask(self, folder, texts, threads=1):
        """An answer a text, str or bytes; of a folder that is refused, the error's text."""
        lines = "".join((t if isinstance(t, bytes) else t.encode()).hex() + "\n" for t in texts)
        done = subprocess.run([EMBED, folder, str(threads)], input=lines.encode(), stdout=subprocess.PIPE)
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        if done.returncode == 1: return answers[0]["error"]
        self.assertEqual(done.returncode, 0); self.assertEqual(len(answers), len(texts)); return answers


class Tokens(Base):
    def check(self, texts, **words):
        flags = {"do_lower_case": words.get("lower", True), "strip_accents": words.get("strip", True), "tokenize_chinese_chars": words.get("chinese", True)}
        folder = self.make(texts, hidden=8, heads=1, inner=8, layers=1, positions=300, words=words, tokenizer=flags); known = 0
        for text, answer in zip(texts, self.ask(folder, texts)):
            want = bert.ids_of(text, self.vocabulary, 300, **words)
            self.assertEqual([self.pieces[i] for i in answer["ids"]], [self.pieces[i] for i in want], ascii(text)); self.assertEqual(answer["ids"], want)
            known += len(want) - want.count(self.vocabulary["[UNK]"]) - 2
        self.assertGreater(known, 3 * len(texts))

    def test_texts(self): self.check(bert.TEXTS + [bert.random_text(rng) for _ in range(400)])

    def test_options(self):
        for lower, strip, chinese in ((False, False, True), (True, False, True), (False, True, False), (True, True, False)):
            self.check(bert.TEXTS + [bert.random_text(rng) for _ in range(60)], lower=lower, strip=strip, chinese=chinese)

    def test_defaults(self):
        texts = ["Édge HOUSE 水田x"]; options = {"lower": False, "strip": False}
        for tokenizer, words in ((None, {}), ({}, {}), ({"do_lower_case": False, "strip_accents": None}, options), ({"do_lower_case": True, "strip_accents": False}, {"strip": False})):
            folder = self.make(texts, words=words, tokenizer=tokenizer)
            self.assertEqual(self.ask(folder, texts)[0]["ids"], bert.ids_of(texts[0], self.vocabulary, 40, **words))

    def test_vocabulary_files(self):
        """Lines that end as Windows has it, a last line without an end, a piece that is there twice."""
        folder = self.make(["house a"], extra=9); path = os.path.join(folder, "vocab.txt"); pieces = ["[CLS]", "house", "[UNK]", "a", "[SEP]", "house", "##s"]
        for text in ("\r\n".join(pieces), "\n".join(pieces) + "\n", "\n".join(pieces)):
            with open(path, "wb") as f: f.write(text.encode())
            self.assertEqual(self.ask(folder, ["houses a house b"])[0]["ids"], [0, 5, 6, 3, 5, 2, 4])

    def test_truncated(self):
        text = "house " * 200
        for positions in (2, 3, 17):
            folder = self.make([text], positions=positions); answer = self.ask(folder, [text])[0]
            self.assertEqual(len(answer["ids"]), positions); self.assertEqual(answer["ids"], bert.ids_of(text, self.vocabulary, positions))


class Embeddings(Base):
    def check(self, texts, dtype="F32", prefix="", old_names=False, **sizes):
        """The yardstick is what numpy's own f32 loses on the same forward, summed in another order: ours may lose eight times as much, of which the
        approximate GELU would still be ten times as much."""
        folder = self.make(texts, dtype=dtype, prefix=prefix, old_names=old_names, **sizes)
        answers = self.ask(folder, texts); self.assertEqual(answers, self.ask(folder, texts, threads=3))
        errors, single, wrong, previous = [], [], [], None
        for text, answer in zip(texts, answers):
            ids = bert.ids_of(text, self.vocabulary, self.config["max_position_embeddings"]); self.assertEqual(answer["ids"], ids)
            want = bert.last_states(self.weights, self.config, ids).mean(0); have = np.array(answer["mean"]); norm = np.linalg.norm(want)
            def beside(other): return np.linalg.norm(other - want) / norm
            errors.append(beside(have)); single.append(beside(bert.last_states(self.weights, self.config, ids, np.float32).mean(0, dtype=np.float64)))
            wrong.append(beside(bert.last_states(self.weights, self.config, ids, activation=bert.gelu_tanh).mean(0)))
            cosine = 0 if previous is None else want @ previous / norm / np.linalg.norm(previous)
            self.assertAlmostEqual(answer["similarity"], cosine, delta=2 * 1e-5); previous = want
        allowed = 8 * max(single)
        self.assertLess(max(errors), allowed, (sizes, dtype)); self.assertLess(allowed, 1e-5); self.assertGreater(max(wrong), 10 * allowed)

    def test_shapes(self):
        texts = bert.TEXTS[:12] + [bert.random_text(rng) for _ in range(12)]
        for sizes in ({}, {"hidden": 45, "heads": 5, "inner": 31, "layers": 3, "kinds": 1}, {"hidden": 128, "heads": 1, "inner": 256, "layers": 1}, {"hidden": 21, "heads": 7, "inner": 200, "positions": 150},
                      {"hidden": 64, "heads": 1, "inner": 9, "layers": 4, "positions": 9}):
            with self.subTest(**sizes): self.check(texts, **sizes)

    def test_files(self):
        """Names and numbers as checkpoints have them."""
        texts = bert.TEXTS[2:6]
        for prefix in ("", "bert."):
            for old_names in (False, True):
                for dtype in ("F32", "F16", "BF16"):
                    with self.subTest(prefix=prefix, old_names=old_names, dtype=dtype): self.check(texts, dtype, prefix, old_names)

    def test_same_and_similar(self):
        texts = ["a red house", "A  RED house", "a green field"]; answers = self.ask(self.make(texts), texts)
        self.assertEqual(answers[0]["mean"], answers[1]["mean"]); self.assertAlmostEqual(answers[1]["similarity"], 1, delta=1e-12); self.assertLess(answers[2]["similarity"], 0.999)
        for answer in answers: self.assertLessEqual(abs(answer["similarity"]), 1)


class Refused(Base):
    def refuse(self, folder, *words):
        error = self.ask(folder, []); self.assertIsInstance(error, str, words)
        for word in words: self.assertIn(word, error)

    def change(self, file, **fields):
        folder = self.make(["a house"]); path = os.path.join(folder, file)
        values = {**(self.config if file == "config.json" else {}), **fields}
        with open(path, "w") as f: json.dump({k: v for k, v in values.items() if v != "absent"}, f)
        return folder

    def test_files(self):
        self.refuse("/nonexistent/bert", "/nonexistent/bert")
        for file, name in (("vocab.txt", "vocab.txt"), ("config.json", "config.json"), ("model.safetensors", "pytorch_model.bin")):
            folder = self.make(["a house"]); os.remove(os.path.join(folder, file)); self.refuse(folder, folder, name)
        folder = self.make(["a house"])
        with open(os.path.join(folder, "model.safetensors"), "r+b") as f: f.truncate(1000)
        self.refuse(folder, "model.safetensors")

    def test_config(self):
        for fields, words in (({"hidden_act": "relu"}, ("hidden_act", "relu", "gelu")), ({"hidden_act": 3}, ("hidden_act",)), ({"model_type": "roberta"}, ("model_type", "roberta")),
                              ({"position_embedding_type": "relative_key"}, ("position_embedding_type", "relative_key")), ({"num_attention_heads": 5}, ("num_attention_heads", "5", "48")),
                              ({"num_attention_heads": 0}, ("num_attention_heads", "0")), ({"hidden_size": "absent"}, ("hidden_size", "missing")), ({"max_position_embeddings": 1}, ("max_position_embeddings", "1")),
                              ({"layer_norm_eps": -1}, ("layer_norm_eps", "-1")), ({"num_hidden_layers": 1 << 40}, ("num_hidden_layers", str(1 << 40))), ({"vocab_size": 4}, ("vocab.txt", "vocab_size", "4")),
                              ({"hidden_size": 258, "num_attention_heads": 2}, ("129", "128"))):
            self.refuse(self.change("config.json", **fields), "/config.json" if "vocab_size" not in fields else "vocab.txt", *words)
        self.refuse(self.change("tokenizer_config.json", do_lower_case="yes"), "tokenizer_config.json", "do_lower_case")

    def test_vocabulary(self):
        for missing in ("[UNK]", "[CLS]", "[SEP]"):
            folder = self.make(["a house"]); path = os.path.join(folder, "vocab.txt")
            with open(path, "w") as f: f.write("".join(p + "\n" for p in self.pieces if p != missing))
            self.refuse(folder, path, missing)
            open(path, "w").close(); self.refuse(folder, path, "[UNK]")

    def test_tensors(self):
        """Every tensor that is missing or misshapen is named, with both shapes."""
        folder = self.make(["a house"]); whole = dict(self.weights)
        spoilt = {n: v for n, v in whole.items() if n != "encoder.layer.1.output.LayerNorm.bias"}
        spoilt["encoder.layer.0.intermediate.dense.weight"] = whole["encoder.layer.0.intermediate.dense.weight"][:-1]
        spoilt["embeddings.position_embeddings.weight"] = whole["embeddings.position_embeddings.weight"][:, 1:]
        bert.write_folder(folder, self.config, spoilt, self.pieces)
        self.refuse(folder, folder, "3 tensors", "encoder.layer.1.output.LayerNorm.bias: missing; [48]", "encoder.layer.0.intermediate.dense.weight: [76, 48]", "[77, 48] is expected", "[40, 47]", "[40, 48]")
        for name in whole:
            if name.startswith("pooler"): continue
            bert.write_folder(folder, self.config, {n: v for n, v in whole.items() if n != name}, self.pieces, prefix="" if name == "embeddings.word_embeddings.weight" else "bert.")
            self.refuse(folder, folder, "1 tensor", name + ": missing")
        bert.write_folder(folder, self.config, {n: v for n, v in whole.items() if "pooler" not in n}, self.pieces); self.assertEqual(len(self.ask(folder, ["a house"])), 1)

    def test_texts(self):
        """A text that is no UTF-8 is refused by its byte, and the next is answered all the same."""
        folder = self.make(["a house"]); bad, surrogate, cut, good = self.ask(folder, [b"ho\xffuse", b"a\xed\xa0\x80", b"hous\xc3", "a house"])
        self.assertIn("byte 2", bad["error"]); self.assertIn("byte 1", surrogate["error"]); self.assertIn("byte 4", cut["error"]); self.assertIn("mean", good)


if __name__ == "__main__":
    unittest.main()
