#!/usr/bin/env python3
"""The program as a user runs it. Standard library alone. GEOPIXEL_BIN: its folder; GEOPIXEL_SHARED: the goldens, where they are."""
import json, os, pty, shutil, signal, struct, subprocess, sys, tempfile, time, unittest, zlib

BIN = os.environ.get("GEOPIXEL_BIN", "build/bin")
SOURCE = os.environ.get("GEOPIXEL_SOURCE", ".")
GOLDENS = os.path.join(os.environ.get("GEOPIXEL_SHARED", "../shared"), "goldens")
MODEL, SCENE = os.path.join(BIN, "../tests/random_model"), os.path.join(BIN, "../tests/scene.png")
PROGRAM = os.path.join(BIN, "geopixel")


def run(*arguments, **options):
    return subprocess.run([PROGRAM, *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, **options)


def read_png(path):
    """width, height and rows of a PNG of 8-bit RGB, every filter of the standard undone."""
    data = open(path, "rb").read(); assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, body = 8, b""
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8]); part = data[at + 8:at + 8 + size]; at += 12 + size
        if kind == b"IHDR": width, height, depth, colour = struct.unpack(">IIBB", part[:10]); assert (depth, colour) == (8, 2)
        if kind == b"IDAT": body += part
    raw, rows, above = zlib.decompress(body), [], bytearray(3 * width)
    for y in range(height):
        filter_, row = raw[y * (3 * width + 1)], bytearray(raw[y * (3 * width + 1) + 1:(y + 1) * (3 * width + 1)])
        for i in range(len(row)):
            a, b, c = row[i - 3] if i > 2 else 0, above[i], above[i - 3] if i > 2 else 0
            p = a + b - c; paeth = min((a, b, c), key=lambda v: abs(p - v))
            row[i] = row[i] + (0, a, b, (a + b) // 2, paeth)[filter_] & 255
        rows.append(row); above = row
    return width, height, rows


def decode_rle(rle):
    """COCO's compressed run lengths to a list of columns."""
    runs, i, counts = [], 0, rle["counts"]
    while i < len(counts):
        x = k = 0; more = True
        while more:
            c = ord(counts[i]) - 48; x |= (c & 31) << 5 * k; more = bool(c & 32); i += 1; k += 1
            if not more and c & 16: x |= -1 << 5 * k
        runs.append(x + runs[-2] if len(runs) > 2 else x)
    flat = [n % 2 for n, r in enumerate(runs) for _ in range(r)]
    assert len(flat) == rle["size"][0] * rle["size"][1]
    return flat


class Base(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="geopixel-e2e-"); self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def file(self, name, data):
        with open(self.path(name), "wb") as f: f.write(data)
        return self.path(name)

    def refuse(self, code, words, *arguments):
        """The exit code, a message with all words, nothing on standard output, no file left."""
        before = sorted(os.listdir(self.folder)); done = run(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        for word in words: self.assertIn(word, done.stderr)
        self.assertEqual(done.stdout, ""); self.assertEqual(sorted(os.listdir(self.folder)), before)
        return done.stderr


class Outputs(Base):
    def test_run(self):
        done = run("run", SCENE, "--model", MODEL, "--prompt", "Describe the scene.", "--overlay", self.path("o.png"), "--json", self.path("o.json"), "-v")
        self.assertEqual(done.returncode, 0, done.stderr)
        answer = json.load(open(self.path("o.json")))
        self.assertEqual(done.stdout, answer["text"] + "\n")
        self.assertIn("<p>", done.stdout); self.assertIn("memory by plan", done.stderr)
        width, height, rows = read_png(self.path("o.png"))
        self.assertEqual([answer["image"]["width"], answer["image"]["height"]], [width, height])
        self.assertEqual(len(answer["masks"]), 1); mask = answer["masks"][0]; phrase = answer["phrases"][0]
        self.assertEqual(answer["text"][slice(*phrase["span"])], phrase["phrase"]); self.assertEqual(phrase["mask"], 0); self.assertEqual(mask["phrase"], phrase["phrase"])
        flat = decode_rle(mask["rle"]); self.assertEqual(sum(flat), mask["area_px"]); self.assertTrue(0 < mask["score"] < 1)
        self.assertEqual(set(answer["timings"]), {"prepare", "vision", "prefill", "decode", "grounding", "masks", "total"})
        self.assertEqual(answer["crops"]["count"], answer["crops"]["columns"] * answer["crops"]["rows"])
        _, _, scene = read_png(SCENE)  # outside masks and legend the scene is untouched
        same = sum(scene[y][3 * x:3 * x + 3] == rows[y][3 * x:3 * x + 3] for y in range(height) for x in range(width))
        self.assertTrue(0.2 * width * height < same < 0.9 * width * height or not 0 < sum(flat) < width * height)
        for y in range(0, height // 2, 7):
            for x in range(0, width, 5):
                if not flat[x * height + y]: self.assertEqual(scene[y][3 * x:3 * x + 3], rows[y][3 * x:3 * x + 3])
        self.assertEqual(sorted(os.listdir(self.folder)), ["o.json", "o.png"])

    def test_ranks(self):
        """The model over three devices, which here share the processor: the same words and masks, but for pixels at the rounding of sums."""
        answers = []
        for ranks in (1, 3):
            done = run("run", SCENE, "--model", MODEL, "--prompt", "Describe the scene.", "--json", self.path("o.json"), "--tp", ranks, "-q"); self.assertEqual(done.returncode, 0, done.stderr)
            answers.append(json.load(open(self.path("o.json"))))
        one, three = answers; self.assertEqual(one["text"], three["text"]); self.assertEqual(len(one["masks"]), len(three["masks"]))
        for a, b in zip(one["masks"], three["masks"]):
            a, b = decode_rle(a["rle"]), decode_rle(b["rle"]); self.assertLessEqual(sum(x != y for x, y in zip(a, b)), len(a) // 1000)
        self.refuse(2, ["--tp", "65"], "run", SCENE, "--model", MODEL, "--prompt", "x", "--tp", "65")

    def test_goldens(self):
        if not os.path.exists(GOLDENS): self.skipTest(GOLDENS + " is not there")
        for name in ("square-two-masks", "square-conversation", "seg-is-last-token"):
            case = json.load(open(f"{GOLDENS}/cases/{name}/case.json"))
            history = ["--history", self.file("h.json", json.dumps(case["history"]).encode())] if case["history"] else []
            done = run("run", f"{GOLDENS}/{case['image']}", "--model", f"{GOLDENS}/checkpoint", "--prompt", case["prompt"], "--crops", case["hd_num"],
                       "--max-new-tokens", case["max_new_tokens"], "--json", self.path("o.json"), "-q", *history)
            self.assertEqual((done.returncode, done.stderr), (0, "")); answer = json.load(open(self.path("o.json")))
            self.assertEqual(answer["text"], case["response"]); self.assertEqual(answer["token_ids"], case["generated_ids"])
            self.assertEqual([p["phrase"] for p in answer["phrases"]], case["phrases"]); self.assertEqual(answer["prompt_tokens"], case["prompt_tokens"])
            for have, want in zip(answer["masks"], case["masks"]):
                a, b = decode_rle(have["rle"]), decode_rle(want)
                self.assertGreater(sum(x == y for x, y in zip(a, b)) / len(a), 0.9999)

    def test_terminal(self):
        """On a terminal tags become colours, and progress never mixes with the answer."""
        master, slave = pty.openpty()
        child = subprocess.Popen([PROGRAM, "run", SCENE, "--model", MODEL, "--prompt", "x"], stdin=slave, stdout=slave, stderr=slave, close_fds=True,
                                 env={**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": ""})
        os.close(slave); seen = b""
        try:
            while part := os.read(master, 4096): seen += part
        except OSError: pass
        self.assertEqual(child.wait(), 0); text = seen.decode()
        self.assertIn("\x1b[1;38;2;", text); self.assertNotIn("<p>", text); self.assertNotIn("[SEG]", text); self.assertIn("encoding crops", text)
        line = next(l for l in text.split("\n") if "green field" in l)
        self.assertTrue(line.split("\x1b[K")[-1].startswith("Here lies"), line)


class Usage(Base):
    def test_help(self):
        for arguments in (["--help"], ["run", "--help"]):
            done = run(*arguments); self.assertEqual((done.returncode, done.stderr), (0, "")); self.assertIn("usage: geopixel", done.stdout)
        for option in ("--overlay", "--json", "--history", "--crops", "--max-crops", "--max-new-tokens", "--temperature", "--top-p", "--seed", "--threads", "--device"):
            self.assertIn(option, done.stdout)
        self.assertRegex(run("--version").stdout, r"^geopixel \d+\.\d+\.\d+\n$")

    def test_errors(self):
        good = ["run", SCENE, "--model", MODEL, "--prompt", "x"]
        self.refuse(2, ["usage"]); self.refuse(2, ["fly"], "fly"); self.refuse(2, ["no picture"], "run"); self.refuse(2, ["--model"], "run", SCENE, "--prompt", "x")
        self.refuse(2, ["--prompt"], "run", SCENE, "--model", MODEL); self.refuse(2, ["--prompt"], "run", SCENE, "--model", MODEL, "--prompt", "")
        self.refuse(2, ["--overlay"], *good, "--overlai", "x.png"); self.refuse(2, ["0"], *good, "--crops", "0"); self.refuse(2, ["1e9"], *good, "--crops", "1e9")
        self.refuse(2, ["-1"], *good, "--temperature", "-1"); self.refuse(2, ["gpu"], *good, "--device", "gpu")
        self.refuse(2, ["same file"], *good, "--overlay", self.path("a"), "--json", self.path("a")); self.refuse(2, [SCENE], *good, "--overlay", SCENE)

    def test_cuda(self):
        """Either there is a GPU that computes, or the reason why not is told."""
        done = run("run", SCENE, "--model", MODEL, "--prompt", "x", "--device", "cuda", "-q")
        if done.returncode != 0: self.assertEqual(done.returncode, 1); self.assertRegex(done.stderr, "GPU|CUDA")


class BadInput(Base):
    def ask(self, words, scene=SCENE, model=MODEL, *more):
        return self.refuse(1, words, "run", scene, "--model", model, "--prompt", "x", "--overlay", self.path("o.png"), "--json", self.path("o.json"), *more)

    def model(self, **files):
        """A copy of the model's small files with some replaced; the weights are linked where not replaced."""
        folder = tempfile.mkdtemp(dir=self.folder)
        for name in os.listdir(MODEL):
            if name.replace(".", "_") not in files: os.symlink(os.path.abspath(os.path.join(MODEL, name)), os.path.join(folder, name))
        for name, data in files.items():
            if data is not None: open(os.path.join(folder, "model.safetensors" if name == "model_safetensors" else name.replace("_json", ".json").replace("_model", ".model")), "wb").write(data)
        return folder

    def test_files(self):
        self.ask(["/nonexistent.tif", "No such file"], "/nonexistent.tif"); self.ask(["/nonexistent", "No such file"], SCENE, "/nonexistent")
        empty = tempfile.mkdtemp(dir=self.folder); self.ask(["config.json"], SCENE, empty); self.ask([SCENE, "not a folder"], SCENE, SCENE)
        self.ask([self.folder], self.folder)

    def test_weights(self):
        data = open(os.path.join(MODEL, "model.safetensors"), "rb").read(); length = struct.unpack("<Q", data[:8])[0]; header = data[8:8 + length]
        self.ask(["model.safetensors", "beyond"], SCENE, self.model(model_safetensors=data[:len(data) // 2]))
        self.ask(["model.safetensors", str(2 ** 40)], SCENE, self.model(model_safetensors=struct.pack("<Q", 2 ** 40) + data[8:200]))
        half = json.loads(header); half["model.norm.weight"]["dtype"] = "F8_E4M3"; text = json.dumps(half).encode()
        self.ask(["model.norm.weight", "F8_E4M3"], SCENE, self.model(model_safetensors=struct.pack("<Q", len(text)) + text + data[8 + length:]))
        self.ask(["no weights"], SCENE, self.model(model_safetensors=None))
        config = json.load(open(os.path.join(MODEL, "config.json")))
        self.ask(["config.json", "yarn"], SCENE, self.model(config_json=json.dumps({**config, "rope_scaling": {"type": "yarn", "factor": 2}}).encode()))
        wide = json.dumps({**config, "intermediate_size": 500}).encode(); message = self.ask(["w1.weight", "[384, 256]", "[500, 256]"], SCENE, self.model(config_json=wide))
        self.assertGreater(message.count("expected"), 6)  # all at once

    def test_torch(self):
        if not os.path.exists(GOLDENS): self.skipTest(GOLDENS + " is not there")
        for name, word in (("foreign_global.bin", "refused"), ("truncated.bin", "cut off"), ("legacy.bin", "1.6")):
            folder = self.model(model_safetensors=None); shutil.copy(f"{GOLDENS}/torch/{name}", os.path.join(folder, "pytorch_model.bin"))
            self.ask(["pytorch_model.bin", word], SCENE, folder)

    def test_pictures(self):
        png = open(SCENE, "rb").read(); self.ask(["cut.png", "PNG"], self.file("cut.png", png[:len(png) // 2]))
        entries = [(256, 4, 100000), (257, 4, 100000), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 100000), (279, 4, 8)]
        tiff = struct.pack("<2sHIQH", b"II", 42, 16, 0, len(entries)) + b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
        self.ask(["huge.tif", "100000 x 100000"], self.file("huge.tif", tiff.ljust(1024, b"\0")))
        self.ask(["cut.tif"], self.file("cut.tif", tiff[:30])); self.ask(["x.jpg", "JPEG"], self.file("x.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF\0"))
        self.ask(["words", "not a TIFF, PNG or JPEG"], self.file("words", b"no picture at all")); self.ask(["empty"], self.file("empty", b""))
        line = lambda w, h: self.file("line.png", b"\x89PNG\r\n\x1a\n" + b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in (
            (b"IHDR", struct.pack(">IIBBBBB", w, h, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress((b"\0" + bytes(w)) * h)), (b"IEND", b""))))
        self.ask(["line.png", "9000 x 3"], line(9000, 3)); self.ask(["line.png", "2 x 9000"], line(2, 9000))

    def test_prompts(self):
        self.refuse(1, ["4096"], "run", SCENE, "--model", MODEL, "--prompt", "q " * 9000, "--json", self.path("o.json"))
        self.refuse(1, ["more than once"], "run", SCENE, "--model", MODEL, "--prompt", "<ImageHere> <ImageHere>")
        history = lambda text: self.refuse(1, ["h.json"], "run", SCENE, "--model", MODEL, "--prompt", "x", "--history", self.file("h.json", text))
        for text in (b"", b"{}", b"[[1, 2]]", b'[["q"]]', b'[["q", "a"], ["q", null]]', b"[["): history(text)
        self.assertIn("turn 1", history(b'[["q", "a"], ["q", "a", "b"]]'))
        self.refuse(1, ["none.json"], "run", SCENE, "--model", MODEL, "--prompt", "x", "--history", self.path("none.json"))

    def test_outputs(self):
        """Found out before the work: the model is not even looked at."""
        for option in ("--overlay", "--json"):
            self.refuse(1, ["/nonexistent/o", "cannot be written"], "run", SCENE, "--model", "/no/model", "--prompt", "x", option, "/nonexistent/o")
            self.refuse(1, [self.folder, "cannot be written"], "run", SCENE, "--model", "/no/model", "--prompt", "x", option, self.folder)
        done = subprocess.run(f"'{PROGRAM}' run '{SCENE}' --model '{MODEL}' --prompt x -q > /dev/full", shell=True, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stderr)


class Interrupts(Base):
    def interrupt(self, after, number):
        """A run of many tokens, interrupted `after` seconds; returns its exit code and what is left in the folder."""
        child = subprocess.Popen([PROGRAM, "run", SCENE, "--model", MODEL, "--prompt", "x", "--temperature", "50", "--max-new-tokens", "3000", "--max-crops", "1",
                                  "--overlay", self.path("o.png"), "--json", self.path("o.json")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        time.sleep(after); child.send_signal(number); out, err = child.communicate()
        left = sorted(os.listdir(self.folder))
        for name in left: os.remove(self.path(name))  # the next run has the folder to itself
        return child.returncode, left, err.decode()

    def test_signals(self):
        codes = set()
        for after, number in ((0.02, signal.SIGINT), (0.3, signal.SIGINT), (0.3, signal.SIGTERM)):
            code, left, err = self.interrupt(after, number); codes.add(code)
            if code == 0: self.assertEqual(left, ["o.json", "o.png"])  # it was done before the signal
            elif code in (-number,): self.assertEqual(left, [])  # it had not begun to listen
            else: self.assertEqual((code, left), (130, []), err)
        self.assertTrue(codes & {130, 0})


class Install(Base):
    def test_client(self):
        """cmake --install, then the example built by pkg-config's words alone."""
        build = os.path.dirname(os.path.abspath(BIN)); prefix = self.path("prefix")
        subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True, capture_output=True)
        found = [os.path.join(folder, "pkgconfig") for folder, inner, _ in os.walk(prefix) if "pkgconfig" in inner]
        words = subprocess.run(["pkg-config", "--cflags", "--libs", "geopixel"], env={**os.environ, "PKG_CONFIG_PATH": found[0]}, check=True, capture_output=True, text=True).stdout.split()
        flags = ["-fsanitize=address,undefined"] if b"__asan_init" in open(PROGRAM, "rb").read() else []
        compiler = "clang" if flags else "cc"
        if flags: self.skipTest("a C client of a library with C++ sanitizers needs the sanitizer's C++ runtime")
        subprocess.run([compiler, "-std=c17", "-Wall", "-Werror", os.path.join(SOURCE, "runtime/example.c"), "-o", self.path("example"), *words], check=True)
        width, height, rows = read_png(SCENE)
        ppm = self.file("scene.ppm", b"P6\n%d %d\n255\n" % (width, height) + b"".join(map(bytes, rows)))
        library = [w[2:] for w in words if w.startswith("-L")] or [os.path.dirname(found[0])]
        done = subprocess.run([self.path("example"), MODEL, ppm, "Describe the scene."], env={**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(library)}, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr); self.assertIn("Here lies", done.stdout); self.assertRegex(done.stdout, r"mask 0: .*\d+ pixels")
        installed = subprocess.run([os.path.join(prefix, "bin/geopixel"), "--version"], capture_output=True, text=True); self.assertEqual(installed.returncode, 0, installed.stderr)
        symbols = subprocess.run(["nm", "-D", "--defined-only", os.path.join(BIN, "../lib/libgeopixel.so")], capture_output=True, text=True).stdout.split("\n")
        for line in filter(None, symbols): self.assertRegex(line.split()[-1], r"^gp_(version|status_|engine_|session_|submit|request_|stage_name|block_name|serve_rank|inspect|plan_request|plan_engine)", "a symbol that is not public")


if __name__ == "__main__": unittest.main()
