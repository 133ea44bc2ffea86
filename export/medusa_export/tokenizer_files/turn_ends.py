"""Tokens that end a turn in a chat template and so must end an answer: without them a model goes on to make up the
next turn of the user.

Nothing here runs the template. A token is taken for the end of a turn where its name says so and the template writes
it; llama.cpp goes by such names too.
"""

from __future__ import annotations

from typing import Any

_NAMES = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|end|>", "<|end_of_turn|>", "<end_of_turn>")


def with_turn_ends(
    template: Any, eos_ids: list[int], eos_tokens: list[str], pieces: dict[str, int]
) -> tuple[list[int], tuple[str, ...]]:
    """The ids that end an answer, turn ends added, and what is to be told.

    `template`: a text, a list of {name, template}, or None; `eos_tokens`: the tokens of `eos_ids`; `pieces`: token ->
    id of the tokens that are one piece in any text (control and user-defined ones).
    """
    text = template_text(template)
    if not text:
        return eos_ids, ()
    added = {name: pieces[name] for name in _NAMES if name in text and name in pieces and pieces[name] not in eos_ids}
    notes = [f"{name} ends turns in the chat template: added to the tokens that end an answer" for name in added]
    if not added and "eos_token" not in text and not any(token in text for token in eos_tokens):
        known = ", ".join(eos_tokens) or "none is known"
        notes.append(
            f"the chat template writes none of the tokens that end an answer ({known}), so answers may run on into a"
            " made-up next turn; name the token that ends a turn as eos_token_id in the source's generation_config.json"
            " (GGUF: tokenizer.ggml.eot_token_id)"
        )
    return sorted({*eos_ids, *added.values()}), tuple(notes)


def template_text(template: Any) -> str:
    """All of a template, whichever of its two forms it has."""
    if isinstance(template, list):
        return "\n".join(str(each.get("template")) for each in template if isinstance(each, dict))
    return template if isinstance(template, str) else ""
