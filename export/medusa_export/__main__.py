"""`python -m medusa_export COMMAND`: makes models that medusa-plus runs, trains heads, and measures both."""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType

from .errors import ExportError

COMMANDS = {
    "prepare": "a checkpoint becomes a model folder",
    "fetch": "a repository of the Hugging Face hub comes into its cache",
    "distil": "the model answers prompts: the data that heads are trained on",
    "train": "train heads on distilled answers",
    "train-conditional": "train the conditional joint of finished heads",
    "train-medusa2": "train heads and an adapter of the backbone together",
    "calibrate": "accuracies and temperatures of heads, on answers they never saw",
    "evaluate": "accuracies and tokens per step of heads, from stored answers",
    "measure-precision": "fidelity, latency and exactness of a model's precisions",
    "random-model": "a model of a large one's shape, to measure what steps cost",
}


def parse(arguments: list[str]) -> tuple[ModuleType, argparse.Namespace]:
    """The command's module and what it was given. Only the module of the command is imported."""
    parser = argparse.ArgumentParser(prog="medusa_export", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    module: ModuleType | None = None
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if arguments[:1] == [name]:
            module, chosen = importlib.import_module(f"{__package__}.commands.{name.replace('-', '_')}"), command
            command.description = module.__doc__
            module.add_arguments(command)
    args = parser.parse_args(arguments)
    assert module is not None, "argparse refuses unknown commands"
    if hasattr(module, "check"):
        module.check(args, chosen.error)
    return module, args


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0, 1 (one line `error: ...` on stderr), 2 (usage), or what the command returns."""
    try:
        module, args = parse(sys.argv[1:] if arguments is None else arguments)
        code = module.run(args)
    except ExportError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # the system's own words name the cause: no such file, no space left, permission denied
        print(f"error: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name in ("torch", "tokenizers", "safetensors", "onnxruntime"):
            print(f"error: this command needs {error.name}: install export/requirements-training.txt", file=sys.stderr)
            return 1
        if error.name in ("httpx2", "huggingface_hub"):
            print("error: this command needs huggingface_hub: install export/requirements-hub.lock", file=sys.stderr)
            return 1
        if (error.name or "").startswith(__package__):
            print("error: the npm package has only `prepare` and `fetch`; other commands need a clone", file=sys.stderr)
            return 1
        raise
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
