"""TFLite metadata: it can be read back, and does not change the results of the file."""

import json
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from flatbuffers import number_types
from flatbuffers.table import Table

from keras_resnet.cli import tables
from keras_resnet.errors import InputError
from keras_resnet.evaluation.lite import Lite
from keras_resnet.exporting.guard import preprocessing
from keras_resnet.exporting.plan import make_plan
from keras_resnet.filenames import TFLITE
from keras_resnet.files import read_lines
from keras_resnet.inspection import metadata, tflite_file
from keras_resnet.manifest import fingerprint

CONTENTS = {"labels.txt": "Käse\nLöwe\n", "preprocess.json": "{}\n"}


def described(preprocess):
    return metadata.describe(
        network="resnet20",
        classes=2,
        preprocess=preprocess,
        source_sha256="ab" * 32,
        origin="grown in a zoo",
    )


@pytest.fixture(scope="module", params=[False, True], ids=["weights inside", "weights behind"])
def plain(request, tmp_path_factory):
    """A small `.tflite` without metadata, its weights in the flatbuffer or behind it."""
    kernel = tf.constant(np.random.default_rng(0).normal(size=(3, 3, 3, 4)), tf.float32)

    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3), tf.float32, name="image")])
    def network(image):
        return tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(image, kernel, 1, "SAME")), (1, 2))

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
    converter._experimental_use_buffer_offset = request.param
    path = tmp_path_factory.mktemp("plain") / "model.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.fixture
def embedded(plain, tmp_path, trained):
    """A copy of it with metadata, and what was to be written."""
    path = tmp_path / "model.tflite"
    path.write_bytes(plain.read_bytes())
    told = described(preprocessing(make_plan(trained)))
    metadata.embed(path, told, CONTENTS)
    return path, told


def test_the_answers_stay_the_same_to_the_bit(plain, embedded):
    images = np.random.default_rng(1).uniform(0, 255, (4, 8, 8, 3)).astype(np.float32)
    before, after = Lite(plain).predict(images), Lite(embedded[0]).predict(images)
    assert np.abs(before).max() > 0
    assert (before == after).all()


def test_what_was_written_is_read(embedded):
    path, told = embedded
    assert metadata.read(path) == told | {"files": CONTENTS}


@pytest.mark.parametrize(
    ("options", "size", "image", "output"),
    [
        ({}, (24, 24), "The middle square of the upright image, resized to 24x24", "logits"),
        ({"scores": "softmax"}, (24, 24), "The middle square of the upright image", "scores"),
        (
            {"input_size": (48, 96)},
            (48, 96),
            "An upright frame of 96x48; inside the model: the middle square of the upright frame, "
            "resized to 24x24 (bilinear)",
            "logits",
        ),
    ],
)
def test_it_says_what_the_file_takes_and_gives(trained, options, size, image, output):
    (graph,) = described(preprocessing(make_plan(trained, **options)))["subgraph_metadata"]
    (taken,), (given,) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert taken["description"].startswith(image)
    found = taken["content"]["content_properties"]["default_size"]
    assert (found["height"], found["width"]) == size
    assert given["name"] == output
    assert ("a softmax" in given["description"]) == (output == "logits")


def test_of_padded_images_it_names_all(trained):
    preprocess = preprocessing(make_plan(trained)) | {"fit": "pad", "crop": "all of the image"}
    (graph,) = described(preprocess)["subgraph_metadata"]
    assert graph["input_tensor_metadata"][0]["description"].startswith("All of the image, resized")


def test_a_file_without_metadata_has_none(plain):
    assert metadata.read(plain) is None


def test_the_census_still_reads_it(plain, embedded):
    before, after = (tflite_file.census(path).as_json() for path in (plain, embedded[0]))
    assert after.pop("metadata") == [*before.pop("metadata"), metadata.NAME]
    assert after.pop("bytes") == embedded[0].stat().st_size
    for found in (before, after):
        found.pop("file")
    before.pop("bytes")
    assert before == after


def test_the_same_run_gives_the_same_file(plain, embedded, tmp_path):
    again = tmp_path / "again.tflite"
    again.write_bytes(plain.read_bytes())
    metadata.embed(again, embedded[1], CONTENTS)
    assert again.read_bytes() == embedded[0].read_bytes()


def test_the_labels_are_a_stored_entry_of_a_zip_archive_behind_the_model(embedded):
    with zipfile.ZipFile(embedded[0]) as archive:
        assert archive.testzip() is None
        assert {i.filename: i.compress_type for i in archive.infolist()} == dict.fromkeys(
            CONTENTS, zipfile.ZIP_STORED
        )
        # A phone maps the file: the text must lie in it as it is.
        assert CONTENTS["labels.txt"].encode() in embedded[0].read_bytes()


def test_it_has_the_identifier_of_the_schema(embedded):
    """MediaPipe looks for it at byte 4 of the buffer."""
    content = embedded[0].read_bytes()
    assert content.count(metadata.IDENTIFIER) == 1


class Fields:
    """A table of a flatbuffer by the numbers of its fields, from 0."""

    def __init__(self, table):
        self._table = table

    def _at(self, field):
        return self._table.Pos + self._table.Offset(4 + 2 * field)

    def table(self, field):
        return Fields(Table(self._table.Bytes, self._table.Indirect(self._at(field))))

    def first(self, field):
        place = self._table.Vector(self._table.Offset(4 + 2 * field))
        return Fields(Table(self._table.Bytes, self._table.Indirect(place)))

    def text(self, field):
        return self._table.String(self._at(field)).decode()

    def number(self, field, flags):
        return self._table.Get(flags, self._at(field))

    def floats(self, field):
        offset = self._table.Offset(4 + 2 * field)
        start, count = self._table.Vector(offset), self._table.VectorLen(offset)
        flags = number_types.Float32Flags
        return [self._table.Get(flags, start + 4 * i) for i in range(count)]


def test_other_readers_find_the_fields_where_the_schema_has_them(embedded):
    """metadata_schema.fbs of TensorFlow Lite Support; the number of a union is before its table."""
    path, told = embedded
    packed = metadata._pack(told)
    assert packed in path.read_bytes()
    model = Fields(Table(bytearray(packed), int.from_bytes(packed[:4], "little")))
    assert [model.text(n) for n in (0, 2, 7)] == ["resnet20", "ab" * 32, "1.0.0"]
    assert model.text(1).startswith("resnet20, classifies") and "Apache-2.0" in model.text(5)
    assert model.first(6).text(0) == "preprocess.json"
    graph, byte, whole = model.first(3), number_types.Uint8Flags, number_types.Uint32Flags
    image, logits = graph.first(2), graph.first(3)
    assert (image.text(0), logits.text(0)) == ("image", "logits")
    assert "upright image" in image.text(1) and "softmax" in logits.text(1)
    content, units, stats = image.table(3), image.first(4), image.table(5)
    assert content.number(0, byte) == 2 and content.table(1).number(0, byte) == 1  # RGB
    assert [content.table(1).table(1).number(n, whole) for n in (0, 1)] == [24, 24]
    assert units.number(0, byte) == 1
    assert [units.table(1).floats(n) for n in (0, 1)] == [[0.0], [1.0]]
    assert [stats.floats(n) for n in (0, 1)] == [[255.0], [0.0]]
    assert logits.table(3).number(0, byte) == 1
    assert (logits.first(6).text(0), logits.first(6).number(2, byte)) == ("labels.txt", 2)


def test_a_vector_that_is_longer_than_the_metadata_is_refused_at_once(embedded):
    """One flipped bit of a length may stand for a thousand million elements."""
    path, _ = embedded
    content = bytearray(path.read_bytes())
    start = content.index(metadata.IDENTIFIER) - 4
    packed = bytearray(content[start:])
    model = Table(packed, int.from_bytes(packed[:4], "little"))
    length = start + model.Vector(model.Offset(4 + 2 * 6)) - 4  # of associated_files
    assert content[length : length + 4] == b"\1\0\0\0"
    content[length + 2] ^= 0x40  # 4 million elements: seconds, not all memory, without the limit
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"are damaged \(vectors of 4194\d+ elements in"):
        metadata.read(path)


def test_damaged_metadata_are_an_input_error(embedded):
    path, _ = embedded
    content = path.read_bytes()
    at = content.index(metadata.IDENTIFIER)
    path.write_bytes(content[: at - 4] + b"\xff\xff\xff\x7f" + content[at:])
    with pytest.raises(InputError, match=r"metadata of .* are damaged .*; export it again"):
        metadata.read(path)


def test_metadata_without_their_files_are_an_input_error(embedded):
    path, _ = embedded
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"PK\x01\x02") - 10])
    with pytest.raises(InputError, match="damaged"):
        metadata.read(path)


@pytest.mark.parametrize("name", TFLITE.values())
def test_every_exported_file_carries_the_contract(exported, name):
    run, _ = exported
    found = metadata.read(run.export_folder / name)
    assert found["version"] == fingerprint(run.file("model.keras"))["sha256"]
    assert found["files"]["labels.txt"].splitlines() == read_lines(run.file("labels.txt"))
    assert json.loads(found["files"]["preprocess.json"]) == preprocessing(make_plan(run))
    (image,) = found["subgraph_metadata"][0]["input_tensor_metadata"]
    assert image["content"]["content_properties"]["default_size"] == {"width": 24, "height": 24}
    # Raw pixels go in: the normalization that MediaPipe asks for must do nothing.
    assert image["process_units"][0]["options"] == {"mean": [0.0], "std": [1.0]}


def test_nothing_in_the_file_tells_where_the_photos_lie(exported, photos):
    run, _ = exported
    found = str(metadata.read(run.export_folder / TFLITE["int8"]))
    assert photos.name in found and str(photos.parent) not in found


def test_metadata_of_another_tool_may_lack_anything(plain, tmp_path):
    path = tmp_path / "other.tflite"
    path.write_bytes(plain.read_bytes())
    metadata.embed(path, {"name": "net", "subgraph_metadata": [{}]}, {})
    found = metadata.read(path)
    assert found == {"name": "net", "subgraph_metadata": [{}], "files": {}}
    assert tables._contract(found) == []
    graph = {"input_tensor_metadata": [{"name": "x"}]}
    some = {"description": "a net", "subgraph_metadata": [graph], "files": {"labels.txt": ""}}
    assert tables._contract(some) == ["a net", "x", "inside the file: labels.txt"]


def test_inspect_shows_it(command, exported):
    path = exported[0].export_folder / TFLITE["int8"]
    shown = command("inspect", path).stdout
    assert "resnet8, classifies images into 3 classes" in shown
    assert "inside the file: labels.txt, preprocess.json" in shown
    document = json.loads(command("inspect", path, "--json").stdout)
    assert document["contract"] == metadata.read(path)
