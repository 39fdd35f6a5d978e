"""Rows of run.py: the start and the steps of a training, compared with plain Keras.

ResNet-50 v1 is compared with keras.applications.ResNet50; ResNet-20 with one in plain Keras
layers, which has biases and 1×1 convolutions as shortcuts: 0.6 % more multiply-adds.
"""

from dataclasses import replace

import keras
from pairs import NotMeasured, measure, seconds_of
from trainings import Child, Job

from keras_resnet.models import build
from keras_resnet.training.precision import choose

RESNET50 = Job("ours", "resnet50_v1", classes=1000, size=224, batch=8, policy="float32", steps=1)
# 128 images: arXiv:1512.03385, section 4.2
RESNET20 = Job("ours", "resnet20", classes=10, size=32, batch=128, policy="float32", steps=4)

CALLS = 3  # per measurement; the fastest counts


def c4(setting):
    return measure(
        seconds_of(_from_nothing, build, "resnet50_v1"),
        seconds_of(_from_nothing, _keras_resnet50),
        setting.pairs,
    )


def _from_nothing(function, *arguments):
    keras.backend.clear_session()
    function(*arguments)


def _keras_resnet50():
    return keras.applications.ResNet50(weights=None, classifier_activation=None)


def c5(setting):
    return _compare(setting, RESNET50, replace(RESNET50, trainer="keras", network="ResNet50"))


def c5b(setting):
    ours = replace(RESNET50, policy=_reduced_precision())
    return _compare(setting, ours, replace(RESNET50, trainer="keras", network="ResNet50"))


def c7(setting):
    return _compare(setting, RESNET20, replace(RESNET20, trainer="keras"))


def c7b(setting):
    ours = replace(RESNET20, policy=_reduced_precision())
    return _compare(setting, ours, replace(ours, trainer="keras"))


def _compare(setting, ours, theirs):
    def fastest(child):
        # The fastest, because half of the calls of Keras' `fit` used only one of two cores.
        return min(child.seconds() for _ in range(CALLS))

    with Child(ours) as mine, Child(theirs) as other:
        return measure(lambda: fastest(mine), lambda: fastest(other), setting.pairs)


def _reduced_precision():
    """The precision that the command selects, unless that is float32."""
    precision = choose(xla=False)
    if precision.policy == "float32":
        raise NotMeasured(f"needs a CPU on which bfloat16 is faster: {precision.reason}")
    return precision.policy
