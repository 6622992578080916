"""The tokenizer of geopixel-nano: sentencepiece's byte-pair encoding learnt on the scenes' texts, with GeoPixel's special tokens.

The folder it writes has the official layout (tokenizer.model, added_tokens.json, special_tokens_map.json,
tokenizer_config.json); `Tokenizer` turns prompts and answers into ids as the engine does: added tokens are cut out first, with
the white space on both sides of them.
"""

import io
import json
import re
from pathlib import Path
from typing import Iterable

import sentencepiece

USER, ASSISTANT, END = "[UNUSED_TOKEN_146]user\n", "[UNUSED_TOKEN_146]assistant\n", "[UNUSED_TOKEN_145]\n"
ADDED = ("[SEG]", "<p>", "</p>")
BOS, EOS = 1, 2
PIECES = 640  # 256 of them bytes


def learn(texts: Iterable[str], folder: Path) -> None:
    """Learns the pieces of the texts and writes the tokenizer's files."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = (part for text in texts for part in re.split(r"\s*(?:\[SEG\]|</?p>)\s*", text) if part.strip())
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=plain, model_writer=model, model_type="bpe", vocab_size=PIECES, byte_fallback=True,
        user_defined_symbols=["[UNUSED_TOKEN_145]", "[UNUSED_TOKEN_146]"], normalization_rule_name="identity",
        add_dummy_prefix=False, remove_extra_whitespaces=False, unk_id=0, bos_id=BOS, eos_id=EOS, pad_id=-1,
        required_chars="".join(map(chr, range(33, 127))), hard_vocab_limit=False, minloglevel=2)
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()).vocab_size()
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
    for name, content in (("added_tokens.json", {token: pieces + i for i, token in enumerate(ADDED)}),
                          ("special_tokens_map.json", special),
                          ("tokenizer_config.json", {"tokenizer_class": "InternLM2Tokenizer", **special})):
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


class Tokenizer:
    def __init__(self, folder: Path):
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        self.added = json.loads((folder / "added_tokens.json").read_text())
        self.names = {id: token for token, id in self.added.items()}
        self.vocabulary = self.pieces.vocab_size() + len(self.added)
        self.seg = self.added["[SEG]"]
        self._split = re.compile("(" + "|".join(map(re.escape, self.added)) + ")")

    def encode(self, text: str) -> list[int]:
        ids, parts = [], self._split.split(text)  # text, token, text, …
        for i, part in enumerate(parts):
            if i % 2:
                ids.append(self.added[part])
                continue
            part = part.lstrip() if i > 0 else part
            part = part.rstrip() if i + 1 < len(parts) else part
            ids += self.pieces.encode(part) if part else []
        return ids

    def question(self, prompt: str) -> list[int]:
        """What follows the image's tokens, up to where the answer starts."""
        return self.encode(f"{USER}{prompt}{END}{ASSISTANT}")

    def answer(self, text: str) -> list[int]:
        """The ids to be learnt: the answer, the end of the turn, the end of the text."""
        return self.encode(f"{text}{END}") + [EOS]

    def decode(self, ids: list[int]) -> str:
        """Runs of ordinary tokens and added ones, joined by one space; without the end of the turn."""
        runs, run = [], []
        for id in [*ids, None]:
            if id is not None and id not in self.names:
                run += [id] if id > EOS else []
                continue
            if run:
                runs.append(self.pieces.decode(run))
            run = []
            runs += [self.names[id]] if id is not None else []
        text = " ".join(runs).replace("[UNUSED_TOKEN_145]", "")
        return re.sub(r" ([.,?!])", r"\1", text).strip()
