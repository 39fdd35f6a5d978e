"""Reads and writes the TFLite metadata in a file, which MediaPipe and LiteRT's tools read.

A buffer of the model contains a second flatbuffer (metadata_schema.fbs of TensorFlow Lite Support,
identifier M001); the associated files are in a zip archive after the model. Neither is used when
the model runs.
"""

import io
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from keras_resnet import filenames
from keras_resnet.errors import InputError
from keras_resnet.files import LARGEST_TEXT, StrPath
from keras_resnet.inspection.tflite_file import Items, items_up_to

if TYPE_CHECKING:
    import flatbuffers
    from flatbuffers.table import Table

NAME = "TFLITE_METADATA"
IDENTIFIER = b"M001"
_PARSER = "1.0.0"  # the oldest reader that supports all fields used here

# Values of the schema's enumerations and unions.
_RGB, _GREY, _AXIS_LABELS = 1, 2, 2
_FEATURE_PROPERTIES, _IMAGE_PROPERTIES, _NORMALIZATION_OPTIONS = 1, 2, 1

_Kind = type[str] | str | list[str]  # of a field
# The parts of the schema's tables that are used: field -> slot and type. A type in a list is a
# vector; a table is given by its name. A union is given as the type that it has here.
_SCHEMA: dict[str, dict[str, tuple[int, _Kind]]] = {
    "Model": {
        "name": (0, str),
        "description": (1, str),
        "version": (2, str),
        "subgraph_metadata": (3, ["Graph"]),
        "license": (5, str),
        "associated_files": (6, ["File"]),
        "min_parser_version": (7, str),
    },
    "Graph": {
        "input_tensor_metadata": (2, ["ImageTensor"]),
        "output_tensor_metadata": (3, ["FeatureTensor"]),
    },
    "ImageTensor": {
        "name": (0, str),
        "description": (1, str),
        "content": (3, "ImageContent"),
        "process_units": (4, ["Normalization"]),
        "stats": (5, "Stats"),
    },
    "FeatureTensor": {
        "name": (0, str),
        "description": (1, str),
        "content": (3, "FeatureContent"),
        "associated_files": (6, ["File"]),
    },
    "ImageContent": {
        "content_properties_type": (0, "Uint8"),
        "content_properties": (1, "ImageProperties"),
    },
    "FeatureContent": {
        "content_properties_type": (0, "Uint8"),
        "content_properties": (1, "FeatureProperties"),
    },
    "FeatureProperties": {},
    "ImageProperties": {"color_space": (0, "Int8"), "default_size": (1, "ImageSize")},
    "ImageSize": {"width": (0, "Uint32"), "height": (1, "Uint32")},
    "Normalization": {"options_type": (0, "Uint8"), "options": (1, "NormalizationOptions")},
    "NormalizationOptions": {"mean": (0, ["Float32"]), "std": (1, ["Float32"])},
    "Stats": {"max": (0, ["Float32"]), "min": (1, ["Float32"])},
    "File": {"name": (0, str), "description": (1, str), "type": (2, "Int8")},
}


# Of a trainable file
_FEATURES = {
    "name": "features",
    "description": "Input of the signature `train`.",
    "content": {
        "content_properties_type": _FEATURE_PROPERTIES,
        "content_properties": {},
    },
}


def describe(
    *,
    network: str,
    classes: int,
    preprocess: Mapping[str, Any],
    source_sha256: str,
    origin: str,
    spare: int = 0,
) -> dict[str, Any]:
    """The metadata of a run's classifier, as a dict with the names of the schema.

    Args:
        network: name of the architecture, such as "resnet20".
        classes: number of classes.
        preprocess: the content of preprocess.json.
        source_sha256: sha256 of the exported `model.keras`; used as the version.
        origin: origin of the weights, such as "trained on photos".
        spare: number of outputs, after the others, for classes that a trainable file learns.
    """
    channels, frame = preprocess["channels"], preprocess["input_size"]
    height, width = frame or (preprocess["height"], preprocess["width"])
    low, high = preprocess["range"]
    share, reject = preprocess["center_crop"], preprocess.get("reject")
    none, colors = "", "RGB" if channels == 3 else "grey"
    if reject:
        most = reject["most_energy"]
        too_large = "" if most is None else f" or energy above {most:g}"
        none = f" None of these: {reject['score']} below {reject['threshold']:g}{too_large}."
    learned = f" The last {spare} are for new classes that the file learns." if spare else ""
    part = "" if share == 1 else f", {share:g} of its side"
    the = "" if frame or preprocess["fit"] != "crop" else "The "
    image = (
        f"{the}{preprocess['crop']}{part}, resized to {preprocess['width']}x{preprocess['height']} "
        f"({preprocess['resize'].removeprefix('inside the model: ')})"
    )
    if frame:
        image = f"An upright frame of {width}x{height}; {image}"
    return {
        "name": network,
        "description": (
            f"{network}, classifies images into {classes} classes; {origin}. Exported from the "
            "model.keras whose sha256 is the version."
        ),
        "version": source_sha256,
        "license": (
            "Software: Apache-2.0 (keras-resnet-edge). Weights: licensed by whoever trained them, "
            "within the terms of the training images."
        ),
        "min_parser_version": _PARSER,
        "associated_files": [
            {
                "name": filenames.PREPROCESS,
                "description": "Preprocessing of a photo, machine-readable.",
            }
        ],
        "subgraph_metadata": [
            {
                "input_tensor_metadata": [
                    {
                        "name": "image",
                        "description": (
                            f"{_capital(image)}; {colors} in [{low}, {high}]. The model "
                            "normalizes them."
                        ),
                        "content": {
                            "content_properties_type": _IMAGE_PROPERTIES,
                            "content_properties": {
                                "color_space": _RGB if channels == 3 else _GREY,
                                "default_size": {"width": width, "height": height},
                            },
                        },
                        # MediaPipe requires a normalization for a float input: the identity.
                        "process_units": [
                            {
                                "options_type": _NORMALIZATION_OPTIONS,
                                "options": {"mean": [0.0], "std": [1.0]},
                            }
                        ],
                        "stats": {"max": [float(high)], "min": [float(low)]},
                    }
                ],
                "output_tensor_metadata": [
                    {
                        "name": "scores" if preprocess["scores"] == "softmax" else "logits",
                        "description": f"{_capital(preprocess['output'])}.{learned}{none}",
                        "content": {
                            "content_properties_type": _FEATURE_PROPERTIES,
                            "content_properties": {},
                        },
                        "associated_files": [
                            {
                                "name": filenames.LABELS,
                                "description": "The class of each output, one per line.",
                                "type": _AXIS_LABELS,
                            }
                        ],
                    },
                    *([_FEATURES] if spare else []),
                ],
            }
        ],
    }


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def embed(path: StrPath, metadata: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Writes metadata and files into a `.tflite` file; its computation does not change.

    Args:
        path: path of the file, which is replaced.
        metadata: the result of `describe`.
        files: name -> text, appended as a zip archive, uncompressed, since phones memory-map it.
    """
    path = Path(path)
    content = io.BytesIO(_with_metadata(path.read_bytes(), _pack(metadata)))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for name, text in files.items():
            # A fixed date makes the file reproducible.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    path.write_bytes(content.getvalue())


def read(path: StrPath) -> dict[str, Any] | None:
    """Reads what `embed` has written.

    Returns:
        The metadata as from `describe`, with `files`: name -> text. None for a file without.

    Raises:
        InputError: the metadata are damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    content = Path(path).read_bytes()
    root = schema.Model.GetRootAs(content, 0)
    entries = (root.Metadata(i) for i in range(root.MetadataLength()))
    entry = next((e for e in entries if e.Name() == NAME.encode()), None)
    if entry is None:
        return None
    try:
        metadata = _unpack(_bytes_of(root.Buffers(entry.Buffer()), content))
        return metadata | {"files": _files(content) if _names_files(metadata) else {}}
    # The generated reader does not validate: offsets of a damaged file may be anything.
    except Exception as error:
        raise InputError(f"the metadata of {path} are damaged ({error}); export it again") from None


def _with_metadata(model: bytes, packed: bytes) -> bytes:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    # This reader includes weights that are stored after the flatbuffer; ModelT alone loses them.
    opened = flatbuffer_utils.read_model_from_bytearray(bytearray(model))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data, entry.name, entry.buffer = packed, NAME.encode(), len(opened.buffers)
    opened.buffers.append(buffer)
    opened.metadata = [*(opened.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(opened))


def _bytes_of(buffer: Any, content: bytes) -> bytes:
    if buffer.Offset() > 1:  # stored after the flatbuffer
        return content[buffer.Offset() : buffer.Offset() + buffer.Size()]
    return buffer.DataAsNumpy().tobytes()


def _files(content: bytes) -> dict[str, str]:
    """The texts in the archive behind the model; other tools may add binary files."""
    texts: dict[str, str] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            if entry.file_size > LARGEST_TEXT:
                continue
            with suppress(UnicodeDecodeError):
                texts[entry.filename] = archive.read(entry).decode("utf-8")
    return texts


def _names_files(part: Any) -> bool:
    """Whether the metadata name files in the archive."""
    if isinstance(part, dict):
        return "associated_files" in part or any(map(_names_files, part.values()))
    return isinstance(part, list) and any(map(_names_files, part))


def _pack(metadata: Mapping[str, Any]) -> bytes:
    """The dict as a flatbuffer."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(_write("Model", metadata, builder), IDENTIFIER)
    return bytes(builder.Output())


def _write(table_name: str, values: Mapping[str, Any], builder: "flatbuffers.Builder") -> int:
    """Writes a table, after the objects that it references."""
    fields = [(*_SCHEMA[table_name][name], value) for name, value in values.items()]
    fields = [
        (slot, kind, value if _is_scalar(kind) else _write_child(kind, value, builder))
        for slot, kind, value in fields
    ]
    builder.StartObject(1 + max((slot for slot, _ in _SCHEMA[table_name].values()), default=-1))
    for slot, kind, value in fields:
        if _is_scalar(kind):
            getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slot, value, 0)
    return builder.EndObject()


def _write_child(kind: _Kind, value: Any, builder: "flatbuffers.Builder") -> int:
    if isinstance(kind, type):  # str
        return builder.CreateString(value)
    if not isinstance(kind, list):
        return _write(kind, value, builder)
    numbers = _is_scalar(kind[0])
    items = value if numbers else [_write(kind[0], item, builder) for item in value]
    prepend = getattr(builder, f"Prepend{kind[0]}" if numbers else "PrependUOffsetTRelative")
    builder.StartVector(4, len(items), 4)  # of float32 numbers, or of offsets
    for item in reversed(items):
        prepend(item)
    return builder.EndVector()


def _unpack(packed: bytes) -> dict[str, Any]:
    """The flatbuffer as a dict, without missing fields."""
    from flatbuffers import encode, number_types, packer
    from flatbuffers.table import Table

    if packed[4:8] != IDENTIFIER:
        raise ValueError("not of the schema M001")
    start = encode.Get(packer.uoffset, packed, 0)
    return _read("Model", Table(packed, start), number_types, items_up_to(len(packed)))


def _read(table_name: str, table: "Table", types: ModuleType, items: Items) -> dict[str, Any]:
    """The fields of a table, in the order of the schema."""
    found = {}
    for name, (slot, kind) in _SCHEMA[table_name].items():
        offset = table.Offset(4 + 2 * slot)  # a vtable begins with two sizes of two bytes
        if offset:
            found[name] = _read_field(kind, table, offset, types, items)
    return found


def _read_field(kind: _Kind, table: "Table", offset: int, types: ModuleType, items: Items) -> Any:
    from flatbuffers.table import Table

    at = table.Pos + offset
    if isinstance(kind, type):  # str
        return table.String(at).decode("utf-8")
    if _is_scalar(kind):
        return table.Get(getattr(types, f"{kind}Flags"), at)
    if not isinstance(kind, list):
        return _read(kind, Table(table.Bytes, table.Indirect(at)), types, items)
    places = items(lambda i: table.Vector(offset) + 4 * i, lambda: table.VectorLen(offset))
    if _is_scalar(kind[0]):
        return [table.Get(getattr(types, f"{kind[0]}Flags"), place) for place in places]
    return [_read(kind[0], Table(table.Bytes, table.Indirect(p)), types, items) for p in places]


def _is_scalar(kind: _Kind) -> bool:
    return kind in ("Uint8", "Int8", "Uint32", "Float32")
