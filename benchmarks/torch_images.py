"""Prints the images per second of PyTorch's DataLoader, once per input line; for pipeline.py.

Arguments: folder, size, batch, batches, and the minimum and maximum area and aspect of a crop.
"""

import os
import sys
import time
from itertools import islice

from torch.utils.data import DataLoader, RandomSampler
from torchvision import datasets, transforms


def main(folder, *numbers):
    size, batch, batches = map(int, numbers[:3])
    area, aspect = map(float, numbers[3:5]), map(float, numbers[5:])
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, tuple(area), tuple(aspect)),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
    )
    photos = datasets.ImageFolder(folder, view)
    order = RandomSampler(photos, replacement=True, num_samples=1_000_000 * batch)
    loader = DataLoader(photos, batch, sampler=order, num_workers=os.cpu_count())
    for _ in sys.stdin:
        started = iter(loader)
        drop(started, batches)
        began = time.perf_counter()
        drop(started, batches)
        print(batches * batch / (time.perf_counter() - began), flush=True)
        del started  # its processes end


def drop(iterator, count):
    for _ in islice(iterator, count):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
