#!/usr/bin/env python3
"""Writes a small GeoPixel checkpoint with random weights, and a drawn scene to try it on.

    random_model.py FOLDER [--spec SPEC.json]     the checkpoint: config, tokenizer, weights
    random_model.py --scene SCENE.png [--size 512x384]

The weights are noise, so masks mean nothing. One thing is crafted: the output head maps each token of a fixed sentence to the
next one, so that the answer is a sentence with a phrase and a [SEG]. Numbers come from a counter-based generator: the same
spec gives the same bytes on any machine. SPEC.json overrides the defaults below. Needs numpy.
"""
import argparse, collections, json, os, struct, zlib
import numpy as np

DEFAULTS = {
    "seed": 1,
    "dtype": "bf16",  # or f16, f32
    "format": "safetensors",  # or bin, torch's zip
    "shards": 1,
    "rank": 32,  # of the partial LoRAs
    "decoder_mlp": 128,
    "loop": False,  # the sentence begins again instead of ending: many masks
    "language": {"hidden_size": 256, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "num_key_value_heads": 1, "rope_theta": 1000000, "rope_scaling": {"type": "dynamic", "factor": 1.0},
                 "max_length": 4096, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "out_dim": 256},
    "vision": {"image_size": 112, "patch_size": 14, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
               "num_attention_heads": 2, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    "grounding": {"image_size": 256, "embed_dim": 72, "num_heads": 1, "stages": [1, 1, 2, 1], "global_att_blocks": [3],
                  "window_spec": [8, 4, 16, 8], "window_pos_embed_bkg_spatial_size": [7, 7]},
}
SENTENCE = ["Here", " lies", "<p>", " a", " green", " field", "</p>", "[SEG]", "."]


# ---- numbers

def noise(seed, name, count):
    """`count` numbers of mean 0 and variance 1: sums of four 16-bit uniforms, each from a splitmix64 of a counter. Exact in f64."""
    key = np.uint64((seed * 0x9E3779B97F4A7C15 + zlib.crc32(name.encode()) * 0xD1342543DE82EF95) & 0xFFFFFFFFFFFFFFFF)
    x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    total = sum(((x >> np.uint64(16 * i)) & np.uint64(0xFFFF)).astype(np.float64) for i in range(4))
    return (total - 131070.0) / 37837.0  # √(4·(65536² − 1)/12) = 37837


def to_bytes(values, dtype):
    single = values.astype(np.float32)
    if dtype == "f32": return single.astype("<f4").tobytes()
    if dtype == "f16": return single.astype("<f2").tobytes()
    bits = single.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()  # nearest, ties to even


# ---- shapes

def shapes(spec, vocabulary):
    """Every tensor's name and shape, some that are never used among them."""
    l, v, g, rank = spec["language"], spec["vision"], spec["grounding"], spec["rank"]
    hidden, out = l["hidden_size"], l["out_dim"]
    s = collections.OrderedDict()

    def linear(name, n, k, bias=True):
        s[name + ".weight"] = (n, k)
        if bias: s[name + ".bias"] = (n,)

    def norm(name, n):
        s[name + ".weight"] = (n,); s[name + ".bias"] = (n,)

    def lora(name, n, k):
        linear(name, n, k, bias=False); s[name + ".Plora_A.weight"] = (rank, k); s[name + ".Plora_B.weight"] = (n, rank)

    s["model.tok_embeddings.weight"] = (vocabulary, hidden); s["output.weight"] = (vocabulary, hidden)
    head = hidden // l["num_attention_heads"]; kv = l["num_key_value_heads"]
    for i in range(l["num_hidden_layers"]):
        p = f"model.layers.{i}."
        lora(p + "attention.wqkv", (l["num_attention_heads"] + 2 * kv) * head, hidden); lora(p + "attention.wo", hidden, hidden)
        for w in ("w1", "w3"): lora(p + "feed_forward." + w, l["intermediate_size"], hidden)
        lora(p + "feed_forward.w2", hidden, l["intermediate_size"])
        s[p + "attention_norm.weight"] = (hidden,); s[p + "ffn_norm.weight"] = (hidden,)
    s["model.layers.0.attention.wqkv.lora_sft_A.weight"] = (4, hidden)  # another task's: never read
    s["model.norm.weight"] = (hidden,)
    linear("model.text_hidden_fcs.0.0", hidden, hidden); linear("model.text_hidden_fcs.0.2", out, hidden)
    p = "vit.vision_tower.vision_model."; c = v["hidden_size"]; n = v["image_size"] // v["patch_size"]
    s[p + "embeddings.class_embedding"] = (c,)
    s[p + "embeddings.patch_embedding.weight"] = (c, 3, v["patch_size"], v["patch_size"])
    s[p + "embeddings.position_embedding.weight"] = (n * n + 1, c)
    norm(p + "pre_layrnorm", c); norm(p + "post_layernorm", c)
    for i in range(v["num_hidden_layers"]):
        q = f"{p}encoder.layers.{i}."
        for a in ("q_proj", "k_proj", "v_proj", "out_proj"): linear(q + "self_attn." + a, c, c)
        linear(q + "mlp.fc1", v["intermediate_size"], c); linear(q + "mlp.fc2", c, v["intermediate_size"])
        norm(q + "layer_norm1", c); norm(q + "layer_norm2", c)
    s["plora_glb_GN"] = (1, 1, 4 * c); s["plora_sub_GN"] = (1, 1, 1, 4 * c)
    linear("vision_proj.0", hidden, 4 * c); linear("vision_proj.2", hidden, hidden)
    m = "model.visual_model."; t = m + "image_encoder.trunk."; e = g["embed_dim"]
    s[t + "patch_embed.proj.weight"] = (e, 3, 7, 7); s[t + "patch_embed.proj.bias"] = (e,)
    s[t + "pos_embed"] = (1, e, *g["window_pos_embed_bkg_spatial_size"]); s[t + "pos_embed_window"] = (1, e, g["window_spec"][0], g["window_spec"][0])
    block = 0
    for stage, count in enumerate(g["stages"]):
        for i in range(count):
            b = f"{t}blocks.{block}."; d = e << stage; first = stage > 0 and i == 0; k = d // 2 if first else d; block += 1
            norm(b + "norm1", k); norm(b + "norm2", d); linear(b + "attn.qkv", 3 * d, k); linear(b + "attn.proj", d, d)
            linear(b + "mlp.layers.0", 4 * d, d); linear(b + "mlp.layers.1", d, 4 * d)
            if first: linear(b + "proj", d, k)
    last = len(g["stages"]) - 1

    def conv(name, n, k):
        s[name + ".weight"] = (n, k, 1, 1); s[name + ".bias"] = (n,)

    for i in range(last + 1): conv(f"{m}image_encoder.neck.convs.{last - i}.conv", out, e << i)
    s[m + "no_mem_embed"] = (1, 1, out)
    s[m + "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"] = (2, out // 2)
    s[m + "sam_prompt_encoder.no_mask_embed.weight"] = (1, out)
    d = m + "sam_mask_decoder."
    conv(d + "conv_s0", out // 8, out); conv(d + "conv_s1", out // 4, out)
    for name, n in (("obj_score_token", 1), ("iou_token", 1), ("mask_tokens", 4)): s[f"{d}{name}.weight"] = (n, out)

    def attention(name, inner):
        for a in "qkv": linear(f"{name}.{a}_proj", inner, out)
        linear(name + ".out_proj", out, inner)

    for i in range(2):
        q = f"{d}transformer.layers.{i}."
        attention(q + "self_attn", out); attention(q + "cross_attn_token_to_image", out // 2); attention(q + "cross_attn_image_to_token", out // 2)
        for j in range(1, 5): norm(f"{q}norm{j}", out)
        linear(q + "mlp.layers.0", spec["decoder_mlp"], out); linear(q + "mlp.layers.1", out, spec["decoder_mlp"])
    attention(d + "transformer.final_attn_token_to_image", out // 2); norm(d + "transformer.norm_final_attn", out)
    s[d + "output_upscaling.0.weight"] = (out, out // 4, 2, 2); s[d + "output_upscaling.0.bias"] = (out // 4,)
    norm(d + "output_upscaling.1", out // 4)
    s[d + "output_upscaling.3.weight"] = (out // 4, out // 8, 2, 2); s[d + "output_upscaling.3.bias"] = (out // 8,)
    for i in range(4):
        for j, n in enumerate((out, out, out // 8)): linear(f"{d}output_hypernetworks_mlps.{i}.layers.{j}", n, out)
    for j, n in enumerate((out, out, 4)): linear(f"{d}iou_prediction_head.layers.{j}", n, out)
    return s


def values(name, shape, seed):
    """Initial values by the tensor's part: norms near 1, small biases, matrices that keep the size of what passes."""
    r = noise(seed, name, int(np.prod(shape))).reshape(shape)
    if len(shape) == 1 and name.endswith("weight"): return 1 + 0.05 * r
    if name.endswith("bias"): return 0.05 * r
    if "Plora_B" in name: return r * 0.5 / np.sqrt(shape[1])
    if "output_upscaling" in name: return r / np.sqrt(shape[0])
    # Attention of noise is so sharp in the mask decoder that f32 itself is off by 1e-3 there: softer queries and keys keep it at 1e-6.
    if "sam_mask_decoder" in name and ("q_proj.w" in name or "k_proj.w" in name): return 0.2 * r / np.sqrt(shape[1])
    if "tok_embeddings" in name or "gaussian" in name or "token" in name or "embed" in name and "patch" not in name: return r
    if len(shape) == 2 or len(shape) == 4 and "GN" not in name: return r * (0.7 if "wo." in name or "w2." in name else 1.0) / np.sqrt(np.prod(shape[1:]))
    return r


def weights(spec, tokenizer):
    """Name → values. The head's row of each token that the sentence goes on with points along the token before it."""
    made = collections.OrderedDict()
    for name, shape in shapes(spec, tokenizer["vocabulary"]).items(): made[name] = values(name, shape, spec["seed"])
    embed, head = made["model.tok_embeddings.weight"], made["output.weight"]
    embed *= 3.0  # above what the layers add, so that the last token is what the head reads
    chain = [tokenizer["ids"]["\n"]] + [tokenizer["ids"][p] for p in SENTENCE]
    after = chain[1:] + [chain[1] if spec["loop"] else tokenizer["ids"]["</s>"]]
    for here, then in zip(chain, after): head[then] = head[then] * 0.1 + embed[here] * (4.0 / np.sqrt(embed.shape[1]) / 3.0)
    return made


# ---- tokenizer

TEXT = ("Here lies a green field beside the river. The large building at the top left has a grey roof and a shadow on the road. "
        "Several white vehicles are parked in the center of the image, near the storage tanks and the ships at the harbour. ") * 2


def proto(field, kind, value):
    """One field of a protobuf message: kind 0 whole number, 2 bytes, 5 float."""
    def varint(n):
        out = b""
        while n > 127: out += bytes([n & 127 | 128]); n >>= 7
        return out + bytes([n])
    head = varint(field << 3 | kind)
    if kind == 0: return head + varint(value)
    if kind == 5: return head + struct.pack("<f", value)
    return head + varint(len(value)) + value


def learn_pieces(count):
    """Byte-pair merges of TEXT's words, each word with its leading space."""
    words = collections.Counter("▁" + w for w in TEXT.split(" ") if w)
    words["Here"] += 50
    split = {w: list(w) for w in words}
    pieces = []
    while len(pieces) < count:
        pairs = collections.Counter()
        for w, n in words.items():
            for a, b in zip(split[w], split[w][1:]): pairs[a + b] += n
        if not pairs: break
        best = min(pairs, key=lambda p: (-pairs[p], p)); pieces.append(best)
        for w, parts in split.items():
            i = 0
            while i + 1 < len(parts):
                if parts[i] + parts[i + 1] == best: parts[i:i + 2] = [best]
                else: i += 1
    return pieces


def make_tokenizer(folder):
    """tokenizer.model (sentencepiece BPE with byte fallback, no space put in front) and the added tokens."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), ("[UNUSED_TOKEN_145]", 0.0, 4), ("[UNUSED_TOKEN_146]", 0.0, 4)]
    pieces += [(f"<0x{b:02X}>", 0.0, 6) for b in range(256)]
    merges = learn_pieces(300)
    pieces += [(p, -float(i), 1) for i, p in enumerate(merges)]
    letters = ["▁"] + [chr(c) for c in range(33, 127)] + ["\n"]
    pieces += [(c, -1000.0 - i, 1) for i, c in enumerate(letters)]
    body = b"".join(proto(1, 2, proto(1, 2, t.encode()) + proto(2, 5, score) + proto(3, 0, kind)) for t, score, kind in pieces)
    trainer = proto(3, 0, 2) + proto(4, 0, len(pieces)) + proto(35, 0, 1) + proto(40, 0, 0) + proto(41, 0, 1) + proto(42, 0, 2)
    normalizer = proto(1, 2, b"identity") + proto(3, 0, 0) + proto(4, 0, 0) + proto(5, 0, 1)
    with open(os.path.join(folder, "tokenizer.model"), "wb") as f: f.write(body + proto(2, 2, trainer) + proto(3, 2, normalizer))
    ids = {t.replace("▁", " "): i for i, (t, _, _) in enumerate(pieces)}
    added = {"[SEG]": len(pieces), "<p>": len(pieces) + 1, "</p>": len(pieces) + 2}
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    for name, content in (("added_tokens.json", added), ("special_tokens_map.json", special),
                          ("tokenizer_config.json", {"tokenizer_class": "InternLM2Tokenizer", **special})):
        with open(os.path.join(folder, name), "w") as f: json.dump(content, f, indent=1)
    return {"ids": {**ids, **added}, "vocabulary": len(pieces) + 3}


# ---- files

def write_safetensors(path, tensors, dtype):
    header, at, parts = {"__metadata__": {"format": "pt"}}, 0, []
    for name, array in tensors.items():
        data = to_bytes(array, dtype); parts.append(data)
        header[name] = {"dtype": dtype.upper(), "shape": list(array.shape), "data_offsets": [at, at + len(data)]}; at += len(data)
    text = json.dumps(header).encode(); text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for data in parts: f.write(data)


def write_torch(path, tensors, dtype):
    """torch.save's zip: a pickle of an OrderedDict of _rebuild_tensor_v2 calls, a storage a tensor."""
    import zipfile
    kind = {"bf16": "BFloat16Storage", "f16": "HalfStorage", "f32": "FloatStorage"}[dtype]
    number = lambda n: b"K" + bytes([n]) if n < 256 else b"M" + struct.pack("<H", n) if n < 65536 else b"J" + struct.pack("<i", n)
    text = lambda t: b"X" + struct.pack("<I", len(t.encode())) + t.encode()
    sizes = lambda list_: b"(" + b"".join(map(number, list_)) + b"t"
    out = [b"\x80\x02ccollections\nOrderedDict\n)R("]
    for i, (name, array) in enumerate(tensors.items()):
        strides = [int(np.prod(array.shape[d + 1:])) for d in range(array.ndim)]
        out.append(text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + b"ctorch\n" + kind.encode() + b"\n" + text(str(i)) + text("cpu") +
                   number(array.size) + b"tQ" + number(0) + sizes(array.shape) + sizes(strides) + b"\x89ccollections\nOrderedDict\n)RtR")
    out.append(b"u.")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr("weights/data.pkl", b"".join(out)); z.writestr("weights/byteorder", "little")
        for i, array in enumerate(tensors.values()): z.writestr(f"weights/data/{i}", to_bytes(array, dtype))
        z.writestr("weights/version", "3\n")


def write_model(folder, spec):
    os.makedirs(folder, exist_ok=True)
    tokenizer = make_tokenizer(folder); made = weights(spec, tokenizer)
    config = {"architectures": ["GeoPixelForCausalLM"], "model_type": "internlm2", "vocab_size": tokenizer["vocabulary"], "hidden_act": "silu", "bias": False,
              "bos_token_id": 1, "eos_token_id": 2, **spec["language"], "vision_config": spec["vision"], "grounding_config": spec["grounding"]}
    with open(os.path.join(folder, "config.json"), "w") as f: json.dump(config, f, indent=1)
    torch = spec["format"] == "bin"; write = write_torch if torch else write_safetensors
    stem, ending = ("pytorch_model", "bin") if torch else ("model", "safetensors")
    if spec["shards"] == 1:
        write(os.path.join(folder, f"{stem}.{ending}"), made, spec["dtype"]); return
    names, places = list(made), {}
    for k in range(spec["shards"]):
        part = names[k::spec["shards"]]; file = f"{stem}-{k + 1:05d}-of-{spec['shards']:05d}.{ending}"
        write(os.path.join(folder, file), {n: made[n] for n in part}, spec["dtype"]); places.update({n: file for n in part})
    with open(os.path.join(folder, f"{stem}.{ending}.index.json"), "w") as f: json.dump({"metadata": {}, "weight_map": places}, f)


def weights_crc(folder):
    """CRC-32 over the tensors' bytes in the files of a folder, whatever their containers' dates."""
    crc = 0
    for name in sorted(n for n in os.listdir(folder) if n.endswith((".safetensors", ".bin"))):
        if name.endswith(".bin"):
            import zipfile
            with zipfile.ZipFile(os.path.join(folder, name)) as z:
                for entry in z.namelist(): crc = zlib.crc32(z.read(entry), crc)
        else:
            with open(os.path.join(folder, name), "rb") as f: crc = zlib.crc32(f.read(), crc)
    return crc


def read_spec(path):
    """The defaults with what SPEC.json says over them, part by part."""
    spec = json.loads(json.dumps(DEFAULTS))
    if path:
        for key, value in json.load(open(path)).items():
            if isinstance(value, dict): spec[key].update(value)
            else: spec[key] = value
    return spec


# ---- scene

def draw_scene(width, height):
    """Fields, a river, a road with vehicles, roofs with shadows: [height, width, 3] bytes."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    grain = noise(7, "grain", width * height).reshape(height, width, 1)
    fields = np.array([[96, 130, 62], [150, 148, 88], [120, 146, 80], [168, 158, 112], [84, 112, 58], [138, 126, 82]], dtype=np.float64)
    tile = (x * 5 // width + 3 * (y * 4 // height)).astype(int) % len(fields)
    image = fields[tile] + 6 * np.sin((x + 2 * y) / 5)[..., None] * (tile % 2 == 0)[..., None]
    river = np.abs(y - 0.32 * height - 0.1 * height * np.sin(x / width * 5))[..., None] < 0.07 * height
    image = np.where(river, [52, 88, 104], image)
    road = np.abs(x - 0.6 * width - 0.25 * (y - height / 2))[..., None] < 0.022 * width
    image = np.where(road, [128, 126, 122], image)
    for k in range(9):  # roofs with the shadow that the sun leaves beside them
        cx, cy = (0.06 + 0.1 * (k % 5)) * width, (0.62 + 0.2 * (k // 5)) * height; w, h = 0.035 * width, 0.055 * height
        image = np.where(((np.abs(x - cx - 6) < w) & (np.abs(y - cy - 6) < h))[..., None], image * 0.45, image)
        roof = np.array([[176, 92, 74], [188, 184, 180], [120, 124, 136]][k % 3], dtype=np.float64)
        image = np.where(((np.abs(x - cx) < w) & (np.abs(y - cy) < h))[..., None], roof * np.where(y < cy, 1.06, 0.9)[..., None], image)
    for k in range(8):
        cy = (0.08 + 0.12 * k) * height; cx = 0.6 * width + 0.25 * (cy - height / 2) + (5 if k % 2 else -5)
        image = np.where(((np.abs(x - cx) < 3) & (np.abs(y - cy) < 6))[..., None], [[236, 236, 238], [170, 40, 36]][k % 2], image)
    return np.clip(image + 5 * grain, 0, 255).astype(np.uint8)


def write_png(path, pixels):
    height, width, _ = pixels.shape
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    with open(path, "wb") as f:
        f.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows, 6)) + chunk(b"IEND", b""))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?"); parser.add_argument("--spec"); parser.add_argument("--scene"); parser.add_argument("--size", default="512x384")
    arguments = parser.parse_args()
    if not arguments.folder and not arguments.scene: parser.error("a FOLDER or --scene is needed")
    if arguments.folder: write_model(arguments.folder, read_spec(arguments.spec))
    if arguments.scene: write_png(arguments.scene, draw_scene(*map(int, arguments.size.split("x"))))
