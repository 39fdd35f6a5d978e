"""ImageNet weights that others have published, downloaded by Keras and kept in its cache."""

import sys
from contextlib import redirect_stdout

from keras_resnet.errors import InputError, first_line
from keras_resnet.state import isolated
from keras_resnet.weights import readers
from keras_resnet.weights.settings import PUBLISHED, require_published


@isolated(any_backend=True)
def fetch(name: str) -> readers.Weights:
    """The published `Weights` of the network `name`.

    Raises:
        InputError: there are none, or they cannot be downloaded.
    """
    import keras

    require_published(name)
    home = PUBLISHED[name]
    try:
        with redirect_stdout(sys.stderr):  # Keras' progress is no result
            if "/" not in home:
                model = getattr(keras.applications, home)(weights="imagenet")
                return readers.of_model(model, f"keras.applications.{home}")
            path = keras.utils.get_file(
                f"{home.replace('/', '-')}.safetensors",
                origin=f"https://huggingface.co/{home}/resolve/main/model.safetensors",
                cache_subdir="models",
            )
    except Exception as error:  # urllib's and Keras' own, by what the network does
        raise InputError(
            f"--weights imagenet: {home} cannot be downloaded ({first_line(error)}); give a local "
            "file"
        ) from None
    return readers.read(path)
