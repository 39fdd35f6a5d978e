"""Published weights: downloaded once from a server, resumed, checked, and used without one."""

import hashlib
import http.server
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_resnet import build, files
from keras_resnet.errors import InputError
from keras_resnet.recipes import resolve
from keras_resnet.specs import SPECS
from keras_resnet.state import without_values
from keras_resnet.weights import fitting, layouts, published, readers, settings
from keras_resnet.weights.importing import import_weights
from keras_resnet.weights.load import load_weights


def as_torch(model):
    """The weights of a network as PyTorch names and lays them out."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}
    return {
        layouts.in_file(name, readers.Weights("", readers.TORCH, {})): np.ascontiguousarray(
            np.asarray(variable).transpose(axes[len(variable.shape)])
        )
        for name, variable in readers.variables(model).items()
    }


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` as Hugging Face does: a redirect that tells the SHA-256, then the file."""

    content, sha256, ends_after, takes_ranges = b"", "", None, True
    ranges: list

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        if not self.path.startswith("/blob"):
            self.send_response(302)
            self.send_header("Location", "/blob")
            self.send_header("X-Linked-ETag", f'"{server.sha256}"')
            self.end_headers()
            return
        asked = self.headers.get("Range") if server.takes_ranges else None
        server.ranges.append(asked)
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and first >= len(server.content):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(server.content) - first))
        self.end_headers()
        self.wfile.write(server.content[first : server.ends_after])

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A ResNet-18 of the size that is published, as .safetensors."""
    path = tmp_path_factory.mktemp("published") / "model.safetensors"
    save_file(as_torch(build("resnet18", 1000, (32, 32, 3))), path)
    return path.read_bytes()


@pytest.fixture
def server(monkeypatch, tmp_path, content):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with Server() as server:
        server.content, server.sha256 = content, hashlib.sha256(content).hexdigest()
        monkeypatch.setattr(published, "_HUB", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setattr(published, "_KERAS", f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_download_says_what_it_is_and_is_made_once(server, capsys, tmp_path):
    weights = published.fetch("resnet18")
    assert "fc.weight" in weights.arrays
    assert (
        "downloading ImageNet weights for resnet18: 46.8 MB from "
        f"http://127.0.0.1:{server.server_port}/timm/resnet18.tv_in1k (licence: BSD-3-Clause), to "
        f"{tmp_path}/keras/models"
    ) in capsys.readouterr().err
    published.fetch("resnet18")
    assert len(server.ranges) == 1


def test_a_folder_called_imagenet_is_in_nobodys_way(server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").mkdir()
    run = import_weights("imagenet", model="resnet18", image_size=32, run_folder="run")
    assert run.config.model == "resnet18" and len(run.classes) == 1000


def test_published_weights_have_the_names_of_imagenets_classes(server, tmp_path, capsys):
    run = import_weights("imagenet", image_size=32, run_folder=tmp_path / "run")
    # Outputs as published: 207 and 281 are in the papers' and keras.applications' examples.
    known = {0: "tench", 134: "crane bird", 207: "golden retriever", 281: "tabby", 517: "crane"}
    known |= {282: "tiger cat", 386: "African elephant", 388: "giant panda", 999: "toilet tissue"}
    assert {k: run.classes[k] for k in known} == known
    assert len(set(run.classes)) == 1000
    assert "hammerhead, …; --labels FILE sets others" in capsys.readouterr().err


def test_other_weights_take_the_names_of_imagenets_classes_if_asked(tmp_path, content, capsys):
    path = tmp_path / "theirs.safetensors"
    path.write_bytes(content)
    run = import_weights(path, image_size=32, run_folder=tmp_path / "numbered")
    assert run.classes[281] == "281"
    assert "labels: 0, 1, 2, 3, 4, …; --labels FILE or imagenet sets others" in (
        capsys.readouterr().err
    )
    run = import_weights(path, image_size=32, labels="imagenet", run_folder=tmp_path / "named")
    assert run.classes[281] == "tabby"
    save_file(as_torch(build("resnet8", 3)), path)
    with pytest.raises(
        InputError, match=r"--labels imagenet has 1,000 names, but .* has 3 classes"
    ):
        import_weights(path, labels="imagenet", run_folder=tmp_path / "other")


def test_an_interrupted_download_is_resumed(server):
    server.ends_after = 5_000_000
    with pytest.raises(InputError, match=r"connection ended.*5\.0 MB are kept; try again") as error:
        published.fetch("resnet18")
    assert "\n" not in str(error.value)
    server.ends_after = None
    published.fetch("resnet18")
    assert server.ranges == [None, "bytes=5000000-"]
    assert published.cached_path("resnet18").read_bytes() == server.content


def test_a_server_that_sends_the_whole_file_again_is_understood(server):
    path = published.cached_path("resnet18")
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(server.content[:1000])
    server.takes_ranges = False
    published.fetch("resnet18")
    assert path.read_bytes() == server.content


def test_while_another_process_downloads_one_waits_for_its_file(server):
    path = published.cached_path("resnet18")
    path.parent.mkdir(parents=True)
    with ThreadPoolExecutor() as threads:
        with open(f"{path}.part", "ab") as part:
            files.lock(part)
            waiting = threads.submit(published.fetch, "resnet18")
            with pytest.raises(TimeoutError):
                waiting.result(timeout=2)
            path.write_bytes(server.content)
        assert "fc.weight" in waiting.result().arrays
    assert server.ranges == []


def test_a_whole_part_is_not_downloaded_again(server):
    path = published.cached_path("resnet18")
    path.parent.mkdir(parents=True)
    path.with_name(f"{path.name}.part").write_bytes(server.content)
    published.fetch("resnet18")
    assert path.read_bytes() == server.content


def test_a_damaged_download_is_not_kept(server):
    good = server.content
    server.content = bytes([good[0] ^ 1]) + good[1:]
    with pytest.raises(InputError, match=r"is damaged: its checksum is not .*; try again"):
        published.fetch("resnet18")
    path = published.cached_path("resnet18")
    (part,) = path.parent.glob("*safetensors*")
    assert part.suffix == ".part" and part.stat().st_size == 0
    # Another process, which has opened that file and waits, begins anew.
    with open(part, "ab") as waiting:
        with pytest.raises(InputError, match="is damaged"):
            published.fetch("resnet18")
        server.content = good
        published._download("resnet18", published._home("resnet18"), path, waiting)
    assert path.read_bytes() == good and server.ranges == [None] * 3


def test_a_file_that_was_damaged_on_the_disk_is_noticed(server):
    published.fetch("resnet18")
    path = published.cached_path("resnet18")
    path.write_bytes(b"x" + path.read_bytes()[1:])
    with pytest.raises(InputError, match=r"is damaged.*delete it, to download it again"):
        published.fetch("resnet18")


@pytest.mark.parametrize("name", ["resnet50_v1", "resnet18"])
def test_without_a_network_it_is_one_line_with_the_place_for_the_file(name, server, monkeypatch):
    monkeypatch.setattr(published, "_HUB", "http://127.0.0.1:9/")
    monkeypatch.setattr(published, "_KERAS", "http://127.0.0.1:9/")
    with pytest.raises(InputError) as error:
        load_weights(without_values(lambda: build(name, 1000, (64, 64, 3))), "imagenet")
    line = str(error.value)
    assert "cannot be downloaded" in line and "\n" not in line
    assert f"copy that file to {published.cached_path(name)}, or give --weights FILE" in line


def test_weights_of_keras_are_those_that_its_own_checksum_names(server, monkeypatch, tmp_path):
    theirs = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=5)
    theirs.save_weights(tmp_path / "net.weights.h5")
    server.content = (tmp_path / "net.weights.h5").read_bytes()
    with pytest.raises(InputError, match="checksum is not 2cb95161c43110f7111970584f804107"):
        published.fetch("resnet50_v1")
    digest = hashlib.md5(server.content).hexdigest()
    monkeypatch.setitem(published._KERAS_MD5, "ResNet50", digest)
    load_weights(build("resnet50_v1", 5, (64, 64, 3)), "imagenet")
    assert published.cached_path("resnet50_v1").name == (
        "resnet50_weights_tf_dim_ordering_tf_kernels.h5"
    )


def test_they_are_for_networks_of_their_own_width():
    with pytest.raises(
        InputError, match=r"--width 0\.5: ImageNet weights are published for width 1"
    ):
        settings.require(resolve({"model": "resnet50", "weights": "imagenet", "width": 0.5}))


def test_the_list_of_networks_marks_those_that_have_them(command):
    rows = json.loads(command("models", "--json").stdout)
    assert {r["name"]: r["weights"] for r in rows if r["weights"]} == settings.PUBLISHED
    lines = [line.split() for line in command("models").stdout.splitlines()]
    marked = {line[0] for line in lines if line and line[5:6] == ["imagenet"]}
    assert marked == settings.PUBLISHED.keys()


def test_the_checksums_are_those_of_the_installed_keras():
    from keras.src.applications import resnet

    for name, digest in published._KERAS_MD5.items():
        assert resnet.WEIGHTS_HASHES[name.lower()][0] == digest
    assert published._KERAS == resnet.BASE_WEIGHTS_PATH
    keras_own = {home for home in settings.PUBLISHED.values() if "/" not in home}
    assert {f"keras.applications.{name}" for name in published._KERAS_MD5} == keras_own
    assert settings.PUBLISHED.keys() <= SPECS.keys()


@pytest.mark.parametrize(
    "name",
    [
        "resnet8",
        "resnet18",
        "resnetrs50",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet20_b", "resnet50d")),
    ],
)
def test_the_network_of_a_file_is_known_by_its_arrays(name, tmp_path):
    model = build(name, 5, (32, 32, 3))
    save_file(as_torch(model), tmp_path / "net.safetensors")
    model.save_weights(tmp_path / "net.weights.h5")
    assert fitting.network_of(tmp_path / "net.safetensors") == name
    assert fitting.network_of(tmp_path / "net.weights.h5") == name


def test_the_network_of_a_file_of_keras_applications_is_known(tmp_path):
    theirs = keras.applications.ResNet50V2(weights=None, input_shape=(64, 64, 3), classes=5)
    theirs.save(tmp_path / "net.h5")
    assert fitting.network_of(tmp_path / "net.h5") == "resnet50_v2"


def test_a_network_that_is_not_known_asks_for_its_name(tmp_path):
    save_file({"layer1.0.conv1.weight": np.zeros((4, 4, 3, 3), "f4")}, tmp_path / "x.safetensors")
    line = r"the network of .*x.safetensors cannot be identified .* give --model"
    with pytest.raises(InputError, match=line):
        fitting.network_of(tmp_path / "x.safetensors")
    whole = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    whole.save(tmp_path / "x.h5")
    with pytest.raises(InputError, match="load it in Keras and save it as"):
        fitting.network_of(tmp_path / "x.h5")
