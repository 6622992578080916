#!/usr/bin/env python3
"""`geopixel chat`: conversations through a pipe and on a terminal. Standard library alone; the environment is test_program.py's."""
import ctypes, json, os, pty, re, select, signal, subprocess, sys, termios, time, unittest
from test_program import Base, MODEL, PROGRAM, SCENE, read_png, run

WILD = ["--temperature", "50", "--seed", "7", "--max-new-tokens", "40"]  # the random model's likeliest answer is always the same
LONG = ["--temperature", "50", "--seed", "135", "--crops", "1", "--max-new-tokens", "3000"]  # over 2,000 tokens to the question below
QUESTION = "Describe the scene."


class Piped(Base):
    def chat(self, lines, *arguments, code=0):
        done = subprocess.run([PROGRAM, "chat", "--model", MODEL, *arguments], input="\n".join(lines) + "\n", capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stdout, done.stderr

    def ask(self, question, history, *arguments):
        done = run("run", SCENE, "--model", MODEL, "--prompt", question, "--history", self.file("h.json", json.dumps(history).encode()), "--json", self.path("o.json"), *arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, json.load(open(self.path("o.json")))["text"]

    def test_conversation(self):
        """Every turn is what `run --history` answers."""
        questions, history, want = ["Describe the scene.", "And the road beside it?", "Segment the building.", "/save is no command here"], [], []
        for question in questions:
            shown, text = self.ask(question, history, *WILD); want.append(shown); history.append([question, text])
        self.assertGreater(len(set(want)), 1)
        out, err = self.chat(questions[:3] + ["", "  ", "/" + questions[3]], "--image", SCENE, *WILD)
        self.assertEqual(out, "".join(want)); self.assertNotIn("geopixel>", out + err); self.assertIn("512 x 384", err)
        out, err = self.chat(questions[:1] + ["/clear"] + questions[:2] + ["/image " + SCENE] + questions[:2], "--image", SCENE, "-q", *WILD)
        self.assertEqual((out, err), ("".join(want[:1] + want[:2] + want[:2]), ""))
        done = subprocess.run([PROGRAM, "chat", "--model", MODEL, "--image", SCENE, *WILD], input=questions[0] + "\r\n" + questions[1], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, "".join(want[:2])))  # the last line needs no newline

    def test_save(self):
        out, err = self.chat(["/image " + SCENE, "Describe the scene.", "/save " + self.path("a b"), "/clear", "/save " + self.path("c")])
        self.assertEqual(sorted(os.listdir(self.folder)), [n + e for n in ("a b", "c") for e in (".geojson", ".json", ".png", ".tif")])
        answer = json.load(open(self.path("a b.json"))); self.assertEqual(answer["text"] + "\n", out); self.assertEqual(answer["prompt"], "Describe the scene.")
        self.assertEqual(read_png(self.path("a b.png"))[:2], (512, 384)); self.assertIn(self.path("a b.geojson"), err)
        self.assertEqual(answer["masks"], json.load(open(self.path("c.json")))["masks"])
        self.file("own.png", open(SCENE, "rb").read()); before = sorted(os.listdir(self.folder))
        _, err = self.chat(["/save " + self.path("early"), "x", "/save " + self.path("own"), "/save " + self.path("no/where"), "/save", "/image " + SCENE, "/save " + self.path("late")],
                           "--image", self.path("own.png"), code=1)
        for word in ("no answer", "own.png is read", "no/where", "/save needs a name"): self.assertIn(word, err)
        self.assertEqual(err.count("no answer"), 2); self.assertEqual(sorted(os.listdir(self.folder)), before)
        self.assertEqual(open(self.path("own.png"), "rb").read(), open(SCENE, "rb").read())

    def test_errors(self):
        """Each is told, the conversation goes on, and the exit code remembers."""
        want, _ = self.ask("x", [])
        out, err = self.chat(["x", "/image " + self.path("none.png"), "/image", "/imagine", "/quit now", "/image " + SCENE, "a <ImageHere> b <ImageHere>", "\0", "/image " + self.path("none.png"), "x",
                              "/quit", "x"], code=1)
        self.assertEqual(out, want)
        for word in ("no picture yet", "none.png", "/image needs a name", "/imagine is no command", "/quit takes nothing", "ImageHere", "zero byte"): self.assertIn(word, err)
        out, err = self.chat(["y" * (1 << 20) + "z", "x"], "--image", SCENE, code=1); self.assertEqual(out, want); self.assertIn("1048574", err)
        done = subprocess.run([PROGRAM, "chat", "--model", MODEL, "--image", SCENE], input=b"\xff\nx\n", capture_output=True)
        self.assertEqual((done.returncode, done.stdout.decode()), (1, want)); self.assertIn(b"UTF-8", done.stderr)
        out, err = self.chat(["/help", "/quit"]); self.assertEqual(out, ""); self.assertIn("/clear", err)
        self.assertEqual(self.chat([])[0], "")
        self.refuse(2, ["--model"], "chat"); self.refuse(2, ["exclude"], "chat", "--model", MODEL, "-q", "-v"); self.refuse(2, ["no file"], "chat", SCENE, "--model", MODEL)
        self.refuse(1, ["none.png"], "chat", "--model", MODEL, "--image", self.path("none.png")); self.refuse(1, ["none"], "chat", "--model", self.path("none"))
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, "chat", "--model", MODEL, "--image", SCENE], input="x\nx\n", stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 1); self.assertIn("standard output", done.stderr)

    def test_signals(self):
        """A signal ends a conversation through a pipe, waiting or answering."""
        for number in (signal.SIGINT, signal.SIGTERM):
            for question in (b"", QUESTION.encode() + b"\n"):
                child = subprocess.Popen([PROGRAM, "chat", "--model", MODEL, "--image", SCENE, *LONG], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                child.stdin.write(question); child.stdin.flush()
                child.stdout.read(1) if question else (child.stderr.readline(), time.sleep(0.3))
                child.send_signal(number); self.assertEqual(child.wait(60), 130); _, err = child.communicate()
                self.assertIn(b"interrupted", err)


class Terminal(Base):
    def start(self, *arguments, home=None):
        self.master, slave = pty.openpty(); self.seen = ""
        modes = termios.tcgetattr(slave); modes[3] |= termios.NOFLSH; termios.tcsetattr(slave, termios.TCSANOW, modes); self.before = modes
        environment = {k: v for k, v in os.environ.items() if k not in ("LANG", "LC_ALL", "LC_CTYPE")}
        self.child = subprocess.Popen([PROGRAM, "chat", "--model", MODEL, "--image", SCENE, *arguments], stdin=slave, stdout=slave, stderr=slave, close_fds=True, start_new_session=True,
                                      preexec_fn=lambda: __import__("fcntl").ioctl(0, termios.TIOCSCTTY, 0),
                                      env={**environment, "TERM": "xterm", "NO_COLOR": "1", "HOME": self.folder, "XDG_STATE_HOME": home or ""})
        self.slave = slave; self.addCleanup(os.close, self.master); self.addCleanup(os.close, slave); self.addCleanup(lambda: self.child.poll() is None and self.child.kill())

    def wait(self, words, fresh=True):
        """Reads until the words come, and returns what came before and with them."""
        while words not in self.seen:
            self.assertTrue(select.select([self.master], [], [], 60)[0], f"{words!r} does not come after {self.seen!r}")
            self.seen += os.read(self.master, 4096).decode(errors="replace")
        at = self.seen.index(words) + len(words); part, self.seen = self.seen[:at], self.seen[at:]
        return part

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self, code=0):
        while self.child.poll() is None:
            if select.select([self.master], [], [], 0.1)[0]: self.seen += os.read(self.master, 4096).decode(errors="replace")
        self.assertEqual(self.child.returncode, code, self.seen)
        after = termios.tcgetattr(self.slave); self.assertEqual(after[3], self.before[3], "the terminal's modes are as before")

    def test_lines(self):
        """Prompt, editing, history, Ctrl-C and Ctrl-D at the prompt."""
        self.start("-q"); self.wait("geopixel> ")
        self.assertTrue(termios.tcgetattr(self.slave)[3] & termios.NOFLSH, "a Ctrl-C at the prompt throws nothing away")
        for thread in map(int, os.listdir(f"/proc/{self.child.pid}/task")):  # a library's thread may take the signal
            blocked = int(re.search(r"SigBlk:\s*(\w+)", open(f"/proc/{self.child.pid}/task/{thread}/status").read())[1], 16)
            if not blocked >> (signal.SIGINT - 1) & 1: ctypes.CDLL(None).tgkill(self.child.pid, thread, signal.SIGINT); self.wait("^C"); self.wait("geopixel> ")
        self.type("/cleax\x7fr\r"); self.wait("geopixel> ")  # corrected
        self.type("/nope never mind\x03"); self.wait("^C"); self.wait("geopixel> ")  # forgotten
        self.type("Where is the flüss?\r"); self.wait("a green field"); self.wait("geopixel> ")
        self.type("/imaginé\r"); self.wait("/imaginé is no command"); self.wait("geopixel> ")
        self.type("\x1b[A\x1b[A\r"); self.wait("a green field"); self.wait("geopixel> ")  # the question again
        self.type("\x04"); self.end()
        self.assertNotIn("nope", self.seen)
        history = os.path.join(self.folder, ".local/state/geopixel/history")
        self.assertEqual(os.stat(history).st_mode & 0o777, 0o600); self.assertIn("clear", open(history).read())
        self.start("-q", home=self.path("state")); self.wait("geopixel> "); self.type("/quit\r"); self.end()
        self.assertEqual(os.listdir(self.path("state/geopixel")), ["history"])
        self.start("-q"); self.wait("geopixel> "); self.type("\x1b[A"); self.wait("flüss"); self.type("\r"); self.wait("a green field"); self.wait("geopixel> ")  # of the time before
        self.type("/quit\r"); self.end()

    def test_interrupt(self):
        """Ctrl-C stops an answer and nothing else; the stopped turn is no part of the conversation."""
        self.start(*LONG); self.wait("geopixel> ")
        for stage in ("encoding crops", "prefill"):
            self.type(QUESTION + "\r"); self.wait(stage)
            self.type("\x03"); self.wait("stopped"); self.wait("geopixel> ")
        self.type("/save " + self.path("x") + "\r"); self.wait("no answer to save"); self.wait("geopixel> ")
        self.type(QUESTION + "\r"); self.wait("tokens/s"); self.wait("geopixel> ")
        self.type("/save " + self.path("x") + "\r"); self.wait("wrote"); self.wait("geopixel> ")
        want = run("run", SCENE, "--model", MODEL, "--prompt", QUESTION, "--json", self.path("w.json"), *LONG); self.assertEqual(want.returncode, 0)
        self.assertEqual(json.load(open(self.path("x.json")))["token_ids"], json.load(open(self.path("w.json")))["token_ids"])
        self.type("\x04"); self.end()

    def test_terminate(self):
        """SIGTERM ends the program at the prompt and in an answer, and the terminal is as before."""
        for typed, echo in (("half a line", "half a line"), (QUESTION + "\r", "prefill")):
            self.start(*LONG); self.wait("geopixel> "); self.type(typed); self.wait(echo); self.child.send_signal(signal.SIGTERM); self.end(130)


if __name__ == "__main__": unittest.main()
