"""Makes a run folder from a Keras model to be exported and images with labels."""

import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keras_resnet.errors import InputError
from keras_resnet.exporting.plan import ExportOptions, ExportPlan, make_plan
from keras_resnet.files import StrPath
from keras_resnet.messages import log, some_of
from keras_resnet.run import Run, open_run, run_of
from keras_resnet.specs import Normalize

if TYPE_CHECKING:
    import keras


class Options(ExportOptions, total=False):
    """Options of `export`; those for a Keras model are as in `import_model`."""

    labels: StrPath | Sequence[str] | None
    normalize: Normalize | None
    image_size: int | str | None
    fit: str | None
    channels: int | None
    center_crop: float | None


_OF_MODEL = Options.__annotations__.keys() - ExportOptions.__annotations__.keys()


def is_model(given: "Run | StrPath | keras.Model | None") -> bool:
    """Whether it is a Keras model, in memory or in a `.keras` file, that is not part of a run."""
    if given is None or isinstance(given, Run):
        return False
    if isinstance(given, str | os.PathLike):
        return str(given).endswith(".keras") and run_of(given) is None
    return True


@contextmanager
def run_and_plan(
    given: "Run | StrPath | keras.Model | None",
    options: Options,
    *,
    data: StrPath | None = None,
    data_dir: str | None = None,
) -> Iterator[tuple[Run, ExportPlan]]:
    """The given run, or a new one from a Keras model and images; and its plan.

    A new run is removed on an `InputError` within the context, for example if the labels are in the
    wrong order. On a `CheckFailed` it stays, because another variant may pass.

    Args:
        given: a run or its path; None: the newest run. Or a Keras model, or a `.keras` file with
            one.
        options: as in `export`. Without `labels`, the outputs of a model are the folders of the
            images in alphabetical order, as in Keras.
        data, data_dir: the images; required for a model.

    Raises:
        InputError: no run, or an error of `import_model`, `Run.attach` or `make_plan`; no new run
            is left.
    """
    plan: Any = {name: value for name, value in options.items() if name not in _OF_MODEL}
    of_model: Any = {
        name: value for name, value in options.items() if name in _OF_MODEL and value is not None
    }
    if not is_model(given):
        if of_model:
            raise InputError(
                f"--{next(iter(of_model)).replace('_', '-')} is for exporting a Keras model; a run "
                "has its own"
            )
        run = open_run(given)
        yield run, make_plan(run, **plan)
        return
    from keras_resnet.weights.importing import require_model

    require_model(given)
    what = given if isinstance(given, str | os.PathLike) else "the model"
    if what is given and not os.path.exists(what):
        raise InputError(f"no Keras model {what}; give a .keras file or a run folder")
    if data is None:
        raise InputError(
            f"{what} is a Keras model: its files are checked on labelled images; give --data DATA, "
            "a folder with one sub-folder per class"
        )
    run = _imported(given, data, data_dir, **of_model)
    try:
        run.attach(data, data_dir)
        made = make_plan(run, **plan)
    except BaseException:  # Ctrl-C too: without its images the run is of no use
        shutil.rmtree(run.path)
        raise
    log.info(
        f"imported into {run.path}; next time: keras-resnet export {shlex.quote(str(run.path))}"
    )
    try:
        yield run, made
    except InputError:
        shutil.rmtree(run.path)
        log.info(f"removed {run.path}")
        raise


def _imported(
    given: Any,
    data: StrPath,
    data_dir: str | None,
    labels: StrPath | Sequence[str] | None = None,
    **options: Any,
) -> Run:
    from keras_resnet.data import sources
    from keras_resnet.weights.importing import import_model

    if labels is None:
        labels = sources.load(data, data_dir=data_dir).classes
        log.info(
            f"labels: {some_of(labels, 5)} (the {len(labels)} classes"
            f" of {data} in alphabetical order, as Keras numbers them; --labels names others)"
        )
    return import_model(given, labels=labels, **options)
