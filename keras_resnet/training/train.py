"""The public `train`: from settings and images to a run folder."""

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Unpack

import keras
import tensorflow as tf

from keras_resnet import checkpoint_notes, filenames, recipes, run, specs
from keras_resnet.config import PRECISIONS, Config
from keras_resnet.data import sources
from keras_resnet.data.sources import Source
from keras_resnet.distributed import strategy
from keras_resnet.distributed.strategy import Devices
from keras_resnet.errors import CheckFailed
from keras_resnet.files import StrPath, cannot_write, next_step
from keras_resnet.messages import log, logged_to
from keras_resnet.models import layers_of
from keras_resnet.settings import Settings
from keras_resnet.state import isolated
from keras_resnet.training import checkpoint, custom, defaults, notices, precision, schedule
from keras_resnet.training.final_evaluation import environment, evaluate_best_model
from keras_resnet.training.history import History
from keras_resnet.training.layers import build_under, for_training, freeze
from keras_resnet.training.loop import Loop
from keras_resnet.training.losses import make_loss
from keras_resnet.training.optimizer import make_optimizer
from keras_resnet.training.precision import Precision
from keras_resnet.training.step import Evaluator, TrainStep, evaluation_batches
from keras_resnet.training.teacher import find_teacher, open_teacher, require_same_classes
from keras_resnet.weights import settings as weights_settings
from keras_resnet.weights.load import load, normalization_of, open_weights
from keras_resnet.weights.readers import Weights


@isolated()
def train(
    data: StrPath | None = None,
    *,
    config_file: StrPath | None = None,
    run_folder: StrPath | None = None,
    resume: StrPath | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | keras.callbacks.Callback | None = None,
    **options: Unpack[Settings],
) -> run.Run | None:
    """Trains a network, evaluates it on the validation split, and writes a run folder.

    An interrupted or killed run resumes exactly and ends with the weights of an uninterrupted one,
    with `resume`, or with the same `run_folder` and settings.

    Args:
        data: a folder of images, `tfds:NAME[/CONFIG]` or `digits`, the default; with `resume`, the
            new folder of the run's images, if they were moved.
        config_file: a `config.json` to start from.
        run_folder: the folder to write; default `runs/MODEL-DATA-NNN`.
        resume: the folder of an unfinished run, whose settings are used.
        callbacks: a Keras callback or several, called as by `keras.Model.fit`; a batch, for them,
            is one call of the compiled step, which may run several steps. `self.model` has some
            layers of this package; a file to which it is saved has Keras' layers only.
        **options: any field of `keras_resnet.config.Config`, such as `model="resnet18"`. `model`
            may also be a Keras model of your own, fresh or trained: images to logits or a softmax.

    Several GPUs share each batch. If the environment defines this process as one of several workers
    (`TF_CONFIG`, or Slurm), they train together; see `distributed.strategy`.

    Returns:
        The finished `Run`; None in a worker other than the chief.

    Raises:
        InputError: invalid settings or images, before training starts.
        CheckFailed: training diverged, the disk is full, or a worker stopped responding; earlier
            checkpoints are kept.
        Interrupted: Ctrl-C or SIGTERM, after a checkpoint was saved; a `KeyboardInterrupt`.
    """
    callbacks = custom.callbacks_in(callbacks)
    requested, network = custom.settings_and_network({"data": data, **options})
    unfinished = run.unfinished(resume, run_folder, config_file, requested)
    if not unfinished:
        config, path = recipes.resolve(requested, config_file), run_folder
    else:
        config = _updated_config(unfinished, data if resume else None, options)
        path = unfinished.path
    devices = strategy.choose(config, path)
    with devices.watching(path):
        prepared = (
            _prepare_resume(unfinished, config, devices)
            if unfinished
            else prepare(config, devices, recipes.unset(requested, config_file), network)
        )
        with devices.folder(path, prepared.config) as folder, logged_to(folder.file(filenames.LOG)):
            _train_in(folder, bool(unfinished), prepared, devices, callbacks)
    return folder if devices.is_chief else None


def _train_in(
    folder: run.Run,
    is_resumed: bool,
    prepared: "Prepared",
    devices: Devices,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    config, source, chosen, model, notes = prepared
    stop, resume = checkpoint.Stop(folder.path), run.resume_command(folder.path)
    try:
        if not is_resumed:
            folder.begin(config, source.classes, model)
        elif devices.is_chief and config.data != folder.config.data:
            folder.save_data(config.data, config.data_dir)
        if notes is None:
            checkpoint.save_data_files(folder, source)
        notices.log_plan(config, source, chosen, devices, folder)
        with stop.listening(), sources.naming_broken_images(source, resume):
            history, seconds = _fit(prepared, folder, devices, stop, callbacks)
            if devices.is_chief:
                evaluate_best_model(folder, config, source, history, chosen, seconds)
    except (OSError, tf.errors.OpError, RuntimeError) as error:
        reason = cannot_write(error, folder.path)
        if not reason:  # maybe a signal: inside of pybind, or another worker exited first
            stop.exit_if_signalled()
            raise
        first = checkpoint.space_to_free(error, model, config) or next_step(reason)
        line = f"cannot write into {folder.path} ({reason}); {first}, then {resume}"
        raise CheckFailed(line) from None


def _fit(
    prepared: "Prepared",
    folder: run.Run,
    devices: Devices,
    stop: checkpoint.Stop,
    callbacks: Sequence[keras.callbacks.Callback],
) -> tuple[History, Mapping[str, float]]:
    """Trains; returns the `History`, and the duration in seconds by kind of work."""
    config, source, chosen, model, notes = prepared
    steps = schedule.steps_per_epoch(config.batch_size, len(source.splits["train"]))
    rate = schedule.learning_rate(config, steps)
    current = {**environment(), "devices": devices.count}
    if notes:
        notices.log_changes(notes["environment"], current, config)
    files = checkpoint_notes.files_of(folder, config.teacher)
    loop = Loop(
        config,
        source,
        folder,
        make_step(model, config, source, rate, chosen, devices),
        Evaluator(for_training(model), evaluation_batches(source.splits["val"], config)),
        devices=devices,
        stop=stop,
        notes={"precision": chosen, "environment": current, "files": files},
        callbacks=callbacks,
    )
    return loop.run(), loop.seconds


def make_step(
    model: keras.Model,
    config: Config,
    source: Source,
    rate: Any,
    chosen: Precision,
    devices: Devices = strategy.ONE,
) -> TrainStep:
    """The compiled training step of a run.

    Args:
        model: a network of Keras' own layers with its initial weights; it is copied.
        config, source: the effective settings and the images.
        rate: the learning rate, a number or a Keras schedule.
        chosen: the precision that `model` was built with.
        devices: the devices to train on.
    """
    teacher = open_teacher(config, chosen.policy, devices.strategy)
    with devices.strategy.scope():
        network = for_training(model, xla=bool(config.xla))
        head = next(layer.weights for layer in reversed(layers_of(network)) if layer.weights)
        # Callbacks look for it here. Without `compile`: a saved network would need this class.
        network.optimizer = make_optimizer(config, rate, head=head)
        return TrainStep(
            network,
            make_loss(config, source.splits["train"].labels, len(source.classes)),
            xla=bool(config.xla),
            loss_scale=chosen.policy == "mixed_float16",
            ema=config.ema,
            teacher=teacher,
        )


class Prepared(NamedTuple):
    """A training that is ready to start: all settings have values."""

    config: Config
    source: Source
    precision: Precision
    model: keras.Model  # with its initial weights
    notes: Mapping[str, Any] | None = None  # of the checkpoint to resume from


def prepare(
    config: Config,
    devices: Devices = strategy.ONE,
    unset: Collection[str] = (),
    network: keras.Model | None = None,
) -> Prepared:
    """Checks settings and images, and fills in the settings left at their default.

    Args:
        config: as requested.
        devices: the devices to train on.
        unset: the settings to fit to the images, see `defaults.fit`.
        network: the user's network, from `custom.settings_and_network`.

    Raises:
        InputError: invalid settings or images.
    """
    config = run.absolute(config)
    with devices.preparing():
        weights_settings.require(config)
        teacher = find_teacher(config)
        source = sources.load_for(config, in_memory=True)
        custom.require_head(network, config, len(source.classes))
        if teacher:
            require_same_classes(teacher, source)
        unset = set(unset) - ({"weights"} if network else set())
        config = defaults.fit(config, source, unset, devices.count)
        schedule.require_steps(config, len(source.splits["train"]))
        pretrained = open_weights(config.weights, config.model) if config.weights else None
    devices.require_same_images(source)
    # Saved with the settings, so that a resumed run has the same normalization.
    of_weights = normalization_of(pretrained) if pretrained else None
    of_network = specs.of(config.model).normalize or None
    config = replace(config, normalize=config.normalize or of_weights or of_network)
    config = precision.resolve_xla(config, devices.count, network)
    chosen = precision.choose(config.precision, xla=bool(config.xla))
    (of_chief,) = devices.of_chief(PRECISIONS.index(chosen.policy))
    chosen = chosen._replace(policy=PRECISIONS[int(of_chief)])
    model = _network(config, source, chosen, pretrained, devices, network)
    return Prepared(config, source, chosen, model)


def _prepare_resume(unfinished: run.Run, config: Config, devices: Devices) -> Prepared:
    """As `prepare`, for an unfinished run: with its images, and weights from its checkpoint."""
    config = precision.without_xla_on_several(config, devices.count)
    notes = checkpoint_notes.peek(unfinished)
    if notes is None:
        return prepare(config, devices, network=custom.load_network(unfinished))
    checkpoint_notes.require_same_files(unfinished, notes)
    with devices.preparing():
        source = sources.load_saved(
            unfinished.file(filenames.SPLIT),
            data=config.data,
            classes=unfinished.classes,
            data_dir=config.data_dir,
            check=config.check,
            in_memory=True,
        )
    devices.require_same_images(source)
    chosen = precision.Precision(*notes["precision"])  # the earlier choice of `auto`
    network = custom.load_network(unfinished)
    model = _network(config, source, chosen, None, devices, network)
    return Prepared(config, source, chosen, model, notes)


def _updated_config(unfinished: run.Run, data: StrPath | None, options: Settings) -> Config:
    """The settings of an unfinished run, with the folder of its images and the number of devices
    requested now."""
    config, devices = unfinished.config, options.get("devices")
    if data is not None:
        unfinished.require_own(data)
        config = run.absolute(replace(config, data=str(data)))
    return config if devices is None else replace(config, devices=devices)


def _network(
    config: Config,
    source: Source,
    chosen: Precision,
    pretrained: Weights | None,
    devices: Devices,
    network: keras.Model | None,
) -> keras.Model:
    """Builds the network, with initial weights from the seed or pre-trained ones; or prepares the
    user's `network`."""
    random.seed(config.seed)  # Keras' layers draw their seeds from `random`, see `state`
    if config.deterministic:
        tf.config.experimental.enable_op_determinism()
    model = network or build_under(chosen.policy, config, len(source.classes))
    if pretrained:
        with devices.preparing():
            log.info(load(model, pretrained, replace_head=True))
    devices.require_same_weights(model)
    if config.freeze:
        freeze(model, config.freeze)
    for layer in layers_of(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = config.sync_bn and devices.count > 1
            if config.freeze_bn:  # keep its weights, and normalize by its moving statistics
                layer.trainable = False
    return model
