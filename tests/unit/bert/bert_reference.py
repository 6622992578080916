"""BERT as its paper and Hugging Face's configuration describe it, in numpy at any precision, and its word pieces over Python's own
Unicode tables: what test_bert.py holds runtime/bert.c to. Also random models, and texts that try every rule of the tokenizer."""
import json, math, os, re, struct, unicodedata
import numpy as np

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CJK = re.compile("[\u4E00-\u9FFF\u3400-\u4DBF\U00020000-\U0002A6DF\U0002A700-\U0002B73F\U0002B740-\U0002B81F\U0002B820-\U0002CEAF"
                 "\uF900-\uFAFF\U0002F800-\U0002FA1F]")
erf = np.vectorize(math.erf, otypes=[float])


# ---- word pieces

def words_of(text, lower=True, strip=True, chinese=True):
    """The words and marks that pieces are cut from."""
    text = "".join(c for c in text if c in "\t\n\r" or (c != "\uFFFD" and not unicodedata.category(c).startswith("C")))
    if chinese: text = CJK.sub(lambda m: " " + m.group() + " ", text)
    found = []
    for word in unicodedata.normalize("NFC", text).split():
        if lower: word = "".join(c.lower() for c in word)  # each for itself, as BertTokenizer does: no final sigma
        if strip: word = "".join(c for c in unicodedata.normalize("NFD", word) if unicodedata.category(c) != "Mn")
        part = ""
        for c in word:
            mark = unicodedata.category(c).startswith("P") if ord(c) > 127 else not c.isalnum()
            if mark: found += [part, c]; part = ""
            else: part += c
        found.append(part)
    return [w for w in found if w]


def ids_of(text, vocabulary, most, **options):
    """[CLS], pieces, [SEP]; `vocabulary` is {piece: id}."""
    ids = []
    for word in words_of(text, **options):
        pieces, at = [], 0
        while at < len(word) and pieces is not None:
            ends = [e for e in range(len(word), at, -1) if ("##" if at else "") + word[at:e] in vocabulary]
            if not ends or len(word) > 100: pieces = None
            else: pieces.append(("##" if at else "") + word[at:ends[0]]); at = ends[0]
        ids += [vocabulary["[UNK]"]] if pieces is None else [vocabulary[p] for p in pieces]
    return [vocabulary["[CLS]"]] + ids[:most - 2] + [vocabulary["[SEP]"]]


# ---- the encoder

def gelu(x): return (x * 0.5 * (1 + erf(x / math.sqrt(2)))).astype(x.dtype)
def gelu_tanh(x): return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)))


def last_states(weights, config, ids, dtype=np.float64, activation=gelu):
    """The last layer's states [ids, hidden]; `weights` by the names that have no prefix."""
    w = {name: value.astype(dtype) for name, value in weights.items()}
    heads = config["num_attention_heads"]; width = config["hidden_size"] // heads

    def linear(x, name): return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True, dtype=dtype)
        scaled = centred / np.sqrt((centred ** 2).mean(-1, keepdims=True, dtype=dtype) + dtype(config["layer_norm_eps"]))
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:len(ids)] + w["embeddings.token_type_embeddings.weight"][0]
    x = norm(x, "embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        q, k, v = (linear(x, p + "attention.self." + n).reshape(len(ids), heads, width).transpose(1, 0, 2) for n in ("query", "key", "value"))
        scores = q @ k.transpose(0, 2, 1) / dtype(math.sqrt(width)); scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(len(ids), -1)
        x = norm(x + linear(mixed, p + "attention.output.dense"), p + "attention.output.LayerNorm")
        x = norm(x + linear(activation(linear(x, p + "intermediate.dense")), p + "output.dense"), p + "output.LayerNorm")
    assert x.dtype == dtype
    return x


# ---- random models and texts

def random_weights(rng, config):
    """Wide enough that attention has peaks and GELU has both of its arms; norms far from the identity."""
    h, inner, weights = config["hidden_size"], config["intermediate_size"], {}

    def linear(name, out, into, scale=1.0):
        weights[name + ".weight"] = rng.normal(0, scale / math.sqrt(into), (out, into)); weights[name + ".bias"] = rng.normal(0, 0.3, out)

    def norm(name):
        weights[name + ".weight"] = rng.uniform(0.5, 1.5, h); weights[name + ".bias"] = rng.normal(0, 0.3, h)

    for name, rows in (("word", config["vocab_size"]), ("position", config["max_position_embeddings"]), ("token_type", config["type_vocab_size"])):
        weights[f"embeddings.{name}_embeddings.weight"] = rng.normal(0, 1, (rows, h))
    norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        for n in ("query", "key", "value"): linear(p + "attention.self." + n, h, h, 1.5)
        linear(p + "attention.output.dense", h, h); norm(p + "attention.output.LayerNorm")
        linear(p + "intermediate.dense", inner, h, 1.5); linear(p + "output.dense", h, inner); norm(p + "output.LayerNorm")
    linear("pooler.dense", h, h)  # never read
    return weights


def to_bytes(values, dtype):
    """The bytes of a tensor, and the numbers that they stand for."""
    single = values.astype("<f4")
    if dtype == "F32": return single.tobytes(), single
    if dtype == "F16": return single.astype("<f2").tobytes(), single.astype("<f2").astype("<f4")
    bits = single.view("<u4"); bits = (bits + 0x7FFF + (bits >> 16 & 1) >> 16).astype("<u2")
    return bits.tobytes(), (bits.astype("<u4") << 16).view("<f4")


def write_folder(folder, config, weights, pieces, dtype="F32", prefix="", old_names=False, tokenizer=None):
    """A Hugging Face folder; the weights as the file has them."""
    header, blob, kept = {}, b"", {}
    for name, values in weights.items():
        data, kept[name] = to_bytes(values, dtype)
        if old_names and "LayerNorm" in name: name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        header[prefix + name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(blob), len(blob) + len(data)]}; blob += data
    text = json.dumps(header).encode(); text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f: f.write(struct.pack("<Q", len(text)) + text + blob)
    with open(os.path.join(folder, "config.json"), "w") as f: json.dump(config, f)
    with open(os.path.join(folder, "vocab.txt"), "wb") as f: f.write("".join(p + "\n" for p in pieces).encode())
    if tokenizer is not None:
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as f: json.dump(tokenizer, f)
    return kept


TEXTS = ["", " ", "A small WHITE-roofed house, near the river's bank.", "Ångström naïve Édouard ÇA Ñandú Škoda", "ΟΔΟΣ ΣΑΣ Σ", "İstanbul ISPARTA", "ﬁne ß STRASSE ẞ",
         "two水田ab 草原。x", "한국어 テスト ﾃｽﾄ", "soft\u00adhyphen zero\u200bwidth \u0001con\u0002trol\u007f", "tabs\tand\nlines\r\nand\u00a0spaces\u2028more\u2029ends\u3000here",
         "a" * 100, "b" * 101, "e\u0301" * 100, "$100 + 5% = ^_^ `quoted` ~tilde~ <tag> a|b", "«guillemets» “quotes” – dashes… ¿qué? ‰ § ¶ © ±", "[SEP] [CLS]x [UNK]", "##ing ## a##b",
         "\ufffd\ufffdlost\ufffd", "≠ ≮ \u1fef \u037e \u1fed", "ǅ ǈ Ω K Å ſ", "\U0001d400\U0001f3e0house \U0002000b\U0002f81a", "ÀÉÎÕÜ àéîõü Ấ ế", "١٢٣ ४५ Ⅷ ⅷ", "ДОМ Ёлка Йод їжак", "नमस्ते ไทย"]


def random_text(rng):
    """Words of characters that Unicode has had since 3.2, so that versions of its tables do not matter, and of some that it never will."""
    blocks = [(0x20, 0x7F), (0x61, 0x7B), (0x41, 0x5B), (0, 0x250), (0x300, 0x370), (0x370, 0x530), (0x1E00, 0x2000), (0x2000, 0x2200), (0x3000, 0x3100), (0x4E00, 0x5000),
              (0xAC00, 0xAD00), (0xF900, 0xFB10), (0xFF00, 0xFFF0), (0xE000, 0xE010), (0x900, 0x980)]
    text, size = "", int(rng.integers(1, 40))
    while len(text) < size:
        low, high = blocks[rng.integers(len(blocks))]
        for _ in range(int(rng.integers(1, 6))):
            c = chr(int(rng.integers(low, high)))
            if c != "\0" and unicodedata.ucd_3_2_0.category(c) != "Cn": text += c
        if rng.random() < 0.4: text += " "
    return text


def random_pieces(rng, texts, **options):
    """A vocabulary that cuts most words of the texts, some only in part; special tokens at random places."""
    pieces = set()
    for text in texts:
        for word in words_of(text, **options):
            at = 0
            while at < len(word):
                end = min(len(word), at + int(rng.integers(1, 5)))
                if rng.random() < 0.93: pieces.add(("##" if at else "") + word[at:end])
                at = end
    pieces = sorted(pieces - set(SPECIAL)) + SPECIAL
    rng.shuffle(pieces)
    return pieces
