#!/usr/bin/env python3
"""resources.py [--write]: compiles every CUDA source for sm_80 and sm_90a and reads what ptxas says of each kernel: registers,
stack, spills, static shared memory. Fails on a spill or a stack frame that EXCUSED does not explain, and on wgmma that the
compiler serialises. --write makes kernels/cuda/RESOURCES.md. Skips with 77 where there is no nvcc."""
import concurrent.futures, os, re, shutil, subprocess, sys, tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
TARGETS = ("sm_80", "sm_90a")
# Kernel: (bytes of stack at most, bytes spilled at most, why that is right).
EXCUSED = {
    "choose_token": (24, 0, "its f64 divisions on sm_80 are calls of a routine that has a frame"),
}
SERIALISED = re.compile(r"C75(10|14|15|20)\)")


def find_nvcc():
    return shutil.which("nvcc") or next((p for p in ["/usr/local/cuda/bin/nvcc"] if os.path.exists(p)), None)


def find_sources():
    """CUDA_SOURCES of kernels/CMakeLists.txt: what the library is made of."""
    with open(os.path.join(ROOT, "kernels/CMakeLists.txt")) as file: text = file.read()
    return sorted("kernels/" + name for name in re.search(r"set\(CUDA_SOURCES([^)]*)\)", text)[1].split())


def compile_one(nvcc, source, target, folder):
    made = os.path.join(folder, os.path.basename(source) + target + ".o")
    architecture = f"-gencode=arch=compute_{target[3:]},code={target}"
    run = subprocess.run([nvcc, "-std=c++17", "-I.", "-Ikernels/cuda", "-fmad=false", "-Xptxas", "-v", architecture, "-c",
                          source, "-o", made], cwd=ROOT, capture_output=True, text=True)
    if run.returncode != 0: sys.exit(f"{source} for {target}:\n{run.stderr}")
    return source, target, run.stderr


def parse(report):
    """(kernel, registers, stack, spilled bytes, static shared bytes) of each entry."""
    for part in report.split("Compiling entry function '")[1:]:
        name = part[:part.index("'")]
        stack = int(re.search(r"(\d+) bytes stack frame", part)[1])
        spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", part))
        shared = re.search(r"(\d+) bytes smem", part)
        yield name, int(re.search(r"Used (\d+) registers", part)[1]), stack, spilled, int(shared[1]) if shared else 0


def readable(names):
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True).stdout.splitlines()
    return [re.sub(r"\(.*", "", t.replace("(anonymous namespace)::", "").replace("(bool)1", "true").replace("(bool)0", "false").replace("(int)", ""))
            .replace("void ", "").replace("gp_cuda::", "") for t in text]


def main():
    nvcc = find_nvcc()
    if nvcc is None or shutil.which("c++filt") is None:
        print("skipped: no nvcc (or no c++filt) here, so nothing says what kernels need")
        return 77
    sources = find_sources()
    version = re.search(r"release ([\d.]+)", subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout)[1]
    problems, rows = [], {}
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(compile_one, nvcc, s, t, folder) for s in sources for t in TARGETS]
        for source, target, report in (job.result() for job in jobs):
            if SERIALISED.search(report): problems.append(f"{source} for {target}: wgmma is serialised")
            for name, registers, stack, spilled, shared in parse(report):
                if target == "sm_80" and registers <= 8 and "boxes" in name: continue  # Hopper's alone, empty here
                row = rows.setdefault((source, name), {"spilled": 0, "stack": 0, "shared": 0})
                row[target] = registers
                for what, value in (("spilled", spilled), ("stack", stack), ("shared", shared)): row[what] = max(row[what], value)
                frame, spills, _ = next((e for kernel, e in EXCUSED.items() if kernel in name), (0, 0, ""))
                if spilled > spills or stack > frame:
                    problems.append(f"{source} for {target}: {name}: {spilled} bytes spilled, stack of {stack}")
    keys = sorted(rows)
    table = ["# What the compiler says of each kernel", f"Written by `tests/simt/resources.py --write`, nvcc {version}: registers "
             "a thread for each tier; the larger of both tiers' spills, stack frame and static shared memory, in bytes. "
             "Dynamic shared memory stands in each file's header.", "",
             "| file | kernel | sm_80 | sm_90a | spills | stack | static shared |", "|---|---|---|---|---|---|---|"]
    for (source, _), name, key in zip(keys, readable([k[1] for k in keys]), keys):
        table.append(f"| {os.path.basename(source)} | `{name}` | {rows[key].get('sm_80', '')} | {rows[key].get('sm_90a', '')} | "
                     f"{rows[key]['spilled']} | {rows[key]['stack']} | {rows[key]['shared']} |")
    excused = [f"`{kernel}` has a stack frame or spills: {why}." for kernel, (_, _, why) in EXCUSED.items()
               if any(kernel in name and (row["stack"] > 0 or row["spilled"] > 0) for (_, name), row in rows.items())]
    table += [""] + excused if excused else []
    if "--write" in sys.argv[1:]:
        with open(os.path.join(ROOT, "kernels/cuda/RESOURCES.md"), "w") as file: file.write("\n".join(table) + "\n")
    print("\n".join(table[3:]))
    print("\n".join(problems) or f"{len(keys)} kernels, nothing unexplained")
    return 1 if problems or not keys else 0


sys.exit(main())
