#!/usr/bin/env python3
"""GeoPixel in plain PyTorch functions, float32: the oracle for checkpoints of any size, and what the benchmark runs beside us.

    reference.py GOLDENS [CASE ...]      compares each stage with a folder of the goldens' layout
    reference.py CHECKPOINT IMAGE PROMPT [P]

Needs torch, numpy, Pillow, safetensors, sentencepiece. Every size comes from the checkpoint.
Class Reference has one method a stage; shapes stand where they change.
"""
import json, math, os, re, sys
import numpy as np, torch, torch.nn.functional as F
import sentencepiece
from PIL import Image
from safetensors.torch import load_file

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
SAM_MEAN, SAM_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VISION_7B = dict(image_size=560, patch_size=14, num_attention_heads=16, layer_norm_eps=1e-5)
GROUNDING_7B = dict(image_size=1024, embed_dim=144, num_heads=2, stages=[2, 6, 36, 4], global_att_blocks=[23, 33, 43], window_spec=[8, 4, 16, 8])


class Tokenizer:
    """sentencepiece plus the added tokens, by the rules of the Hugging Face slow tokenizer."""

    def __init__(self, folder):
        self.sp = sentencepiece.SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        read = lambda f: json.load(open(os.path.join(folder, f))) if os.path.exists(os.path.join(folder, f)) else {}
        self.added = read("added_tokens.json")
        special = [v if isinstance(v, str) else v["content"] for v in read("special_tokens_map.json").values() if isinstance(v, (str, dict))]
        self.special = {t: self.sp.piece_to_id(t) for t in special}
        whole = {**self.added, **self.special}
        self.ids, self.names = whole, {i: t for t, i in whole.items()}
        self.split = re.compile("(" + "|".join(re.escape(t) for t in sorted(whole, key=len, reverse=True)) + ")")

    def encode(self, text, bos=False):
        out = [self.sp.bos_id()] if bos else []
        parts = self.split.split(text)  # text, token, text, token, … text
        for i, part in enumerate(parts):
            if i % 2:
                out.append(self.ids[part]); continue
            if i > 0: part = part.lstrip()
            if i + 1 < len(parts): part = part.rstrip()
            if part: out += self.sp.encode(part)
        return out

    def decode(self, ids):
        """Pieces between added tokens are decoded together; added tokens are set off by one space; <s> </s> <unk> are skipped."""
        runs, run = [], []
        for i in ids:
            if i in self.special.values(): continue
            if i in self.names:
                if run: runs.append(self.pieces(run)); run = []
                runs.append(self.names[i])
            else: run.append(i)
        if run: runs.append(self.pieces(run))
        return " ".join(runs)

    CLEAN = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))

    def pieces(self, ids):
        """A run without added tokens: sentencepiece's decoding, then transformers' clean-up, in this order."""
        text = self.sp.decode(ids)
        for a, b in self.CLEAN: text = text.replace(a, b)
        return text


def divide(image, P, crop=560, fits=lambda grid: True):
    """PIL RGB → PIL RGB of a multiple of `crop`, by the official rule; the largest scale for which fits((columns, rows))."""
    swap = image.width < image.height
    if swap: image = image.transpose(Image.TRANSPOSE)
    ratio = image.width / image.height
    scale = 1
    while scale * math.ceil(scale / ratio) <= P: scale += 1
    scale = max(image.width // crop, scale - 1)
    while scale > 1 and not fits((scale, math.ceil(int(scale * crop / ratio) / crop))): scale -= 1
    w, h = scale * crop, int(scale * crop / ratio)
    image = image.resize((w, h), Image.BILINEAR)
    out = Image.new("RGB", (w, math.ceil(h / crop) * crop), (255, 255, 255)); out.paste(image)
    return out.transpose(Image.TRANSPOSE) if swap else out


def to_tensor(image, mean, std):
    x = torch.from_numpy(np.asarray(image, dtype=np.uint8).copy()).permute(2, 0, 1).float() / 255
    return (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]  # [3, H, W]


def attention(q, k, v, causal=False):
    """q [..., n, d], k and v [..., m, d]; softmax in f32."""
    s = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if causal:
        n, m = s.shape[-2:]
        s = s.masked_fill(torch.ones(n, m, dtype=torch.bool).triu(m - n + 1), float("-inf"))
    return s.softmax(-1) @ v


class Reference:
    def __init__(self, folder):
        self.config = c = json.load(open(os.path.join(folder, "config.json")))
        self.vision = {**VISION_7B, **c.get("vision_config", {})}; self.ground = {**GROUNDING_7B, **c.get("grounding_config", {})}
        self.w = {}
        for f in sorted(os.listdir(folder)):
            if f.endswith(".safetensors"): self.w.update(load_file(os.path.join(folder, f)))
            elif f.startswith("pytorch_model") and f.endswith(".bin"): self.w.update(torch.load(os.path.join(folder, f), weights_only=True))
        self.w = {k: v.float() for k, v in self.w.items()}
        self.tokenizer = Tokenizer(folder)
        self.crop = self.vision["image_size"]

    # ---- small parts
    def linear(self, x, name):
        return F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))

    def norm(self, x, name, eps):
        return F.layer_norm(x, x.shape[-1:], self.w[name + ".weight"], self.w[name + ".bias"], eps)

    def rms(self, x, name):
        return self.w[name] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"]))

    def partial_lora(self, x, name, image_rows):
        """y = xWᵀ + m·(xAᵀ)Bᵀ, m = 1 on image rows. x [n, K], image_rows bool [n]."""
        y = F.linear(x, self.w[name + ".weight"], self.w.get(name + ".bias"))
        if image_rows.any():
            y[image_rows] += F.linear(F.linear(x[image_rows], self.w[name + ".Plora_A.weight"]), self.w[name + ".Plora_B.weight"])
        return y

    # ---- vision
    def crops(self, divided):
        x = to_tensor(divided, CLIP_MEAN, CLIP_STD); s = self.crop
        rows, cols = x.shape[1] // s, x.shape[2] // s
        whole = F.interpolate(x[None], (s, s), mode="bicubic", align_corners=False)
        local = x.reshape(3, rows, s, cols, s).permute(1, 3, 0, 2, 4).reshape(-1, 3, s, s)
        return torch.cat([whole, local]), rows, cols  # [1 + rows·cols, 3, s, s]

    def vit(self, crops):
        p, eps = "vit.vision_tower.vision_model.", self.vision["layer_norm_eps"]
        heads = self.vision["num_attention_heads"]
        x = F.conv2d(crops, self.w[p + "embeddings.patch_embedding.weight"], stride=self.vision["patch_size"]).flatten(2).transpose(1, 2)
        x = torch.cat([self.w[p + "embeddings.class_embedding"].expand(len(x), 1, -1), x], 1) + self.w[p + "embeddings.position_embedding.weight"]
        x = self.norm(x, p + "pre_layrnorm", eps)
        for i in range(self.vision["num_hidden_layers"] if "num_hidden_layers" in self.vision else 24):
            l = f"{p}encoder.layers.{i}."
            y = self.norm(x, l + "layer_norm1", eps); b, n, c = y.shape
            q, k, v = (self.linear(y, l + f"self_attn.{a}_proj").view(b, n, heads, -1).transpose(1, 2) for a in "qkv")
            x = x + self.linear(attention(q, k, v).transpose(1, 2).reshape(b, n, c), l + "self_attn.out_proj")
            y = self.linear(self.norm(x, l + "layer_norm2", eps), l + "mlp.fc1")
            x = x + self.linear(y * torch.sigmoid(1.702 * y), l + "mlp.fc2")
        return x  # [crops, 1 + g², C]

    def image_tokens(self, features, rows, cols):
        x = features[:, 1:]; b, n, c = x.shape; g = math.isqrt(n); m = g // 2
        x = x.view(b, m, 2, m, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, m, m, 4 * c)  # 2×2 merge
        sub, glb = self.w["plora_sub_GN"].view(1, 1, -1), self.w["plora_glb_GN"].view(1, -1)
        close = lambda t: torch.cat([t, sub.expand(t.shape[0], 1, -1)], 1).flatten(0, 1)  # a separator after each row
        local = x[1:].view(rows, cols, m, m, 4 * c).permute(0, 2, 1, 3, 4).reshape(rows * m, cols * m, 4 * c)
        x = torch.cat([close(x[0]), glb, close(local)])
        return self.linear(F.gelu(self.linear(x, "vision_proj.0")), "vision_proj.2")  # [T, D]

    # ---- language
    def prompt(self, question, history, tokens):
        text = "".join(f"[UNUSED_TOKEN_146]user\n{q}[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n{a}[UNUSED_TOKEN_145]\n" for q, a in history)
        text += f"[UNUSED_TOKEN_146]user\n{question}[UNUSED_TOKEN_145]\n[UNUSED_TOKEN_146]assistant\n"
        if "<ImageHere>" not in text: text = "<ImageHere>" + text
        before, after = text.split("<ImageHere>")
        a, b = self.tokenizer.encode(before, bos=True), self.tokenizer.encode(after)
        embed = lambda ids: self.w["model.tok_embeddings.weight"][torch.tensor(ids, dtype=torch.long)]
        rows = torch.zeros(len(a) + len(tokens) + len(b), dtype=torch.bool); rows[len(a):len(a) + len(tokens)] = True
        return torch.cat([embed(a), tokens, embed(b)]), rows, (a, b)

    def rope(self, x, first):
        """x [heads, n, d], rotated by halves at positions first, first + 1, …"""
        d = x.shape[-1]; scaling = self.config.get("rope_scaling") or {}
        t = torch.arange(first, first + x.shape[1], dtype=torch.float32) / (scaling["factor"] if scaling.get("type") == "linear" else 1.0)
        f = t[:, None] * (1.0 / self.config["rope_theta"] ** (torch.arange(0, d, 2).float() / d))
        cos, sin = torch.cat([f, f], -1).cos(), torch.cat([f, f], -1).sin()
        return x * cos + torch.cat([-x[..., d // 2:], x[..., :d // 2]], -1) * sin

    def language(self, x, image_rows, cache):
        """Appends rows x [n, D] to the cache (a list of (k, v) a layer, or empties); returns final-norm hidden states [n, D]."""
        c = self.config; heads, kv = c["num_attention_heads"], c["num_key_value_heads"]; d = c["hidden_size"] // heads; group = heads // kv
        for i in range(c["num_hidden_layers"]):
            l = f"model.layers.{i}."
            qkv = self.partial_lora(self.rms(x, l + "attention_norm.weight"), l + "attention.wqkv", image_rows).view(len(x), kv, group + 2, d)
            q = qkv[:, :, :group].reshape(len(x), heads, d).transpose(0, 1); k, v = qkv[:, :, group].transpose(0, 1), qkv[:, :, group + 1].transpose(0, 1)
            first = cache[i][0].shape[1] if cache[i] is not None else 0
            q, k = self.rope(q, first), self.rope(k, first)
            if first: k, v = torch.cat([cache[i][0], k], 1), torch.cat([cache[i][1], v], 1)
            cache[i] = (k, v)
            y = torch.cat([attention(q[h:h + 1], k[h // group][None], v[h // group][None], causal=True) for h in range(heads)])
            x = x + self.partial_lora(y.transpose(0, 1).reshape(len(x), -1), l + "attention.wo", image_rows)
            y = self.rms(x, l + "ffn_norm.weight")
            y = F.silu(self.partial_lora(y, l + "feed_forward.w1", image_rows)) * self.partial_lora(y, l + "feed_forward.w3", image_rows)
            x = x + self.partial_lora(y, l + "feed_forward.w2", image_rows)
        return self.rms(x, "model.norm.weight")

    def generate(self, x, image_rows, limit):
        """Greedy ids, the prompt's hidden states, and the hidden state of each [SEG] where it is the input."""
        cache = [None] * self.config["num_hidden_layers"]; seg = self.tokenizer.ids["[SEG]"]
        hidden = prompt_hidden = self.language(x, image_rows, cache); ids, segs = [], []
        while len(ids) < limit:
            ids.append(int((hidden[-1] @ self.w["output.weight"].T).argmax()))
            if ids[-1] == 2: break
            if len(ids) == limit and ids[-1] != seg: break
            hidden = self.language(self.w["model.tok_embeddings.weight"][ids[-1]][None], torch.zeros(1, dtype=torch.bool), cache)
            if ids[-1] == seg: segs.append(hidden[0])
        return ids, prompt_hidden, torch.stack(segs) if segs else torch.zeros(0, x.shape[1])

    def seg_embeddings(self, h):
        return self.linear(F.relu(self.linear(h, "model.text_hidden_fcs.0.0")), "model.text_hidden_fcs.0.2")

    # ---- grounding
    def grounding_pixels(self, image):
        s = self.ground["image_size"]
        x = torch.from_numpy(np.asarray(image, dtype=np.uint8).copy()).permute(2, 0, 1).float()[None] / 255
        x = F.interpolate(x, (s, s), mode="bilinear", align_corners=False, antialias=True)
        return (x - torch.tensor(SAM_MEAN)[:, None, None]) / torch.tensor(SAM_STD)[:, None, None]

    def hiera(self, x):
        p, g = "model.visual_model.image_encoder.trunk.", self.ground
        x = F.conv2d(x, self.w[p + "patch_embed.proj.weight"], self.w[p + "patch_embed.proj.bias"], stride=4, padding=3)
        window = self.w[p + "pos_embed_window"]; h, w = x.shape[-2:]
        pos = F.interpolate(self.w[p + "pos_embed"], (h, w), mode="bicubic") + window.tile(1, 1, h // window.shape[2], w // window.shape[3])
        x = (x + pos).permute(0, 2, 3, 1)  # [1, H, W, C]
        ends = np.cumsum(g["stages"]) - 1; out, heads, stage = [], g["num_heads"], 0
        for i in range(sum(g["stages"])):
            pool = stage + 1 < len(ends) and i - 1 == ends[stage]
            size = g["window_spec"][stage]  # a stage's first block still has the previous stage's window
            if pool: stage += 1; heads *= 2
            x = self.hiera_block(x, f"{p}blocks.{i}.", heads, 0 if i in g["global_att_blocks"] else size, pool)
            if i in ends: out.append(x)
        return out

    def hiera_block(self, x, l, heads, size, pool):
        shrink = lambda t: F.max_pool2d(t.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
        y = self.norm(x, l + "norm1", 1e-6)
        short = shrink(self.linear(y, l + "proj")) if pool else x
        H, W = y.shape[1:3]
        if size:
            ph, pw = -H % size, -W % size
            y = F.pad(y, (0, 0, 0, pw, 0, ph)); hh, ww = (H + ph) // size, (W + pw) // size
            y = y.view(1, hh, size, ww, size, -1).permute(0, 1, 3, 2, 4, 5).reshape(-1, size, size, y.shape[-1])
        b, n, m, _ = y.shape
        q, k, v = self.linear(y, l + "attn.qkv").view(b, n * m, 3, heads, -1).unbind(2)
        if pool: q = shrink(q.reshape(b, n, m, -1)); n, m = n // 2, m // 2; q = q.reshape(b, n * m, heads, -1)
        a = attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2).reshape(b, n, m, -1)
        y = self.linear(a, l + "attn.proj")
        if size:
            y = y.view(1, hh, ww, n, m, -1).permute(0, 1, 3, 2, 4, 5).reshape(1, hh * n, ww * m, -1)
            y = y[:, :short.shape[1], :short.shape[2]]
        x = short + y
        y = self.linear(F.gelu(self.linear(self.norm(x, l + "norm2", 1e-6), l + "mlp.layers.0")), l + "mlp.layers.1")
        return x + y

    def grounding(self, stages):
        v = "model.visual_model."; conv = lambda x, n: F.conv2d(x, self.w[n + ".weight"], self.w[n + ".bias"])
        maps = [x.permute(0, 3, 1, 2) for x in stages]; last = len(maps) - 1; levels = [None] * len(maps)
        for i in range(last, -1, -1):
            y = conv(maps[i], f"{v}image_encoder.neck.convs.{last - i}.conv")
            if i == last - 1: y = y + F.interpolate(levels[last], scale_factor=2.0, mode="nearest")
            levels[i] = y
        s0, s1 = conv(levels[0], v + "sam_mask_decoder.conv_s0"), conv(levels[1], v + "sam_mask_decoder.conv_s1")
        return levels[2] + self.w[v + "no_mem_embed"].view(1, -1, 1, 1), s0, s1

    # ---- masks
    def decoder_attention(self, q, k, v, name):
        q, k, v = (self.linear(t, f"{name}.{a}_proj") for t, a in ((q, "q"), (k, "k"), (v, "v")))
        split = lambda t: t.view(*t.shape[:2], 8, -1).transpose(1, 2)
        o = attention(split(q), split(k), split(v)).transpose(1, 2)
        return self.linear(o.reshape(*o.shape[:2], -1), name + ".out_proj")

    def mlp(self, x, name, layers):
        for i in range(layers):
            x = self.linear(x, f"{name}.layers.{i}")
            if i + 1 < layers: x = F.relu(x)
        return x

    def mask_decoder(self, embeddings, image, s0, s1):
        """embeddings [masks, 256] → all logits [masks, 4, 4g, 4g], predicted IoU [masks, 4], tokens, image rows."""
        p, e = "model.visual_model.sam_mask_decoder.", "model.visual_model.sam_prompt_encoder."
        n, g = len(embeddings), image.shape[-1]
        centre = (torch.arange(g) + 0.5) / g * 2 - 1
        xy = torch.stack(torch.meshgrid(centre, centre, indexing="ij")[::-1], -1)  # [g, g, (x, y)]
        angle = 2 * math.pi * (xy @ self.w[e + "pe_layer.positional_encoding_gaussian_matrix"])
        pos = torch.cat([angle.sin(), angle.cos()], -1).view(1, g * g, -1)
        src = (image + self.w[e + "no_mask_embed.weight"].view(1, -1, 1, 1)).flatten(2).transpose(1, 2).expand(n, -1, -1)
        own = torch.cat([self.w[p + t + ".weight"] for t in ("obj_score_token", "iou_token", "mask_tokens")])
        point = torch.cat([own.expand(n, -1, -1), embeddings[:, None]], 1)  # [masks, 7, 256]
        q, k = point, src
        for i in range(2):
            l = f"{p}transformer.layers.{i}."
            y = q if i == 0 else q + point
            q = self.decoder_attention(y, y, q, l + "self_attn") + (0 if i == 0 else q)
            q = self.norm(q, l + "norm1", 1e-5)
            q = self.norm(q + self.decoder_attention(q + point, k + pos, k, l + "cross_attn_token_to_image"), l + "norm2", 1e-5)
            q = self.norm(q + self.mlp(q, l + "mlp", 2), l + "norm3", 1e-5)
            k = self.norm(k + self.decoder_attention(k + pos, q + point, q, l + "cross_attn_image_to_token"), l + "norm4", 1e-5)
        t = p + "transformer."
        q = self.norm(q + self.decoder_attention(q + point, k + pos, k, t + "final_attn_token_to_image"), t + "norm_final_attn", 1e-5)
        up = lambda x, i: F.conv_transpose2d(x, self.w[f"{p}output_upscaling.{i}.weight"], self.w[f"{p}output_upscaling.{i}.bias"], stride=2)
        x = up(k.transpose(1, 2).reshape(n, -1, g, g), 0) + s1
        x = F.gelu(self.norm(x.permute(0, 2, 3, 1), p + "output_upscaling.1", 1e-6).permute(0, 3, 1, 2))
        x = F.gelu(up(x, 3) + s0)
        hyper = torch.stack([self.mlp(q[:, 2 + i], f"{p}output_hypernetworks_mlps.{i}", 3) for i in range(4)], 1)
        return (hyper @ x.flatten(2)).view(n, 4, *x.shape[-2:]), self.mlp(q[:, 1], p + "iou_prediction_head", 3).sigmoid(), q, k

    @staticmethod
    def choose(logits, iou):
        over, under = ((logits[:, 0] > t).sum((-1, -2)).float() for t in (0.05, -0.05))
        stable = torch.where(under > 0, over / under, torch.ones(())) >= 0.98
        index = torch.where(stable, 0, 1 + iou[:, 1:].argmax(-1))
        return logits[torch.arange(len(logits)), index], index

    def run(self, image, question, history=(), P=9, limit=300, keep=None):
        """PIL RGB → text, ids, bool masks [masks, H, W]. `keep` (a dict) receives every stage."""
        s = keep if keep is not None else {}
        divided = divide(image, P, self.crop); s["divided"] = divided
        s["crops"], rows, cols = self.crops(divided)
        s["vit"] = self.vit(s["crops"]); s["image_tokens"] = self.image_tokens(s["vit"], rows, cols)
        x, image_rows, s["text_ids"] = self.prompt(question, history, s["image_tokens"])
        ids, s["hidden"], s["seg_hidden"] = self.generate(x, image_rows, limit); s["logits"] = s["hidden"] @ self.w["output.weight"].T
        text = self.tokenizer.decode(ids).replace("[UNUSED_TOKEN_145]", ""); masks = torch.zeros(0, image.height, image.width, dtype=torch.bool)
        if len(s["seg_hidden"]):
            s["seg_embeddings"] = self.seg_embeddings(s["seg_hidden"]); s["grounding_pixels"] = self.grounding_pixels(image)
            stages = self.hiera(s["grounding_pixels"]); s.update({f"hiera_stage{i}": t for i, t in enumerate(stages)})
            embed, s0, s1 = self.grounding(stages)
            hw = lambda t: t[0].permute(1, 2, 0)
            s["grounding_embed"], s["grounding_s0"], s["grounding_s1"] = hw(embed), hw(s0), hw(s1)
            logits, s["iou"], s["decoder_tokens"], k = self.mask_decoder(s["seg_embeddings"], embed, s0, s1)
            s["all_mask_logits"], s["decoder_image"] = logits, k[0]
            s["mask_logits"], s["chosen"] = self.choose(logits, s["iou"])
            masks = F.interpolate(s["mask_logits"][:, None], (image.height, image.width), mode="bilinear", align_corners=False)[:, 0] > 0
        return text, ids, masks


def rle_to_mask(rle):
    """COCO compressed run lengths → bool [h, w]."""
    runs, i, counts = [], 0, rle["counts"]
    while i < len(counts):
        x, k, more = 0, 0, True
        while more:
            c = ord(counts[i]) - 48; x |= (c & 31) << 5 * k; more = bool(c & 32); i += 1; k += 1
            if not more and c & 16: x |= -1 << 5 * k
        runs.append(x + runs[-2] if len(runs) > 2 else x)
    h, w = rle["size"]
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(w, h).T


def compare(goldens, names):
    model = Reference(os.path.join(goldens, "checkpoint")); worst = {}
    for name in names or sorted(os.listdir(os.path.join(goldens, "cases"))):
        folder = os.path.join(goldens, "cases", name); case = json.load(open(folder + "/case.json")); gold = load_file(folder + "/stages.safetensors"); keep = {}
        text, ids, masks = model.run(Image.open(os.path.join(goldens, case["image"])).convert("RGB"), case["prompt"], case["history"], case["hd_num"], case["max_new_tokens"], keep)
        errors = {}
        for stage, want in gold.items():
            if stage.endswith(".rows") or stage not in keep: continue  # without [SEG] the grounding branch is not run
            have = keep[stage]
            if stage + ".rows" in gold: have = have.reshape(-1, have.shape[-1])[gold[stage + ".rows"].long()]
            errors[stage] = float((have - want).norm() / want.norm()); worst[stage] = max(worst.get(stage, 0), errors[stage])
        equal = [float((m.numpy() == rle_to_mask(r)).mean()) for m, r in zip(masks, case["masks"])]
        print(f"{name:26s} ids {'equal' if ids == case['generated_ids'] else 'DIFFER'}  text {'equal' if text == case['response'] else 'DIFFERS ' + repr(text) + ' ' + repr(case['response'])}  masks {len(masks)}/{len(case['masks'])} {['%.6f' % e for e in equal]}  worst {max(errors, key=errors.get)} {max(errors.values()):.1e}", flush=True)
    print(*(f"{k:18s} {v:.1e}" for k, v in worst.items()), sep="\n")


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    if len(sys.argv) > 1 and os.path.isdir(os.path.join(sys.argv[1], "cases")): compare(sys.argv[1], sys.argv[2:])
    elif len(sys.argv) > 3: print(Reference(sys.argv[1]).run(Image.open(sys.argv[2]).convert("RGB"), sys.argv[3], P=int(sys.argv[4]) if len(sys.argv) > 4 else 9)[0])
    else: sys.exit(__doc__)
