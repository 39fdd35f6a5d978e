"""Rows of run.py: exported files, one image at a time. All rows except C16 use a ResNet-50 with
random weights, which has the shapes and the speed of a trained one."""

import numpy as np
from inputs import photos, pixels, resnet50
from pairs import made_once, measure, once, seconds_of

CALIBRATION = 32  # calibration images for the int8 files of other tools
INFERENCES = 10  # per measurement


def c11(setting):
    return once(_file(setting, "int8").stat().st_size / _file(setting, "float32").stat().st_size)


def c12_1(setting):
    return _int8_against_float32(setting, threads=1)


def c12_2(setting):
    return _int8_against_float32(setting, threads=2)


def _int8_against_float32(setting, threads):
    files = (_file(setting, variant) for variant in ("int8", "float32"))
    return measure(*(_litert(file, threads) for file in files), setting.pairs)


def c12b(setting):
    return measure(_litert(_file(setting, "int8")), _litert(_plain_int8(setting)), setting.pairs)


def c13(setting):
    return measure(_litert(_file(setting, "float32")), _onnx_runtime(_onnx(setting)), setting.pairs)


def c14(setting):
    return measure(
        _litert(_file(setting, "int8")), _onnx_runtime(_onnx_int8(setting)), setting.pairs
    )


def c15(setting):
    """GFLOP/s of one thread; a multiply-add counts as two."""
    from threadpoolctl import threadpool_limits

    import keras_resnet as kr

    seconds_of_an_image = _litert(_file(setting, "float32"))
    flop = 2 * kr.describe("resnet50").multiply_adds
    rng, side = np.random.default_rng(0), 2048
    a, b = rng.standard_normal((2, side, side), np.float32)
    with threadpool_limits(1):
        product = seconds_of(np.matmul, a, b, count=3)
        return measure(
            lambda: flop / seconds_of_an_image() / 1e9,
            lambda: 2 * side**3 / product() / 1e9,
            setting.pairs,
        )


def c16_drop(setting):
    """The drop in top-1, in points."""
    float32, int8 = _trained(setting)
    return once(100 * (float32["top1"] - int8["top1"]), images=int8["images"])


def c16_agreement(setting):
    """Share of the images to which the int8 file and the Keras model give the same class."""
    _, int8 = _trained(setting)
    return once(int8["agreement"], images=int8["images"])


def _trained(setting):
    """The rows of verify.json for the float32 and the int8 file of a trained network."""
    import keras_resnet as kr
    from keras_resnet.files import read_json

    def train(folder):
        own = setting.photos or "digits"
        run = kr.train(own, model="resnet20", epochs=8, seed=1, run_folder=folder)
        kr.export(run, saved_model=False, tflite=["none", "int8"], max_drop=100)

    folder = made_once(setting.folder / "trained", train)
    return read_json(folder / "export" / "verify.json")["artefacts"]


def c17(setting):
    """Operators of the float32 file; the int8 file has an additional QUANTIZE and DEQUANTIZE."""
    from keras_resnet.inspection.tflite_file import operators

    return once(
        len(operators(_file(setting, "float32"))), int8=len(operators(_file(setting, "int8")))
    )


def c18(setting):
    """The largest error of the float32 file, relative to the largest logit of the image."""
    import keras

    from keras_resnet.evaluation.lite import Lite

    images = pixels(photos(setting), 8)
    images = np.concatenate([images, np.random.default_rng(0).uniform(0, 255, images.shape)])
    model = keras.models.load_model(resnet50(setting) / "model.keras")
    expected = model.predict(images, verbose=0)
    error = np.abs(Lite(_file(setting, "float32")).predict(images) - expected).max(axis=1)
    return once(float((error / np.abs(expected).max(axis=1)).max()))


def _file(setting, variant):
    return resnet50(setting) / "export" / f"model_{variant}.tflite"


def _image():
    return np.random.default_rng(0).integers(0, 256, (224, 224, 3)).astype(np.float32)


def _litert(path, threads=1):
    """Seconds per image, from an array of pixels to an array of logits."""
    from keras_resnet.evaluation.lite import Lite

    return seconds_of(Lite(path, threads).one, _image(), count=INFERENCES)


def _onnx_runtime(path):
    from keras_resnet.evaluation.ort import Ort

    return seconds_of(Ort(path, threads=1).predict, _image()[None], count=INFERENCES)


def _onnx(setting):
    import keras_resnet as kr

    def export(folder):
        kr.export(
            resnet50(setting), saved_model=False, tflite=[], onnx=True, max_drop=100, output=folder
        )

    return made_once(setting.folder / "onnx", export) / "model.onnx"


def _onnx_int8(setting):
    """ONNX Runtime's conversion to int8, per channel, calibrated on photos."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    images = iter(pixels(photos(setting), CALIBRATION))

    class Images(quantization.CalibrationDataReader):
        def get_next(self):
            image = next(images, None)
            return None if image is None else {"image": image[None]}

    prepared, path = setting.folder / "prepared.onnx", setting.folder / "int8.onnx"
    quant_pre_process(_onnx(setting), prepared, skip_symbolic_shape=True)
    quantization.quantize_static(
        prepared, path, Images(), per_channel=True,
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    return path


def _plain_int8(setting):
    """TensorFlow's conversion of the unchanged network without its first layer: the file takes
    normalized pixels, as usual."""
    import keras
    import tensorflow as tf

    model = keras.models.load_model(resnet50(setting) / "model.keras")
    normalize = model.get_layer("normalize")
    rest = keras.Model(normalize.output, model.output)
    images = normalize(pixels(photos(setting), CALIBRATION)).numpy()
    converter = tf.lite.TFLiteConverter.from_keras_model(rest)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None]] for image in images)
    path = setting.folder / "plain_int8.tflite"
    path.write_bytes(converter.convert())
    return path
