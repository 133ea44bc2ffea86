"""Published models as tiny random copies: how each was laid out by its owners, and what becomes of it here.

`python export/tests/published.py` writes the table of docs/models.md; test_published.py runs the quick part. Weights
are rounded to the published 16 bits, so that transformers and the graphs (fp32) have the same ones.
"""

from __future__ import annotations

import copy
import io
import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import sentencepiece
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from conftest import FAMILIES, TorchTwin, make_twin
from gguf_files import write_gguf
from medusa_export.errors import ExportError
from medusa_export.measure.split_runner import SplitRunner
from medusa_export.prepare import Request, prepare
from medusa_export.tokenizer_files.byte_level import CONTROL, byte_alphabet, byte_level_tokenizer
from medusa_export.tokenizer_files.sentencepiece import sentencepiece_tokenizer
from tiny import WORDS, learn_merges

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "models.md"
BEGIN, END = "<!-- export/tests/published.py -->\n\n", "\n<!-- end -->"
GREEDY, PROMPT = 48, 150  # tokens; the prompt is longer than every window
VOCAB = 320
QUANTIZATIONS = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")  # those that the package gguf writes

NOT_TRIED = "own template not tried"
SAFETENSORS, SHARDS, BIN = "safetensors", "safetensors, split", ".bin, split"

Message = dict[str, str]
SYSTEM = {"role": "system", "content": "Be brief."}


def _turns(*contents: str) -> list[Message]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]


# Without system messages, which Mistral's own template refuses.
PLAIN_CONVERSATIONS = [
    _turns("Hi there"),
    _turns("one", "two", "three"),
    _turns("a", "b", "c", "d", "e"),
    _turns("  spaces at both ends  ", " and here ", "x "),
    _turns("line\n  next\n\nlast"),
    _turns("日本 {{ 7 * 7 }} é", 'it\'s "quoted" </x>', "?"),
]
CONVERSATIONS = [each if i % 2 else [SYSTEM, *each] for i, each in enumerate(PLAIN_CONVERSATIONS)]

# The owners' templates (tokenizer_config.json).
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PHI_3_5 = (
    "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\n'"
    " + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\n' + message['content']"
    " + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
PHI_4 = (
    "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not"
    " none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' +"
    " '<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}"
)
VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and"
    " polite answers to the user's questions."
)


@dataclass(frozen=True)
class Published:
    """How a model was published; `family` is that of conftest.FAMILIES."""

    name: str
    family: str
    layouts: tuple[str, ...]
    dtype: torch.dtype = torch.bfloat16
    architecture: str = "llama"  # in GGUF
    quantized: str | None = None  # the family whose GGUF is tried, where it is another one
    tokenizer: str = (
        "byte-level"  # tokenizer.json; "sentencepiece": one made of a tokenizer.model; or "tokenizer.model"
    )
    pre: str = "qwen2"  # llama.cpp's name of how byte-level BPE cuts a text
    control: tuple[str, ...] = ()
    strips: tuple[str, ...] = ()  # control tokens that take the white space behind them
    template: str | None = None  # None: not tried; Vicuna has none of its own
    takes_system: bool = True
    has_own_head: bool = False  # though those of `family` are tied


_IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_PHI = ("<|endoftext|>", "<|assistant|>", "<|end|>", "<|system|>", "<|user|>")
_LLAMA_2 = dict(dtype=torch.float16, tokenizer="sentencepiece", control=("<unk>", "<s>", "</s>"))
_VICUNA = dict(family="vicuna", layouts=(BIN,), dtype=torch.float16, tokenizer="tokenizer.model")

MODELS: tuple[Published, ...] = (
    Published("lmsys/vicuna-7b-v1.3", **_VICUNA, template=""),
    Published("lmsys/vicuna-7b-v1.5", **_VICUNA, template=""),
    Published("meta-llama/Llama-2-7b-chat-hf", "vicuna", (SHARDS, BIN), **_LLAMA_2),
    Published("mistralai/Mistral-7B-Instruct-v0.1", "mistral-window", (SHARDS, BIN), quantized="mistral",
              tokenizer="sentencepiece", control=("<unk>", "<s>", "</s>"), template=MISTRAL, takes_system=False),
    Published("mistralai/Mistral-7B-Instruct-v0.3", "mistral", (SHARDS,)),
    Published("HuggingFaceH4/zephyr-7b-beta", "mistral-window", (SHARDS, BIN), quantized="mistral"),
    Published("meta-llama/Llama-3.1-8B-Instruct", "llama3", (SHARDS,), has_own_head=True),
    Published("meta-llama/Llama-3.2-1B-Instruct", "llama3", (SAFETENSORS,)),
    Published("meta-llama/Llama-3.3-70B-Instruct", "llama3", (SHARDS,), has_own_head=True),
    Published("HuggingFaceTB/SmolLM2-135M-Instruct", "llama-tied", (SAFETENSORS,), control=_IM, template=SMOLLM2),
    Published("Qwen/Qwen2-0.5B-Instruct", "qwen2", (SAFETENSORS,), architecture="qwen2"),
    Published("Qwen/Qwen2.5-7B-Instruct", "qwen2", (SHARDS,), architecture="qwen2", has_own_head=True),
    Published("Qwen/Qwen3-0.6B", "qwen3", (SAFETENSORS,), architecture="qwen3"),
    Published("google/gemma-3-270m-it", "gemma3", (SAFETENSORS,), architecture="gemma3"),
    Published("google/gemma-3-1b-it", "gemma3", (SAFETENSORS,), architecture="gemma3"),
    Published("microsoft/Phi-3.5-mini-instruct", "phi3.5", (SHARDS,), architecture="phi3", tokenizer="sentencepiece",
              control=("<unk>", "<s>", "</s>", *_PHI), strips=("</s>", *_PHI[1:]), template=PHI_3_5),
    Published("microsoft/Phi-4-mini-instruct", "phi4", (SHARDS,), architecture="phi3", pre="gpt-4o", control=_PHI,
              template=PHI_4),
)  # fmt: skip


@dataclass
class Row:
    """What was found of one model."""

    prepared: dict[str, str] = field(default_factory=dict)  # by layout: "yes", or why not
    greedy: int = GREEDY  # the fewest tokens that agree, over all layouts and quantisations
    difference: float = 0.0  # the largest of any logit l, relative to 1 + |l|
    chat: str = ""  # conversations with the same ids, the fewest of a folder and a GGUF file
    quantizations: dict[str, str] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Everything that was tried is as it should be."""
        told = [*self.prepared.values(), *self.quantizations.values()]
        chats = self.chat in (NOT_TRIED, f"{len(CONVERSATIONS)} of {len(CONVERSATIONS)}")
        return chats and self.greedy == GREEDY and self.difference < 2e-4 and all(each == "yes" for each in told)


# --- copies in the published layouts -----------------------------------------------------------------------------


def _twin(model: Published, family: str, folder: Path) -> TorchTwin:
    twin = make_twin(family, folder)
    if model.has_own_head and twin.model.config.tie_word_embeddings:
        twin.model.config.tie_word_embeddings = False
        weight = torch.randn_like(twin.model.lm_head.weight) * twin.model.config.initializer_range
        twin.model.lm_head.weight = torch.nn.Parameter(weight)
        twin.model.save_pretrained(folder)
    with torch.no_grad():
        for parameter in twin.model.parameters():
            parameter.copy_(parameter.to(model.dtype).float())
    return twin


def _as_published(config: dict[str, Any]) -> dict[str, Any]:
    """What transformers 5 writes as `rope_parameters`, in the keys of earlier versions."""
    rope = dict(config.pop("rope_parameters", None) or {})
    if "full_attention" in rope:
        local, whole = rope["sliding_attention"], dict(rope["full_attention"])
        config["rope_local_base_freq"], rope = local["rope_theta"], whole
    config["rope_theta"] = rope.pop("rope_theta", 10000.0)
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    if rope.get("rope_type") == "longrope":
        config["original_max_position_embeddings"] = rope.pop("original_max_position_embeddings")
        rope["type"] = rope.pop("rope_type")
    config["rope_scaling"] = None if rope.get("rope_type") == "default" else rope
    return config


def write_copy(model: Published, layout: str, twin: TorchTwin, folder: Path) -> None:
    folder.mkdir(parents=True)
    config = _as_published(json.loads((twin.folder / "config.json").read_text()))
    (folder / "config.json").write_text(json.dumps(config))
    names = sorted(load_file(twin.folder / "model.safetensors"))
    state = {name: twin.model.state_dict()[name].to(model.dtype).contiguous() for name in names}
    parts = [state] if layout == SAFETENSORS else [{name: state[name] for name in names[i::2]} for i in range(2)]
    stem, suffix = ("pytorch_model", "bin") if layout == BIN else ("model", "safetensors")
    weight_map: dict[str, str] = {}
    for i, part in enumerate(parts):
        file = f"{stem}.{suffix}" if len(parts) == 1 else f"{stem}-{i + 1:05}-of-{len(parts):05}.{suffix}"
        save: Callable[..., None] = torch.save if layout == BIN else save_file
        save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    if len(parts) > 1:
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    _write_tokenizer(model, folder)


def _sentencepiece() -> bytes:
    """A tokenizer.model as Llama's, of few pieces: other characters than small letters are bytes."""
    words, model = WORDS.split(), io.BytesIO()
    lines = [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, vocab_size=VOCAB - len(_PHI),
        model_type="bpe", byte_fallback=True, split_digits=True, remove_extra_whitespaces=False,
        normalization_rule_name="identity", allow_whitespace_only_pieces=True,
    )  # fmt: skip
    return model.getvalue()


def _tables(model: Published) -> dict[str, Any]:
    """The tokenizer as GGUF keeps it: tokenizer.ggml.*, by the rest of their names."""
    if model.tokenizer == "byte-level":
        control = list(model.control or _IM)
        merges = learn_merges(VOCAB - len(control) - 256)
        tokens = control + byte_alphabet() + [a + b for a, b in merges]
        types = [CONTROL] * len(control) + [1] * (len(tokens) - len(control))
        return {
            "model": "gpt2", "pre": model.pre, "tokens": tokens, "token_type": types,
            "merges": [f"{a} {b}" for a, b in merges], "eos_token_id": len(control) - 1, "add_bos_token": False,
        }  # fmt: skip
    reader = sentencepiece.SentencePieceProcessor(model_proto=_sentencepiece())
    ids = range(reader.vocab_size())
    types = [2 if reader.is_unknown(i) else 3 if reader.is_control(i) else 6 if reader.is_byte(i) else 1 for i in ids]
    tokens, scores = [reader.id_to_piece(i) for i in ids], [reader.get_score(i) for i in ids]
    added = [token for token in model.control if token not in tokens]
    return {
        "model": "llama", "pre": "default", "tokens": tokens + added, "scores": scores + [-1000.0] * len(added),
        "token_type": types + [CONTROL] * len(added), "bos_token_id": 1, "eos_token_id": 2, "add_bos_token": True,
    }  # fmt: skip


def _write_tokenizer(model: Published, folder: Path) -> None:
    tables = _tables(model)
    tokens, types = tables["tokens"], tables["token_type"]
    config: dict[str, Any] = {"add_bos_token": tables["add_bos_token"], "eos_token": tokens[tables["eos_token_id"]]}
    if model.tokenizer == "byte-level":
        document = byte_level_tokenizer(tokens, types, tables["merges"], model.pre)
        if model.pre == "gpt-4o":  # the owner's way to say the same
            document["pre_tokenizer"]["pretokenizers"][0] |= {"behavior": "Removed", "invert": True}
    else:
        document = sentencepiece_tokenizer(tokens, tables["scores"], types, True, 1)
        config |= {"bos_token": "<s>", "unk_token": "<unk>"}
    for token in document["added_tokens"]:
        token["rstrip"] = token["content"] in model.strips
    if model.tokenizer == "tokenizer.model":
        (folder / "tokenizer.model").write_bytes(_sentencepiece())
    else:
        (folder / "tokenizer.json").write_text(json.dumps(document))
    if model.template:
        config["chat_template"] = model.template
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


# --- what becomes of them ----------------------------------------------------------------------------------------


def _text(context: int) -> list[int]:
    return [(37 * i + i * i) % VOCAB for i in range(min(900, context))]


def _compare(row: Row, model: torch.nn.Module, prepared: Path) -> None:
    """Greedy tokens and logits of the prepared fp32 graph beside those of transformers."""
    runner = SplitRunner(prepared / "backbone.fp32.onnx", capacity=1024)
    ids = _text(model.config.max_position_embeddings)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].numpy()
        tokens = model.generate(torch.tensor([ids[:PROMPT]]), max_new_tokens=GREEDY, do_sample=False, eos_token_id=None)
    found = runner.run(np.array(ids), want_logits=True).logits
    row.difference = max(row.difference, float((np.abs(found - logits) / (1 + np.abs(logits))).max()))
    expected, same = tokens[0, PROMPT:].tolist(), 0
    step = runner.run(np.array(ids[:PROMPT]))
    while same < GREEDY and int(step.next_tokens[-1]) == expected[same]:
        runner.append(step)
        step = runner.run(np.array([expected[same]]))
        same += 1
    row.greedy = min(row.greedy, same)


def _prepare(source: Path, output: Path) -> str:
    """Whether that went well: "yes", or why not in one line."""
    try:
        prepare(Request(output, source, output.name, ["fp32"], "split", None, 0))
    except ExportError as error:
        return f"no: {error}"
    return "yes"


def _dequantised(model: torch.nn.Module, kind: gguf.GGMLQuantizationType) -> torch.nn.Module:
    """The model with what is left of its matrices."""
    result = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in result.parameters():
            if parameter.ndim == 2:
                rounded = gguf.dequantize(gguf.quantize(parameter.numpy(), kind), kind)
                parameter.copy_(torch.from_numpy(np.ascontiguousarray(rounded)))
    return result


def _vicuna(conversation: list[Message]) -> str:
    """FastChat's vicuna_v1.1, in which the models' owners say to talk to them."""
    system = conversation[0]["content"] if conversation[0]["role"] == "system" else VICUNA_SYSTEM
    ends = {"user": ("USER", " "), "assistant": ("ASSISTANT", "</s>")}
    turns = [each for each in conversation if each["role"] in ends]
    parts = [f"{ends[each['role']][0]}: {each['content']}{ends[each['role']][1]}" for each in turns]
    return f"<s>{system} {''.join(parts)}ASSISTANT:"


def _reference_ids(model: Published, folder: Path, conversation: list[Message]) -> list[int]:
    """Of SentencePiece where there is tokenizer.model alone, each text between special tokens by itself; else of
    transformers' template and Hugging Face's tokenizers.
    """
    if model.tokenizer == "tokenizer.model":
        reader = sentencepiece.SentencePieceProcessor(model_proto=(folder / "tokenizer.model").read_bytes())
        ids: list[int] = []
        for part in re.split(r"(<s>|</s>)", _vicuna(conversation)):
            special = {"<s>": reader.bos_id(), "</s>": reader.eos_id()}.get(part)
            ids += reader.encode(part) if special is None else [special]
        return ids
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=config["chat_template"])
    names = {key: value for key, value in config.items() if key.endswith("_token") and isinstance(value, str)}
    text = chat.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False, **names)
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def conversations_of(model: Published) -> list[list[Message]]:
    return CONVERSATIONS if model.takes_system else PLAIN_CONVERSATIONS


def _chat(model: Published, source: Path, prepared: Path) -> str:
    if model.template is None:
        return NOT_TRIED
    conversations = conversations_of(model)
    ours = subprocess.run(
        ["node", "--import", "tsx", "test/support/chatIds.ts"], cwd=ROOT, text=True, capture_output=True, check=True,
        input=json.dumps({"folders": [str(prepared)], "conversations": conversations}),
    )  # fmt: skip
    expected = [_reference_ids(model, source, each) for each in conversations]
    same = sum(a == b for a, b in zip(json.loads(ours.stdout)[0], expected, strict=True))
    return f"{same} of {len(conversations)}"


def examine(model: Published, folder: Path, quantizations: tuple[str, ...] = QUANTIZATIONS) -> Row:
    """Make the copies of a model below `folder`, prepare them and compare."""
    row = Row()
    if model.family not in FAMILIES:
        row.prepared, row.chat, row.greedy = dict.fromkeys(model.layouts, "no: not supported"), NOT_TRIED, 0
        return row
    twin = _twin(model, model.family, folder / "twin")
    short = model.name.split("/")[1]
    for i, layout in enumerate(model.layouts):
        source, output = folder / f"{i}" / short, folder / f"{i}" / "prepared" / short
        write_copy(model, layout, twin, source)
        row.prepared[layout] = _prepare(source, output)
        if row.prepared[layout] == "yes":
            _compare(row, twin.model, output)
            row.chat = row.chat or _chat(model, source, output)
    tables = {f"tokenizer.ggml.{key}": value for key, value in _tables(model).items()}
    tables |= {"tokenizer.chat_template": model.template} if model.template else {}
    plain = _twin(model, model.quantized or model.family, folder / "plain")
    for name in quantizations:
        kind = gguf.GGMLQuantizationType[name]
        path = folder / f"{short}.{name}.gguf"
        write_gguf(path, plain.model, model.architecture, kind, extra=tables)
        output = folder / f"prepared-{name}"
        row.quantizations[name] = _prepare(path, output)
        if row.quantizations[name] == "yes":
            _compare(row, _dequantised(plain.model, kind), output)
            if model.template and name == quantizations[0]:
                row.chat = min(row.chat, _chat(model, folder / "0" / short, output))
    return row


# --- the table ---------------------------------------------------------------------------------------------------


def line_of(model: Published, row: Row) -> str:
    layouts = " and ".join(layout + (" + tokenizer.model" if model.tokenizer == "tokenizer.model" else "")
                           for layout in model.layouts)  # fmt: skip
    refusals = dict.fromkeys(told for told in row.prepared.values() if told != "yes")
    if refusals:
        return f"| {model.name} | {layouts} | {'; '.join(refusals)} | | | | |"
    tried = ", ".join(name if told == "yes" else f"{name} ({told})" for name, told in row.quantizations.items())
    bound = next(f"{n * 10.0**-k:.0e}" for k in range(9, -9, -1) for n in (1, 2, 5) if row.difference < n * 10.0**-k)
    cells = (model.name, layouts, "yes", f"{row.greedy} of {GREEDY}", bound, row.chat, tried)
    return f"| {' | '.join(cells)} |"


def table(rows: dict[Published, Row]) -> str:
    heading = "| model | layout | prepare | greedy tokens | logits within | chats of equal ids | GGUF types tried |"
    return "\n".join([heading, "|---|---|---|---|---|---|---|", *(line_of(*each) for each in rows.items())]) + "\n"


def main() -> None:
    rows = {}
    for model in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            rows[model] = examine(model, Path(folder))
        print(line_of(model, rows[model]), flush=True)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + table(rows) + END + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
