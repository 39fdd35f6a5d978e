"""Published ImageNet weights: downloaded once, verified, and kept in Keras' cache folder."""

import hashlib
import os
import re
import tempfile
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any, NamedTuple
from urllib.error import HTTPError

from keras_resnet import files, progress, runtime
from keras_resnet.errors import InputError, first_line
from keras_resnet.messages import log
from keras_resnet.weights import readers
from keras_resnet.weights.settings import PUBLISHED, require_published

_HUB = "https://huggingface.co/"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
_KERAS_SUFFIX = "_weights_tf_dim_ordering_tf_kernels.h5"
# MD5 of Keras' files, from Keras.
_KERAS_MD5 = {
    "ResNet50": "2cb95161c43110f7111970584f804107",
    "ResNet101": "f1aeb4b969a6efcfb50fad2f0c20cfc5",
    "ResNet152": "100835be76be38e30d865e96f2aaae62",
    "ResNet50V2": "3ef43a0b657b3be2300d5770ece849e0",
    "ResNet101V2": "6343647c601c52e1368623803854d971",
    "ResNet152V2": "a49b44d1979771252814e80f8ec446f9",
}
_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte


class _Home(NamedTuple):
    """The source of a file."""

    url: str
    page: str  # page with its description
    file: str  # its name in the cache
    licence: str
    md5: str | None = None  # None: the server sends its SHA-256


def fetch(name: str) -> readers.Weights:
    """The published `Weights` of the network `name`.

    Raises:
        InputError: there are none, or they cannot be downloaded.
    """
    require_published(name)
    home, path = _home(name), cached_path(name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(f"{path}.part", "ab") as part:
            files.lock(part, wait=True)  # another process may be downloading
            if not path.exists():
                _download(name, home, path, part)
    expected = home.md5 or _read(_digest_file(path))
    if expected and _digest(path, expected) != expected:
        raise InputError(
            f"--weights imagenet: {path} is damaged: its checksum is not {expected}; delete it, to "
            "download it again"
        )
    return readers.read(path)


def cached_path(name: str) -> Path:
    """The path in the cache of the published weights of the network `name`."""
    # Without a home folder, Keras takes the temporary folder too.
    home = runtime.home_folder() or tempfile.gettempdir()
    keras_home = os.environ.get("KERAS_HOME") or os.path.join(home, ".keras")
    return Path(keras_home, "models", _home(name).file)


def is_at_hand(name: str) -> bool:
    """Whether published weights of the network `name` are in the cache."""
    return name in PUBLISHED and cached_path(name).exists()


def _home(name: str) -> _Home:
    home = PUBLISHED[name]
    if "/" not in home:
        name = home.removeprefix("keras.applications.")
        file = f"{name.lower()}{_KERAS_SUFFIX}"
        return _Home(_KERAS + file, home, file, "see keras.io/api/applications", _KERAS_MD5[name])
    # torchvision's weights ("tv") have torchvision's licence, the others timm's.
    licence = "BSD-3-Clause" if ".tv_" in home else "Apache-2.0"
    url = f"{_HUB}{home}/resolve/main/model.safetensors"
    return _Home(url, _HUB + home, f"{home.replace('/', '-')}.safetensors", licence)


def _download(name: str, home: _Home, path: Path, part: IO[bytes]) -> None:
    """Writes the file at `path`; resumes after the content of `part`, the open file beside it."""
    try:
        sha256 = _receive(name, home, path.parent, part)
        part.flush()
        os.fsync(part.fileno())
    except Exception as error:  # exceptions of urllib, http and ssl
        kept = f"; {_megabytes(part.tell())} are kept" if part.tell() else ""
        raise InputError(
            f"--weights imagenet: {home.url} cannot be downloaded ({first_line(error)}){kept}; try "
            f"again, copy that file to {path}, or give --weights FILE"
        ) from None
    expected = home.md5 or sha256
    if expected and _digest(Path(part.name), expected) != expected:
        part.truncate(0)  # not removed, because another process may wait for its lock
        raise InputError(
            f"--weights imagenet: the download from {home.url} is damaged: its checksum is not "
            f"{expected}; try again"
        )
    if sha256:
        _digest_file(path).write_text(sha256)
    os.replace(part.name, path)


def _receive(name: str, home: _Home, folder: Path, part: IO[bytes]) -> str | None:
    """Appends the missing bytes to `part`; returns the file's SHA-256 if the server sends it."""
    part.seek(0, os.SEEK_END)
    have = part.tell()
    request = urllib.request.Request(home.url, headers={"Range": f"bytes={have}-"} if have else {})
    redirects = _Redirects()
    opener = urllib.request.build_opener(redirects)
    try:
        answer = opener.open(request, timeout=_TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # nothing is missing
            return redirects.sha256
        raise
    with answer:
        if have and answer.status != 206:  # the server sends the whole file
            part.truncate(0)
            have = 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        log.info(
            f"downloading ImageNet weights for {name}: {_megabytes(total)} from {home.page} "
            f"(licence: {home.licence}), to {folder}"
            + (f"; {_megabytes(have)} are already downloaded" if have else "")
        )
        redirects.note(answer.headers)
        with progress.bar(total // _CHUNK, "downloading", "MiB") as advance:
            advance(have // _CHUNK)
            while chunk := answer.read(_CHUNK):
                part.write(chunk)
                advance()
    if part.tell() < total:
        raise OSError(f"the connection ended after {_megabytes(part.tell())}")
    return redirects.sha256


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Keeps the SHA-256 that Hugging Face sends with the redirect to a large file."""

    sha256: str | None = None

    def note(self, headers: HTTPMessage) -> None:
        found = re.fullmatch(r'"?([0-9a-f]{64})"?', headers.get("X-Linked-ETag") or "")
        self.sha256 = found[1] if found else self.sha256

    def redirect_request(
        self, request: Any, file: Any, code: int, text: str, headers: HTTPMessage, url: str
    ) -> urllib.request.Request | None:
        self.note(headers)
        return super().redirect_request(request, file, code, text, headers, url)


def _digest(path: Path, expected: str) -> str:
    """The checksum of a file, of the same kind as `expected`."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "md5" if len(expected) == 32 else "sha256").hexdigest()


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _read(path: Path) -> str | None:
    return path.read_text().strip() if path.exists() else None


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
