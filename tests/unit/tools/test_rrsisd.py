#!/usr/bin/env python3
"""Pickles of plain data and RRSIS-D's folder as read_rrsisd reads them, held to Python's own pickle."""
import io, json, os, pickle, random, shutil, struct, subprocess, sys, tempfile, unittest

try:
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}"); sys.exit(77)

READER = os.path.join(os.environ.get("GEOPIXEL_BIN", "build/bin"), "../tests/read_rrsisd")
SEED = int(os.environ.get("GEOPIXEL_TEST_SEED", "0"), 0) or random.SystemRandom().randrange(1, 1 << 32)
print(f"seed: GEOPIXEL_TEST_SEED={SEED}")
rng = random.Random(SEED)
PROTOCOLS = (0, 1, 2, 3, 4, 5)


def read(pickles):
    """What the reader says of each: ("ok", value) or ("refused", message)."""
    run = subprocess.run([READER, "pickles"], input=b"".join(struct.pack("<I", len(p)) + p for p in pickles), capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    lines = run.stdout.decode().split("\n")[:-1]
    assert len(lines) == len(pickles), (len(lines), len(pickles))
    return [("refused", line[1:]) if line.startswith("!") else ("ok", json.loads(line)) for line in lines]


def as_json(value):
    if isinstance(value, (list, tuple)): return [as_json(v) for v in value]
    if isinstance(value, dict): return {(k.decode() if isinstance(k, bytes) else str(k)): as_json(v) for k, v in value.items()}
    return value.decode() if isinstance(value, bytes) else value


def random_text():
    alphabet = rng.choice(["abc xyz.", "aé\\u\\U'\"\n\r\t\x00\x1a", "ßñ漢字😀\\", "(.}]tq\\'", "\x7f\x80\xffĀ"])
    return "".join(rng.choice(alphabet) for _ in range(rng.choice([0, 1, 5, 20, 300])))


def random_scalar(protocol):
    kind = rng.randrange(7 if protocol >= 3 else 6)
    if kind == 0: return rng.choice([0, 1, -1, 255, 256, 65535, 65536, -(2**31), 2**31 - 1, 2**31, 2**63 - 1, -(2**63), rng.randrange(-(2**63), 2**63) >> rng.randrange(64)])
    if kind == 1: return rng.choice([0.0, -0.0, 1.5, 1e300, -5e-324, rng.gauss(0, 1e6)])
    if kind == 2: return rng.choice([True, False, None])
    if kind == 6: return random_text().encode()
    return random_text()


def random_value(protocol, depth, seen):
    kind = rng.randrange(6)
    if depth == 0 or kind == 0: return random_scalar(protocol)
    if kind == 1 and seen: return rng.choice(seen)
    count = rng.choice([0, 1, 2, 3, 4, 7])
    if kind < 5:
        made = [random_value(protocol, depth - 1, seen) for _ in range(count)]
        if kind >= 3: made = tuple(made)
    else:
        keys = dict.fromkeys([k for k in (rng.choice([random_text(), rng.randrange(-9, 1 << 40)]) for _ in range(count)) if "\x00" not in str(k)])
        made = {k: random_value(protocol, depth - 1, seen) for k in keys}
        if len(as_json(made)) != len(made): return {}
    seen.append(made); return made


def dump(value, protocol):
    """By either of Python's picklers, which differ in what they remember."""
    if rng.random() < 0.5: return pickle.dumps(value, protocol)
    out = io.BytesIO(); pickle._Pickler(out, protocol).dump(value); return out.getvalue()


class Plain(pickle.Unpickler):
    def find_class(self, module, name): raise pickle.UnpicklingError(f"{module}.{name}")


def holds_itself(value, above=()):
    if not isinstance(value, (list, tuple, dict)): return False
    return id(value) in above or any(holds_itself(v, above + (id(value),)) for v in (value.values() if isinstance(value, dict) else value))



class Pickles(unittest.TestCase):
    def test_random_values(self):
        values = [(p, random_value(p, 5, [])) for p in PROTOCOLS for _ in range(300)]
        for (protocol, value), (state, got) in zip(values, read([dump(v, p) for p, v in values])):
            self.assertEqual((state, repr(got)), ("ok", repr(as_json(value))), f"protocol {protocol}")

    def test_what_python_2_wrote(self):
        """And what no pickler of today writes, but every unpickler reads."""
        pickles = [b"S'it\\'s \\\\ \\xc3\\xa9\\n\\t\\r'\n.", b'S"it\'s"\n.', b"S''\n.", b"U\x03abc.", b"T\x04\x00\x00\x00abcd.", b"Va\\u00e9\\U0001F600\\\\u0041\xe9\\x\n.", b"I01\n.", b"I00\n.", b"I-12\n.", b"I0\n.",
                   b"L-9223372036854775808L\n.", b"L5\n.", b"F1.5\n.", b"F-1e+16\n.", b"F3\n.", b"\x8b\x02\x00\x00\x00\x00\x80.", b"\x8a\x00.", b"\x8b\x00\x00\x00\x00.",
                   b"(lp0\nI1\naI2\na.", b"(I1\nI2\nl.", b"(dp0\nS'a'\nI1\ns.", b"(S'a'\nI1\nI7\nN(tdp1\n.", b"(I1\n(I2\n1N\x85t.", b"K\x01K\x020.", b"]K\x01(0a.", b"K\x052\x86.", b"]r\x05\x00\x00\x00K\x01aj\x05\x00\x00\x000.",
                   b"\x80\x02(K\x01K\x02K\x03t\x85.", b"]\x94K\x01\x94ah\x01a0h\x00.", b"]q\x03K\x07\x94ah\x01a.", b"\x8d\x02\x00\x00\x00\x00\x00\x00\x00hi.", b"\x80\x04\x95\x02\x00\x00\x00\x00\x00\x00\x00K\x01.", b"](e.", b"}(u.", b"(l2a0N."]
        for data, (state, got) in zip(pickles, read(pickles)):
            try:
                value = pickle.loads(data, encoding="utf-8")
            except Exception as error:
                value = error
            if isinstance(value, Exception) or holds_itself(value): self.assertEqual(state, "refused", (data, got)); continue
            self.assertEqual((state, repr(got)), ("ok", repr(as_json(value))), data)

    def test_filled_after_it_was_put(self):
        self.assertEqual(read([b"]q\x000]q\x01h\x00ah\x00K\x05a0."])[0], ("ok", [[5]]))
        shared = [1]; value = [shared] * 50
        for protocol in PROTOCOLS: self.assertEqual(read([pickle.dumps(value, protocol)])[0], ("ok", value))

    def test_refusals(self):
        itself = []; itself.append(itself)
        pair = ([],); pair[0].append(pair)
        table = {}; table["a"] = [table]
        deep = []
        for _ in range(100): deep = [deep]
        chains = [[]]  # each is low, but stands on the one before
        for _ in range(300): chains.append([[[[chains[-1]]]]])
        for protocol in PROTOCOLS:
            for value, message in ((itself, "holds itself"), (pair, "holds itself"), (table, "holds itself"), (deep, "more than 64 levels"), (chains, "more than 64 levels"), (2**63, "64 bits" if protocol < 2 else "a whole number of 9 bytes"),
                                   (float("nan"), "not finite"), (float("-inf"), "not finite"), ({1: 2, "1": 3}, 'the key "1" twice'), ({None: 1}, "a key that is neither"), ({(1, 2): 1}, "a key that is neither"), ({"a\0": 1}, "zero byte"),
                                   ("\ud800", "not UTF-8"), ({1, 2}, "EMPTY_SET" if protocol >= 4 else "set: only plain"), (print, "print: only plain data"), (np.int64(3), "only plain data"), (np.zeros(2), "only plain data"), (1j, "complex"),
                                   ([{"a": os.system}], "system: only plain data"), (random.Random, "Random: only plain data")):
                state, got = read([pickle.dumps(value, protocol)])[0]
                self.assertEqual(state, "refused", (protocol, message)); self.assertIn(message, got); self.assertRegex(got, r"^given: pickle, byte \d+: ")
        for data, message in ((b"", "byte 0: it ends before its STOP"), (b".", "byte 1: nothing is on its stack"), (b"N", "byte 1: it ends"), (b"NN.", "1 values are left"), (b"N.N", "1 bytes follow"), (b"(.", "a mark stands"), (b"a.", "nothing is on"), (b"Na.", "no list to add to"),
                              (b")Na.", "no list to add to"), (b"]NNs.", "no dictionary"), (b"}(Nu.", "a key without"), (b"(Nd.", "a key without"), (b"t.", "no mark"), (b"h\x00.", "memo 0 was never"), (b"Nr\xff\xff\xff\x7f.", "memo 2147483647 in a pickle of 7 bytes"),
                              (b"\x80\x06N.", "protocol 6"), (b"X\xff\xff\xff\xffab.", "4294967295 bytes are announced, 3 are left"), (b"\x8d" + b"\xff" * 8 + b".", "are announced"), (b"\x95" + b"\xff" * 8 + b"N.", "a frame of"), (b"\x95\x01" + b"\0" * 7 + b"K\x01.", "1 bytes are announced, 0 are left"), (b"\x95\x0b" + b"\0" * 7 + b"\x95\x01" + b"\0" * 7 + b"NN0.", "a frame within a frame"), (b"K", "1 bytes are announced, 0 are left"), (b"I1", "a line without"),
                              (b"I-0\n.", "truth value"), (b"I+0\n.", "truth value"), (b"I+1\n.", "truth value"), (b"I0x10\n.", "no whole number"), (b"I010\n.", "no whole number"), (b"I\n.", "no whole number"), (b"L9223372036854775808L\n.", "no whole number"), (b"F0x1\n.", "no number"), (b"F\n.", "no number"), (b"F1 \n.", "no number"), (b"S'a\n.", "not as Python"), (b"Sa\n.", "not as Python"),
                              (b"S'\\q'\n.", "not as Python"), (b"S'\\x4'\n.", "not as Python"), (b"V\\u12\n.", "not as Python"), (b"V\\U00110000\n.", "not as Python"), (b"U\x01\xff.", "not UTF-8"), (b"\xff.", "byte 0: 0xff is no opcode"), (b"Np-1\n.", "memo -1"),
                              (b"cos\nsystem\n(S'x'\ntR.", "byte 0: GLOBAL of os.system: only plain data is read"), (b"(S'x'\nios\nsystem\n.", "byte 6: INST of os.system"), (b"\x8c\x02os\x8c\x06system\x93.", "byte 12: STACK_GLOBAL of os.system"), (b"NNR.", "byte 2: REDUCE"), (b"Nb.", "BUILD"), (b"Pid\n.", "PERSID"),
                              (b"\x82\x01.", "EXT1"), (b"\x96" + b"\0" * 8 + b".", "BYTEARRAY8"), (b"\x93.", "STACK_GLOBAL of ?.?"), (b"c\x1b[2J\nx\n.", "GLOBAL of ?[2J.x")):
            state, got = read([data])[0]
            self.assertEqual(state, "refused", data); self.assertIn(message, got)

    def test_frames(self):
        """Python puts what is large between frames."""
        value = ["a" * 70000, ["b"] * 30000, {"c": "d" * 200000}, [random_text() for _ in range(2000)]]
        for protocol in PROTOCOLS: self.assertEqual(read([pickle.dumps(value, protocol)])[0], ("ok", value))

    def test_truncations(self):
        for protocol in PROTOCOLS:
            for _ in range(6):
                data = dump(random_value(protocol, 3, []), protocol)[:3000]
                for state, got in read([data[:n] for n in range(len(data))]): self.assertEqual(state, "refused"); self.assertIn("given: pickle, byte ", got)

    def test_damage(self):
        """What is read in spite of it, Python reads too, as the same."""
        accepted = 0
        for protocol in PROTOCOLS:
            damaged = []
            for _ in range(1500):
                data = bytearray(dump(random_value(protocol, 3, []), protocol)[:2000])
                for _ in range(rng.choice([1, 1, 2, 5])): data[rng.randrange(len(data))] = rng.choice([rng.randrange(256), rng.choice(b"().}]{KMJILFGSTUVXBCabdegehjlopqrstu012\x85\x86\x87\x88\x8a\x8c\x94\x95")])
                damaged.append(bytes(data))
            for data, (state, got) in zip(damaged, read(damaged)):
                if state == "refused": self.assertIn("given: pickle, byte ", got); continue
                accepted += 1; value = Plain(io.BytesIO(data), encoding="utf-8").load(); self.assertEqual(repr(got), repr(as_json(value)), data)
        self.assertGreater(accepted, 0)


class Sets(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="geopixel-rrsisd-"); self.addCleanup(shutil.rmtree, self.folder)

    def write(self, instances, references, protocol=2):
        with open(os.path.join(self.folder, "instances.json"), "w") as file: json.dump(instances, file)
        with open(os.path.join(self.folder, "refs(unc).p"), "wb") as file: file.write(references if isinstance(references, bytes) else dump(references, protocol))

    def read(self, split, *images):
        return subprocess.run([READER, "set", self.folder, split, *images], capture_output=True, text=True)

    def refused(self, split, *parts):
        run = self.read(split); self.assertEqual((run.returncode, run.stdout), (1, ""), run.stderr)
        for part in parts: self.assertIn(part, run.stderr)

    @staticmethod
    def segmentation(height, width):
        """One as a file has it, and as a target has it."""
        def number(): return rng.choice([rng.randrange(800), round(rng.uniform(0, 800), 2)])
        lengths = {"size": [height, width], "counts": rng.choice(["0a1b2\\`>", [3, 4, height * width - 7], "", []])}
        polygons = [[number() for _ in range(2 * rng.randrange(3, 9))] for _ in range(rng.randrange(1, 4))]
        return rng.choice([([lengths], lengths), (lengths, lengths), (dict(lengths, other=1), lengths), (polygons, [[list(c) for c in zip(p[::2], p[1::2])] for p in polygons])])

    def example(self, text_ids=False):
        identity = (lambda n: f"id {n}") if text_ids else (lambda n: n)
        ids = rng.sample(range(100000), 40); images, annotations, references, expected, masks = [], [], [], {}, {}
        for n in ids:
            width, height = rng.randrange(1, 2000), rng.randrange(1, 2000)
            images.append({"file_name": f"{n:05d}.jpg", "height": height, "width": width, "id": identity(n)})
            if rng.random() < 0.2: del images[-1]["width"], images[-1]["height"]
            given, masks[n] = self.segmentation(height, width)
            annotations.append({"bbox": [1, 2, 3, 4], "categories_id": 3, "id": identity(n + 7), "image_id": identity(n), "segmentation": given, "area": 5})
        for n, image in zip(ids, images):
            for _ in range(rng.choice([0, 1, 1, 2])):
                ref, split = len(references), rng.choice(["train", "val", "test"])
                sentences = [{"tokens": ["a", "b"], "raw": "RAW", "sent_id": 3 * ref + k, "sent": rng.choice(["the lake on the left", "%s %d é", "漢字", "it's \"here\""])} for k in range(rng.choice([1, 1, 3, 0]))]
                references.append({"image_id": identity(n), "split": split, "sentences": sentences, "file_name": "other.jpg", "category_id": 3, "ann_id": identity(n + 7), "sent_ids": [s["sent_id"] for s in sentences], "ref_id": identity(ref)})
                expected.setdefault(split, []).extend(
                    {"id": f"{identity(ref)}-{s['sent_id']}", "image": f"IMAGES/{image['file_name']}", "prompt": f"Could you provide a segmentation mask for {s['sent']} in this image?", "text": s["sent"],
                     "width": image.get("width", 0), "height": image.get("height", 0), "targets": [{"phrase": s["sent"], "mask": masks[n], "objects": 1}]} for s in sentences)
        rng.shuffle(images); rng.shuffle(annotations)
        return {"info": {}, "images": images, "annotations": annotations, "categories": []}, references, expected

    def test_random_sets(self):
        for protocol in PROTOCOLS:
            for text_ids in (False, True):
                instances, references, expected = self.example(text_ids); self.write(instances, references, protocol)
                for split, samples in expected.items():
                    for images in ((), ("/some/where",)):
                        run = self.read(split, *images); self.assertEqual((run.returncode, run.stderr), (0, ""))
                        folder = images[0] if images else os.path.join(self.folder, "JPEGImages")
                        self.assertEqual(json.loads(run.stdout), [dict(s, image=s["image"].replace("IMAGES", folder)) for s in samples])

    def simple(self):
        return ({"images": [{"id": 5, "file_name": "5.jpg", "width": 4, "height": 3}], "annotations": [{"id": 6, "image_id": 5, "segmentation": {"size": [3, 4], "counts": [5, 7]}}]},
                [{"ref_id": 1, "ann_id": 6, "image_id": 5, "split": split, "sentences": [{"sent": "x", "sent_id": 2}]} for split in ("train", "val", "train")])

    def test_refusals(self):
        references_path, instances_path = os.path.join(self.folder, "refs(unc).p"), os.path.join(self.folder, "instances.json")
        self.refused("val", instances_path)
        self.write(*self.simple()); self.assertEqual(self.read("val").returncode, 0)
        self.refused("test", references_path, 'none of its 3 references is of the split "test"; there are train (2), val (1)')
        self.refused("train", references_path, "reference 2, sentence 0: ref_id 1 with sent_id 2 is there twice")

        def changed(*parts, reference=None, sentence=None, image=None, annotation=None):
            instances, references = self.simple()
            for target, change in ((references[1], reference), (references[1]["sentences"][0], sentence), (instances["images"][0], image), (instances["annotations"][0], annotation)): target.update(change or {})
            self.write(instances, references); self.refused("val", *parts)
        changed(references_path, "reference 1: ann_id 9 is none of the 1 annotations of " + instances_path, reference={"ann_id": 9})
        changed(references_path, "reference 1: image_id 9 is none of the 1 images of " + instances_path, reference={"image_id": 9})
        changed("reference 1: ref_id is no id", reference={"ref_id": None})
        changed("reference 1: ann_id is no id", reference={"ann_id": 6.0})
        changed("reference 1: split is no text", reference={"split": 3})
        changed("reference 1: sentences is no list", reference={"sentences": {}})
        changed("reference 1, sentence 0: sent is no text", sentence={"sent": 3})
        changed("reference 1, sentence 0: sent is no text", sentence={"sent": "a\0b"})
        changed("reference 1, sentence 0: sent_id is no id", sentence={"sent_id": "x" * 64})
        changed("reference 1: image_id 5, but annotation 6 is of image 7", annotation={"image_id": 7})
        changed(instances_path, "annotation 6: image_id is no id", annotation={"image_id": None})
        changed(instances_path, "images[0]: id is no id", image={"id": [1]})
        changed("image 5: width is no number from 1 to 1048576", image={"width": 0})
        changed("image 5: height is no number", image={"height": "3"})
        changed("image 5: file_name is no text", image={"file_name": 3})
        for given, message in ((None, "neither run lengths nor"), ([], "neither run lengths nor"), ([1, 2, 3, 4, 5, 6], "neither run lengths nor"), ("x", "neither run lengths nor"), ([{"size": [3, 4], "counts": ""}] * 2, "segmentation has 2 run lengths"),
                               ({"size": [3], "counts": ""}, "segmentation.size is not [height, width]"), ({"size": [3, 0], "counts": ""}, "segmentation.size"), ({"size": [3, 2**40], "counts": ""}, "segmentation.size"), ({"counts": ""}, "segmentation.size"),
                               ({"size": [3, 4]}, "segmentation.counts is neither"), ({"size": [3, 4], "counts": [1, -2]}, "segmentation.counts[1] is no run length"), ([[1, 2, 3, 4]], "segmentation[0] has 4 numbers"), ([[0] * 6, [1] * 7], "segmentation[1] has 7 numbers"),
                               ([[0] * 6, [1, 1, 1, "a", 1, 1]], "segmentation[1][3] is no number"), ([[0] * 6, {}], "segmentation[1] has 0 numbers")):
            changed(instances_path, "annotation 6: ", message, annotation={"segmentation": given})
        instances, references = self.simple()
        self.write(dict(instances, images=instances["images"] * 2), references); self.refused("val", instances_path, "images[1]: the id 5 is another's too")
        self.write({"images": []}, references); self.refused("val", instances_path, "annotations is no list")
        self.write([], references); self.refused("val", instances_path, "not a JSON object")
        self.write(instances, {"a": 1}); self.refused("val", references_path, "no list of references")
        self.write(instances, []); self.refused("val", "none of its 0 references")
        self.write(instances, [3]); self.refused("val", "reference 0: split is no text")
        self.write(instances, pickle.dumps([np.int64(3)])); self.refused("val", references_path, "only plain data is read")
        self.write(instances, pickle.dumps(references)[:-9]); self.refused("val", references_path, "pickle, byte ")
        with open(instances_path, "w") as file: file.write('{"images": [')
        self.refused("val", instances_path, "line 1, column 12")


if __name__ == "__main__":
    unittest.main()
