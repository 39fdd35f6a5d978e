"""Pre-trained weights give the logits of their source, or are rejected in one line."""

import functools
import json
import os
import pickle
import subprocess
import sys
import warnings
import zipfile
from importlib.util import find_spec

import h5py
import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from keras_resnet import build
from keras_resnet.errors import InputError
from keras_resnet.recipes import network_of_weights
from keras_resnet.specs import NORMALIZATIONS
from keras_resnet.weights import layouts, readers
from keras_resnet.weights.importing import import_weights
from keras_resnet.weights.load import load_weights, normalization_of, open_weights

RNG = np.random.default_rng(0)
APPLICATIONS = {
    "resnet50_v1": ("ResNet50", "resnet"),
    "resnet101_v1": ("ResNet101", "resnet"),
    "resnet152_v1": ("ResNet152", "resnet"),
    "resnet50_v2": ("ResNet50V2", "resnet_v2"),
    "resnet101_v2": ("ResNet101V2", "resnet_v2"),
    "resnet152_v2": ("ResNet152V2", "resnet_v2"),
}
DEEP = ("101", "152")


def pixels(count, side):
    return RNG.integers(0, 256, (count, side, side, 3)).astype("float32")


def randomize(model):
    """Random weights that neither explode nor vanish, every bias and statistic among them."""
    for variable in model.weights:
        noise = RNG.normal(0, 0.1, variable.shape)
        if variable.name == "kernel":
            noise = RNG.normal(0, (2 / np.prod(variable.shape[:-1])) ** 0.5, variable.shape)
        elif variable.name in ("gamma", "moving_variance"):
            noise = 0.6 + abs(noise)
        variable.assign(noise)


def assert_same_logits(ours, expected, x):
    error = np.abs(np.asarray(ours(x)) - expected).max()
    assert error <= 1e-4 * np.abs(expected).max()


@functools.cache
def application(name, **options):
    """A network of keras.applications, which no test changes, and its preprocessing."""
    peer, module = APPLICATIONS[name]
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, peer)(
        weights=None, input_shape=(64, 64, 3), classifier_activation=None, **options
    )
    randomize(model)
    return model, getattr(keras.applications, module).preprocess_input


def applications():
    """Each kind of network, and each kind of file."""
    for name in APPLICATIONS:
        for file in ("net.keras", "net.weights.h5", "net.h5"):
            here = (name, file == "net.keras") in (("resnet50_v1", False), ("resnet50_v2", True))
            yield pytest.param(name, file, marks=() if here else pytest.mark.slow)


@pytest.mark.parametrize(("name", "file"), applications())
def test_keras_applications_nets_say_the_same_on_raw_pixels(name, file, tmp_path):
    theirs, preprocess = application(name, classes=5)
    save = theirs.save_weights if "weights" in file else theirs.save
    save(tmp_path / file)
    ours = build(name, 5, (64, 64, 3))
    load_weights(ours, tmp_path / file)
    x = pixels(2, 64)
    assert_same_logits(ours, np.asarray(theirs(preprocess(x.copy()))), x)


@pytest.mark.parametrize(
    "name", ["resnet50_v1", pytest.param("resnet50_v2", marks=pytest.mark.slow)]
)
def test_without_their_classifier_they_are_taken_when_the_head_may_be_fresh(name, tmp_path):
    theirs, _ = application(name, include_top=False, pooling="avg")
    theirs.save_weights(tmp_path / "notop.weights.h5")
    ours = build(name, 5, (64, 64, 3))
    with pytest.raises(InputError, match=r"2 missing .logits/kernel.* the file has no classes"):
        load_weights(ours, tmp_path / "notop.weights.h5")
    assert "head replaced" in load_weights(ours, tmp_path / "notop.weights.h5", replace_head=True)


def needs(*packages):
    """Skips the test where one is missing. Nothing is imported: see below."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


TORCH_NETS = """
import sys
import numpy as np
import torch
import torchvision
from safetensors.torch import save_file

folder, name = sys.argv[1:]
torch.manual_seed(0)
if hasattr(torchvision.models, name):
    net = getattr(torchvision.models, name)(weights=None, num_classes=5)
else:
    import timm

    net = timm.create_model(name, num_classes=5)
for key, value in net.state_dict().items():
    if key.endswith("running_var"):
        value.copy_(torch.rand_like(value) + 0.5)
    elif value.dim() == 1 and value.is_floating_point():
        value.copy_(torch.rand_like(value) * 0.3 + 0.1)
x = torch.tensor(np.load(f"{folder}/x.npy").transpose(0, 3, 1, 2))
with torch.no_grad():
    np.save(f"{folder}/logits.npy", net.eval()(x).numpy())
save_file(net.state_dict(), f"{folder}/net.safetensors")
torch.save(net.state_dict(), f"{folder}/net.pth")
wrapped = {"module." + key: value for key, value in net.state_dict().items()}
torch.save({"epoch": 3, "state_dict": wrapped}, f"{folder}/wrapped.th")
"""


IN_TIMM = [
    "resnet18d", "resnet34d", "resnet50d", "resnet101d", "resnet152d", "resnet200d",
    "resnext101_32x4d", "seresnet18", "seresnet34", "seresnet50", "seresnet101", "seresnet152",
    "seresnext50_32x4d", "seresnext101_32x4d", "resnetrs50", "resnetrs101", "resnetrs152",
    "resnetrs200",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "wide_resnet50_2",
     "resnext50_32x4d", *IN_TIMM],
)  # fmt: skip
def test_torchvision_and_timm_nets_say_the_same(name, tmp_path):
    needs("torch", "torchvision", *(["timm"] if name in IN_TIMM else []))
    x = pixels(2, 64)
    mean, deviation = (np.float32(v) for v in NORMALIZATIONS["imagenet"])
    np.save(tmp_path / "x.npy", (x - mean) / deviation)
    # In a process of its own: TensorFlow's and Triton's copies of LLVM crash each other.
    command = [sys.executable, "-c", TORCH_NETS, str(tmp_path), name]
    subprocess.run(command, check=True, cwd=tmp_path)
    for file in ("net.safetensors", "net.pth", "wrapped.th"):
        ours = build(name, 5, (64, 64, 3))
        load_weights(ours, tmp_path / file)
        assert_same_logits(ours, np.load(tmp_path / "logits.npy"), x)


def cifar_state(blocks, shortcut=None, seed=0):
    """A random state dict in the usual layout of a PyTorch ResNet for CIFAR."""
    rng = np.random.default_rng(seed)
    state = {}

    def conv(name, out, into, kernel=3):
        scale = (2 / (into * kernel**2)) ** 0.5
        state[f"{name}.weight"] = rng.normal(0, scale, (out, into, kernel, kernel))

    def bn(name, channels):
        state[f"{name}.weight"] = rng.uniform(0.3, 0.6, channels)
        state[f"{name}.bias"] = rng.normal(0, 0.1, channels)
        state[f"{name}.running_mean"] = rng.normal(0, 0.1, channels)
        state[f"{name}.running_var"] = rng.uniform(0.5, 1.5, channels)
        state[f"{name}.num_batches_tracked"] = np.array(7)

    conv("conv1", 16, 3), bn("bn1", 16)
    into = 16
    for stage, out in enumerate((16, 32, 64), 1):
        for i in range(blocks):
            name = f"layer{stage}.{i}"
            conv(f"{name}.conv1", out, into), bn(f"{name}.bn1", out)
            conv(f"{name}.conv2", out, out), bn(f"{name}.bn2", out)
            if into != out and shortcut:
                conv(f"{name}.{shortcut}.0", out, into, 1), bn(f"{name}.{shortcut}.1", out)
            into = out
    state["linear.weight"] = rng.normal(0, 0.3, (3, 64))
    state["linear.bias"] = rng.normal(0, 0.3, 3)
    return {k: v if v.ndim == 0 else v.astype("float32") for k, v in state.items()}


def cifar_logits(state, x):
    """What such a net computes, in NumPy: x normalized, `(b, 3, h, w)`."""

    def conv(name, x, stride=1):
        kernel = state[f"{name}.weight"].astype("float64")
        pad = kernel.shape[-1] // 2
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))
        return np.einsum("bchwij,ocij->bohw", windows[:, :, ::stride, ::stride], kernel)

    def bn(name, x):
        gamma, beta, mean, variance = (
            state[f"{name}.{v}"][:, None, None]
            for v in ("weight", "bias", "running_mean", "running_var")
        )
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    x = np.maximum(bn("bn1", conv("conv1", x)), 0)
    stage = block = 0
    while f"layer{stage + 1}.0.conv1.weight" in state:
        stage, block = stage + 1, 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            y = np.maximum(bn(f"{name}.bn1", conv(f"{name}.conv1", x, stride)), 0)
            y = bn(f"{name}.bn2", conv(f"{name}.conv2", y))
            if f"{name}.shortcut.0.weight" in state:
                x = bn(f"{name}.shortcut.1", conv(f"{name}.shortcut.0", x, stride))
            elif stride == 2:  # option A
                new = (y.shape[1] - x.shape[1]) // 2
                x = np.pad(x[:, :, ::2, ::2], ((0, 0), (new, new), (0, 0), (0, 0)))
            x, block = np.maximum(y + x, 0), block + 1
    return x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize(
    ("name", "blocks", "shortcut"), [("resnet20", 3, None), ("resnet8_b", 1, "shortcut")]
)
def test_a_pytorch_cifar_net_says_the_same(name, blocks, shortcut, prefix, tmp_path):
    state = cifar_state(blocks, shortcut)
    save_file({prefix + k: v for k, v in state.items()}, tmp_path / "net.safetensors")
    ours = build(name, 3, (12, 12, 3), normalize="cifar10")
    load_weights(ours, tmp_path / "net.safetensors")
    x = pixels(2, 12)
    mean, deviation = (np.array(v) for v in NORMALIZATIONS["cifar10"])
    normalized = ((x - mean) / deviation).transpose(0, 3, 1, 2)
    assert_same_logits(ours, cifar_logits(state, normalized), x)


def without(state, *names):
    return {key: value for key, value in state.items() if key not in names}


STATE, SMALL_STATE = cifar_state(3), cifar_state(1)
MISFITS = {
    "a deeper net": (cifar_state(5), r"not fit resnet20: 60 left over \(layer1.3"),
    "a shallower net": (cifar_state(1), r"60 missing \(layer1.1.conv1.weight, .*, …\)$"),
    "other shortcuts": (cifar_state(3, "shortcut"), r"10 left over \(layer2.0.shortcut.0.weight"),
    "one array missing": (without(STATE, "bn1.bias"), r"1 missing \(bn1.bias\)$"),
    "one array too many": ({**STATE, "ema": np.ones(3, "f")}, r"1 left over \(ema\)$"),
    "another shape": (
        {**STATE, "layer1.0.conv1.weight": np.ones((16, 16, 1, 1), "f")},
        r"layer1.0.conv1.weight is \(1, 1, 16, 16\) .* needs \(3, 3, 16, 16\)\)$",
    ),
    "other classes": (
        {**STATE, "linear.weight": np.ones((5, 64), "f"), "linear.bias": np.ones(5, "f")},
        "the file has 5 classes$",
    ),
    "a NaN": ({**STATE, "linear.bias": np.full(3, np.nan, "f")}, "linear.bias contains NaN"),
}


@pytest.fixture
def unloaded():
    """A network; at the end of the test its weights must be what they were."""
    model = build("resnet20", 3, (12, 12, 3))
    before = model.get_weights()
    yield model
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize(("state", "message"), MISFITS.values(), ids=MISFITS)
def test_what_does_not_fit_is_refused_in_one_line_that_says_what(
    state, message, unloaded, tmp_path
):
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match=message) as error:
        load_weights(unloaded, tmp_path / "net.safetensors")
    assert "\n" not in str(error.value) and "net.safetensors" in str(error.value)


@pytest.mark.parametrize("file", ["net.safetensors", "net.keras", "net.weights.h5", "net.h5"])
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused_with_its_name(file, share, unloaded, tmp_path):
    path = tmp_path / file
    if file == "net.safetensors":
        save_file(STATE, path)
    else:
        keras.utils.set_random_seed(1)
        model = build("resnet20", 3, (12, 12, 3))
        model.save_weights(path) if "weights" in file else model.save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=file) as error:
        load_weights(unloaded, path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.safetensors", r"no weights file .*none.safe"), ("a.txt", r"one of .keras, .h5")],
)  # fmt: skip
def test_what_is_no_file_of_weights_is_refused(name, message, unloaded, tmp_path):
    (tmp_path / "a.txt").write_text("weights")
    with pytest.raises(InputError, match=message):
        load_weights(unloaded, tmp_path / name)


@pytest.mark.parametrize("chunks", [None, (1 << 10, 1 << 10)])
def test_an_array_that_is_not_in_the_file_is_not_read(unloaded, tmp_path, chunks):
    """A file of a few bytes may claim an array of terabytes."""
    with h5py.File(tmp_path / "bomb.weights.h5", "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "conv1_conv"
        group.create_dataset("0", (1 << 20, 1 << 20), "f4", chunks=chunks)
    with pytest.raises(InputError, match="vars/0 is not in the file"):
        load_weights(unloaded, tmp_path / "bomb.weights.h5")


def test_another_shape_is_named(unloaded, tmp_path):
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "conv1_conv"
        group["0"] = np.ones((7, 5), "f4")
    with pytest.raises(InputError, match=r"1 of another shape \(conv1_conv/kernel"):
        load_weights(unloaded, tmp_path / "net.weights.h5")


PICKLES = {
    # bytearray(3_000_000_000), a function that PyTorch's loader calls
    "one large object": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00^\xd0\xb2\x00\x85R.",
    "many small objects": b"\x80\x02(" + b"}" * 1_000_001 + b"l.",
}


@pytest.mark.parametrize("is_archive", [True, False], ids=["archive", "older than PyTorch 1.6"])
@pytest.mark.parametrize("pickle", PICKLES.values(), ids=PICKLES)
def test_a_pickle_that_fills_the_memory_is_refused_before_it_is_loaded(
    pickle, is_archive, unloaded, tmp_path
):
    path = tmp_path / "net.pth"
    if is_archive:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("net/data.pkl", pickle)
    else:
        path.write_bytes(b"\x80\x02M\xe9\x03." * 3 + pickle)
    refusal = "contains more than tensors; load it in PyTorch, and save"
    with pytest.raises(InputError, match=refusal):
        load_weights(unloaded, path)


def _h5(path, write):
    """A file of Keras with one array, that `write(group)` makes."""
    with h5py.File(path, "w") as file:
        group = file.create_group("layers/conv2d/vars")
        group.attrs["name"] = "conv1_conv"
        write(group)


def _packed(group):
    group.create_dataset("0", (3, 3, 3, 16), "f4", compression="gzip")


def _elsewhere(group):
    group["0"] = h5py.ExternalLink("/etc/other.h5", "/0")


def _outside(group):
    group.create_dataset("0", (3, 3, 3, 16), "f4", external=[("/dev/zero", 0, 1728)])


def _strings(group):
    group.create_dataset("0", (3, 3, 3, 16), "S1000000000")


def _many(group):
    for number in range(101):
        group.file.create_group(f"x/{number}")


@pytest.mark.parametrize(
    ("write", "message"),
    [(_packed, "is compressed"), (_elsewhere, "a link to another file, 'layers/conv2d/vars/0'"),
     (_outside, "no array of numbers in this file"), (_strings, "no array of numbers"),
     (_many, "more than 100 objects")],
)  # fmt: skip
def test_a_file_that_unpacks_or_leads_elsewhere_is_not_read(
    write, message, unloaded, tmp_path, monkeypatch
):
    """A few bytes may unpack into terabytes, and a link may lead to a file that never ends."""
    monkeypatch.setattr(readers, "_MOST_OBJECTS", 100)
    _h5(tmp_path / "net.weights.h5", write)
    with pytest.raises(InputError, match=f"net.weights.h5 .*{message}") as error:
        load_weights(unloaded, tmp_path / "net.weights.h5")
    assert "\n" not in str(error.value)


def test_archives_of_terabytes_are_not_unpacked(unloaded, tmp_path):
    with zipfile.ZipFile(tmp_path / "net.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(100_000_000))
    with pytest.raises(InputError, match=r"'config.json' in it is compressed"):
        load_weights(unloaded, tmp_path / "net.keras")
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "[" * 9_000_000)
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(InputError, match="its settings take more than 8 MB"):
        load_weights(unloaded, tmp_path / "net.keras")


@pytest.mark.parametrize("entries", [70_000, 60_000])
def test_an_archive_of_files_without_end_is_not_opened(unloaded, tmp_path, entries):
    """Above 65,535 files it has the record of a ZIP64 archive."""
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        for number in range(entries):
            archive.writestr(f"{number:0{10_000_000 // entries}}", b"")
    with pytest.raises(InputError, match="its list of files exceeds 8 MB"):
        load_weights(unloaded, tmp_path / "net.keras")


def test_a_header_of_gigabytes_is_not_parsed(unloaded, tmp_path):
    (tmp_path / "net.safetensors").write_bytes((1 << 31).to_bytes(8, "little") + b"{}")
    with pytest.raises(InputError, match="its header has 2,147,483,648 bytes"):
        load_weights(unloaded, tmp_path / "net.safetensors")


def test_empty_arrays_are_left_out(tmp_path):
    """A head for a billion classes would take no space in the file."""
    save_file({"fc.weight": np.ones((0, 4), "f4")}, tmp_path / "net.safetensors")
    assert readers.read(tmp_path / "net.safetensors").arrays == {}


def test_a_name_that_is_repeated_is_read_once(unloaded, tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["layer_names"] = [b"a"] * 3
        file.create_group("a").attrs["weight_names"] = [b"a/kernel:0"] * 3
        file["a/a/kernel:0"] = np.ones(2, "f4")
    with pytest.raises(InputError, match="two arrays are called a/kernel"):
        load_weights(unloaded, tmp_path / "net.h5")


def test_numbers_of_eight_bits_are_named(tmp_path):
    header = {"fc.weight": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (tmp_path / "net.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    stored = readers.read(tmp_path / "net.safetensors").arrays["fc.weight"]
    with pytest.raises(InputError, match=r"fc.weight is F8_E4M3, which NumPy does not support"):
        stored.read()


@pytest.mark.parametrize("kind", ["sparse", "complex", "meta", "expanded"])
def test_tensors_that_are_no_arrays_of_numbers_are_named(tmp_path, kind):
    needs("torch")
    code = (
        "import sys, torch\n"
        "x = {'sparse': lambda: torch.eye(3).to_sparse(), 'complex': lambda: torch.ones(3) * 1j,\n"
        "     'meta': lambda: torch.ones(3, device='meta'),\n"
        "     'expanded': lambda: torch.ones(1).expand(10**6, 10**6)}[sys.argv[1]]()\n"
        "torch.save({'fc.weight': x}, sys.argv[2])"
    )
    subprocess.run([sys.executable, "-c", code, kind, tmp_path / "net.pth"], check=True)
    with pytest.raises(InputError, match=r"fc.weight (is no dense|repeats its)"):
        readers.read(tmp_path / "net.pth")


@pytest.mark.parametrize("names", [["a/DATA.PKL"], ["a/data.pkl", "a/data.pkl"]])
def test_a_pickle_is_checked_whatever_it_is_called(tmp_path, names):
    """PyTorch's archives ignore case, and take the first of equal names."""
    allocates = b"\x80\x02c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in names:
            archive.writestr(name, allocates)
    with pytest.raises(InputError, match=r"contains more than tensors|two files of one name"):
        readers.read(tmp_path / "net.pth")


def test_a_pipe_is_no_file_of_weights(unloaded, tmp_path):
    os.mkfifo(tmp_path / "net.keras")  # reading it would wait for ever
    with pytest.raises(InputError, match="no weights file"):
        load_weights(unloaded, tmp_path / "net.keras")


def test_biases_of_a_wrong_length_are_not_folded_away(tmp_path):
    theirs, _ = application("resnet50_v2", classes=5)
    theirs.save(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "r+") as file:
        layer = file["model_weights/conv3_block2_3_conv/conv3_block2_3_conv"]
        del layer["bias"]
        layer["bias"] = np.ones(1, "f")
    with pytest.raises(InputError, match=r"1 left over \(conv3_block2_3_conv/bias"):
        load_weights(build("resnet50_v2", 5, (64, 64, 3)), tmp_path / "net.h5")


def test_a_pickle_needs_pytorchs_loader_and_names_the_extra(unloaded, tmp_path, monkeypatch):
    (tmp_path / "net.pth").write_bytes(b"\x80\x02}." * 5)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InputError, match=r"keras-resnet-edge\[torch\]"):
        load_weights(unloaded, tmp_path / "net.pth")


def test_a_pickle_that_runs_a_program_is_refused(unloaded, tmp_path):
    needs("torch")

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "net.pth").write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    with pytest.raises(InputError, match=r"net.pth is damaged or contains no weights"):
        load_weights(unloaded, tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


def test_keras_applications_weights_of_v1_are_not_taken_for_v1_5(tmp_path):
    theirs, _ = application("resnet50_v1", classes=5)
    theirs.save(tmp_path / "net.keras")
    model = build("resnet50", 5, (64, 64, 3), normalize="caffe")
    with pytest.raises(InputError, match=r"53 left over .*applications are called resnet50_v1"):
        load_weights(model, tmp_path / "net.keras")


@pytest.mark.parametrize("normalize", ["cifar10", "1,2,3/4,5,6"])
@pytest.mark.parametrize("file", ["net.keras", "net.weights.h5"])
def test_our_own_files_come_back_and_remember_their_normalization(normalize, file, tmp_path):
    model = build("resnet8", 3, (12, 12, 3), normalize=normalize, drop_path=0.1)
    randomize(model)
    model.compile("adam", "mse")
    model.save_weights(tmp_path / file) if "weights" in file else model.save(tmp_path / file)
    again = build("resnet8", 3, (12, 12, 3), normalize=normalize)
    load_weights(again, tmp_path / file)
    x = pixels(2, 12)
    np.testing.assert_array_equal(again(x), model(x))
    if file == "net.keras":
        assert normalization_of(open_weights(tmp_path / file, "resnet8")) == normalize
        with pytest.raises(InputError, match=f"give --normalize {normalize}$"):
            load_weights(build("resnet8", 3, (12, 12, 3)), tmp_path / file)


@pytest.mark.parametrize(
    ("name", "normalize"),
    [("resnet20", "cifar10"), ("resnet50_v1", "imagenet"), ("resnet50_v1", "caffe"),
     ("resnet50_v2", "imagenet")],
)  # fmt: skip
@pytest.mark.parametrize("features", [True, False])
@pytest.mark.parametrize("file", ["net.keras", "net.weights.h5"])
def test_our_networks_are_ours_with_and_without_a_head(name, normalize, features, file, tmp_path):
    """They were taken for those of keras.applications, whose first kernel is for BGR."""
    if features and file == "net.weights.h5" and name != "resnet20":
        pytest.skip("such a file cannot be told from one of keras.applications")
    ours = build(name, 5, (64, 64, 3), normalize=normalize, features=features)
    ours.get_layer("conv1_conv").set_weights(
        [RNG.normal(size=w.shape) for w in ours.get_layer("conv1_conv").get_weights()]
    )
    save = ours.save if file == "net.keras" else ours.save_weights
    save(tmp_path / file)
    assert normalization_of(open_weights(tmp_path / file, name)) in (normalize, None)
    target = build(name, 5, (64, 64, 3), normalize=normalize)
    load_weights(target, tmp_path / file, replace_head=True)
    np.testing.assert_array_equal(
        target.get_layer("conv1_conv").get_weights()[0],
        ours.get_layer("conv1_conv").get_weights()[0],
    )


def test_weights_go_into_the_parts_of_a_deep_net(tmp_path, monkeypatch):
    from keras_resnet import models

    flat = build("resnet32", 3, (12, 12, 3))
    randomize(flat)
    monkeypatch.setattr(models, "PART", 2)
    parts = build("resnet32", 3, (12, 12, 3))
    assert len(parts.layers) < 20 < len(flat.layers)
    for model, other in ((flat, parts), (parts, flat)):
        model.save(tmp_path / "net.keras")
        randomize(other)
        load_weights(other, tmp_path / "net.keras")
        x = pixels(2, 12)
        np.testing.assert_allclose(other(x), model(x), rtol=1e-5)


def test_every_name_of_the_family_has_its_place_in_a_state_dict():
    """No two of our arrays may look for the same one of theirs."""
    for name in ("resnet50", "resnet50d", "resnet20_b", "resnetrs50"):
        model = build(name, 3)
        wanted = [f"{layer.name}/{v.name}" for layer in model.layers for v in layer.weights]
        first = [layouts.in_file(n, readers.Weights("", readers.TORCH, {})) for n in wanted]
        assert len(set(first)) == len(first)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("conv1.weight", "conv1_conv/kernel"),
        ("bn1.weight", "conv1_bn/gamma"),
        ("layer2.3.conv2.weight", "conv3_block4_2_conv/kernel"),
        ("layer2.3.bn3.running_mean", "conv3_block4_3_bn/moving_mean"),
        ("layer2.0.downsample.0.weight", "conv3_block1_0_conv/kernel"),  # torchvision
        ("layer2.0.downsample.1.weight", "conv3_block1_0_bn/gamma"),
        ("layer2.0.downsample.1.weight", "conv3_block1_0_conv/kernel"),  # timm, after a pooling
        ("layer2.0.downsample.2.weight", "conv3_block1_0_bn/gamma"),
        ("conv1.0.weight", "conv1_1_conv/kernel"),  # a deep stem
        ("conv1.1.running_var", "conv1_1_bn/moving_variance"),
        ("conv1.3.weight", "conv1_2_conv/kernel"),
        ("conv1.4.bias", "conv1_2_bn/beta"),
        ("conv1.6.weight", "conv1_3_conv/kernel"),
        ("bn1.bias", "conv1_3_bn/beta"),
        ("maxpool.0.weight", "conv1_4_conv/kernel"),  # ResNet-RS
        ("maxpool.1.weight", "conv1_4_bn/gamma"),
        ("layer1.2.se.fc1.weight", "conv2_block3_se_1_conv/kernel"),
        ("layer1.2.se.fc2.bias", "conv2_block3_se_2_conv/bias"),
        ("fc.bias", "logits/bias"),
    ],
)
def test_the_names_of_torchvision_and_timm_have_their_places(theirs, ours):
    """Also where neither is installed."""
    array = readers.Stored((1,) * (4 if ours.endswith("kernel") else 1), lambda: None)
    weights = readers.Weights("", readers.TORCH, {theirs: array})
    assert [*layouts.to_ours(weights, [ours], takes_bgr=False)] == [ours]


def test_a_network_without_published_weights_names_the_list_of_those_with(unloaded):
    with pytest.raises(
        InputError, match=r"published for resnet20, a CIFAR network; `keras-resnet models` marks"
    ):
        load_weights(unloaded, "imagenet")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A folder with a PyTorch CIFAR ResNet-8 of three classes and the names of these."""
    folder = tmp_path_factory.mktemp("theirs")
    save_file({f"module.{k}": v for k, v in SMALL_STATE.items()}, folder / "net.safetensors")
    grey = SMALL_STATE | {"conv1.weight": SMALL_STATE["conv1.weight"][:, :1].copy()}
    save_file(grey, folder / "grey.safetensors")
    # Not in alphabetical order, as data folders are.
    (folder / "labels.txt").write_text("striped\nbright\ndark\n")
    return folder


def imported(command, theirs, run, *options):
    return command(
        "import", theirs / "net.safetensors", "--model", "resnet8", "--normalize", "cifar10",
        "--labels", theirs / "labels.txt", "--run", run, *options,
    )  # fmt: skip


def test_the_network_of_weights_is_found_by_their_arrays(command, theirs, tmp_path):
    done = command("import", theirs / "net.safetensors", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert (
        f"network identified from the arrays of {theirs / 'net.safetensors'}: resnet8"
        in done.stderr
    )
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"] == "resnet8"
    (tmp_path / "net.pth").write_bytes(b"no weights")
    failed = command("import", tmp_path / "net.pth", "--run", tmp_path / "other")
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1
    assert not (tmp_path / "other").exists()


def test_the_file_of_a_run_brings_the_form_of_its_images_and_its_labels(trained, tmp_path):
    from keras_resnet import import_weights

    again = import_weights(
        trained.file("model.keras"), model="resnet8", center_crop=0.9, run_folder=tmp_path / "run"
    )
    assert (again.config.image_size, again.config.center_crop) == (24, 0.9)
    assert again.classes == trained.classes
    with pytest.raises(InputError, match=r"A run needs no import: keras-resnet export .*trained"):
        import_weights(trained.path, run_folder=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_network_of_another_width_is_imported_and_named_by_it(command, tmp_path):
    """And `--weights` of it asks for the width."""
    from keras_resnet import build, open_run
    from keras_resnet.exporting.plan import make_plan
    from keras_resnet.recipes import resolve
    from keras_resnet.weights import settings

    build("resnet8", 3, width=0.5).save(tmp_path / "half.weights.keras")
    run, options = tmp_path / "run", ("--model", "resnet8", "--run", tmp_path / "run")
    done = command("import", tmp_path / "half.weights.keras", *options, "--width", 0.5)
    assert done.returncode == 0, done.stderr
    assert "network      resnet8 ×0.5, 19," in done.stdout
    assert make_plan(open_run(run)).network == "resnet8 ×0.5"
    weights = {"model": "resnet8", "weights": str(run)}
    settings.require(resolve({**weights, "width": 0.5}))
    settings.require(resolve({**weights, "model": "resnet20"}))  # another network: said later
    with pytest.raises(InputError, match=r"run contains a resnet8 ×0\.5; add --width 0\.5"):
        settings.require(resolve(weights))


def test_a_pytorch_cifar_net_goes_to_int8_without_a_line_of_python(
    command, theirs, photos, tmp_path
):
    from keras_resnet import evaluate, export, open_run, predict, verify
    from keras_resnet.data import sources
    from keras_resnet.evaluation.artefact import open_artefact
    from keras_resnet.evaluation.scores import stream_for

    run = tmp_path / "run"
    done = imported(command, theirs, run, "--image-size", 24)
    assert done.returncode == 0, done.stderr
    assert f"keras-resnet export {run} --data DATA" in done.stdout

    done = command("evaluate", run, photos, "--json")
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)
    # The same images through NumPy.
    source = sources.load_all(str(photos))
    examples = source.splits["all"]
    images = np.concatenate([x for x, _ in stream_for(open_artefact(run), examples)])
    mean, deviation = (np.array(v) for v in NORMALIZATIONS["cifar10"])
    logits = cifar_logits(SMALL_STATE, ((images - mean) / deviation).transpose(0, 3, 1, 2))
    order = [["striped", "bright", "dark"].index(name) for name in source.classes]
    labels = np.array(order)[examples.labels]
    assert scores["images"] == 60
    assert scores["top1"] == np.mean(logits.argmax(-1) == labels)

    done = command("verify", run)
    assert done.returncode == 2 and f"`keras-resnet export {run} --data DATA`" in done.stderr
    done = command("export", run, "--tflite", "--quantize", "int8")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"keras-resnet: {run} was imported without images; add them once with "
        f"`keras-resnet export {run} --data DATA`"
    ]
    done = command(
        "export", run, "--tflite", "--quantize", "int8", "--data", photos,
        "--max-drop", 40,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert open_run(run).config.data == str(photos)
    assert evaluate(run).images == 12
    assert len(predict(run / "export" / "model_int8.tflite", [photos])) == 60
    assert verify(run, max_drop=40).passed
    with pytest.raises(InputError, match="has its own images"):
        export(run, data="digits")


def test_an_imported_run_can_be_trained_further_and_keeps_its_normalization(
    command, theirs, photos, tmp_path, no_pictures
):
    from keras_resnet import train

    assert imported(command, theirs, tmp_path / "run", "--image-size", 24).returncode == 0
    further = train(
        str(photos), model="resnet8", weights=str(tmp_path / "run"), epochs=1, image_size=24,
        batch_size=16, drop_path=0.1, run_folder=tmp_path / "further",
    )  # fmt: skip
    assert further.config.normalize == "cifar10"


BAD_IMPORTS = {
    "an unknown network": (["--model", "resnet21"], "unknown model 'resnet21'"),
    "another network": (["--model", "resnet32"], "does not fit resnet32: 120 missing"),
    "another normalization": (["--normalize", "imagnet"], "normalize is 'imagnet'"),
    "normalized in [0, 1]": (["--normalize", "0.5/0.25"], "255 times that"),
    "no labels": (["--labels", "none.txt"], "cannot read --labels none.txt"),
    "too few labels": (["--labels", "two.txt"], "has 2 lines, but "),
    "no label": (["--labels", "/dev/null"], "has 0 lines, but "),
    "a label twice": (["--labels", "twice.txt"], "has 'a' twice"),
    "an empty label": (["--labels", "empty.txt"], "has empty lines"),
    "an image too small": (["--image-size", "2"], "2 pixels is too small"),
    "a folder in use": (["--run", "."], "already holds"),
    "a centre crop of the whole": (
        ["--fit", "pad", "--center-crop", "0.9"],
        "expected 1 with --fit",
    ),
    "grey weights for RGB": ([], "they are for grey images: give --channels 1"),
}


@pytest.mark.parametrize(("options", "said"), BAD_IMPORTS.values(), ids=BAD_IMPORTS)
def test_a_bad_import_is_answered_in_one_line(command, theirs, tmp_path, options, said):
    for name, text in (("two", "a\nb\n"), ("twice", "a\nb\na\n"), ("empty", "a\n\nb\n")):
        (tmp_path / f"{name}.txt").write_text(text)
    before = sorted(tmp_path.iterdir())
    file = theirs / ("net.safetensors" if options else "grey.safetensors")
    done = command("import", file, "--model", "resnet8", *options, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_an_import_that_fails_while_it_writes_leaves_nothing(command, theirs, tmp_path):
    line = ["import", theirs / "net.safetensors", "--model", "resnet8", "--run", tmp_path / "run"]
    done = command(*line, most_bytes=20_000)
    assert done.returncode == 1, done.stderr
    said = f"keras-resnet: cannot write ({tmp_path}/run/model.keras: File too large); free some"
    assert done.stderr.splitlines()[-1].startswith(said), done.stderr
    assert not (tmp_path / "run").exists()
    assert command(*line).returncode == 0


def test_a_killed_import_is_no_training_to_resume(command, theirs, tmp_path):
    run = tmp_path / "run"
    command("import", theirs / "net.safetensors", "--model", "resnet8", "--run", run)
    for name in ("manifest.json", "model.keras", "metrics.json"):
        (run / name).unlink()
    done = command("train", "--resume", run)
    assert done.returncode == 2 and f"{run} is an unfinished import; delete" in done.stderr


def test_grey_weights_are_imported_with_their_fit(command, theirs, tmp_path):
    from keras_resnet import open_run
    from keras_resnet.geometry import Geometry

    done = command(
        "import", theirs / "grey.safetensors", "--model", "resnet8", "--image-size", "24x32",
        "--fit", "pad", "--channels", 1, "--normalize", "tf", "--run", tmp_path / "run",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.config.geometry == Geometry(24, 32, "pad", 1)
    stem = next(layer for layer in run.model().layers if layer.name.endswith("_conv"))
    expected = SMALL_STATE["conv1.weight"][:, :1].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(stem.kernel, expected)


def test_channels_of_a_whole_classifier_are_refused(command, tmp_path):
    build("resnet8", 3, (24, 24, 3)).save(tmp_path / "net.keras")
    done = command("import", tmp_path / "net.keras", "--width", 2)
    assert done.returncode == 2 and "--width is for weights, with --model" in done.stderr
    done = command("import", tmp_path / "net.keras", "--channels", 1)
    assert done.returncode == 2 and "--channels is 1, but " in done.stderr
    done = command("import", tmp_path / "net.keras", "--fit", "pad", "--run", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["fit"] == "pad"


@pytest.mark.parametrize("labels", [["a\n", "b\n"], [0, 1]])
def test_labels_are_names_of_one_line(labels, tmp_path):
    build("resnet8", 2).save(tmp_path / "net.keras")
    with pytest.raises(InputError, match="expected names without line breaks"):
        import_weights(tmp_path / "net.keras", labels=labels, run_folder=tmp_path / "run")


def test_a_byte_order_mark_is_no_part_of_a_label(tmp_path):
    build("resnet8", 2).save(tmp_path / "net.keras")
    (tmp_path / "labels.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\n")
    run = import_weights(
        tmp_path / "net.keras", labels=tmp_path / "labels.txt", run_folder=tmp_path / "run"
    )
    assert run.classes == ["cat", "dog"]


def test_weights_in_a_run_are_of_its_network(tmp_path):
    """A plain network has the arrays of a residual one with shortcuts without weights."""
    build("plain8", 2).save(tmp_path / "net.keras")
    run = import_weights(tmp_path / "net.keras", model="plain8", run_folder=tmp_path / "run")
    again = import_weights(run.path / "model.keras", run_folder=tmp_path / "again")
    assert again.config.model == "plain8"
    assert network_of_weights(run.path / "model.keras") == {"model": "plain8", "width": 1.0}


def test_weights_without_a_classifier_are_not_imported(command, tmp_path):
    theirs, _ = application("resnet50_v1", include_top=False, pooling="avg")
    theirs.save_weights(tmp_path / "notop.weights.h5")
    done = command("import", tmp_path / "notop.weights.h5", "--model", "resnet50_v1")
    assert done.returncode == 2
    assert "has no classifier" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_net_for_features_takes_weights_without_their_head(tmp_path):
    save_file(STATE, tmp_path / "net.safetensors")
    features = build("resnet20", input_shape=(12, 12, 3), features=True)
    with pytest.raises(InputError, match=r"2 left over \(linear.weight, linear.bias\); .* 3 cl"):
        load_weights(features, tmp_path / "net.safetensors")
    load_weights(features, tmp_path / "net.safetensors", replace_head=True)
    whole = build("resnet20", 3, (12, 12, 3))
    load_weights(whole, tmp_path / "net.safetensors")
    x = pixels(2, 12)
    pooled = np.asarray(features(x)["conv4"]).mean((1, 2))
    kernel, bias = whole.get_layer("logits").get_weights()
    np.testing.assert_allclose(whole(x), pooled @ kernel + bias, rtol=1e-4, atol=1e-5)
