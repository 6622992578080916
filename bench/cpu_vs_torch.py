#!/usr/bin/env python3
"""Our CPU backend beside plain PyTorch in f32 (bench/reference.py), a stage at a time, on the same cores in the same run.

    cpu_vs_torch.py [--model DIR --image FILE --prompt TEXT --crops P] [--threads N] [--runs N] [--out FILE.md]

Without --model a checkpoint of the goldens' shape is made (random weights). The two alternate; medians are compared. The whole answer
is also timed as the official code computes it, without a KV cache: the whole prefix again for every token.
Needs torch, numpy, Pillow, safetensors, sentencepiece, and build/bin/geopixel.
"""
import argparse, datetime, json, os, platform, statistics, subprocess, sys, tempfile, time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.path += [os.path.join(ROOT, "tools"), os.path.join(ROOT, "bench")]
GOLDENS_SHAPE = {  # ViT 128 wide, LLM 512 wide on one kv head, Hiera 72 to 576, crops of 560, grounding 1024
    "rank": 256, "decoder_mlp": 2048,
    "language": {"hidden_size": 512, "intermediate_size": 768, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 1, "max_length": 16384,
                 "max_position_embeddings": 24576},
    "vision": {"image_size": 560, "patch_size": 14, "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 3, "num_attention_heads": 2},
    "grounding": {"image_size": 1024, "embed_dim": 72, "num_heads": 1, "stages": [1, 2, 3, 1], "global_att_blocks": [4], "window_spec": [8, 4, 16, 8]}}
STAGES = ("prepare", "vision", "prefill", "decode", "grounding", "masks")


def ours(a):
    """Seconds a stage of one run of the program, and its text."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([os.path.join(ROOT, "build/bin/geopixel"), "run", a.image, "--model", a.model, "--prompt", a.prompt, "--crops", str(a.crops), "--threads",
                        str(a.threads), "--json", out.name, "-q"], check=True, stdout=subprocess.DEVNULL)
        answer = json.load(open(out.name))
    return {s: answer["timings"][s] for s in STAGES}, answer


def theirs(model, a, torch, Image):
    """The same stages through the reference; decoding with its KV cache."""
    took, last = {}, time.perf_counter()

    def lap(stage):
        nonlocal last
        now = time.perf_counter(); took[stage] = took.get(stage, 0) + now - last; last = now

    picture = Image.open(a.image).convert("RGB"); last = time.perf_counter()
    divided = reference.divide(picture, a.crops, model.crop); lap("prepare")
    crops, rows, cols = model.crops(divided); tokens = model.image_tokens(model.vit(crops), rows, cols); lap("vision")
    x, image_rows, _ = model.prompt(a.prompt, [], tokens); cache = [None] * model.config["num_hidden_layers"]
    hidden = model.language(x, image_rows, cache); logits = hidden[-1] @ model.w["output.weight"].T; lap("prefill")
    ids, segs, seg = [], [], model.tokenizer.ids["[SEG]"]
    while True:
        ids.append(int(logits.argmax()))
        if ids[-1] == 2 or len(ids) == 300: break
        hidden = model.language(model.w["model.tok_embeddings.weight"][ids[-1]][None], torch.zeros(1, dtype=torch.bool), cache)
        if ids[-1] == seg: segs.append(hidden[0])
        logits = hidden[-1] @ model.w["output.weight"].T
    lap("decode")
    took["grounding"] = took["masks"] = 0
    if segs:
        embed, s0, s1 = model.grounding(model.hiera(model.grounding_pixels(picture))); lap("grounding")
        chosen, _ = model.choose(*model.mask_decoder(model.seg_embeddings(torch.stack(segs)), embed, s0, s1)[:2])
        torch.nn.functional.interpolate(chosen[:, None], (picture.height, picture.width), mode="bilinear", align_corners=False)[:, 0] > 0; lap("masks")
    return took, ids


def official_answer(model, a, torch, Image, count):
    """Seconds of the answer's tokens when each runs the whole prefix again; a few are timed, the rest are as long."""
    divided = reference.divide(Image.open(a.image).convert("RGB"), a.crops, model.crop); crops, rows, cols = model.crops(divided)
    x, image_rows, _ = model.prompt(a.prompt, [], model.image_tokens(model.vit(crops), rows, cols)); took = []
    for _ in range(5):
        start = time.perf_counter(); model.language(x, image_rows, [None] * model.config["num_hidden_layers"]); took.append(time.perf_counter() - start)
    return statistics.median(took) * count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model"); parser.add_argument("--image"); parser.add_argument("--prompt", default="Describe the scene."); parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0))); parser.add_argument("--runs", type=int, default=7); parser.add_argument("--out")
    a = parser.parse_args()
    import torch, random_model, reference
    from PIL import Image
    torch.set_grad_enabled(False); torch.set_num_threads(a.threads)
    work = tempfile.mkdtemp(); made = not a.model
    if made:
        spec = random_model.read_spec(None)
        for key, value in GOLDENS_SHAPE.items(): spec[key] = {**spec[key], **value} if isinstance(value, dict) else value
        a.model = os.path.join(work, "model"); random_model.write_model(a.model, spec)
    if not a.image: a.image = os.path.join(work, "scene.png"); random_model.write_png(a.image, random_model.draw_scene(1024, 1024))
    model = reference.Reference(a.model); mine, torchs = [], []
    for run in range(a.runs + 1):  # the first pair warms both up
        have, answer = ours(a); want, ids = theirs(model, a, torch, Image)
        if answer["token_ids"] != ids: sys.exit("the two answers differ")
        if run: mine.append(have); torchs.append(want)
    median = lambda list_, key: statistics.median(d[key] for d in list_)
    slow = official_answer(model, a, torch, Image, len(ids))
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    lines = [f"# CPU backend beside PyTorch {torch.__version__}, f32", "",
             f"{datetime.date.today()}, {cpu}, {a.threads} threads ({answer['device']}); {'a random checkpoint of the goldens shape' if made else a.model}, "
             f"{answer['image']['width']} x {answer['image']['height']} pixels, {answer['crops']['count']} crops, {answer['prompt_tokens']} prompt tokens, {len(ids)} answered, "
             f"{len(answer['masks'])} masks. Medians of {a.runs} alternating runs; command: `bench/cpu_vs_torch.py {' '.join(sys.argv[1:])}`".rstrip(), "",
             "| stage | geopixel.c, ms | PyTorch, ms | ours / PyTorch |", "|---|---|---|---|"]
    for stage in STAGES:
        x, y = median(mine, stage), median(torchs, stage); lines.append(f"| {stage} | {1000 * x:.1f} | {1000 * y:.1f} | {x / y:.2f} |" if y else f"| {stage} | {1000 * x:.1f} | - | - |")
    x, y = (statistics.median(sum(d.values()) for d in l) for l in (mine, torchs)); lines.append(f"| whole answer | {1000 * x:.1f} | {1000 * y:.1f} | {x / y:.2f} |")
    z = y - median(torchs, "prefill") - median(torchs, "decode") + slow; lines.append(f"| whole answer, PyTorch without a KV cache | {1000 * x:.1f} | {1000 * z:.1f} | {x / z:.2f} |")
    print("\n".join(lines))
    if a.out: open(a.out, "w").write("\n".join(lines) + "\n")
