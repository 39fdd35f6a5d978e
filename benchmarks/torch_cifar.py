"""Trains ResNet-20 in PyTorch on the images and with the settings of a run; for accuracy.py.

    python benchmarks/torch_cifar.py RUN

RUN was trained with the recipe paper-cifar. Splits, schedule, batch size, augmentation,
initialization and precision are the same; random numbers differ. The epoch with the best validation
accuracy is evaluated on the test images. Prints JSON.
"""

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from keras_resnet.specs import statistics


class Block(nn.Module):
    """A basic block; if the shape changes, the shortcut is option A of arXiv:1512.03385."""

    def __init__(self, inputs, filters, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, filters, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.conv2 = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.stride, self.zeros = stride, filters - inputs

    def forward(self, x):
        branch = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        half = self.zeros // 2
        shortcut = x[:, :, :: self.stride, :: self.stride]
        shortcut = functional.pad(shortcut, (0, 0, 0, 0, half, self.zeros - half))
        return functional.relu(branch + shortcut)


def resnet20(classes, normalize):
    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [
        Block(before, width, 2 if width > before else 1) for before, width in pairwise(widths)
    ]
    stem = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)]
    model = nn.Sequential(Normalize(normalize), *stem, *blocks, *head)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)  # fan-in, as in RUN
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    return model


class Normalize(nn.Module):
    def __init__(self, name):
        super().__init__()
        mean, deviation = (torch.tensor(row).view(1, 3, 1, 1) for row in statistics(name))
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x):
        return (x - self.mean) / self.deviation


def load(run, split, config, labels):
    """Pixels `(n, 3, h, w)` in [0, 255], and labels `(n,)`."""
    rows = json.loads((run / "split.json").read_text())[split]
    pixels = np.stack([np.asarray(Image.open(Path(config["data"]) / row[0])) for row in rows])
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return images, torch.tensor([labels.index(row[1]) for row in rows])


def augmented(images, pad):
    """Pads with black, and crops and flips each image at random."""
    count, _, height, width = images.shape
    images = functional.pad(images, (pad,) * 4)
    top, left = (torch.randint(2 * pad + 1, (count, 1)) for _ in range(2))
    rows, columns = top + torch.arange(height), left + torch.arange(width)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns, columns.flip(1))
    at = torch.arange(count)[:, None, None]
    return images.permute(0, 2, 3, 1)[at, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def accuracy(model, images, labels, precision):
    model.eval()
    with torch.inference_mode(), precision():
        right = sum(
            int((model(part.float()).argmax(1) == truth).sum())
            for part, truth in zip(images.split(500), labels.split(500), strict=True)
        )
    return right / len(labels)


def main(folder):
    run, began = Path(folder), time.monotonic()
    config = json.loads((run / "config.json").read_text())
    policy = json.loads((run / "metrics.json").read_text())["precision"]
    labels = (run / "labels.txt").read_text().split()
    torch.manual_seed(config["seed"])

    def precision():
        return torch.autocast("cpu", torch.bfloat16, enabled=policy == "mixed_bfloat16")

    (images, truth), val, test = (load(run, s, config, labels) for s in ("train", "val", "test"))
    model = resnet20(len(labels), config["normalize"]).to(memory_format=torch.channels_last)
    # Decoupled weight decay, as in RUN: w -= rate · (direction + decay · w).
    weights = [p for p in model.parameters() if p.ndim > 1]
    rate, batch, decay = config["learning_rate"], config["batch_size"], config["weight_decay"]
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=config["momentum"])
    steps = len(images) // batch
    total, warmup = config["epochs"] * steps, config["warmup_epochs"] * steps
    drops = [round(share * total) for share in config["rate_drops"]]
    best, step = (0.0, 0, None), 0
    for epoch in range(1, config["epochs"] + 1):
        model.train()
        for part in torch.randperm(len(images))[: steps * batch].split(batch):
            now = rate * min(1, (step + 1) / warmup) * 0.1 ** sum(step >= drop for drop in drops)
            optimizer.param_groups[0]["lr"] = now
            view = augmented(images[part], config["pad"]).float()
            with precision():
                scores = model(view.contiguous(memory_format=torch.channels_last))
                loss = functional.cross_entropy(scores.float(), truth[part])
            optimizer.zero_grad()
            loss.backward()
            with torch.no_grad():
                for weight in weights:
                    weight.mul_(1 - now * decay)
            optimizer.step()
            step += 1
        score = accuracy(model, *val, precision)
        print(f"epoch {epoch}: loss {loss:.3f}, val {score:.4f}", file=sys.stderr, flush=True)
        if score > best[0]:
            best = score, epoch, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best[2])
    print(
        json.dumps(
            {
                "val_top1": best[0],
                "best_epoch": best[1],
                "test_top1": accuracy(model, *test, precision),
                "seconds": round(time.monotonic() - began),
                "torch": torch.__version__,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
