"""Loads data sets of tensorflow-datasets as labelled examples."""

import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from keras_resnet import runtime
from keras_resnet.data.examples import Examples, from_bytes, from_records
from keras_resnet.data.photo import digest
from keras_resnet.errors import InputError, first_line
from keras_resnet.files import StrPath
from keras_resnet.messages import log

# Parts of error messages of TensorFlow and tensorflow-datasets that do not help users.
_NOISE = re.compile(r"\{\{.*?\}\} | \[Op:.*|Failed to construct dataset .*?\}\": ")
_SECONDS_TO_ANSWER = 10
SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}


def load(name: str, data_dir: StrPath | None = None) -> tuple[list[str], dict[str, Examples]]:
    """Loads a prepared or downloadable data set: `(classes, splits)`.

    A data set in array_record files is read record by record; any other is kept in memory, still
    encoded as JPEG or PNG. A split with hidden labels (-1), such as the test split of ImageNet, is
    left out.

    Args:
        name: `NAME[/CONFIG]`.
        data_dir: folder of the files; default `~/tensorflow_datasets`.

    Raises:
        InputError: unknown name, not image classification, no network connection, damaged files;
            the message names the data set and the next step.
    """
    if not (data_dir or os.environ.get("TFDS_DATA_DIR") or runtime.home_folder()):
        raise InputError(f"tfds:{name} needs a folder, as HOME is not set; give --data-dir DIR")
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    with redirect_stdout(sys.stderr):  # it prints messages, but stdout is for results
        builder = _prepare(tfds, name, data_dir)
    image, label = _features(tfds, builder, name)
    splits = {}
    for split in builder.info.splits:
        if split not in SPLITS:
            continue
        examples = _read(tfds, builder, split, image, label)
        if (examples.labels < 0).any():
            log.info(f"the {split} split of tfds:{name} is left out: its labels are hidden")
        else:
            splits[SPLITS[split]] = examples
    if not builder.info.splits:
        raise _damaged(builder, "train", "dataset_info.json lists no splits")
    if "train" not in splits:
        raise InputError(
            f"tfds:{name} has no train split with labels; it has {', '.join(builder.info.splits)}"
        )
    return list(builder.info.features[label].names), splits


def _prepare(tfds: ModuleType, name: str, data_dir: StrPath | None) -> Any:
    """A builder whose files have been prepared."""
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(
            f"tensorflow-datasets has no {name!r} ({_reason(error)}); check the name, or give its "
            "folder with --data-dir"
        ) from None
    except Exception as error:  # a bad config or version, a missing package, damaged metadata
        folder = os.path.expanduser(data_dir or os.path.join("~", "tensorflow_datasets"))
        raise InputError(
            f"tfds:{name} cannot be opened ({_reason(error)}); check its name, config and "
            f"version, or delete it from {folder} and prepare it again"
        ) from None
    try:
        _require_connection(builder)
        builder.download_and_prepare()
    except Exception as error:  # many types: network, checksum, disk, a manual download
        raise InputError(
            f"tfds:{name} could not be prepared in {builder.data_path} ({_reason(error)}); "
            "prepare it on a machine with a network connection and copy that folder here"
        ) from None
    return builder


def _require_connection(builder: Any) -> None:
    """Raises OSError without a connection, where tensorflow-datasets would retry for minutes."""
    folder = Path(builder.data_path).parents[builder.info.full_name.count("/")] / "downloads"
    if builder.is_prepared() or (folder.is_dir() and any(folder.iterdir())):
        return  # all files may be downloaded already
    url = next(iter(builder.url_infos or ()), None)
    if url is None:  # made from local files
        return
    try:
        request = urllib.request.Request(url, method="HEAD")
        urllib.request.urlopen(request, timeout=_SECONDS_TO_ANSWER).close()
    except urllib.error.HTTPError:  # the server has answered
        return
    except OSError as error:
        host = urllib.parse.urlsplit(url).hostname
        raise OSError(f"no connection to {host}: {getattr(error, 'reason', error)}") from None


def _features(tfds: ModuleType, builder: Any, name: str) -> tuple[str, str]:
    features = builder.info.features
    image = [k for k, f in features.items() if isinstance(f, tfds.features.Image)]
    label = [k for k, f in features.items() if isinstance(f, tfds.features.ClassLabel)]
    if builder.info.supervised_keys:
        image = [k for k in image if k == builder.info.supervised_keys[0]] or image
        label = [k for k in label if k == builder.info.supervised_keys[1]] or label
    if not image or not label:
        raise InputError(
            f"tfds:{name} has no image with a class label; it has {', '.join(features)}"
        )
    return image[0], label[0]


def _read(tfds: ModuleType, builder: Any, split: str, image: str, label: str) -> Examples:
    decoders = {image: tfds.decode.SkipDecoding()}
    try:
        if builder.info.file_format is tfds.core.FileFormat.ARRAY_RECORD:
            return _by_record(builder, split, image, label, decoders)
        records = list(
            builder.as_dataset(
                split=split,
                decoders=decoders,
                shuffle_files=False,
                read_config=tfds.ReadConfig(try_autocache=False),
            )
            .map(lambda record: (record[image], record[label]))
            .as_numpy_iterator()
        )
    except Exception as error:  # types differ by reader
        raise _damaged(builder, split, error) from None
    expected = builder.info.splits[split].num_examples
    if len(records) != expected:
        raise _damaged(builder, split, f"{len(records)} records, expected {expected}")
    encoded = [data for data, _ in records]
    labels = [k for _, k in records]
    return from_bytes(encoded, labels, _names(split, len(labels)), np.ones(len(labels), np.int32))


def _by_record(
    builder: Any, split: str, image: str, label: str, decoders: dict[str, Any]
) -> Examples:
    records = builder.as_data_source(split=split, decoders=decoders)
    labels, digests = np.zeros(len(records), np.int32), []
    for i in range(len(records)):
        record = records[i]
        labels[i] = record[label]
        digests.append(digest(record[image]))

    def read(i: tf.Tensor) -> tf.Tensor:
        data = tf.numpy_function(lambda i: records[int(i)][image], [i], tf.string)
        return tf.ensure_shape(data, [])

    return from_records(labels, _names(split, len(labels)), read, digests)


def _names(split: str, count: int) -> list[str]:
    return [f"{split}/{i:06d}" for i in range(count)]


def _damaged(builder: Any, split: str, error: object) -> InputError:
    return InputError(
        f"the {split} split of {builder.info.full_name} in {os.fspath(builder.data_path)} is "
        f"damaged ({_reason(error)}); delete that folder and prepare the data set again"
    )


def _reason(error: object) -> str:
    return first_line(_NOISE.sub("", str(error)).strip() or type(error).__name__)
