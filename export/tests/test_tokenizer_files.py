"""tokenizer.json built from a GGUF's tables, against an independent byte-pair encoder and transformers' own reader."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import regex
from tokenizers import Tokenizer

from conftest import TorchTwin
from gguf_files import write_gguf
from medusa_export.__main__ import main
from medusa_export.errors import ExportError
from medusa_export.tokenizer_files.byte_level import PRE_TOKENIZERS, byte_alphabet, byte_level_tokenizer
from medusa_export.tokenizer_files.facts import TokenizerFacts
from medusa_export.tokenizer_files.from_gguf import tokenizer_from_gguf
from medusa_export.tokenizer_files.sentencepiece import sentencepiece_tokenizer
from medusa_export.tokenizer_files.turn_ends import with_turn_ends
from medusa_export.tokenizer_files.write import read_tokenizer, write_tokenizer_files
from medusa_export.weights.gguf_file import GgufSource
from medusa_export.weights.hf_folder import HfFolderSource
from tiny import tiny_tokenizer

HARD = [
    "",
    " ",
    "Hello, world!",
    "  two  spaces   and\ttabs\n\n\nand lines \r\n end  ",
    "numbers 1234567890, 3.14159, 1,000,000 and x2y22z",
    "don't they'll WE'VE I'm you'd it's",
    "naïve café Zoë Ångström ŝ ß ﬁ",
    "日本語のテキストと中文字符，还有한국어",
    "emoji 👩‍👩‍👧‍👦 🇨🇭 👍🏽 split 🦄over🦄tokens",
    "العربية עברית हिन्दी ไทย",
    "def f(x):\n    return {k: v**2 for k, v in x.items() if v != 0}  # ok\n",
    "<|im_start|>user\nhi<|im_end|>\n<|endoftext|><|im_start|>",
    "<|im_start |> <|im_ end|> <|im_start|",
    "a\u00a0b\u200bc\u3000d\ufeff",
    "".join(chr(c) for c in range(1, 256)),
]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class PlainBpe:
    """Byte-level BPE written down once more, from the tables alone: cut at special tokens, digits, words; merge."""

    def __init__(self, tokens: list[str], merges: list[str], special: list[str]) -> None:
        self._ids = {token: i for i, token in enumerate(tokens)}
        self._ranks = {tuple(merge.split(" ", 1)): i for i, merge in enumerate(merges)}
        self._special = regex.compile("(" + "|".join(map(regex.escape, special)) + ")")
        self._names = special
        shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
        order = shown + [b for b in range(256) if b not in shown]
        self._byte = dict(zip(order, byte_alphabet(), strict=True))

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for part in self._special.split(text):
            if part in self._names:
                ids.append(self._ids[part])
                continue
            for piece in regex.split(r"(\p{N})", part):
                for word in regex.findall(GPT2, piece):
                    ids += self.merge("".join(self._byte[b] for b in word.encode()))
        return ids

    @lru_cache(maxsize=100_000)  # noqa: B019 - lives as long as the test
    def merge(self, word: str) -> list[int]:
        parts = list(word)
        while len(parts) > 1:
            ranked = [(self._ranks.get(pair, 10**9), i) for i, pair in enumerate(itertools.pairwise(parts))]
            rank, at = min(ranked)
            if rank == 10**9:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        return [self._ids[part] for part in parts if part in self._ids]

    def knows(self, text: str) -> bool:
        """False if a byte of the text has no token (SmolLM2 has none for some control characters): it is dropped."""
        return all(self._byte[b] in self._ids for b in text.encode())


def check(tokenizer: Tokenizer, tokens: list[str], merges: list[str], special: list[str]) -> None:
    plain = PlainBpe(tokens, merges, special)
    for text in HARD:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert ids == plain.encode(text), repr(text)
        if plain.knows(text):
            assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_tiny_tokenizer_equals_a_plain_encoder() -> None:
    document = tiny_tokenizer().tokenizer
    tokens = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)
    merges = [" ".join(pair) for pair in document["model"]["merges"]]
    special = [t["content"] for t in document["added_tokens"]]
    check(Tokenizer.from_str(json.dumps(document)), tokens, merges, special)


def test_files_from_a_gguf(tmp_path: Path, llama: TorchTwin) -> None:
    files = tiny_tokenizer()
    write_gguf(tmp_path / "m.gguf", llama.model, tokenizer=files)
    found = tokenizer_from_gguf(GgufSource(tmp_path / "m.gguf"))
    assert found.tokenizer == files.tokenizer
    assert found.facts == files.facts
    assert found.config["chat_template"] == files.config["chat_template"]
    assert (found.config["bos_token"], found.config["eos_token"]) == ("<|im_start|>", "<|im_end|>")


@pytest.mark.parametrize(
    ("pre", "says", "expected"),
    [("llama-bpe", None, True), ("llama-bpe", False, False), ("qwen2", None, False), ("qwen2", True, True)],
)
def test_whether_a_gguf_begins_with_the_first_token(
    tmp_path: Path, llama: TorchTwin, pre: str, says: bool | None, expected: bool
) -> None:
    extra = {"tokenizer.ggml.pre": pre, "tokenizer.ggml.add_bos_token": says}
    write_gguf(tmp_path / "m.gguf", llama.model, tokenizer=tiny_tokenizer(), extra=extra)
    assert tokenizer_from_gguf(GgufSource(tmp_path / "m.gguf")).facts.add_bos == expected


def test_every_pre_tokenizer_loads_and_round_trips() -> None:
    document = tiny_tokenizer().tokenizer
    tokens = sorted(document["model"]["vocab"], key=document["model"]["vocab"].get)
    merges = [" ".join(pair) for pair in document["model"]["merges"]]
    for pre in PRE_TOKENIZERS:
        tokenizer = Tokenizer.from_str(json.dumps(byte_level_tokenizer(tokens, [3] * 3 + [1] * 509, merges, pre)))
        for text in HARD[:-2]:  # NFC of qwen2 may change what stands in the last two
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert tokenizer.decode(ids, skip_special_tokens=False) == text, (pre, text)


def test_gpt_4o_cuts_words_where_capitals_begin() -> None:
    """Phi-4-mini's pre-tokenizer: contractions stay with their word, numbers have three digits."""
    alphabet = byte_alphabet()
    document = byte_level_tokenizer(alphabet, [1] * len(alphabet), [], "gpt-4o")
    cut = Tokenizer.from_str(json.dumps(document)).pre_tokenizer
    for text, expected in (
        ("HelloWorld HTTPResponse", ["Hello", "World", "ĠHTTPResponse"]),
        ("don't WE'LL O'Brien", ["don't", "ĠWE'LL", "ĠO", "'Brien"]),
        ("1234567 a/b//\n\nx", ["123", "456", "7", "Ġa", "/b", "//ĊĊ", "x"]),
        ("(word)  end \n", ["(word", ")", "Ġ", "Ġend", "ĠĊ"]),
    ):
        assert [piece for piece, _ in cut.pre_tokenize_str(text)] == expected


@pytest.fixture(scope="module")
def sentencepiece_lines() -> list[str]:
    """The lines of these tests, less those with control tokens, which are text to SentencePiece but not to us."""
    files = [path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py")]
    return [
        line
        for file in files
        for line in file.split("\n")
        if not any(mark in line for mark in ("<s>", "</s>", "<unk>"))
    ]


def trained(lines: list[str], **options: Any) -> bytes:
    """A tokenizer.model that SentencePiece trained."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, **options
    )
    return model.getvalue()


@dataclass(frozen=True)
class Sentencepieces:
    """A model that SentencePiece trained, as Llama's are; SentencePiece's reader of it, and ours from its tables."""

    file: bytes
    theirs: Any
    ours: Tokenizer


@pytest.fixture(scope="module")
def sentencepieces(sentencepiece_lines: list[str]) -> Sentencepieces:
    import sentencepiece

    file = trained(
        sentencepiece_lines, vocab_size=1200, model_type="bpe", byte_fallback=True, split_digits=True,
        remove_extra_whitespaces=False, normalization_rule_name="identity", allow_whitespace_only_pieces=True,
    )  # fmt: skip
    theirs = sentencepiece.SentencePieceProcessor(model_proto=file)
    indices = range(theirs.vocab_size())
    types = [
        2 if theirs.is_unknown(i) else 3 if theirs.is_control(i) else 6 if theirs.is_byte(i) else 1 for i in indices
    ]
    tokens, scores = [theirs.id_to_piece(i) for i in indices], [theirs.get_score(i) for i in indices]
    ours = Tokenizer.from_str(json.dumps(sentencepiece_tokenizer(tokens, scores, types, True, 1)))
    return Sentencepieces(file, theirs, ours)


def test_sentencepiece_tables_equal_sentencepiece_itself(
    sentencepieces: Sentencepieces, sentencepiece_lines: list[str]
) -> None:
    theirs, ours = sentencepieces.theirs, sentencepieces.ours
    assert ours.encode("x").ids[0] == 1
    for line in [*sentencepiece_lines, *HARD[1:-1]]:
        ids = ours.encode(line, add_special_tokens=False).ids
        assert ids == theirs.encode(line), repr(line)
        assert ours.decode(ids) == line


def test_a_vicuna_chat_follows_the_legacy_rules(sentencepieces: Sentencepieces) -> None:
    """Each turn after </s> is a text of its own to SentencePiece, with a space put before it (FastChat's ids)."""
    theirs, ours = sentencepieces.theirs, sentencepieces.ours
    turns = [
        "A chat between a curious user and an assistant. USER: def f(x): ASSISTANT: return 2",
        "USER:  two spaces ASSISTANT: yes\n",
        "\nUSER: third ASSISTANT:",
        " leading space",
    ]
    bos, eos = theirs.bos_id(), theirs.eos_id()
    expected = [bos]
    for turn in turns:
        expected += [*theirs.encode(turn), eos]
    assert ours.encode("<s>" + "".join(f"{turn}</s>" for turn in turns), add_special_tokens=False).ids == expected


def folder_of(sentencepieces: Sentencepieces, folder: Path, model: Any, **config: Any) -> HfFolderSource:
    """A folder as Vicuna was published: tokenizer.model, and no tokenizer.json."""
    model.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(sentencepieces.file)
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return HfFolderSource(folder)


def test_tokenizer_model_alone_gives_the_legacy_ids(
    sentencepieces: Sentencepieces, sentencepiece_lines: list[str], tmp_path: Path, llama: TorchTwin
) -> None:
    theirs = sentencepieces.theirs
    files = read_tokenizer(folder_of(sentencepieces, tmp_path / "hf", llama.model))
    ours = Tokenizer.from_str(json.dumps(files.tokenizer))
    assert files.facts == TokenizerFacts(1, [2], add_bos=True)
    assert (files.config["bos_token"], files.config["eos_token"]) == ("<s>", "</s>")
    for line in [*sentencepiece_lines, *HARD[1:-1]]:
        assert ours.encode(line, add_special_tokens=False).ids == theirs.encode(line), repr(line)
    chat = "<s>A chat. USER: hi ASSISTANT: yes</s>USER: and\n ASSISTANT:"
    expected = [1, *theirs.encode("A chat. USER: hi ASSISTANT: yes"), 2, *theirs.encode("USER: and\n ASSISTANT:")]
    assert ours.encode(chat, add_special_tokens=False).ids == expected


def test_tokens_added_to_a_tokenizer_model(sentencepieces: Sentencepieces, tmp_path: Path, llama: TorchTwin) -> None:
    count = sentencepieces.theirs.vocab_size()
    decoder = {
        "2": {"content": "</s>", "special": True},
        str(count): {"content": "<pad>", "special": True},
        str(count + 1): {"content": "word", "special": False},
    }
    source = folder_of(sentencepieces, tmp_path / "hf", llama.model, added_tokens_decoder=decoder, add_bos_token=False)
    files = read_tokenizer(source)
    ours = Tokenizer.from_str(json.dumps(files.tokenizer))
    assert not files.facts.add_bos
    assert ours.encode("a<pad>wordb").ids == [*sentencepieces.theirs.encode("a"), count, count + 1,
                                              *sentencepieces.theirs.encode("b")]  # fmt: skip
    (source.path / "added_tokens.json").write_text(json.dumps({"<far>": count + 9}))
    with pytest.raises(ExportError, match=f"'<far>' has the id {count + 9}, which is taken or far off"):
        read_tokenizer(source)


def test_special_tokens_map_names_what_the_config_does_not(
    sentencepieces: Sentencepieces, tmp_path: Path, llama: TorchTwin
) -> None:
    source = folder_of(sentencepieces, tmp_path / "hf", llama.model, add_bos_token=True)
    (source.path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "<unk>"}}))
    files = read_tokenizer(source)
    assert files.facts.eos_token_ids == [0, 2]  # config.json names 2


def test_what_a_tokenizer_model_cannot_be_is_named(
    sentencepieces: Sentencepieces, tmp_path: Path, llama: TorchTwin
) -> None:
    source = folder_of(sentencepieces, tmp_path / "hf", llama.model, legacy=False)
    with pytest.raises(ExportError, match="legacy: false"):
        read_tokenizer(source)
    (source.path / "tokenizer_config.json").unlink()
    for content, message in [
        (b"x", "tokenizer.model"),
        (sentencepieces.file[:-3], "tokenizer.model: a field reaches beyond the end"),
        (trained(["a b c"] * 9, model_type="unigram", vocab_size=8), "of type unigram; only bpe is supported"),
        (trained(["a b c"] * 9, model_type="bpe", vocab_size=9), "changes its text"),
    ]:
        (source.path / "tokenizer.model").write_bytes(content)
        with pytest.raises(ExportError, match=message):
            read_tokenizer(source)
    (source.path / "tokenizer.model").unlink()
    with pytest.raises(ExportError, match=r"neither tokenizer\.json nor tokenizer\.model"):
        read_tokenizer(source)


def test_what_is_not_supported_is_named(tmp_path: Path, llama: TorchTwin) -> None:
    with pytest.raises(ExportError, match="pre-tokenizer 'tekken' of this GGUF file is not supported"):
        byte_level_tokenizer(["a"], [1], [], "tekken")
    write_gguf(tmp_path / "m.gguf", llama.model)
    with pytest.raises(ExportError, match="holds no tokenizer"):
        tokenizer_from_gguf(GgufSource(tmp_path / "m.gguf"))


IDS = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<|eot_id|>": 3}
CHATML = "{{'<|im_start|>' + message['role'] + message['content'] + '<|im_end|>'}}"


@pytest.mark.parametrize(
    ("template", "eos", "expected", "words"),
    [
        (CHATML, [2], [2], ()),
        (CHATML, [0], [0, 2], ("<|im_end|> ends turns in the chat template",)),
        ([{"name": "default", "template": CHATML}], [0], [0, 2], ("<|im_end|> ends turns",)),
        ("{{ message.content }}<|im_end|>{{ '<|eot_id|>' }}", [2], [2, 3], ("<|eot_id|> ends turns",)),
        ("{{ message.content }}{{ eos_token }}", [0], [0], ()),
        ("{{ message.content }}<end_of_turn>", [0], [0], ("none of the tokens", "<|endoftext|>")),  # no such token here
        ("USER: {{ message.content }}\n", [], [], ("none of the tokens", "none is known")),
        (None, [0], [0], ()),
    ],
)
def test_what_ends_a_turn_ends_an_answer(
    template: object, eos: list[int], expected: list[int], words: tuple[str, ...]
) -> None:
    names = [token for token, index in IDS.items() if index in eos]
    found, notes = with_turn_ends(template, eos, names, IDS)
    assert found == expected
    assert len(notes) == bool(words)
    assert all(word in note for note in notes for word in words)


def test_turn_ends_of_files_reach_the_manifest(
    tmp_path: Path, llama: TorchTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    """The tiny template writes <|im_end|>; here the files name another end."""
    gguf_file, folder = tmp_path / "m.gguf", tmp_path / "hf"
    write_gguf(gguf_file, llama.model, tokenizer=tiny_tokenizer(), extra={"tokenizer.ggml.eos_token_id": 0})
    llama.model.save_pretrained(folder)
    files = tiny_tokenizer()
    write_tokenizer_files(replace(files, config=files.config | {"eos_token": "<|endoftext|>"}), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": 3}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [4]}))
    for path, others in ((gguf_file, {0}), (folder, {0, 3, 4})):
        out = tmp_path / f"out-{path.name}"
        assert main(["prepare", "--output", str(out), "--from", str(path)]) == 0
        assert set(json.loads((out / "manifest.json").read_text())["tokenizer"]["eos_token_ids"]) == others | {2}
        note = "Note: <|im_end|> ends turns in the chat template: added to the tokens that end an answer"
        stages = [json.loads(line)["stage"] for line in capsys.readouterr().out.splitlines()]
        assert note in stages


def test_default_model_equals_a_plain_encoder_and_transformers(default_weights: Path) -> None:
    path = default_weights
    source = GgufSource(path)
    tokens, merges = source.field("tokenizer.ggml.tokens"), source.field("tokenizer.ggml.merges")
    types = source.field("tokenizer.ggml.token_type")
    files = tokenizer_from_gguf(source)
    tokenizer = Tokenizer.from_str(json.dumps(files.tokenizer))
    check(tokenizer, tokens, merges, [t for t, kind in zip(tokens, types, strict=True) if kind == 3])
    assert (files.facts.bos_token_id, files.facts.eos_token_ids, files.facts.add_bos) == (1, [2], False)

    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)
    for text in HARD:
        if not regex.search(r"\p{N}{2}", text):  # their conversion does not cut numbers into digits
            assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text).ids, repr(text)
