"""Fetches from the Hugging Face hub what a preparation needs of a repository, into the cache that all programs share.

The protocol is huggingface_hub's. What it leaves to do: it drops a file that breaks off, and compares no hashes of what
comes over HTTP. Here a partial file is kept and gone on with, and a file enters the cache once its hash is right.
"""

from __future__ import annotations

import hashlib
import io
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx2
from huggingface_hub import HfApi, constants, get_hf_file_metadata, get_token, hf_hub_download, hf_hub_url
from huggingface_hub import errors as hub_errors
from huggingface_hub.file_download import http_get, repo_folder_name
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from .errors import ExportError
from .hub_files import first_files, heads_files, model_files, shards_of
from .weights.checked import read_json
from .weights.fields import Fields
from .weights.hf_folder import config_from_json

Progress = Callable[[str, int, int], None]  # stage, bytes done, bytes of all
_HASHES = {40: "sha1", 64: "sha256"}  # of a file in git, of one in large file storage; by the digits of its ETag


def fetch(repository: str, revision: str | None, wanted: str, progress: Progress) -> Path:
    """The folder of the repository's snapshot, with what is wanted in it: "model", "heads" or the path of a GGUF file.

    An ExportError names the repository, what is wrong with it, and the remedy. What came before it is kept.
    """
    with _explained(repository, revision):
        info = HfApi().model_info(repository, revision=revision, files_metadata=True)
        sizes = {each.rfilename: each.size or 0 for each in info.siblings or []}
        snapshot = _Snapshot(repository, str(info.sha), sizes, progress)
        if wanted not in ("model", "heads"):
            snapshot.fetch(_gguf_files(repository, wanted, sizes))
        else:
            snapshot.fetch(first_files(sizes))
            if wanted == "model":
                _check_family(snapshot.folder / "config.json", repository)
            names = (model_files if wanted == "model" else heads_files)(repository, sizes)
            indices = [name for name in names if name.endswith(".index.json")]
            snapshot.fetch(indices)
            shards = [shard for name in indices for shard in _shards(snapshot.folder / name, wanted)]
            snapshot.fetch([*names, *shards])
        if revision not in (None, info.sha):
            _keep_reference(snapshot.storage, str(revision), str(info.sha))
        elif revision is None:
            _keep_reference(snapshot.storage, constants.DEFAULT_REVISION, str(info.sha))
    return snapshot.folder


def _keep_reference(storage: Path, revision: str, commit: str) -> None:
    """What a branch or tag stands for, as the cache keeps it; last, so that it never names what is not there."""
    file = storage / "refs" / revision
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(commit, encoding="utf-8")


def _gguf_files(repository: str, name: str, sizes: Mapping[str, int]) -> list[str]:
    """The file, and all its parts where it was split."""
    if name not in sizes:
        there = ", ".join(sorted(each for each in sizes if each.endswith(".gguf"))) or "none"
        raise ExportError(f"{repository} has no file {name}; its GGUF files: {there}")
    part = re.fullmatch(r"(.*)-\d{5}-of-(\d{5})\.gguf", name)
    return [each for each in sorted(sizes) if part and re.fullmatch(
        rf"{re.escape(part[1])}-\d{{5}}-of-{part[2]}\.gguf", each)] or [name]  # fmt: skip


def _check_family(config: Path, repository: str) -> None:
    """Refuses what cannot be converted before its weights are fetched."""
    if config.is_file():
        config_from_json(read_json(config), f"{repository}/config.json")


def _shards(index: Path, wanted: str) -> list[str]:
    return shards_of(Fields(index.name, read_json(index).get).mapping("weight_map"), wanted == "heads")


class _Snapshot:
    """One commit of a repository in the cache."""

    def __init__(self, repository: str, commit: str, sizes: Mapping[str, int], progress: Progress) -> None:
        self._repository, self._commit, self._sizes, self._progress = repository, commit, sizes, progress
        self._cache = Path(constants.HF_HUB_CACHE)
        self.storage = self._cache / repo_folder_name(repo_id=repository, repo_type="model")
        self.folder = self.storage / "snapshots" / commit

    def fetch(self, names: list[str]) -> None:
        """Those of the files that are not there."""
        for name in names:
            if name not in self._sizes:
                raise ExportError(f"{self._repository} has no file {name}, which its index names")
        missing = [name for name in dict.fromkeys(names) if not (self.folder / name).is_file()]
        total = sum(self._sizes[name] for name in missing)
        partial = sum(file.stat().st_size for file in self.storage.glob("blobs/*.medusa-plus.incomplete"))
        self._check_disk(total - partial)
        stage, before = f"Fetching {self._repository} ({_amount(total)})", 0
        for name in missing:
            self._fetch_one(name, lambda done, before=before: self._progress(stage, before + done, total))
            before += self._sizes[name]

    def _check_disk(self, need: int) -> None:
        self._cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._cache).free
        if need > free:
            raise ExportError(
                f"{self._repository} needs {_amount(need)} in {self._cache}, where {_amount(free)} are free; make room,"
                " or name another folder with HF_HUB_CACHE"
            )

    def _fetch_one(self, name: str, progress: Callable[[int], None]) -> None:
        url = hf_hub_url(self._repository, name, revision=self._commit)
        facts = get_hf_file_metadata(url)
        etag = facts.etag or ""
        if len(etag) not in _HASHES or not re.fullmatch("[0-9a-f]+", etag):
            raise ExportError(f"{constants.ENDPOINT} gives no hash of {self._repository}/{name} (ETag {etag[:80]!r})")
        blob = self.storage / "blobs" / etag
        lock = self._cache / ".locks" / self.storage.name / f"{etag}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        blob.parent.mkdir(parents=True, exist_ok=True)
        with WeakFileLock(lock):
            if not blob.exists():
                self._download(url, name, blob, facts.size or self._sizes[name], progress)
        # It finds the bytes there, and names them in the snapshot.
        there = Path(hf_hub_download(self._repository, name, revision=self._commit))
        if not there.is_symlink():  # a file system without links: there are two copies now
            blob.unlink(missing_ok=True)

    def _download(self, url: str, name: str, blob: Path, size: int, progress: Callable[[int], None]) -> None:
        partial = blob.with_name(f"{blob.name}.medusa-plus.incomplete")
        with _Told(partial, progress) as file:
            if (there := file.tell()) > size:
                file.truncate(there := 0)
            try:
                http_get(url, file, headers=build_hf_headers(), resume_size=there, expected_size=size)
            except hub_errors.HfHubHTTPError:
                raise
            except (httpx2.HTTPError, OSError) as error:
                if getattr(error, "errno", None):  # of the disk
                    raise
                raise ExportError(
                    f"the download of {self._repository}/{name} broke off at {_amount(file.tell())} of"
                    f" {_amount(size)} ({_first_line(error)}); the same command goes on from there"
                ) from error
        if _hash_of(partial, _HASHES[len(blob.name)]) != blob.name:
            partial.unlink()
            raise ExportError(
                f"what came as {self._repository}/{name} is not what {constants.ENDPOINT} announced (its hash is not"
                f" {blob.name[:12]}...) and was removed; run the command again, and check proxies and HF_ENDPOINT"
            )
        partial.replace(blob)


class _Told(io.BufferedWriter):
    """A file that is gone on with and tells how many bytes it has."""

    def __init__(self, path: Path, progress: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path, "ab"))
        self._progress = progress

    def write(self, data: bytes) -> int:  # type: ignore[override]
        written = super().write(data)
        self._progress(self.tell())
        return written


def _hash_of(file: Path, kind: str) -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    if kind == "sha1":  # git's, of an object
        digest.update(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as data:
        while chunk := data.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__


@contextmanager
def _explained(repository: str, revision: str | None) -> Iterator[None]:
    """The hub's refusals in words that name the remedy."""
    page, at = f"{constants.ENDPOINT}/{repository}", f"revision {revision or 'main'}"
    token = "the account of HF_TOKEN may not read it" if get_token() else "set HF_TOKEN to a token that may read it"
    try:
        yield
    except hub_errors.HFValidationError as error:
        raise ExportError(f"{repository} is no name on the hub: expected OWNER/NAME") from error
    except hub_errors.GatedRepoError as error:
        raise ExportError(
            f"{repository} is gated: accept its licence at {page}, and set HF_TOKEN to a token of that account"
        ) from error
    except hub_errors.RepositoryNotFoundError as error:
        raise ExportError(
            f"{constants.ENDPOINT} has no repository {repository}, or it is private: check the name; if it is private,"
            f" {token}"
        ) from error
    except hub_errors.RevisionNotFoundError as error:
        raise ExportError(f"{repository} has no {at}; its branches and tags: {page}/tree/main") from error
    except hub_errors.OfflineModeIsEnabled as error:
        raise ExportError(
            f"{repository} at {at} is not whole in {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE forbids to fetch it"
        ) from error
    except hub_errors.HfHubHTTPError as error:
        status = error.response.status_code
        why = "it refuses HF_TOKEN: make a new one in the settings of the account" if status == 401 else ""
        if status == 403:
            why = f"access is forbidden: {token}"
        why = why or "try again later"
        raise ExportError(f"{constants.ENDPOINT} answers {status} for {repository}; {why}") from error
    except httpx2.HTTPError as error:
        raise ExportError(
            f"cannot reach {constants.ENDPOINT} to fetch {repository} ({_first_line(error)}); check the network,"
            " proxies and HF_ENDPOINT. What is in the cache needs no network"
        ) from error
