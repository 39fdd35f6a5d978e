"""The reference of exported files is computed in float32, not in a GPU's TF32."""

import shutil
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_resnet.data.sources import Source
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.evaluation.artefact import open_artefact
from keras_resnet.evaluation.reference import true_float32
from keras_resnet.evaluation.scores import evaluate, predict
from keras_resnet.explain.cam import cam
from keras_resnet.explain.gradients import by_depth, gradients, parameters
from keras_resnet.explain.lesion import lesion
from keras_resnet.explain.paths import paths
from keras_resnet.explain.subject import open_subject
from keras_resnet.exporting.exporter import export
from keras_resnet.exporting.gate import verify
from keras_resnet.run import open_run
from keras_resnet.training.final_evaluation import evaluate_best_model
from keras_resnet.training.history import History
from keras_resnet.training.precision import Precision


def is_tf32_on():
    return tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.fixture
def tf32():
    """TF32 as TensorFlow has it by default; what was changed must be restored."""
    tf.config.experimental.enable_tensor_float_32_execution(True)
    yield
    assert is_tf32_on()


@pytest.fixture
def seen(tf32, monkeypatch):
    """Whether TF32 was on whenever a network was traced, or called with images."""
    flags = []

    def watch(owner, name):
        plain = getattr(owner, name)

        def noted(self, images, **kwargs):
            if not isinstance(images, keras.KerasTensor):  # else it is only built
                flags.append(is_tf32_on())
            return plain(self, images, **kwargs)

        monkeypatch.setattr(owner, name, noted)

    watch(keras.layers.Conv2D, "__call__")
    watch(keras.Model, "predict_on_batch")
    watch(keras.Model, "predict")
    return flags


def test_within_float32_is_float32_and_afterwards_as_before(tf32):
    with true_float32():
        assert not is_tf32_on()
        with true_float32():  # one command calls another
            pass
        assert not is_tf32_on()
    assert is_tf32_on()


def test_an_error_restores_it(tf32):
    with pytest.raises(CheckFailed), true_float32():
        raise CheckFailed("no")


def test_who_switched_tf32_off_finds_it_off(tf32):
    tf.config.experimental.enable_tensor_float_32_execution(False)
    with true_float32():
        pass
    assert not is_tf32_on()
    tf.config.experimental.enable_tensor_float_32_execution(True)


COMMANDS = {
    "evaluate": lambda run, photo: evaluate(run),
    "evaluate model.keras": lambda run, photo: evaluate(run.path / "model.keras", split="train"),
    "predict": lambda run, photo: predict(run.path, [photo]),
    "lesion": lambda run, photo: lesion(run.path, images=6, sets=1),
    "cam": lambda run, photo: cam(run.path, [photo]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_is_asked_in_float32(name, seen, untouched, photos):
    run = open_run(untouched)
    COMMANDS[name](run, next(photos.rglob("*.jpg")))
    assert seen and not any(seen)


def test_gradients_are_split_in_float32(seen):
    fresh = open_subject("resnet8", images=4, image_size=16)
    for look in (gradients, parameters, partial(paths, samples=1)):
        seen.clear()
        look(fresh.model, fresh.images, fresh.labels)
        assert seen and not any(seen), look
    seen.clear()
    by_depth([8], images=4, seeds=1, image_size=16)
    assert seen and not any(seen)


def test_export_and_verify_refer_to_float32(seen, trained):
    """Calibration, gate, features and golden set: whatever asks the network on the way."""
    export(trained, tflite=["int8"], features=True, calibration=12, max_drop=100)
    assert seen and not any(seen)
    seen.clear()
    verify(trained, max_drop=100)
    assert seen and not any(seen)


def test_a_temperature_is_fitted_to_float32_and_a_refusal_restores(seen, trained):
    with pytest.raises(InputError, match="calibrate-probabilities"):
        export(trained, saved_model=False, calibrate_probabilities=True)
    assert seen and not any(seen)


def _evaluated(finished, folder, **scores):
    """Evaluates a copy of a run as its training did, after a best epoch with these scores."""
    run = open_run(shutil.copytree(finished.path, folder / "run"))
    history = History(run, run.config)
    history.rows, history.best_epoch = run.history, run.metrics["best_epoch"]
    history.rows[history.best_epoch - 1].update(scores)
    source = Source("photos", run.classes, {"val": run.examples("val")})
    evaluate_best_model(run, run.config, source, history, Precision("float16", ""), {"compute": 1})
    return open_run(run.path)


def test_a_training_judges_itself_as_evaluate_does(
    tf32, trained, tmp_path, monkeypatch, no_pictures
):
    flags, plain = [], keras.Model.predict

    def noted(self, *args, **kwargs):
        flags.append(is_tf32_on())
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "predict", noted)
    run = _evaluated(trained, tmp_path)
    assert flags == [False]
    assert run.metrics["val"] == trained.metrics["val"]


def test_scores_that_differ_in_float32_are_told(trained, tmp_path, no_pictures, capsys):
    """As those of a training in another precision may."""
    top1 = trained.metrics["val"]["top1"]
    _evaluated(trained, tmp_path / "same")
    assert "in float32" not in capsys.readouterr().err
    _evaluated(trained, tmp_path / "other", val_top1=0.0)
    assert f"top-1 0.0% in float16, {top1:.1%} in float32" in capsys.readouterr().err


def test_a_saved_model_is_run_in_float32(tf32, tmp_path, monkeypatch):
    image = tf.TensorSpec((None, 8, 8, 3), tf.float32, name="image")
    network, serve = tf.Module(), tf.function(lambda image: {"logits": image[:, 0, 0]})
    tf.saved_model.save(
        network, str(tmp_path), signatures={"serving_default": serve.get_concrete_function(image)}
    )
    flags, load = [], tf.saved_model.load

    def watched(path):
        loaded = load(path)
        served = loaded.signatures["serving_default"]

        class Noted:
            structured_input_signature = served.structured_input_signature
            structured_outputs = served.structured_outputs

            def __call__(self, **images):
                flags.append(is_tf32_on())
                return served(**images)

        return SimpleNamespace(signatures={"serving_default": Noted()})

    monkeypatch.setattr(tf.saved_model, "load", watched)
    open_artefact(tmp_path, trust=True).predict(np.zeros((1, 8, 8, 3), np.float32))
    assert flags == [False]
