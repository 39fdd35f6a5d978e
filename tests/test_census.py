"""The content of .tflite files, and the content that the gate rejects."""

import json
from dataclasses import asdict

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from keras import layers

from keras_resnet.errors import InputError
from keras_resnet.inspection import tflite_file
from keras_resnet.inspection.network import describe
from keras_resnet.inspection.tflite_file import census, faults

INT8 = tf.lite.TargetSpec(supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS_INT8])
FLEX = tf.lite.TargetSpec(
    supported_ops=[tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
)


def network(body):
    image = keras.Input((8, 8, 3), name="image")
    x = layers.GlobalAveragePooling2D()(body(image))
    # Biases of 0, Keras' default, would be left out of the file.
    return keras.Model(image, layers.Dense(2, bias_initializer="ones")(x))


def conv(x):
    return layers.Conv2D(4, 3, activation="relu", bias_initializer="ones")(x)


def black_and_white():
    for value in (0, 255):
        yield [np.full((1, 8, 8, 3), value, "float32")]


def bright():
    yield [np.full((1, 8, 8, 3), 100, "float32")]


def convert(model, folder, batch=1, **settings):
    archive = keras.export.ExportArchive()
    archive.track(model)
    signature = tf.TensorSpec((batch, 8, 8, 3), tf.float32, name="image")
    archive.add_endpoint("serve", lambda image: {"logits": model(image)}, [signature])
    archive.write_out(folder / "saved_model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder / "saved_model"), signature_keys=["serve"]
    )
    for name, value in settings.items():
        setattr(converter, name, value)
    path = folder / "model.tflite"
    path.write_bytes(converter.convert())
    return path


def quantized(folder, samples, body=conv, **settings):
    return convert(
        network(body),
        folder,
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=samples,
        target_spec=INT8,
        **settings,
    )


@pytest.fixture(scope="module")
def float_file(tmp_path_factory):
    return convert(network(conv), tmp_path_factory.mktemp("float"))


@pytest.fixture(scope="module")
def uint8_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("uint8")
    return quantized(folder, black_and_white, inference_input_type=tf.uint8)


def changed(source, path, change):
    """A copy of a file with `change(model)` applied to its schema object."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(source.read_bytes(), 0))
    change(model)
    path.write_bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    return path


def input_of(model):
    graph = model.subgraphs[0]
    return graph.tensors[graph.inputs[0]]


def test_the_census_of_a_float_file(float_file):
    found = json.loads(json.dumps(census(float_file).as_json()))
    assert list(found) == [
        "file", "bytes", "ops", "operators", "inputs", "outputs", "signatures", "metadata",
        "parameters", "trainable_parameters", "multiply_adds", "flops", "activations", "memory",
        "layers",
    ]  # fmt: skip
    unquantized = {"dtype": "float32", "scale": None, "zero_point": None}
    image, logits = found["inputs"][0], found["outputs"][0]
    assert found["file"] == str(float_file)
    assert found["bytes"] == float_file.stat().st_size
    assert found["ops"] == {"CONV_2D": 1, "FULLY_CONNECTED": 1, "MEAN": 1}
    assert found["operators"] == 3
    assert image == {"name": image["name"], "shape": [1, 8, 8, 3], **unquantized}
    assert logits == {"name": logits["name"], "shape": [1, 2], **unquantized}
    assert found["signatures"] == {"serve": {"inputs": ["image"], "outputs": ["logits"]}}
    assert "CONVERSION_METADATA" in found["metadata"]


def test_the_census_of_a_quantized_file(uint8_file):
    found = census(uint8_file)
    assert found.ops["QUANTIZE"] == 1
    image = found.inputs[0]
    assert (image.dtype, image.scale, image.zero_point) == ("uint8", 1.0, 0)


@pytest.mark.parametrize("file", ["float_file", "uint8_file"])
def test_inputs_and_outputs_are_those_that_the_interpreter_sees(file, request):
    path = request.getfixturevalue(file)
    found, interpreter = census(path), Interpreter(str(path))
    for ours, details in (
        (found.inputs, interpreter.get_input_details()),
        (found.outputs, interpreter.get_output_details()),
    ):
        theirs = [
            (d["name"], d["shape"].tolist(), np.dtype(d["dtype"]).name, d["quantization"])
            for d in details
        ]
        assert theirs == [
            (x.name, x.shape, x.dtype, (x.scale or 0.0, x.zero_point or 0)) for x in ours
        ]


@pytest.mark.parametrize("file", ["float_file", "uint8_file"])
def test_parameters_and_multiply_adds_are_those_of_the_keras_model(file, request):
    found, expected = census(request.getfixturevalue(file)), describe(network(conv))
    assert found.parameters == expected.parameters
    assert found.multiply_adds == expected.multiply_adds


@pytest.mark.parametrize("file", ["float_file", "uint8_file"])
def test_the_rows_add_up_to_the_totals(file, request):
    found = census(request.getfixturevalue(file))
    for total in ("parameters", "multiply_adds", "activations"):
        assert sum(getattr(row, total) for row in found.layers) == getattr(found, total) > 0
    assert found.flops == 2 * found.multiply_adds
    assert len(found.layers) == found.operators


def test_the_rows_are_in_the_order_of_execution_under_the_names_of_the_layers(tmp_path):
    def body(x):
        x = layers.Conv2D(4, 3, bias_initializer="ones", name="first")(x)
        x = layers.ReLU(name="then")(layers.BatchNormalization(name="norm")(x))
        return layers.MaxPooling2D(2, name="pool")(x)

    rows = census(convert(network(body), tmp_path)).layers
    assert [row.name for row in rows[:2]] == ["first", "pool"]
    assert asdict(rows[0]) == {
        "name": "first",
        "kind": "CONV_2D",
        "output_shape": [6, 6, 4],
        "parameters": 3 * 3 * 3 * 4 + 4,
        "multiply_adds": 6 * 6 * 3 * 3 * 3 * 4,
        "activations": 6 * 6 * 4,
        "dtype": "float32",
    }


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("net_1/stem_1/Relu;net_1/bn_1/batchnorm/add_1", "stem"),
        ("net_1/part_1/conv1_bn_1/batchnorm/add_1", "conv1_bn"),
        ("net_2/conv_1_2/convolution1", "conv_1"),
        # of Keras 3.16
        ("net/stem/Relu;net/bn/batchnorm/add_1", "stem"),
        ("net/part_1/conv1_bn/batchnorm/add_1", "conv1_bn"),
        ("net_50/conv_1/convolution1", "conv_1"),
        ("net/normalize/add", "normalize"),
    ],
)
def test_keras_names_a_tensor_by_its_layer(name, layer, float_file, tmp_path):
    def rename(model):
        for tensor in model.subgraphs[0].tensors:
            tensor.name = name.encode()

    rows = census(changed(float_file, tmp_path / "m.tflite", rename)).layers
    assert {row.name for row in rows} == {layer}


@pytest.mark.parametrize(
    "folded", ["net/bn/batchnorm/mul_1", "net/then/Relu;net/bn/batchnorm/add_1"]
)
def test_a_kernel_has_the_name_of_its_own_layer(folded, float_file, tmp_path):
    """Not that of a layer that is folded into it, which Keras 3.16 names first."""

    def rename(model):
        for tensor in model.subgraphs[0].tensors:
            tensor.name = f"{folded};net/conv/convolution;net/bn/batchnorm/mul".encode()

    rows = census(changed(float_file, tmp_path / "m.tflite", rename)).layers
    assert {row.name for row in rows if row.kind == "CONV_2D"} == {"conv"}


def test_a_name_that_is_none_of_keras_stays_as_it_is(float_file, tmp_path):
    def rename(model):
        for tensor in model.subgraphs[0].tensors:
            tensor.name = b"net/block_1/conv_2"

    rows = census(changed(float_file, tmp_path / "m.tflite", rename)).layers
    assert {row.name for row in rows} == {"net/block_1/conv_2"}


def test_weights_take_four_bytes_each_or_one_and_four_a_bias(float_file, uint8_file):
    assert census(float_file).memory.weights == 4 * (3 * 3 * 3 * 4 + 4 + 4 * 2 + 2)
    assert census(uint8_file).memory.weights == 3 * 3 * 3 * 4 + 4 * 2 + 4 * (4 + 2)


def test_weights_that_two_operators_share_are_stored_once(tmp_path):
    dense = layers.Dense(4, bias_initializer="ones")
    found = census(convert(network(lambda x: dense(dense(conv(x)))), tmp_path))
    assert found.ops["FULLY_CONNECTED"] == 3
    assert sum(row.parameters for row in found.layers) == found.parameters
    assert found.parameters == (3 * 3 * 3 * 4 + 4) + (4 * 4 + 4) + (4 * 2 + 2)


def test_a_depthwise_convolution_is_counted_too(tmp_path):
    model = network(layers.DepthwiseConv2D(3, depth_multiplier=2))
    path = convert(model, tmp_path)
    assert census(path).ops["DEPTHWISE_CONV_2D"] == 1
    assert census(path).multiply_adds == describe(model).multiply_adds


def test_one_vector_that_many_offsets_lead_to_is_not_read_without_end():
    items = tflite_file.items_up_to(100)
    assert items(int, lambda: 60) == list(range(60))
    with pytest.raises(ValueError, match="vectors of 120 elements in 100 bytes"):
        items(int, lambda: 60)


@pytest.mark.parametrize("file", ["float_file", "uint8_file"])
def test_a_good_file_has_no_faults(file, request):
    assert faults(request.getfixturevalue(file)) == []


def test_1x1_convolutions_with_stride_2_are_a_fault_with_int8_weights(tmp_path):
    body = keras.Sequential(
        [layers.Conv2D(4, 1, strides=2, name="skip"), layers.Conv2D(4, 1, strides=2)]
    )
    (fault,) = faults(quantized(tmp_path, black_and_white, body))
    assert fault.startswith("1x1 CONV_2D with int8 weights and a stride (2x, the first is skip)")
    assert faults(convert(network(body), tmp_path)) == []


def test_a_1x1_convolution_after_a_pool_with_stride_2_is_none(tmp_path):
    body = keras.Sequential([layers.MaxPooling2D(1, 2), layers.Conv2D(4, 1)])
    assert faults(convert(network(body), tmp_path)) == []


def test_an_op_of_tensorflow_is_a_fault_with_its_name(tmp_path):
    path = convert(network(lambda x: keras.ops.arctan(conv(x))), tmp_path, target_spec=FLEX)
    assert census(path).ops["CUSTOM:FlexAtan"] == 1
    (fault,) = faults(path)
    assert fault.startswith("custom op FlexAtan (1x)")


@pytest.mark.parametrize("op", ["VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE"])
def test_a_variable_is_a_fault(op, float_file, tmp_path):
    def mean_becomes_variable(model):
        code = next(c for c in model.operatorCodes if c.builtinCode == schema.BuiltinOperator.MEAN)
        code.builtinCode = getattr(schema.BuiltinOperator, op)
        code.deprecatedBuiltinCode = 127

    (fault,) = faults(changed(float_file, tmp_path / "m.tflite", mean_becomes_variable))
    assert fault.startswith(f"{op} (1x)")


def test_an_open_batch_is_a_fault(tmp_path):
    path = convert(network(conv), tmp_path, batch=None)
    assert census(path).inputs[0].shape == [-1, 8, 8, 3]
    assert census(path).multiply_adds == describe(network(conv)).multiply_adds
    assert census(path).layers[0].output_shape == [6, 6, 4]  # without the batch
    (fault,) = faults(path)
    assert "[-1, 8, 8, 3]" in fault


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "good"),
    [
        ("UINT8", 1.0, 0, True),
        ("UINT8", 1.465, 81, False),
        ("UINT8", 1.0, 1, False),
        ("UINT8", 0.9999999, 0, False),
        ("INT8", 1.0, -128, True),
        ("INT8", 1.0, 0, False),
        ("INT8", 0.99, -128, False),
    ],
)
def test_a_quantized_input_takes_raw_pixels_or_is_a_fault(
    dtype, scale, zero_point, good, uint8_file, tmp_path
):
    def change(model):
        tensor = input_of(model)
        tensor.type = getattr(schema.TensorType, dtype)
        tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero_point]

    found = faults(changed(uint8_file, tmp_path / "m.tflite", change))
    assert (found == []) == good
    assert good or f"zero point {zero_point}," in found[0]


@pytest.mark.parametrize(("dtype", "good"), [("UINT8", True), ("INT8", False)])
def test_bytes_that_are_not_quantized_are_raw_pixels_only_without_a_sign(
    dtype, good, uint8_file, tmp_path
):
    def change(model):
        input_of(model).type = getattr(schema.TensorType, dtype)
        input_of(model).quantization = None

    assert (faults(changed(uint8_file, tmp_path / "m.tflite", change)) == []) == good


@pytest.mark.parametrize(("samples", "good"), [(black_and_white, True), (bright, False)])
def test_a_float_input_is_quantized_to_raw_pixels_or_is_a_fault(samples, good, tmp_path):
    found = faults(quantized(tmp_path, samples))
    assert (found == []) == good
    assert good or found[0].startswith("QUANTIZE of input")


def test_every_fault_of_a_file_is_named_in_one_line_each(tmp_path):
    def body(x):
        return keras.ops.arctan(conv(x))

    found = faults(convert(network(body), tmp_path, batch=None, target_spec=FLEX))
    assert len(found) == 2
    assert not any("\n" in fault for fault in found)


def refused(path):
    """Whether the file is refused as it should be; any other exception escapes."""
    try:
        assert census(path).operators >= 0
        assert isinstance(faults(path), list)
    except InputError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        return True
    return False


@pytest.mark.parametrize(
    "content",
    [b"", b"TFL3", b"\0" * 64, b"PK\x03\x04 a zip", b"\x08\0\0\0TFL3", b"\xff" * 4 + b"TFL3" * 9],
    ids=["empty", "four bytes", "zeros", "a zip", "no more than the identifier", "astray"],
)
def test_bytes_that_are_no_model_are_refused_with_their_name(content, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(content)
    assert refused(path)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.75, 0.9])
def test_a_truncated_file_is_refused(share, float_file, tmp_path):
    content = float_file.read_bytes()
    path = tmp_path / "m.tflite"
    path.write_bytes(content[: int(share * len(content))])
    assert refused(path)


def test_random_bytes_behind_the_identifier_are_refused(tmp_path):
    path, random = tmp_path / "m.tflite", np.random.default_rng(0)
    for _ in range(100):
        path.write_bytes(random.bytes(4) + b"TFL3" + random.bytes(500))
        assert refused(path)


@pytest.mark.parametrize("file", ["float_file", "uint8_file"])
def test_flipped_bits_never_raise_anything_else(file, request, tmp_path):
    content = request.getfixturevalue(file).read_bytes()
    path, random = tmp_path / "m.tflite", np.random.default_rng(0)
    answers = []
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 4):
            damaged[place] ^= 1 << random.integers(0, 8)
        path.write_bytes(damaged)
        answers.append(refused(path))
    assert {True, False} == set(answers)  # bits of weights and names can flip unnoticed


@pytest.mark.parametrize("path", ["missing.tflite", "."], ids=["missing", "a folder"])
def test_a_file_that_cannot_be_read_is_refused(path):
    with pytest.raises(InputError, match=f"cannot read {path}"):
        census(path)
