"""GeoPixel's forward pass in PyTorch, batched and differentiable, at the sizes of geopixel-nano.

Parameters bear the checkpoint's own names, so that saving them is writing the checkpoint. What each part computes is in the
engine's runtime (vision.c, language.c, grounding.c, mask_decoder.c); the order of the methods is that of the data: crops →
vit → image tokens → language → [SEG] embeddings; picture → hiera → three maps → masks.
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[1]))
import random_model  # noqa: E402  (names and shapes of every tensor)

SIZES = {
    "rank": 16,
    "decoder_mlp": 512,
    "language": {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 2,
                 "num_key_value_heads": 1, "rope_theta": 10000, "rope_scaling": {"type": "dynamic", "factor": 1.0},
                 "max_length": 4096, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "out_dim": 256},
    "vision": {"image_size": 448, "patch_size": 28, "hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4,
               "num_attention_heads": 3, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5},
    "grounding": {"image_size": 256, "embed_dim": 72, "num_heads": 1, "stages": [1, 2, 3], "global_att_blocks": [5],
                  "window_spec": [8, 4, 16], "window_pos_embed_bkg_spatial_size": [32, 32]},
}
VIT, VISUAL = "vit.vision_tower.vision_model.", "model.visual_model."
TRUNK, DECODER = VISUAL + "image_encoder.trunk.", VISUAL + "sam_mask_decoder."
PROMPT = VISUAL + "sam_prompt_encoder."
GAUSSIAN = PROMPT + "pe_layer.positional_encoding_gaussian_matrix"
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
SAM = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
TURNS = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # frequencies of a place, a picture's side
CODED = 4 * len(TURNS)
UNUSED = ("lora_sft", "post_layernorm")  # in an official checkpoint, never read


def normalised(pictures: Tensor, statistics: tuple) -> Tensor:
    """u8 [n, 3, h, w] → f32."""
    mean, deviation = (torch.tensor(values)[:, None, None] for values in statistics)
    return (pictures.float() / 255 - mean) / deviation


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool = False, seen: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ/√d) v in f32, which torch's CPU kernels are quicker at than at bf16."""
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=seen, is_causal=causal)


class Nano(nn.Module):
    def __init__(self, vocabulary: int):
        super().__init__()
        self.vocabulary = vocabulary
        for name, shape in random_model.shapes(SIZES, vocabulary).items():
            if any(part in name for part in UNUSED):
                continue
            self.register_parameter(name.replace(".", "/"), nn.Parameter(initial(name, shape)))
        self.w(GAUSSIAN).requires_grad_(False)
        with torch.no_grad():  # a prompt that bears a place's code looks at that place from the first step on
            for name, p in self._parameters.items():
                if "_attn_" in name and "k_proj/weight" in name:
                    p.copy_(self._parameters[name.replace("k_proj", "q_proj")])
            self.write_places()

    def write_places(self) -> None:
        """Patches and cells say from the first step on where they lie; of the finest map some channels say nothing else, so that
        the product with them draws a hill at a place."""
        position = self.w(VIT + "embeddings.position_embedding.weight")
        position[1:, :CODED] = 0.3 * cell_codes(math.isqrt(len(position) - 1))
        embed = self.w(TRUNK + "pos_embed")
        embed[0, :CODED] = 0.5 * cell_codes(embed.shape[-1]).T.unflatten(1, embed.shape[-2:])
        neck, skip = self.w(f"{VISUAL}image_encoder.neck.convs.2.conv.weight"), self.w(DECODER + "conv_s0.weight")
        for to in range(CODED // 2):
            neck[to], skip[to] = 0, 0
            neck[to, 2 * to, 0, 0], skip[to, to, 0, 0] = 1, 1
            self.w(DECODER + "conv_s0.bias")[to] = 1  # where GELU is nearly straight

    def w(self, name: str) -> Tensor:
        return self._parameters[name.replace(".", "/")]

    def of(self, *prefixes: str) -> list[nn.Parameter]:
        """The parameters whose checkpoint names begin so."""
        return [p for name, p in self._parameters.items() if name.replace("/", ".").startswith(prefixes) and p.requires_grad]

    # ---- small parts

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.w(name + ".weight"), self._parameters.get((name + ".bias").replace(".", "/")))

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.w(name + ".weight"), self.w(name + ".bias"), eps)

    def rms(self, x: Tensor, name: str) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.w(name), SIZES["language"]["rms_norm_eps"])

    def partial_lora(self, x: Tensor, name: str, images: int) -> Tensor:
        """xWᵀ, and on the image's rows 1 … images (after <s>) the low-rank addition."""
        y = self.linear(x, name)
        if images == 0:
            return y
        added = F.linear(F.linear(x[:, 1:1 + images], self.w(name + ".Plora_A.weight")), self.w(name + ".Plora_B.weight"))
        return torch.cat([y[:, :1], y[:, 1:1 + images] + added, y[:, 1 + images:]], 1)

    # ---- vision encoder

    def crops(self, divided: Tensor) -> Tensor:
        """u8 [n, 3, rows·s, columns·s] → [n, 1 + rows·columns, 3, s, s]: the whole view, then the crops."""
        x, s = normalised(divided, CLIP), SIZES["vision"]["image_size"]
        rows, columns = x.shape[2] // s, x.shape[3] // s
        whole = F.interpolate(x, (s, s), mode="bicubic", align_corners=False)
        local = x.view(-1, 3, rows, s, columns, s).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
        return torch.cat([whole[:, None], local], 1)

    def vit(self, crops: Tensor) -> Tensor:
        """[crops, 3, s, s] → [crops, 1 + g², width]."""
        c = SIZES["vision"]
        x = F.conv2d(crops, self.w(VIT + "embeddings.patch_embedding.weight"), stride=c["patch_size"]).flatten(2).transpose(1, 2)
        x = torch.cat([self.w(VIT + "embeddings.class_embedding").expand(len(x), 1, -1), x], 1)
        x = self.norm(x + self.w(VIT + "embeddings.position_embedding.weight"), VIT + "pre_layrnorm", c["layer_norm_eps"])
        for i in range(c["num_hidden_layers"]):
            l = f"{VIT}encoder.layers.{i}."
            y = self.norm(x, l + "layer_norm1", c["layer_norm_eps"])
            q, k, v = (self.linear(y, f"{l}self_attn.{a}_proj").unflatten(-1, (c["num_attention_heads"], -1)).transpose(1, 2)
                       for a in "qkv")
            y = attend(q, k, v).transpose(1, 2).flatten(2)
            x = x + self.linear(y, l + "self_attn.out_proj")
            y = self.linear(self.norm(x, l + "layer_norm2", c["layer_norm_eps"]), l + "mlp.fc1")
            x = x + self.linear(y * torch.sigmoid(1.702 * y), l + "mlp.fc2")
        return x

    def image_tokens(self, features: Tensor, grid: tuple[int, int]) -> Tensor:
        """[n, 1 + rows·columns, 1 + g², width] → [n, tokens, hidden]."""
        n, side = len(features), math.isqrt(features.shape[2] - 1) // 2
        x = features[:, :, 1:].unflatten(2, (side, 2, side, 2)).permute(0, 1, 2, 4, 3, 5, 6).flatten(4)  # [n, views, side, side, 4·width]
        row_end, view_end = self.w("plora_sub_GN").view(1, 1, 1, -1), self.w("plora_glb_GN").view(1, 1, -1)

        def closed(rows: Tensor) -> Tensor:  # a separator after each row
            return torch.cat([rows, row_end.expand(n, rows.shape[1], 1, -1)], 2).flatten(1, 2)

        local = x[:, 1:].unflatten(1, grid).permute(0, 1, 3, 2, 4, 5).flatten(1, 2).flatten(2, 3)
        x = torch.cat([closed(x[:, 0]), view_end.expand(n, 1, -1), closed(local)], 1)
        return self.linear(F.gelu(self.linear(x, "vision_proj.0")), "vision_proj.2")

    # ---- language model

    def rotated(self, x: Tensor, positions: Tensor) -> Tensor:
        """x [n, heads, rows, d], by halves; positions [rows] or [n, rows]."""
        d = x.shape[-1]
        angle = positions[..., None] / SIZES["language"]["rope_theta"] ** (torch.arange(0, d, 2) / d)
        angle = angle if positions.ndim == 1 else angle[:, None]
        cos, sin = angle.cos(), angle.sin()
        a, b = x[..., :d // 2], x[..., d // 2:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def language(self, x: Tensor, images: int, cache: list | None = None, sight: tuple[Tensor, Tensor] | None = None,
                 looks: dict | None = None) -> Tensor:
        """Rows [n, rows, hidden] → final-norm hidden states. The image is rows 1 … images. With a cache (a list of (k, v) a
        layer, filled here) the rows come after those that it holds, and must be one a sequence. `sight` are positions and who
        sees whom, where that is not one sequence a row of n. `looks` gets "heads", queries and keys [n, rows, d] of the first head
        of the last two layers, and "before", the rows that come to them."""
        c = SIZES["language"]
        heads = c["num_attention_heads"]
        d = c["hidden_size"] // heads
        for i in range(c["num_hidden_layers"]):
            l = f"model.layers.{i}."
            if looks is not None and i == c["num_hidden_layers"] - 2:
                looks["before"], looks["heads"] = x, []
            packed = self.partial_lora(self.rms(x, l + "attention_norm.weight"), l + "attention.wqkv", images)
            q, k, v = packed.split([heads * d, d, d], -1)  # one kv head
            q, k, v = q.unflatten(-1, (heads, d)).transpose(1, 2), k[:, None], v[:, None]
            first = cache[i][0].shape[2] if cache is not None and len(cache) > i else 0
            positions, seen = sight or (torch.arange(first, first + x.shape[1]), None)
            q, k = self.rotated(q, positions), self.rotated(k, positions)
            if first > 0:
                k, v = torch.cat([cache[i][0], k], 2), torch.cat([cache[i][1], v], 2)
                cache[i] = (k, v)
            elif cache is not None:
                cache.append((k, v))
            if looks is not None and i >= c["num_hidden_layers"] - 2:
                looks["heads"].append((q[:, 0], k[:, 0]))
            k, v = k.expand(-1, heads, -1, -1), v.expand(-1, heads, -1, -1)
            y = attend(q, k, v, first == 0 and seen is None, seen).transpose(1, 2).flatten(2)
            x = x + self.partial_lora(y, l + "attention.wo", images)
            y = self.rms(x, l + "ffn_norm.weight")
            y = F.silu(self.partial_lora(y, l + "feed_forward.w1", images)) * self.partial_lora(y, l + "feed_forward.w3", images)
            x = x + self.partial_lora(y, l + "feed_forward.w2", images)
        return self.rms(x, "model.norm.weight")

    def embedded(self, ids: Tensor) -> Tensor:
        return F.embedding(ids, self.w("model.tok_embeddings.weight"))

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.w("output.weight"))

    def seg_embeddings(self, hidden: Tensor) -> Tensor:
        return self.linear(F.relu(self.linear(hidden, "model.text_hidden_fcs.0.0")), "model.text_hidden_fcs.0.2")

    # ---- grounding encoder

    def hiera(self, pictures: Tensor) -> list[Tensor]:
        """u8 [n, 3, s, s] → the map [n, h, w, width] of each stage."""
        c = SIZES["grounding"]
        x = F.conv2d(normalised(pictures, SAM), self.w(TRUNK + "patch_embed.proj.weight"), self.w(TRUNK + "patch_embed.proj.bias"),
                     stride=4, padding=3)
        window = self.w(TRUNK + "pos_embed_window")
        place = F.interpolate(self.w(TRUNK + "pos_embed"), x.shape[-2:], mode="bicubic", align_corners=False)
        x = (x + place + window.tile(1, 1, x.shape[-2] // window.shape[-2], x.shape[-1] // window.shape[-1])).permute(0, 2, 3, 1)
        maps, block = [], 0
        for stage, count in enumerate(c["stages"]):
            for i in range(count):
                pool = stage > 0 and i == 0
                size = c["window_spec"][stage - 1 if pool else stage]
                size = 0 if block in c["global_att_blocks"] else size
                x = self.hiera_block(x, f"{TRUNK}blocks.{block}.", c["num_heads"] << stage, size, pool)
                block += 1
            maps.append(x)
        return maps

    def hiera_block(self, x: Tensor, l: str, heads: int, size: int, pool: bool) -> Tensor:
        """Maps that windows divide evenly."""
        def halved(t: Tensor) -> Tensor:
            return F.max_pool2d(t.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)

        y = self.norm(x, l + "norm1", 1e-6)
        shortcut = halved(self.linear(y, l + "proj")) if pool else x
        n, height, width, _ = y.shape
        rows, columns = (height // size, width // size) if size else (1, 1)
        side_y, side_x = height // rows, width // columns
        qkv = self.linear(y, l + "attn.qkv")
        qkv = qkv.view(n, rows, side_y, columns, side_x, -1).transpose(2, 3).reshape(-1, side_y, side_x, qkv.shape[-1])
        q, k, v = qkv.chunk(3, -1)
        if pool:
            q, side_y, side_x = halved(q), side_y // 2, side_x // 2
        q, k, v = (t.flatten(1, 2).unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = attend(q, k, v).transpose(1, 2).flatten(2)
        y = self.linear(y, l + "attn.proj").view(n, rows, columns, side_y, side_x, -1).transpose(2, 3)
        x = shortcut + y.reshape(shortcut.shape)
        return x + self.linear(F.gelu(self.linear(self.norm(x, l + "norm2", 1e-6), l + "mlp.layers.0")), l + "mlp.layers.1")

    def grounding(self, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u8 [n, 3, s, s] → embed [n, 256, s/16, s/16], s0 [n, 32, s/4, s/4], s1 [n, 64, s/8, s/8]; three stages."""
        def conv(x: Tensor, name: str) -> Tensor:
            return F.conv2d(x, self.w(name + ".weight"), self.w(name + ".bias"))

        levels = [x.permute(0, 3, 1, 2) for x in self.hiera(pictures)]
        last = len(levels) - 1
        levels = [conv(x, f"{VISUAL}image_encoder.neck.convs.{last - i}.conv") for i, x in enumerate(levels)]
        levels[last - 1] = levels[last - 1] + F.interpolate(levels[last], scale_factor=2.0, mode="nearest")
        embed = levels[2] + self.w(VISUAL + "no_mem_embed").view(1, -1, 1, 1)
        return embed, conv(levels[0], DECODER + "conv_s0"), conv(levels[1], DECODER + "conv_s1")

    # ---- mask decoder

    def decoder_attention(self, q: Tensor, k: Tensor, v: Tensor, name: str) -> Tensor:
        q, k, v = (self.linear(t, f"{name}.{a}_proj").unflatten(-1, (8, -1)).transpose(1, 2) for t, a in ((q, "q"), (k, "k"), (v, "v")))
        return self.linear(attend(q, k, v).transpose(1, 2).flatten(2), name + ".out_proj")

    def mlp(self, x: Tensor, name: str, layers: int) -> Tensor:
        for i in range(layers):
            x = self.linear(x, f"{name}.layers.{i}")
            x = F.relu(x) if i + 1 < layers else x
        return x

    def masks(self, prompts: Tensor, maps: tuple[Tensor, Tensor, Tensor], picture: Tensor) -> tuple[Tensor, Tensor]:
        """prompts [masks, 256], of pictures `picture` [masks] of the maps → logits [masks, 4, 4g, 4g], predicted IoU [masks, 4]."""
        embed, s0, s1 = maps
        side = embed.shape[-1]
        place = place_code(cell_places(side)[None], self.w(GAUSSIAN))
        own = torch.cat([self.w(f"{DECODER}{name}.weight") for name in ("obj_score_token", "iou_token", "mask_tokens")])
        tokens = torch.cat([own.expand(len(prompts), -1, -1), prompts[:, None]], 1)  # [masks, 7, 256]
        k = (embed + self.w(PROMPT + "no_mask_embed.weight").view(1, -1, 1, 1)).flatten(2).transpose(1, 2)[picture]
        q = tokens
        for i in range(2):
            l = f"{DECODER}transformer.layers.{i}."
            y = q if i == 0 else q + tokens
            q = self.decoder_attention(y, y, q, l + "self_attn") + (0 if i == 0 else q)
            q = self.norm(q, l + "norm1", 1e-5)
            q = self.norm(q + self.decoder_attention(q + tokens, k + place, k, l + "cross_attn_token_to_image"), l + "norm2", 1e-5)
            q = self.norm(q + self.mlp(q, l + "mlp", 2), l + "norm3", 1e-5)
            k = self.norm(k + self.decoder_attention(k + place, q + tokens, q, l + "cross_attn_image_to_token"), l + "norm4", 1e-5)
        t = DECODER + "transformer."
        q = self.norm(q + self.decoder_attention(q + tokens, k + place, k, t + "final_attn_token_to_image"), t + "norm_final_attn", 1e-5)

        def up(x: Tensor, i: int) -> Tensor:
            return F.conv_transpose2d(x, self.w(f"{DECODER}output_upscaling.{i}.weight"), self.w(f"{DECODER}output_upscaling.{i}.bias"), stride=2)

        x = up(k.transpose(1, 2).unflatten(-1, (side, side)), 0) + s1[picture]
        x = F.gelu(self.norm(x.permute(0, 2, 3, 1), DECODER + "output_upscaling.1", 1e-6).permute(0, 3, 1, 2))
        x = F.gelu(up(x, 3) + s0[picture])
        hyper = torch.stack([self.mlp(q[:, 2 + i], f"{DECODER}output_hypernetworks_mlps.{i}", 3) for i in range(4)], 1)
        logits = (hyper @ x.flatten(2)).unflatten(-1, x.shape[-2:])
        return logits, self.mlp(q[:, 1], DECODER + "iou_prediction_head", 3).sigmoid()

    @staticmethod
    def chosen(logits: Tensor, iou: Tensor) -> Tensor:
        """Mask 0 where it is stable, else the best of the other three by predicted IoU: [masks, 4g, 4g]."""
        over, under = ((logits[:, 0] > t).sum((-1, -2)).float() for t in (0.05, -0.05))
        stable = torch.where(under > 0, over / under, torch.ones(())) >= 0.98
        index = torch.where(stable, 0, 1 + iou[:, 1:].argmax(-1))
        return logits[torch.arange(len(logits)), index]

    # ---- checkpoint

    def save(self, folder: Path) -> None:
        """model.safetensors in bf16 and config.json, beside the tokenizer's files."""
        tensors = {name.replace("/", "."): p.detach().to(torch.bfloat16).contiguous() for name, p in self._parameters.items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        config = {"architectures": ["GeoPixelForCausalLM"], "model_type": "internlm2", "vocab_size": self.vocabulary,
                  "hidden_act": "silu", "bias": False, "bos_token_id": 1, "eos_token_id": 2, **SIZES["language"],
                  "vision_config": SIZES["vision"], "grounding_config": SIZES["grounding"]}
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        with torch.no_grad():
            for name, p in self._parameters.items():
                p.copy_(tensors[name.replace("/", ".")].float())


def place_frequencies() -> Tensor:
    """[2, 128]: the x alone in the first half, the y alone in the second, so that the products of two places' codes are a
    ridge along x and one along y, of which softmax makes a hill."""
    turns = torch.tensor(TURNS).repeat(64 // len(TURNS)) / 2  # of coordinates from −1 to 1
    return torch.block_diag(turns[None], turns[None])


def place_code(xy: Tensor, frequencies: Tensor) -> Tensor:
    """Coordinates from −1 to 1 [..., 2] → [..., 256]."""
    angle = 2 * math.pi * (xy @ frequencies)
    return torch.cat([angle.sin(), angle.cos()], -1)


def short_code(xy: Tensor) -> Tensor:
    """Coordinates from −1 to 1 [..., 2] → [..., CODED]: of place_code's numbers, each once."""
    angle = math.pi * xy[..., None] * torch.tensor(TURNS)  # [..., 2, frequencies]
    return torch.stack([angle.sin(), angle.cos()], -1).transpose(-3, -2).flatten(-3)


def cell_codes(side: int) -> Tensor:
    """The short codes of the cells of a map, row by row: [side², CODED]."""
    return short_code(cell_places(side))


def cell_places(side: int) -> Tensor:
    """[side², 2] (x, y) from −1 to 1."""
    centre = (torch.arange(side) + 0.5) / side * 2 - 1
    return torch.stack(torch.meshgrid(centre, centre, indexing="ij")[::-1], -1).flatten(0, 1)


def initial(name: str, shape: tuple) -> Tensor:
    """Usual beginnings: norms 1, biases 0, low-rank additions that start at nothing, matrices by their depth."""
    if name.endswith("bias") or "Plora_B" in name:
        return torch.zeros(shape)
    if len(shape) == 1 and name.endswith("weight"):
        return torch.ones(shape)
    if "gaussian" in name:
        return place_frequencies()
    if "embed" in name and "patch" not in name or "token" in name and "transformer" not in name or "GN" in name:
        return 0.02 * torch.randn(shape)
    depth = shape[0] if "output_upscaling" in name else math.prod(shape[1:])
    return torch.randn(shape) * (0.5 if any(last in name for last in ("wo.", "w2.", "fc2", "out_proj", "attn.proj", "layers.1.")) else 1) / math.sqrt(depth)
