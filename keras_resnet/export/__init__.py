"""A run -> SavedModel and TFLite variants, verified before they are published."""

from keras_resnet.export.export import export
from keras_resnet.export.verify import verify

__all__ = ["export", "verify"]
