"""Fetching from the Hugging Face hub, against a server that plays it: what comes, what is kept, what is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from hub_server import COMMIT, OTHER, TOKEN, Hub, Repository, running_hub
from medusa_export.errors import ExportError
from medusa_export.hub import fetch
from medusa_export.hub_files import heads_files, model_files, shards_of

EXPORT = Path(__file__).resolve().parents[1]
NAME = "Owner/A-Model"
CONFIG = {
    "model_type": "llama", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
}  # fmt: skip
WEIGHTS = bytes(range(256)) * 4000


def model() -> dict[str, bytes]:
    """A repository as published: both formats, and what nobody needs here."""
    return {
        "config.json": json.dumps(CONFIG).encode(), "tokenizer.json": b"{}", "README.md": b"---\n---\n",
        "model.safetensors": WEIGHTS, "pytorch_model.bin": b"bin", "consolidated.safetensors": b"c",
        "onnx/model.onnx": b"o", "medusa_lm_head.pt": b"heads",
    }  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The server, where it alone is the hub."""
    server.repositories.clear()
    server.requests.clear()
    server.storage_tokens.clear()
    server.repositories[NAME] = Repository(model())
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what broke off is kept in these
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # before another try
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("HF_TOKEN_PATH", "/none")
    return server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where all is fetched to."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def get(wanted: str = "model", name: str = NAME, revision: str | None = None) -> Path:
    return fetch(name, revision, wanted, lambda stage, done, total: None)


def error_of(wanted: str = "model", name: str = NAME, revision: str | None = None) -> str:
    with pytest.raises(ExportError) as caught:
        get(wanted, name, revision)
    return str(caught.value)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_public_model_comes_with_what_is_needed_of_it_once(hub: Hub, cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    folder = fetch(NAME, None, "model", lambda *words: told.append(words))
    assert folder == cache / "models--Owner--A-Model" / "snapshots" / COMMIT
    assert names_in(folder) == ["README.md", "config.json", "medusa_lm_head.pt", "model.safetensors", "tokenizer.json"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (folder.parents[1] / "refs" / "main").read_text() == COMMIT
    assert not list(cache.rglob("*.incomplete"))
    assert told[-1] == (f"Fetching {NAME} (1.0 MB)", len(WEIGHTS) + 5, len(WEIGHTS) + 5)
    hub.requests.clear()
    assert get() == folder
    assert hub.requests == [f"GET /api/models/{NAME}?blobs=true"]


def test_the_command_reads_the_environment_and_tells_the_folder(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[NAME].access = "private"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = kept | {
        "HF_HOME": str(tmp_path), "HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "PYTHONPATH": os.pathsep.join(sys.path),
    }  # fmt: skip
    words = [sys.executable, "-m", "medusa_export", "fetch", NAME]
    run = subprocess.run(words, cwd=EXPORT, env=environment, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert lines[0]["stage"].startswith(f"Fetching {NAME}")
    assert Path(lines[-1]["folder"]).parents[2] == tmp_path / "hub"


def test_a_revision_has_its_own_snapshot(hub: Hub) -> None:
    folder = get(revision="old")
    assert folder.name == OTHER and (folder.parents[1] / "refs" / "old").read_text() == OTHER
    assert error_of(revision="none").startswith(f"{NAME} has no revision none")


def test_private_and_gated_ones_need_a_token_that_no_other_host_sees(
    hub: Hub, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for access, words in (("private", "it is private"), ("gated", f"accept its licence at {hub.url}/{NAME}")):
        hub.repositories[NAME].access = access
        error = error_of()
        assert words in error and "set HF_TOKEN" in error
    assert "no repository Owner/None" in error_of(name="Owner/None")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    for access in ("private", "gated"):
        hub.repositories[NAME].access = access
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache / access))
        get()
    assert hub.storage_tokens and not any(hub.storage_tokens)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "refuses HF_TOKEN" in error_of()


def test_what_broke_off_is_gone_on_with(hub: Hub, cache: Path) -> None:
    hub.repositories[NAME].breaks_at = 600_000
    assert f"the download of {NAME}/model.safetensors broke off at 0.6 MB of 1.0 MB" in error_of()
    (partial,) = cache.rglob("*.medusa-plus.incomplete")
    assert partial.read_bytes() == WEIGHTS[:600_000]
    hub.repositories[NAME].breaks_at = None
    hub.requests.clear()
    assert (get() / "model.safetensors").read_bytes() == WEIGHTS
    assert any(line.endswith("bytes=600000-") for line in hub.requests)


def test_wrong_bytes_never_enter_the_cache(hub: Hub, cache: Path) -> None:
    hub.repositories[NAME].wrong = {"model.safetensors"}
    assert f"{NAME}/model.safetensors is not what {hub.url} announced" in error_of()
    assert not list(cache.rglob("model.safetensors")) and not list(cache.rglob("*.incomplete"))
    hub.repositories[NAME].wrong = set()
    get()


def test_what_cannot_be_used_is_refused_before_its_weights_come(hub: Hub) -> None:
    repository = hub.repositories[NAME]
    repository.sizes = {"model.safetensors": 10**18}
    error = error_of()
    assert "needs 1000000000.0 GB in" in error and "HF_HUB_CACHE" in error
    hub.repositories["o/mamba"] = Repository(model() | {"config.json": b'{"model_type": "mamba"}'})
    assert "o/mamba/config.json: model family 'mamba' is not supported" in error_of(name="o/mamba")
    assert not any("model.safetensors" in line for line in hub.requests)


def test_without_a_network_the_error_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE forbids" in error_of()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert error_of().startswith("cannot reach http://127.0.0.1:9 to fetch Owner/A-Model")


def test_shards_heads_and_gguf_files(hub: Hub) -> None:
    parts = {f"a-{i:05}-of-00002.gguf": b"part%d" % i for i in (1, 2)}
    index = {"weight_map": {"model.norm": "m-1.safetensors", "medusa_head.0.0.linear.weight": "m-2.safetensors"}}
    shards = {"m-1.safetensors": b"1", "m-2.safetensors": b"2"}
    split = {"config.json": model()["config.json"], "model.safetensors.index.json": json.dumps(index).encode()}
    hub.repositories["o/gguf"] = Repository(parts | {"b.gguf": b"other"})
    hub.repositories["o/split"] = Repository(split | shards)
    assert names_in(get("a-00001-of-00002.gguf", "o/gguf")) == sorted(parts)
    assert "its GGUF files: a-00001" in error_of("c.gguf", "o/gguf")
    assert "name one: --from o/gguf:a-0" in error_of(name="o/gguf")
    assert sorted(path.name for path in get("heads", "o/split").glob("m-*")) == ["m-2.safetensors"]
    assert sorted(path.name for path in get(name="o/split").glob("m-*")) == ["m-1.safetensors", "m-2.safetensors"]


def test_files_are_chosen_as_the_readers_take_them() -> None:
    assert model_files("r", ["pytorch_model.bin", "model.safetensors"]) == ["model.safetensors"]
    assert model_files("r", ["pytorch_model.bin", "pytorch_model.bin.index.json"]) == ["pytorch_model.bin.index.json"]
    assert heads_files("r", ["medusa_lm_head.pt", "medusa_lm_head.safetensors"]) == ["medusa_lm_head.safetensors"]
    assert shards_of({"a": "2", "b": "1", "c": "2"}, True) == ["1", "2"]
    for files, words in (
        (["medusa_lm_head.pt"], "give it with --heads"),
        (["onnx/model.onnx"], "tree mask"),
        (["x.txt"], "holds none of model.safetensors.index.json"),
    ):
        with pytest.raises(ExportError, match=words):
            model_files("r", files)
