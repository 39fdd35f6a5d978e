"""Training: settings and images in, a run folder out."""

import time
from contextlib import closing
from dataclasses import replace
from functools import partial

import keras
import tensorflow as tf

from keras_resnet import progress, recipes, run, runtime, specs
from keras_resnet.data import sources, stream
from keras_resnet.errors import CheckFailed, InputError
from keras_resnet.training import (
    callbacks,
    checkpoint,
    distribution,
    precision,
    remedy,
    schedule,
    stopping,
)
from keras_resnet.training.bottleneck import Bottleneck
from keras_resnet.training.judge import environment, judge
from keras_resnet.training.losses import make_loss
from keras_resnet.training.optimizer import make_optimizer
from keras_resnet.weights import settings as weights_settings
from keras_resnet.weights.load import load, normalization_of, open_weights


def train(data=None, *, config_file=None, run_folder=None, resume=None, **options):
    """Trains a network, judges it on held-out images, and leaves a run folder.

    A run that was interrupted, or killed, goes on where it was and ends with the weights that it
    would have had: with `resume`, or with the same `run_folder` and the same settings.

    Args:
        data: a folder of images, `tfds:NAME[/CONFIG]` or `digits`.
        config_file: a `config.json` to start from.
        run_folder: where the run goes; default `runs/MODEL-DATA-NNN`.
        resume: the folder of an unfinished run, whose settings hold.
        **options: any field of `keras_resnet.recipes.Config`, such as `model="resnet18"`.

    Several GPUs share each batch. Where the environment makes this process one of several workers
    (`TF_CONFIG`, or Slurm), it trains with the others; see `training.distribution`.

    Returns:
        The finished `Run`; None in a worker that is not the chief.

    Raises:
        InputError: settings or images that cannot work, before anything is trained.
        CheckFailed: training diverged, the disk is full, or another worker is gone; what was good
            before is kept.
        Interrupted: Ctrl-C or SIGTERM, after the state was saved; a `KeyboardInterrupt`.
    """
    began = time.monotonic()
    begun = run.begun(resume, run_folder, config_file, {"data": data, **options})
    if begun:
        config, path = _here(begun.config, options), begun.path
    else:
        config, path = recipes.resolve({"data": data, **options}, config_file), run_folder
    devices = distribution.choose(config, path)
    with devices.watching(path):
        prepared = _again(begun, config, devices) if begun else prepare(config, devices)
        with devices.folder(path, prepared[0]) as folder:
            history, metrics = _train_in(folder, bool(begun), *prepared, devices)
    if not devices.is_chief:
        return None
    progress.say(
        f"best epoch {history.best_epoch}: top-1 {metrics['val']['top1']:.1%} of "
        f"{metrics['val']['images']:,} validation images, {time.monotonic() - began:.0f} s"
    )
    return folder


def _train_in(folder, is_begun, config, source, chosen, model, devices):
    """The `History` of the training, and for the chief what metrics.json holds."""
    stop = checkpoint.Stop(folder.path)
    try:
        if not is_begun:
            folder.begin(config, source.classes)
        if not folder.file("split.json").exists():
            sources.save_split(source, folder.file("split.json"))
        runtime.log_to(folder.file("log.txt"))
        _say_plan(config, source, chosen, devices, folder)
        broken = sources.naming_broken_files(source, checkpoint.goes_on(folder.path))
        with stop.listening(), broken:
            history = _fit(model, config, source, folder, chosen, devices, stop)
            if not devices.is_chief:
                return history, None
            seconds = sum(row["seconds"] for row in history.rows)
            return history, judge(folder, config, source, history, chosen, seconds)
    except tf.errors.OpError:
        stop.leave_if_asked()  # all workers were told to, and others went first
        raise
    except OSError as error:  # images are read by TensorFlow, whose errors are others
        raise CheckFailed(
            f"cannot write into {folder.path} ({error.strerror or error}); make room, then "
            + checkpoint.goes_on(folder.path)
        ) from None


def _here(config, options):
    """The settings of a run that was begun, on the devices that are there now."""
    devices = options.get("devices")
    return config if devices is None else replace(config, devices=devices)


def prepare(config, devices=distribution.ONE):
    """What is wrong with the settings or the images comes out here, before anything is trained.

    Args:
        config: a `Config`, as it was asked for.
        devices: to train on.

    Returns:
        config: the effective `Config`.
        source: the images, a `Source`.
        chosen: the `Precision`.
        model: the network to train, with its first weights.
    """
    config = run.absolute(config)
    with devices.preparing():
        weights_settings.require(config)
        source = sources.load(
            config.data,
            val_split=config.val_split,
            seed=config.seed,
            on_bad_image=config.on_bad_image,
            data_dir=config.data_dir,
            check=config.check,
            keep=True,
        )
        images = len(source.splits["train"])
        if config.batch_size > images:
            raise InputError(
                f"--batch-size {config.batch_size} is larger than the data: {images} training "
                f"images; use {max(images // 4, 1)} or less"
            )
        learnt = open_weights(config.weights, config.model) if config.weights else None
    devices.require_same_images(source)
    # Settled here and saved, so that the run stays what it is.
    found = normalization_of(learnt) if learnt else None
    usual = specs.SPECS[config.model].normalize
    config = replace(config, normalize=config.normalize or found or usual)
    chosen = precision.choose(config.precision)
    (of_chief,) = devices.of_chief(recipes.PRECISIONS.index(chosen.policy))
    chosen = chosen._replace(policy=recipes.PRECISIONS[int(of_chief)])
    return config, source, chosen, _network(config, source, chosen, learnt, devices)


def _again(begun, config, devices):
    """As `prepare`, for a run that was begun: its own images, and weights from its checkpoint."""
    notes = checkpoint.peek(begun)
    if notes is None:
        return prepare(config, devices)
    with devices.preparing():
        source = sources.load_saved(
            begun.file("split.json"),
            data=config.data,
            classes=begun.classes,
            data_dir=config.data_dir,
            check=config.check,
            keep=True,
        )
    devices.require_same_images(source)
    chosen = precision.Precision(*notes["precision"])  # what `auto` chose then, and not now
    return config, source, chosen, _network(config, source, chosen, None, devices)


def _network(config, source, chosen, learnt, devices):
    """The network with the weights that the seed gives, or with learnt ones."""
    keras.utils.set_random_seed(config.seed)
    tf.config.experimental.enable_op_determinism()
    with devices.strategy.scope():
        model = _build(config, len(source.classes), chosen.policy)
    if learnt:
        with devices.preparing():
            progress.say(load(model, learnt, replace_head=True))
    devices.require_same_weights(model)
    if config.freeze:
        _freeze(model, config.freeze)
    for layer in _batch_norms(model):
        layer.synchronized = config.sync_bn
        if config.freeze_bn:  # they keep their weights, and normalise by what they learnt
            layer.trainable = False
    return model


def _build(config, num_classes, policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        return run.build(config, num_classes, open_size=True)
    finally:
        keras.config.set_dtype_policy(before)


def _batch_norms(model):
    """Those of its parts too: deep networks consist of models."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _batch_norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            yield layer


def _freeze(model, stage):
    """Everything up to and including `stage` keeps its weights and its batch statistics."""
    names = [layer.name for layer in model.layers]
    if stage == "body":
        last = len(names) - 2
    else:
        last = max(i for i, name in enumerate(names) if name.split("_")[0] == stage)
    for layer in model.layers[: last + 1]:
        layer.trainable = False


def compile_model(model, config, source, rate):
    """Gives the model its optimizer, with this rate or schedule of rates, and its loss."""
    model.compile(
        make_optimizer(config, rate, head=model.layers[-1].variables),
        make_loss(config, source.splits["train"].labels, len(source.classes)),
        metrics=[
            keras.metrics.CategoricalAccuracy(name="top1"),
            keras.metrics.CategoricalCrossentropy(from_logits=True, name="cross_entropy"),
        ],
        jit_compile=precision.jit_compile(),
        steps_per_execution=precision.STEPS_PER_EXECUTION,
    )


def _fit(model, config, source, folder, chosen, devices, stop):
    steps = max(round(len(source.splits["train"]) / config.batch_size), 1)
    rate = schedule.learning_rate(config, steps)
    with devices.strategy.scope():
        compile_model(model, config, source, rate)
    if devices.count == 1:
        model.optimizer.build(model.trainable_variables)
        # Metrics get their variables when they are first called.
        model.evaluate(_judged(source, config, config.side).take(1), verbose=0)
    else:
        remedy.build(model, *next(iter(_judged(source, config, config.side))))
        alone = _build(config, len(source.classes), chosen.policy)
        compile_model(alone, config, source, rate)
        model.evaluate = devices.evaluation(model, alone)
    history = callbacks.History(folder, config)
    best = callbacks.BestModel(folder, run.build(config, len(source.classes)), history)
    bars = callbacks.Progress(config.epochs, steps, config.batch_size)
    here = {**environment(), "devices": devices.count}

    def to_note():
        return {"history": history.state(), "precision": chosen, "environment": here}

    saving = checkpoint.Saving(
        checkpoint.Checkpoint(folder, model, writes=devices.is_chief),
        config.checkpoint_every,
        steps,
        to_note,
        stop,
        devices.agree,
    )
    saving.set_model(model)
    notes = saving.restore()
    if notes:
        history.restore(notes["history"])
        best.set_model(model)
        if notes["judged"]:
            best.write_if_best()  # a kill may have come before it was written
        progress.say(f"goes on after step {saving.step:,} of {config.epochs * steps:,}")
        _compare(notes["environment"], here, config)
    judged = callbacks.Averages()
    watchers = [bars, history, judged, *stopping.watchers(history, config), saving, best]
    least = specs.SPECS[config.model].total_stride
    sizes = schedule.epoch_sizes(config, least)
    is_over = bool(notes and notes["ended"])
    with closing(bars), remedy.mended(model):
        for begin, end, size in () if is_over else schedule.spans(sizes, steps, saving.step):
            history.image_size, bars.before = size, begin % steps
            batches = devices.distribute(
                partial(
                    _trained,
                    source,
                    config,
                    size=schedule.training_size(config, size, least),
                    first_step=begin,
                    last_step=end,
                )
            )
            if begin == 0:
                watchers.append(Bottleneck(batches, config))
            model.fit(
                batches,
                validation_data=_judged(source, config, size),
                initial_epoch=begin // steps,
                epochs=-(-end // steps),
                steps_per_epoch=min(end - begin, steps),
                shuffle=False,  # the stream has its own order
                callbacks=watchers,
                verbose=0,
            )
            if model.stop_training:
                break
    return history


def _compare(then, now, config):
    """Says what is not as it was when the run was saved, for it may round otherwise."""
    others = [name for name in now if then.get(name) != now[name]]
    if others:
        listed = "; ".join(f"{name} {then.get(name)} then, {now[name]} now" for name in others)
        # Each device's batch norms see their own part of a batch alone, if they are not synced.
        more = "devices" in others and not config.sync_bn
        what = "the result will differ" if more else "the last bits may differ"
        progress.say(f"{what} from an unbroken run's: {listed}")


def _trained(source, config, **span):
    return _any_size(stream.training_stream(source, config, **span))


def _judged(source, config, size):
    batches = stream.evaluation_stream(
        source.splits["val"], size=size, crop=config.center_crop, batch_size=config.batch_size
    )
    classes = len(source.classes)
    return _any_size(batches.map(lambda images, labels: (images, tf.one_hot(labels, classes))))


def _any_size(batches):
    """The same batches with their height and width left open, so that Keras traces one step for
    all image sizes: seconds for each size saved."""
    shape = (None, None, None, 3)
    return batches.map(
        lambda images, targets: (
            tf.raw_ops.PlaceholderWithDefault(input=images, shape=shape),
            targets,
        )
    )


def _say_plan(config, source, chosen, devices, folder):
    counts = ", ".join(f"{len(e):,} {split}" for split, e in source.splits.items())
    skipped = sum(source.check.get("skipped", {}).values())
    progress.say(
        f"{config.model} on {source.name}: {len(source.classes)} classes, {counts} images"
        + (f" ({skipped:,} skipped; `keras-resnet data check` says why)" if skipped else "")
    )
    progress.say(
        f"{config.epochs} epoch{'s' * (config.epochs > 1)} at {config.side} pixels, "
        f"batch {config.batch_size}, "
        f"recipe {config.recipe}; {chosen.policy}: {chosen.reason}"
    )
    if devices.reason:
        progress.say(
            f"{devices.reason}: each of {devices.count} devices trains on "
            f"{config.batch_size // devices.count} images of a batch"
        )
    for line in recipes.effective(config):
        progress.say(line)
    progress.say(f"run folder {folder.path}")
