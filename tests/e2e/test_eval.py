#!/usr/bin/env python3
"""`geopixel eval` on random data sets and answers, held to pycocotools, pycocoevalcap and numpy. Figures are sums and ratios of some
thousand terms in f64 on both sides, so that they differ by less than 1e-12; 1e-9 is allowed, which no wrong mask or word stays below."""
import collections, contextlib, functools, io, json, math, os, pickle, random, shutil, signal, struct, subprocess, sys, time, unittest, zlib

from test_program import BIN, MODEL, PROGRAM, SOURCE, Base, decode_rle, run

try:
    import numpy as np
except ImportError as error:
    print(f"skipped: {error}"); sys.exit(77)
for folder in (os.path.join(BIN, "../tests/python"), os.path.join(SOURCE, "build/tests/python")): sys.path.append(os.path.abspath(folder))
try:
    from pycocotools import mask as coco
    from pycocotools.cocoeval import COCOeval
    from pycocoevalcap.cider.cider import Cider
except ImportError as error:
    coco, absent = None, f"{error}; tools/test.sh installs it where PyPI can be reached"

SEED = int(os.environ.get("GEOPIXEL_TEST_SEED", "0"), 0) or random.SystemRandom().randrange(1, 1 << 32)
print(f"seed: GEOPIXEL_TEST_SEED={SEED}")
rng = random.Random(SEED); nrng = np.random.default_rng(SEED)
NEAR = 1e-9
KINDS = ("uni-target", "multi-target", "overall")
STEMS = {"ships": "ship", "docks": "dock", "docked": "dock", "planes": "plane", "roads": "road", "buildings": "build", "building": "build", "parked": "park",
         "parking": "park"}  # of the words below, the others are their own
WORDS = "red ship ships dock docks docked plane planes court court-1 harbor field small big road roads building buildings park parked parking left right truck 12 3.5 étang the a of near".split()
PLAIN = [w for w in WORDS if w not in STEMS and w not in STEMS.values()]  # none is another's stem
FUNCTION = {"the", "a", "of"}


def needs_pycoco(test_class):
    return unittest.skipIf(coco is None, "pycocotools or pycocoevalcap is not there: " + (absent if coco is None else ""))(test_class)


def text_of(runs):
    """COCO's text of run lengths."""
    out = []
    for i, run_ in enumerate(runs):
        x = run_ - runs[i - 2] if i > 2 else run_
        while True:
            c = x & 31; x >>= 5; more = x != -1 if c & 16 else x != 0
            out.append(chr((c | 32 if more else c) + 48))
            if not more: break
    return "".join(out)


def runs_of(mask):
    flat = mask.flatten(order="F"); changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return [0] + runs if flat[0] else runs


def rle(mask):
    return {"size": list(mask.shape), "counts": text_of(runs_of(mask))}


def iou(a, b):
    either = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / either) if either else 0.0


def blob(height, width):
    mask = np.zeros((height, width), np.uint8)
    for _ in range(rng.randint(1, 3)):
        y, x = rng.randrange(height), rng.randrange(width)
        mask[y:y + rng.randint(1, height), x:x + rng.randint(1, width)] ^= 1
    return mask


def shaken(mask):
    """Something like it: moved, cut, grown or speckled."""
    made, (height, width) = mask.copy(), mask.shape
    for _ in range(rng.randint(0, 2)):
        kind = rng.randrange(4)
        if kind == 0: made = np.roll(made, rng.randint(-2, 2), axis=rng.randrange(2))
        if kind == 1: made[:rng.randint(0, height)] = 0
        if kind == 2: made |= np.roll(made, 1, axis=rng.randrange(2))
        if kind == 3: made ^= (nrng.random(made.shape) < 0.15).astype(np.uint8)
    return made


def ring(height, width):
    """Corners in and around the picture, whole or not."""
    corner = lambda size: rng.choice([rng.randint(-size // 2 - 1, size * 3 // 2 + 1), rng.uniform(-0.5 * size, 1.5 * size), rng.randint(0, size), round(rng.uniform(0, size), 1)])
    return [[corner(width), corner(height)] for _ in range(rng.choice([3, 3, 4, 5, 9, 20]))]


def polygon_mask(rings, height, width):
    flat = [[float(v) for point in one for v in point] for one in rings]
    return coco.decode(coco.merge(coco.frPyObjects(flat, height, width)))


def cider(pairs):
    """pycocoevalcap's, of (predicted, right) texts; it knows no set without words, which is worth nothing."""
    if not any(right for _, right in pairs): return 0.0
    right, said = ({i: [pair[side]] for i, pair in enumerate(pairs)} for side in (1, 0))
    return float(Cider().compute_score(right, said)[0])


def words(count):
    return " ".join(rng.choice(WORDS) for _ in range(count))


def likeness(a, b):
    """The share of words that two phrases have in common, articles left out."""
    a, b = ([STEMS.get(w, w) for w in text.split() if w not in ("a", "an", "the")] for text in (a, b))
    return 2 * sum((collections.Counter(a) & collections.Counter(b)).values()) / (len(a) + len(b)) if a or b else 0.0


def png(width, height, seed):
    """A small picture with something in it."""
    noise = random.Random(seed)
    rows = b"".join(b"\0" + bytes(noise.choice((30, 90, 200)) for _ in range(3 * width)) for _ in range(height))
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def record(id_, text, segmentation=(), **more):
    return {"id": id_, "conversations": [{"from": "human", "value": "<image>\nDescribe it."}, {"from": "bot", "value": text}], "image": f"{id_}.png",
            "segmentation": list(segmentation), **more}


def answer(id_, text, masks=(), size=(4, 5), **more):
    return {"id": str(id_), "size": list(size), "text": text, "masks": list(masks), **more}


class Eval(Base):
    def write(self, name, value):
        return self.file(name, json.dumps(value).encode())

    def lines(self, name, answers):
        return self.file(name, "".join(json.dumps(a) + "\n" for a in answers).encode())

    def figures(self, task, data, predictions, *more):
        done = run("eval", "--task", task, "--data", data, "--predictions", predictions, "--json", self.path("figures.json"), *more)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("pictures" if task == "gcg" else "questions", done.stdout)
        return json.load(open(self.path("figures.json")))

    def near(self, ours, theirs, what):
        if theirs is None: self.assertIsNone(ours, what)
        else: self.assertIsNotNone(ours, what); self.assertLess(abs(ours - theirs), NEAR, f"{what}: {ours}, not {theirs}")


@needs_pycoco
class Masks(Eval):
    def target(self, height, width, folder):
        """A right mask: how a record writes it, its pixels, and the objects it covers where the record does not say."""
        kind = rng.choice(("text", "runs", "rings", "rings"))
        if kind == "rings":
            rings = [ring(height, width) for _ in range(rng.choice([1, 1, 2, 4]))]
            return rings, polygon_mask(rings, height, width), len(rings)
        mask = blob(height, width) if rng.random() < 0.93 else np.zeros((height, width), np.uint8)
        return (rle(mask) if kind == "text" else {"size": [height, width], "counts": runs_of(mask)}), mask, 1

    def sample(self, number):
        height, width = rng.choice([(1, 1), (1, 17), (23, 1), (13, 7), (31, 45), (64, 64), (rng.randint(2, 70), rng.randint(2, 70))])
        count = rng.choice([0, 1, 1, 2, 3, 5, 8]); targets = [self.target(height, width, number) for _ in range(count)]
        if count and rng.random() < 0.15: targets = [targets[0]] * count  # ties
        phrases = [words(rng.randint(1, 3)) for _ in targets]
        written = [t[0] for t in targets]; one = {"id": number}
        rings_alone = bool(targets) and all(isinstance(w, list) for w in written)
        text = words(rng.randint(0, 12)) + "".join(f" <p> {p} </p> [SEG] {words(rng.randint(0, 4))}" for p in phrases)
        made = record(number if rng.random() < 0.5 else f"scene é {number}", text, written)
        if rings_alone or rng.random() < 0.2:
            del made["segmentation"]; made["polygons"] = written
            if rng.random() < 0.5:
                self.write(f"rings-{number}.json", {"id": 0, "polygons": written}); made["polygons"] = rng.choice(["", "data/GeoPixelD/test/"]) + f"rings-{number}.json"
        objects = [t[2] for t in targets]
        if rng.random() < 0.6:
            known = [rng.choice([1, 1, 2, 7]) for _ in targets]; listed = rng.randint(0, count)
            made["meta"] = {"targets": [{"instances": k} for k in known[:listed]]}; objects = known[:listed] + objects[listed:]
        masks, said = [], []
        for (_, mask, _), phrase in zip(targets, phrases):
            for _ in range(rng.choice([0, 1, 1, 1, 2])): masks.append(shaken(mask)); said.append(rng.choice([phrase, phrase, words(2), None]))
        for _ in range(rng.choice([0, 0, 1, 3, 130 if height * width < 2000 and number % 3 == 0 else 0])): masks.append(blob(height, width)); said.append(words(1))
        if rng.random() < 0.1: masks, said = [], []
        if masks and rng.random() < 0.1: masks, said = masks + [masks[0]] * 2, said + [said[0]] * 2
        order = list(range(len(masks))); rng.shuffle(order); masks, said = [masks[i] for i in order], [said[i] for i in order]
        guess = answer(made["id"], words(rng.randint(0, 9)), map(rle, masks), (height, width))
        if said and rng.random() < 0.9: guess["phrases"] = said
        else: said = [None] * len(masks)
        return made, guess, ([t[1] for t in targets], objects, phrases), (masks, said)

    def average(self, samples, counted):
        """COCO's precision at IoU 0.5 of the masks that are counted."""
        encode = lambda m: coco.encode(np.asfortranarray(m)); truths, guesses = collections.defaultdict(list), collections.defaultdict(list)
        judge = COCOeval(iouType="segm"); number = 0
        for i, (_, _, (right, objects, _), (masks, _)) in enumerate(samples, 1):
            for mask, one in zip(right, objects):
                if counted(one): number += 1; truths[i, 1].append({"id": number, "image_id": i, "category_id": 1, "iscrowd": 0, "ignore": 0, "area": float(mask.sum()), "segmentation": encode(mask)})
            for mask in masks: number += 1; guesses[i, 1].append({"id": number, "image_id": i, "category_id": 1, "score": 1.0, "area": float(mask.sum()), "segmentation": encode(mask)})
        judge._prepare = lambda: (setattr(judge, "_gts", truths), setattr(judge, "_dts", guesses), setattr(judge, "evalImgs", collections.defaultdict(list)))
        judge.cocoGt = type("Truths", (), {"annToRLE": staticmethod(lambda a: a["segmentation"])}); judge.cocoDt = judge.cocoGt
        judge.params.imgIds, judge.params.catIds = list(range(1, len(samples) + 1)), [1]
        judge.params.iouThrs, judge.params.maxDets, judge.params.areaRng, judge.params.areaRngLbl = np.array([0.5]), [100], [[0, 1e10]], ["all"]
        with contextlib.redirect_stdout(io.StringIO()): judge.evaluate(); judge.accumulate()
        precision = judge.eval["precision"]
        return None if (precision < 0).all() else float(precision.mean())

    def pairs(self, right, masks):
        """Greedy, by greatest IoU."""
        table = np.array([[iou(m, r) for r in right] for m in masks]).reshape(len(masks), len(right)); found = []
        while table.size and table.max() > 0:
            i, j = np.unravel_index(np.argmax(table), table.shape); found.append((int(i), int(j), float(table[i, j]))); table[i, :] = -1; table[:, j] = -1
        return found

    def check(self, samples, ours):
        kinds = {"instances only": [], "semantic only": [], "mixed": []}
        for kind, counted in zip(KINDS, (lambda n: n == 1, lambda n: n > 1, lambda n: True)):
            means, hits, total = [], 0, 0
            for made, _, (right, objects, phrases), (masks, said) in samples:
                chosen = [k for k, n in enumerate(objects) if counted(n)]
                if not chosen: continue
                found = self.pairs([right[k] for k in chosen], masks); hit = sum(o >= 0.5 and likeness(said[i] or "", phrases[chosen[j]]) >= 0.5 for i, j, o in found)
                means.append(sum(o for _, _, o in found) / len(found) if found else 0.0); hits += hit; total += len(chosen)
                if kind == "overall":
                    caption = " ".join(w for w in made["conversations"][1]["value"].split() if w not in ("<p>", "</p>", "[SEG]"))
                    name = "instances only" if max(objects) == 1 else "mixed" if min(objects) == 1 else "semantic only"
                    kinds[name].append((sum(objects), len(objects), len(caption), means[-1], hit))
            self.assertEqual((ours[kind]["pictures"], ours[kind]["masks"]), (len(means), total), kind)
            self.near(ours[kind]["AP50"], self.average(samples, counted), kind + " AP50")
            self.near(ours[kind]["mIoU"], sum(means) / len(means) if means else None, kind + " mIoU")
            self.near(ours[kind]["recall"], hits / total if total else None, kind + " recall")
        for name, rows in kinds.items():
            got = ours["pictures by masks"][name]; sums = [sum(column) for column in zip(*rows)] or [0] * 5
            self.assertEqual((got["pictures"], got["objects"], got["phrases"]), (len(rows), sums[0], sums[1]), name)
            self.near(got["characters"], sums[2] / len(rows) if rows else None, name); self.near(got["mIoU"], sums[3] / len(rows) if rows else None, name)
            self.near(got["recall"], sums[4] / sums[1] if rows else None, name)

    def captions(self, samples, ours):
        caption = lambda text: " ".join(w for w in text.split() if w not in ("<p>", "</p>", "[SEG]"))
        self.near(ours["CIDEr"], cider([(caption(s[1]["text"]), caption(s[0]["conversations"][1]["value"])) for s in samples]), "CIDEr")

    def test_random(self):
        for number in range(6):
            samples = [self.sample(100 * number + i) for i in range(rng.choice([1, 2, 40, 60]))]
            data = self.write("data.json", [s[0] for s in samples]); answers = [s[1] for s in samples]; rng.shuffle(answers)
            spare = [answer("of another set", "x")] if rng.random() < 0.5 else []
            ours = self.figures("gcg", data, self.lines("p.jsonl", answers + spare))
            self.assertEqual((ours["task"], ours["pictures"], ours["phrase likeness"]), ("gcg", len(samples), "shared words"))
            self.check(samples, ours); self.captions(samples, ours)
            self.assertEqual(ours, self.figures("gcg", data, self.write("p.json", answers)))  # as a list

    def test_perfect(self):
        """Answers that are the truth have full marks."""
        made, guesses = [], []
        for number in range(5):
            mask = np.zeros((9, 9 + number), np.uint8); mask[2:5, number:number + 4] = 1; text = f"the <p> {WORDS[number]} </p> [SEG] near a big field {number}"
            made.append(record(number, text, [rle(mask)])); guesses.append(answer(number, text, [rle(mask)], mask.shape, phrases=[WORDS[number]]))
        ours = self.figures("gcg", self.write("data.json", made), self.lines("p.jsonl", guesses))
        for name, value in (("CIDEr", 10), ("METEOR, exact and stem", 1)): self.near(ours[name], value, name)
        for name in ("AP50", "mIoU", "recall"): self.near(ours["overall"][name], 1, name); self.near(ours["uni-target"][name], 1, name); self.assertIsNone(ours["multi-target"][name])

    def test_polygons(self):
        """Rings alone, each pixel: a mask equal to pycocotools' has IoU 1."""
        made, guesses = [], []
        for number in range(300):
            height, width = rng.randint(1, 60), rng.randint(1, 60); rings = [ring(height, width) for _ in range(rng.randint(1, 3))]; mask = polygon_mask(rings, height, width)
            if not mask.any(): continue
            made.append(record(number, "<p> x </p> [SEG]", [rings])); guesses.append(answer(number, "x", [rle(mask)], mask.shape))
        ours = self.figures("refseg", self.write("data.json", made), self.lines("p.jsonl", guesses))
        self.assertEqual((ours["mIoU"], ours["oIoU"], ours["P@0.9"]), (1, 1, 1))


def meteor(pairs):
    """METEOR 1.5 for English over a set of texts without words that share a stem, by trying every alignment: the most matches, of these the
    fewest chunks. Also the most ways there are to align the beginnings of a text: the evaluator keeps 40, as METEOR does."""
    content, function, content_words, function_words, matches, chunks, widest = [0, 0], [0, 0], [0, 0], [0, 0], 0, 0, 0
    for said, right in pairs:
        level = [frozenset()]
        for b in right:
            level = [taken | {i} if i is not None else taken for taken in level for i in [None] + [i for i, a in enumerate(said) if a == b and i not in taken]]
            widest = max(widest, len(level))
            if widest > 40: return None, widest
        best = (0, 0, [])

        def walk(i, taken, last, broken, chosen):
            nonlocal best
            if i == len(said): best = min(best, (-len(chosen), broken, chosen)); return
            walk(i + 1, taken, None, broken, chosen)
            for j, b in enumerate(right):
                if j not in taken and said[i] == b: walk(i + 1, taken | {j}, j, broken + (last is None or last != j - 1), chosen + [(i, j)])

        walk(0, frozenset(), None, 0, [])
        for i, j in best[2]: (function if said[i] in FUNCTION else content)[0] += 1
        for side, text in ((0, said), (1, right)):
            function_words[side] += sum(w in FUNCTION for w in text); content_words[side] += sum(w not in FUNCTION for w in text)
        matches += len(best[2])
        if not len(best[2]) == len(said) == len(right) or best[1] != 1: chunks += best[1]
    share = [(0.75 * content[0] + 0.25 * function[0]) / max(0.75 * content_words[side] + 0.25 * function_words[side], 1e-300) for side in (0, 1)]
    if 0 in share: return 0.0, widest
    return share[0] * share[1] / (0.85 * share[0] + 0.15 * share[1]) * (1 - 0.6 * (chunks / matches) ** 0.2), widest


def meteor_jar(pairs):
    """meteor-1.5.jar's figure of a set, its matches exact and of stems alone."""
    from pycocoevalcap.meteor import meteor as wrapper
    jar = os.path.join(os.path.dirname(wrapper.__file__), wrapper.METEOR_JAR)
    with subprocess.Popen(["java", "-Xmx1G", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-m", "exact stem", "-w", "1.0 0.6"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True, encoding="utf-8") as child:
        def ask(line): child.stdin.write(line + "\n"); child.stdin.flush(); return child.stdout.readline().strip()
        sums = [ask(f"SCORE ||| {' '.join(right)} ||| {' '.join(said)}") for said, right in pairs]
        ask("EVAL ||| " + " ||| ".join(sums))
        each = [child.stdout.readline() for _ in pairs]  # the first was of a pair alone, the last is of all
        child.stdin.close()
    return float(each[-1])


class Captions(Eval):
    def score(self, pairs, *names):
        data = self.write("data.json", [record(i, " ".join(right)) for i, (_, right) in enumerate(pairs)])
        ours = self.figures("gcg", data, self.lines("p.jsonl", [answer(i, " ".join(said)) for i, (said, _) in enumerate(pairs)]))
        for kind in KINDS: self.assertEqual((ours[kind]["masks"], ours[kind]["mIoU"]), (0, None))
        return [ours[name] for name in names]

    def draw(self, most, vocabulary):
        text = lambda: [rng.choice(vocabulary) for _ in range(rng.randint(0, most))]
        said, right = text(), text()
        if rng.random() < 0.5: right = list(said); rng.shuffle(right); right = right[:rng.randint(0, most)]
        if rng.random() < 0.2: right = list(said)
        return said, right

    def test_meteor(self):
        for number in range(30):
            pairs = []
            while len(pairs) < rng.choice([1, 1, 5, 30]):
                pair = self.draw(7, rng.sample(PLAIN, rng.choice([4, 6, len(PLAIN)])))
                if meteor([pair])[1] <= 40: pairs.append(pair)
            self.near(self.score(pairs, "METEOR, exact and stem")[0], meteor(pairs)[0], f"METEOR of {pairs}")

    @unittest.skipIf(coco is None, "pycocoevalcap is not there")
    @unittest.skipIf(shutil.which("java") is None, "java, which runs METEOR, is not there")
    def test_meteor_jar(self):
        """Long texts with stems and many words that are there twice, where the search's order and beam count too."""
        for most, count in ((6, 100), (30, 60), (90, 20)):
            pairs = []
            while len(pairs) < count:
                said, right = self.draw(most, rng.sample(WORDS, rng.choice([6, 12, len(WORDS)])))
                if said and right: pairs.append((said, right))
            self.near(self.score(pairs, "METEOR, exact and stem")[0], meteor_jar(pairs), f"METEOR of texts up to {most} words")

    def test_meteor_by_hand(self):
        """What meteor-1.5.jar says of texts without synonyms: each side's matches weighed, chunks over matches."""
        value = lambda said, right: self.score([(said.split(), right.split())], "METEOR, exact and stem")[0]
        self.near(value("red ship", "red ship"), 1, "equal"); self.near(value("red ship", "blue plane"), 0, "nothing in common"); self.near(value("", "a ship"), 0, "empty")
        self.near(value("alpha beta gamma delta", "delta gamma beta alpha"), 0.4, "backwards: every match a chunk")
        self.near(value("ships", "ship"), 0.6, "a stem")
        self.near(value("red ship", "red ship near the dock"), 1 / (0.85 / (1.5 / 3.25) + 0.15) * (1 - 0.6 * 0.5 ** 0.2), "recall")

    @unittest.skipIf(coco is None, "pycocoevalcap is not there")
    def test_cider(self):
        for most, count in ((12, 1), (12, 2), (60, 50), (8, 400)):
            vocabulary = rng.sample(WORDS, rng.choice([4, len(WORDS)])); pairs = [self.draw(most, vocabulary) for _ in range(count)]
            self.near(self.score(pairs, "CIDEr")[0], cider([(" ".join(said), " ".join(right)) for said, right in pairs]), "CIDEr")

    def test_text(self):
        """Tags, [SEG], capitals and punctuation are no words, and neither is white space."""
        plain = self.score([("the red ship lies near the dock".split(), "a red ship near the big dock".split()), (["x"], ["y"])], "CIDEr", "METEOR, exact and stem")
        data = self.write("data.json", [record(0, "A red <p>ship</p> near\tthe  big dock."), record(1, "y")])
        ours = self.figures("gcg", data, self.lines("p.jsonl", [answer(0, "\nThe <p> red ship </p> [SEG] , lies near the <p>dock</p>[SEG]!"), answer(1, "X")]))
        self.assertEqual(plain, [ours["CIDEr"], ours["METEOR, exact and stem"]])


SENTENCES = """The image shows a harbor with three ships.
A small-vehicle is parked beside the storage-tank.
The well-known basketball-court lies north-west of the road.
There are 12 planes on the left, and 3 on the right.
About 1,250 cars stand in a lot of 3.5 hectares.
The building's roof is white and the ships' decks are brown.
It's a park; they're trees, and we've seen them.
The road doesn't cross the river.
It can't be a bridge, it won't be one.
The two-story house stands at the top-left corner of the picture.
A ground-track-field surrounds a soccer-ball-field.
The pool is blue/green.
There are 2-3 trucks near the pier.
The plane (a jet) stands on the runway.
Two (2) ships, one [large] and one {small}.
"Large" vehicles are parked in rows.
The field is 50% green.
A & B are next to each other.
The roundabout, which has four exits, is at the center!
Is there a helicopter?
Yes: a helicopter - on a helipad -- stands there...
The tennis court-1 and tennis court-2 are empty.
The 1st, 2nd and 3rd rows are full.
At 10:30 the lot was empty.
The scene covers 0.5 m per pixel.
The lot is 100m long and 20 m wide.
The cars cost $5 each.
The boat is near to the dock, isn't it?
I'd say it's a dam.
You'll see the O'Hare airport.
The swimming pool cannot be seen.
The T-shaped crossing and the L-shaped building.
Trees line the road. Houses stand behind them.
A storage tank of 20,000 litres
The caf\u00e9\u2019s terrace is \u201cfull\u201d.
A ship is docked at the harbour\u2014it is large.
The plane's and the planes' shadows
self-contained sub-structures of semi-circular form
low-rise buildings (mostly residential) line the street
The airport has 2 runways: 09L/27R and 09R/27L.
The numbers 3,5 and 1.000.000 are on its roof
A green field lies south of a road; beside it stand two houses, each with a pool.""".split("\n")
PLACES = ("at the top left", "in the lower-right corner", "near the center", "beside the road", "along the river's bank", "(partly hidden)", "on the left, by the pier")
THINGS = ("a white plane", "two small ships", "12 parked cars", "the storage-tanks", "a ground-track-field", "dense trees", "the harbor's docks", "a 3.5 m wide road", "several large-vehicles")


class Words(Eval):
    def split(self, sentences):
        done = subprocess.run([os.path.join(BIN, "../tests/split_words")], input="\n".join(sentences) + "\n", capture_output=True, text=True, encoding="utf-8")
        self.assertEqual(done.returncode, 0, done.stderr); return done.stdout.split("\n")[:-1]

    def test_promises(self):
        for text, expected in (("The U.S. base, e.g. St. Louis", "the u s base e g st louis"), ("cannot isn't it's", "can not is n't it 's"), ("  \t", ""), ("x's (A-B) 1,000.5 10:30", "x 's -lrb- a-b -rrb- 1,000.5 10:30"),
                               ("\u00c9tang caf\u00e9", "\u00c9tang caf\u00e9"), ("- -- ... ' '' a- -b 'c'", "a b c"), ("x\u2019s \u201cy\u201d\u2014z\u2026", "x 's y z")):
            self.assertEqual(self.split([text]), [expected])

    @unittest.skipIf(coco is None, "pycocoevalcap is not there")
    @unittest.skipIf(shutil.which("java") is None, "java, which runs Stanford's tokenizer, is not there")
    def test_penn_treebank(self):
        from pycocoevalcap.tokenizer import ptbtokenizer
        drawn = [f"{rng.choice(['There is', 'The image shows', 'One can see', 'It is clear that there is'])} {rng.choice(THINGS)} {rng.choice(PLACES)}{rng.choice([' and', ',', '; there is also', ' --'])} "
                 f"{rng.choice(THINGS)} {rng.choice(PLACES)}{rng.choice('.!')}" for _ in range(260)]
        # It writes a file beside its jar, in a folder that need not be ours.
        place = self.path("tokenizer"); shutil.copytree(os.path.dirname(ptbtokenizer.__file__), place); ptbtokenizer.__file__ = os.path.join(place, "ptbtokenizer.py")
        with open(self.path("stderr"), "w") as quiet:
            kept = os.dup(2); os.dup2(quiet.fileno(), 2)
            try: theirs = ptbtokenizer.PTBTokenizer().tokenize({i: [{"caption": s}] for i, s in enumerate(SENTENCES + drawn)})
            finally: os.dup2(kept, 2); os.close(kept)
        for i, ours in enumerate(self.split(SENTENCES + drawn)): self.assertEqual(ours, theirs[i][0], (SENTENCES + drawn)[i])


class Referring(Eval):
    def reference(self, rows):
        """[right, predicted or None] to the figures."""
        common = [int(np.logical_and(r, p).sum()) if p is not None else 0 for r, p in rows]
        either = [int(np.logical_or(r, p).sum()) if p is not None else int(r.sum()) for r, p in rows]
        each = np.array([c / e if e else 0.0 for c, e in zip(common, either)])
        return {"task": "refseg", "questions": len(rows), "without mask": sum(p is None for _, p in rows), "mIoU": each.mean(), "oIoU": sum(common) / sum(either) if sum(either) else 0.0,
                **{f"P@{t}": (each >= t).mean() for t in (0.5, 0.6, 0.7, 0.8, 0.9)}}

    def check(self, ours, rows):
        theirs = self.reference(rows); self.assertEqual(set(ours), set(theirs))
        for name, value in theirs.items():
            if name == "task": self.assertEqual(ours[name], value)
            else: self.near(ours[name], float(value), name)

    def guess(self, right):
        """Masks of an answer, the first of which counts."""
        if rng.random() < 0.2: return []
        return [rng.choice([right, shaken(right), shaken(right), blob(*right.shape)])] + [right] * rng.choice([0, 0, 2])

    def test_random(self):
        for count in (1, 7, 200):
            made, guesses, rows = [], [], []
            for number in range(count):
                right = blob(rng.randint(1, 40), rng.randint(1, 40)); masks = self.guess(right); extra = [rle(right)] * rng.choice([0, 1])
                made.append(record(f"q-{number}", "<p>x</p> [SEG] " * (1 + len(extra)), [rle(right)] + extra)); guesses.append(answer(f"q-{number}", "", map(rle, masks), right.shape))
                rows.append((right, masks[0] if masks else None))
            self.check(self.figures("refseg", self.write("data.json", made), self.lines("p.jsonl", guesses)), rows)

    def test_thresholds(self):
        """Exactly 0.5, 0.6 … are reached."""
        made, guesses, rows = [], [], []
        for number in range(5, 10):
            right = np.ones((1, 10), np.uint8); mask = right.copy(); mask[0, number:] = 0
            made.append(record(number, "[SEG]", [rle(right)])); guesses.append(answer(number, "", [rle(mask)], right.shape)); rows.append((right, mask))
        ours = self.figures("refseg", self.write("data.json", made), self.lines("p.jsonl", guesses)); self.check(ours, rows)
        for k in range(5): self.near(ours[f"P@0.{5 + k}"], (5 - k) / 5, str(k))

    def folder_of(self, count):
        """RRSIS-D with `count` pictures, each in the test and in the val split; the masks by sample."""
        folder = self.path("rrsisd"); os.makedirs(os.path.join(folder, "JPEGImages")); images, annotations, references, right = [], [], [], {}
        for number in range(count):
            width, height = rng.randint(20, 40), rng.randint(20, 40); mask = blob(height, width)
            with open(os.path.join(folder, "JPEGImages", f"{number:05}.jpg"), "wb") as f: f.write(png(width, height, number))
            images.append({"id": number, "file_name": f"{number:05}.jpg", "width": width, "height": height})
            annotations.append({"id": 10 + number, "image_id": number, "category_id": 1, "segmentation": [rle(mask)]})
            for split in ("test", "val"):
                ref = 100 * (split == "val") + number; sentences = [{"sent_id": 7 * ref + k, "sent": f"The ship on the left {k}", "raw": "x", "tokens": ["x"]} for k in range(1 + number % 2)]
                references.append({"ref_id": ref, "ann_id": 10 + number, "image_id": number, "split": split, "sentences": sentences, "sent_ids": [s["sent_id"] for s in sentences], "category_id": 1, "file_name": "x"})
                for s in sentences: right[split, f"{ref}-{s['sent_id']}"] = mask
        with open(os.path.join(folder, "instances.json"), "w") as f: json.dump({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "ship"}]}, f)
        with open(os.path.join(folder, "refs(unc).p"), "wb") as f: pickle.dump(references, f, protocol=2)
        return folder, right

    def test_rrsisd(self):
        folder, right = self.folder_of(20)
        for split in ("test", "val"):
            guesses, rows = [], []
            for (its, id_), mask in right.items():
                if its != split: continue
                masks = self.guess(mask); guesses.append(answer(id_, "", map(rle, masks), mask.shape)); rows.append((mask, masks[0] if masks else None))
            self.check(self.figures("refseg", folder, self.lines("p.jsonl", guesses), *([] if split == "test" else ["--split", "val"])), rows)

    def test_rrsisd_asked(self):
        """From folder to figures; the random model draws a mask for every question."""
        folder, right = self.folder_of(2)
        ours = self.figures("refseg", folder, self.path("p.jsonl"), "--model", MODEL, "--crops", "1", "-q")
        said = {a["id"]: a for a in map(json.loads, open(self.path("p.jsonl")))}; rows = []
        self.assertEqual(list(said), [id_ for split, id_ in right if split == "test"])
        for id_, one in said.items():
            mask = right["test", id_]; self.assertEqual(one["size"], list(mask.shape)); self.assertEqual(len(one["phrases"]), len(one["masks"])); self.assertEqual(one["crops"], 1)
            rows.append((mask, np.array(decode_rle(one["masks"][0])).reshape(mask.shape, order="F") if one["masks"] else None))
        self.check(ours, rows)


class Resuming(Eval):
    # Hot and long answers, the same at every run by their seed: time to interrupt.
    ASK = ("--model", MODEL, "--crops", "1", "--temperature", "50", "--max-new-tokens", "400", "--seed", "5")

    def setUp(self):
        super().setUp(); made = []
        for number in range(3):
            self.file(f"{number}.png", png(40 + number, 30, number)); made.append(record(number, "<p> a field </p> [SEG]", [rle(blob(30, 40 + number))]))
        self.data = self.write("data.json", made)

    def command(self, predictions, *more):
        return ["eval", "--task", "gcg", "--data", self.data, "--predictions", predictions, *self.ASK, *more]

    def bytes(self, name):
        with open(self.path(name), "rb") as f: return f.read()

    def finish(self, predictions, *more):
        done = run(*self.command(self.path(predictions), "--json", self.path("figures.json"), "-q", *more)); self.assertEqual((done.returncode, done.stderr), (0, ""))
        return self.bytes(predictions), json.load(open(self.path("figures.json"))), done.stdout

    def interrupted(self, name):
        """Interrupted when its first answer is there; the exit code. What it leaves is whole answers, no report."""
        child = subprocess.Popen([PROGRAM, *self.command(self.path(name), "--json", self.path("none.json"))], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while child.poll() is None and not (os.path.exists(self.path(name)) and b"\n" in self.bytes(name)): time.sleep(0.001)
        child.send_signal(signal.SIGINT); out, err = child.communicate()
        if child.returncode == 0: os.remove(self.path("none.json")); return 0  # it was done before the signal
        self.assertEqual(child.returncode, 130, err); self.assertIn("interrupted; the same command goes on from here", err); self.assertEqual(out, "")
        self.assertEqual([f for f in os.listdir(self.folder) if "none" in f], [])
        text = self.bytes(name); self.assertTrue(text.endswith(b"\n"))
        for line in text.split(b"\n")[:-1]: json.loads(line)
        return 130

    def test_interrupt(self):
        whole = self.finish("whole.jsonl"); self.assertEqual(whole[0].count(b"\n"), 3); codes = set()
        for attempt in range(20):
            name = f"{attempt}.jsonl"; codes.add(self.interrupted(name)); text = self.bytes(name)
            self.assertTrue(whole[0].startswith(text)); self.assertEqual(self.finish(name), whole)
            if 130 in codes: break
        self.assertIn(130, codes)
        # a last line cut in half is done again
        lines = whole[0].split(b"\n"); self.file("half.jsonl", b"\n".join(lines[:2]) + b"\n" + lines[2][:len(lines[2]) // 2]); self.assertEqual(self.finish("half.jsonl"), whole)
        # nothing is left to ask: the model is not even opened, nor are pictures
        self.assertEqual(self.finish("half.jsonl", "--images", "/nonexistent"), whole)
        # other crops
        self.refuse(1, ["half.jsonl", "with 1 crops", "with 2", "name another file"], *self.command(self.path("half.jsonl"), "--crops", "2", "--json", self.path("none.json"))); self.assertEqual(self.bytes("half.jsonl"), whole[0])
        self.refuse(1, ["half.jsonl", "/nonexistent", "name another file"], *self.command(self.path("half.jsonl"), "--model", "/nonexistent"))
        # a list cannot be added to
        listed = self.write("list.json", [json.loads(line) for line in lines[:2]]); before = self.bytes("list.json")
        self.refuse(1, ["list.json", "is a list"], *self.command(listed)); self.assertEqual(self.bytes("list.json"), before)

    def test_together(self):
        """Several at a time, on copies of the model too, give the same file; interrupted or failing, none that was answered is lost."""
        made = []
        for number in range(6): made.append(record(number, "<p> a field </p> [SEG]", [rle(blob(30, 40 + number // 2))])); made[-1]["image"] = f"{number // 2}.png"
        self.data = self.write("data.json", made); more = ("--max-new-tokens", "60"); whole = self.finish("whole.jsonl", *more)
        self.assertEqual([json.loads(line)["id"] for line in whole[0].splitlines()], [str(number) for number in range(6)])
        for name, so in (("three.jsonl", ("--batch", "3")), ("many.jsonl", ("--batch", "64")), ("copies.jsonl", ("--dp", "2", "--batch", "2"))): self.assertEqual(self.finish(name, *more, *so), whole)
        child = subprocess.Popen([PROGRAM, *self.command(self.path("i.jsonl"), "--batch", "4", "--max-new-tokens", "400")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while child.poll() is None and not (os.path.exists(self.path("i.jsonl")) and b"\n" in self.bytes("i.jsonl")): time.sleep(0.001)
        child.send_signal(signal.SIGINT); _, err = child.communicate(); self.assertIn(child.returncode, (0, 130), err)
        long = self.finish("long.jsonl"); self.assertEqual(sorted(self.finish("i.jsonl", "--batch", "4")[0].splitlines()), sorted(long[0].splitlines()))
        os.remove(self.path("2.png")); done = run(*self.command(self.path("p.jsonl"), *more, "--batch", "4", "-q")); self.assertEqual(done.returncode, 1)
        self.assertIn("2.png: cannot be read: No such file", done.stderr); self.assertEqual(self.bytes("p.jsonl"), b"".join(whole[0].splitlines(True)[:4]))

    def test_missing_picture(self):
        """What was answered stays."""
        os.remove(self.path("1.png")); done = run(*self.command(self.path("p.jsonl"), "--json", self.path("none.json"), "-q", "--max-new-tokens", "20"))
        self.assertEqual((done.returncode, done.stdout), (1, "")); self.assertIn("1.png: cannot be read: No such file", done.stderr); self.assertEqual(self.bytes("p.jsonl").count(b"\n"), 1); self.assertFalse(os.path.exists(self.path("none.json")))


class Refusals(Eval):
    def setUp(self):
        super().setUp(); self.mask = rle(np.eye(4, 5, dtype=np.uint8)); self.data = self.write("data.json", [record(0, "<p> a </p> [SEG]", [self.mask])]); self.good = self.lines("good.jsonl", [answer(0, "x", [self.mask])])

    def bad(self, words_, data=None, predictions=None, *more, code=1, task="gcg"):
        return self.refuse(code, ["geopixel", *words_], "eval", "--task", task, "--data", data or self.data, "--predictions", predictions or self.good, "--json", self.path("report.json"), *more)

    def test_good(self):
        for task in ("gcg", "refseg"): self.figures(task, self.data, self.good)

    def test_usage(self):
        done = run("eval", "--help"); self.assertEqual((done.returncode, done.stderr), (0, "")); self.assertIn("usage: geopixel eval [options]", done.stdout)
        for option in ("--task gcg|refseg", "--data", "--images", "--split", "--model", "--predictions", "--bert", "--json", "--batch", "--dp", "--crops", "--threads"): self.assertIn(option, done.stdout)
        self.bad(["fly", "gcg|refseg"], task="fly", code=2); self.bad(["--bret"], None, None, "--bret", "x", code=2); self.bad(["--quiet and --verbose"], None, None, "-q", "-v", code=2)
        self.refuse(2, ["--task is missing"], "eval", "--data", self.data, "--predictions", self.good); self.refuse(2, ["--data is missing"], "eval", "--task", "gcg", "--predictions", self.good)
        self.refuse(2, ["--model nor --predictions"], "eval", "--task", "gcg", "--data", self.data)
        for other, word in ((self.good, "same file"), (self.data, "overwrite the data")): self.refuse(2, [word], "eval", "--task", "gcg", "--data", self.data, "--predictions", self.good, "--json", other)

    def test_files(self):
        none = self.path("none"); self.bad([none, "No such file"], none); self.bad([none, "No such file"], None, none); self.bad([self.folder, "Is a directory"], None, self.folder)
        self.bad([none], None, None, "--bert", none); self.bad([self.folder, "RRSIS-D", "--task refseg"], self.folder); self.bad(["--split is for RRSIS-D"], None, None, "--split", "val")
        self.bad(["instances.json", "No such file"], self.folder, task="refseg"); self.refuse(1, ["/nonexistent/x", "cannot be written"], "eval", "--task", "gcg", "--data", self.data, "--predictions", self.good, "--json", "/nonexistent/x")
        done = subprocess.run(f"'{PROGRAM}' eval --task gcg --data '{self.data}' --predictions '{self.good}' > /dev/full", shell=True, capture_output=True, text=True); self.assertEqual(done.returncode, 1); self.assertIn("standard output", done.stderr)

    def test_data(self):
        def data(words_, *records): self.bad(["data", *words_], self.write("bad-data.json", list(records)))
        data(["is empty"]); self.bad(["line 1"], self.file("cut.json", b"[{")); self.bad(["not a list"], self.write("object.json", {}))
        data(["record 0", "2 [SEG] in the text, 1 masks"], record(0, "[SEG] [SEG]", [self.mask])); data(["record 1", "0 [SEG]", "1 masks"], record(0, ""), record(1, "x", [self.mask]))
        data(["record 1", "id 0"], record(0, ""), record(0, "x")); data(["record 1", "id 0"], record("0", ""), record(0, "x"))
        data(["image is missing"], {**record(0, ""), "image": None}); data(["turn is missing"], {**record(0, ""), "conversations": []}); data(["neither segmentation nor polygons"], {**record(0, ""), "segmentation": 5})
        missing = record(0, "[SEG]"); del missing["segmentation"]; data(["away.json", "No such file"], {**missing, "polygons": "away.json"}); self.assertNotIn("line -1", run("eval", "--task", "gcg", "--data", self.path("bad-data.json"), "--predictions", self.good).stderr)
        self.write("empty.json", {}); data(["empty.json", "no polygons"], {**missing, "polygons": "empty.json"})
        for mask, words_ in (({"size": [5, 4], "counts": "04"}, ["[5, 4]", "[4, 5]"]), ({"size": [4, 5], "counts": "0"}, ["0 pixels", "20"]), ({"size": [4, 5], "counts": "\x7f"}, ["character 0"]), ({"size": [4, 5], "counts": [3, 4]}, ["not the 20 pixels"]),
                             ({"size": [4, 5], "counts": []}, ["not the 20 pixels"]), ({"size": [4, 5], "counts": [30, -10]}, ["not the 20 pixels"]), ({"size": [4, 5]}, ["neither text nor a list"]), (None, ["mask 0"]), ([[[0, 0], [1, 1], [1e300, 2]]], ["point 2 of ring 0"]),
                             ([[[0, 0], [1, 1], [1]]], ["point 2 of ring 0"]), ([5], ["ring 0"])):
            data(["sample 0", "mask 0", *words_], record(0, "[SEG]", [mask]))

    def test_predictions(self):
        def answers(words_, *lines, task="gcg"):
            self.bad(["bad.jsonl", *words_], None, self.lines("bad.jsonl", lines), task=task); self.bad(["bad.json", *words_], None, self.write("bad.json", list(lines)), task=task)
        good = answer(0, "x", [self.mask]); answers(["id 0", "a second answer"], good, good); answers(["no prediction for id 0"], answer(1, "x")); self.bad(["line 2"], None, self.file("cut.jsonl", json.dumps(good).encode() + b"\n{"))
        answers(["no id"], {**good, "id": 0}); answers(["no text"], {**good, "text": None}); answers(["no list of masks"], {**good, "masks": 3}); answers(["phrases"], {**good, "phrases": []}); self.bad(["no id"], None, self.write("five.json", [5])); answers(["no size"], {**good, "size": [0, 5]}); answers(["no size"], {**good, "size": [4, 5, 6]})
        for task in ("gcg", "refseg"):
            for mask, words_ in (({"size": [5, 4], "counts": "04"}, ["not of the size [4, 5]"]), ({"size": [4, 5]}, ["no counts"]), ({"size": [4, 5], "counts": "01"}, ["pixels"]), ({"size": [4, 5], "counts": "o"}, ["break off"]), ("x", ["no counts"])):
                answers(["id 0", "mask 1", *words_], {**good, "masks": [self.mask, mask]}, task=task)
            self.bad(["data.json", "sample 0", "[5, 4]", "[4, 5]"], None, self.lines("other.jsonl", [{**good, "size": [5, 4], "masks": []}]), task=task)


if __name__ == "__main__":
    ran = unittest.main(exit=False).result
    for _, reason in ran.skipped: print(f"skipped: {reason}")
    sys.exit(1 if not ran.wasSuccessful() else 77 if ran.skipped and len(ran.skipped) >= ran.testsRun else 0)
