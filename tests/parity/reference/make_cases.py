#!/usr/bin/env python3
"""Makes tests/parity/random: checkpoints of sizes that the goldens do not have, run through bench/reference.py.

    make_cases.py OUT        (by hand, where torch is; what it writes is committed)

A folder a model: spec.json (what tools/random_model.py makes the checkpoint from, again, in every build), crc32 of its weights,
images, cases/NAME/case.json and stages.safetensors with a few rows a stage.
"""
import json, os, shutil, sys, tempfile, zlib
import numpy as np, torch
from PIL import Image
from safetensors.numpy import save_file

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../..")
sys.path += [os.path.join(ROOT, "tools"), os.path.join(ROOT, "bench")]
import random_model, reference

MODELS = {
    "two-kv-heads": {"seed": 11, "language": {"hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 200, "num_hidden_layers": 3},
                     "grounding": {"image_size": 320, "stages": [1, 2, 1, 1], "global_att_blocks": [2, 3], "window_spec": [8, 4, 6, 8]}},
    "four-kv-heads-linear-rope": {"seed": 12, "dtype": "f16", "rank": 20, "loop": True,
                                  "language": {"hidden_size": 320, "num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 328, "rope_theta": 10000,
                                               "rope_scaling": {"type": "linear", "factor": 4.0}},
                                  "vision": {"image_size": 168, "hidden_size": 96, "num_attention_heads": 3, "num_hidden_layers": 1},
                                  "grounding": {"image_size": 416, "embed_dim": 48, "num_heads": 2, "stages": [2, 1, 1, 1], "global_att_blocks": [], "window_spec": [8, 4, 16, 4]}},
    "three-stages-f32-bin-shards": {"seed": 13, "dtype": "f32", "format": "bin", "shards": 2, "decoder_mlp": 72,
                                    "language": {"hidden_size": 128, "num_attention_heads": 1, "num_key_value_heads": 1, "num_hidden_layers": 1, "intermediate_size": 100, "out_dim": 128,
                                                 "rope_scaling": None},
                                    "vision": {"image_size": 84, "patch_size": 14, "hidden_size": 64, "num_attention_heads": 1},
                                    "grounding": {"image_size": 480, "embed_dim": 36, "num_heads": 1, "stages": [1, 1, 2], "global_att_blocks": [3], "window_spec": [8, 4, 7],
                                                  "window_pos_embed_bkg_spatial_size": [5, 9]}},
    "many-kv-heads": {"seed": 14, "language": {"hidden_size": 192, "num_attention_heads": 4, "num_key_value_heads": 4, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
                      "vision": {"image_size": 224, "patch_size": 28, "hidden_size": 128, "num_attention_heads": 2},
                      "grounding": {"image_size": 256, "embed_dim": 72, "num_heads": 1, "stages": [1, 2, 3, 1], "global_att_blocks": [4], "window_spec": [8, 4, 16, 8]}},
}
CASES = [("wide", (300, 170), 4, 10, []), ("high", (90, 260), 3, 24, [["What is this?", "A field."]]), ("square", (128, 128), 1, 8, [])]
ROWS = 12  # kept of a stage: enough that a wrong row shows, few enough to commit


def rows_of(name, array, random):
    """[rows, columns] of a stage and which rows were kept."""
    flat = array.reshape(-1, array.shape[-1]); keep = np.arange(len(flat))
    most = 4 if flat.shape[1] > 200 else ROWS
    if len(flat) > most: keep = np.sort(random.choice(len(flat), most, replace=False))
    return flat[keep].astype(np.float32), keep.astype(np.int32)


def encode_rle(mask):
    """COCO compressed run lengths of bool [h, w]."""
    flat = mask.T.reshape(-1).astype(np.int8); edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    if flat[0]: runs.insert(0, 0)
    text = ""
    for i, value in enumerate(runs):
        if i > 2: value -= runs[i - 2]
        more = True
        while more:
            group = value & 31; value >>= 5; more = value != -1 if group & 16 else value != 0
            text += chr((group | 32 if more else group) + 48)
    return {"size": list(mask.shape), "counts": text}


def make_case(model, folder, name, size, P, limit, history):
    random = np.random.default_rng(zlib.crc32(name.encode())); keep = {}
    scene = Image.fromarray(random_model.draw_scene(*size)); image = f"images/{name}.png"
    os.makedirs(folder + "/images", exist_ok=True); scene.save(os.path.join(folder, image)); prompt = "Describe the scene."
    text, ids, masks = model.run(scene, prompt, history, P, limit, keep)
    divided = keep["divided"]; side = model.crop
    logits = keep["logits"][-1].sort(descending=True).values; prompt_tokens = len(keep["hidden"])
    case = {"image": image, "hd_num": P, "prompt": prompt, "history": history, "max_new_tokens": limit, "divided_size": list(divided.size),
            "grid": [divided.width // side, divided.height // side], "divided_rgb_crc32": zlib.crc32(np.asarray(divided).tobytes()),
            "image_tokens": len(keep["image_tokens"]), "prompt_tokens": prompt_tokens, "image_rows": [len(keep["text_ids"][0]), len(keep["image_tokens"])],
            "text_ids": list(keep["text_ids"]), "generated_ids": ids, "first_margin": float(logits[0] - logits[1]), "response": text, "segs_generated": len(masks),
            "masks": [encode_rle(m.numpy()) for m in masks], "chosen_mask": keep["chosen"].tolist()}
    stages = {}
    for stage, value in keep.items():
        if stage in ("divided", "text_ids", "chosen") or not torch.is_tensor(value) or not value.numel(): continue
        stages[stage], stages[stage + ".rows"] = rows_of(stage, value.numpy(), random)
    where = f"{folder}/cases/{name}"; os.makedirs(where, exist_ok=True)
    with open(where + "/case.json", "w") as f: json.dump(case, f)
    save_file(stages, where + "/stages.safetensors")
    shares = [float(m.float().mean()) for m in masks]
    print(f"{os.path.basename(folder):28s} {name:8s} {len(ids)} ids, first margin {case['first_margin']:.2f}, mask shares {[f'{s:.2f}' for s in shares]}, {text[:60]!r}")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    for name, changes in MODELS.items():
        folder = os.path.join(sys.argv[1], name); shutil.rmtree(folder, ignore_errors=True); os.makedirs(folder)
        with open(folder + "/spec.json", "w") as f: json.dump(changes, f, indent=1)
        with tempfile.TemporaryDirectory() as checkpoint:
            random_model.write_model(checkpoint, random_model.read_spec(folder + "/spec.json"))
            with open(folder + "/crc32", "w") as f: f.write(f"{random_model.weights_crc(checkpoint)}\n")
            model = reference.Reference(checkpoint)
            for case in CASES: make_case(model, folder, *case)
