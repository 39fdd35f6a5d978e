"""Divides images into splits: stratified, seeded, with equal and related images in one split."""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from keras_resnet.data.examples import Examples
from keras_resnet.data.names import show
from keras_resnet.errors import InputError
from keras_resnet.messages import plural

PARENT = "parent"
_STAYS = 3  # rank of an example that is never held out


def divide(
    splits: Mapping[str, Examples],
    classes: Sequence[str],
    val_split: float,
    test_split: float,
    group_by: str | None,
    seed: int,
    known: Mapping[str, Collection[int]] = MappingProxyType({}),
) -> dict[str, Examples]:
    """The splits of a data set, with a val split and, if requested, a test split.

    Args:
        splits: the stored splits: "all", or "train" and others.
        classes: names of the classes.
        val_split, test_split, group_by, seed: as in `sources.load`.
        known: digests of images by their split in the training of the initial weights: training
            images stay in "train", others are preferred for the same split.

    Raises:
        InputError: a class has too few images, or a test split already exists.
    """
    result = {split: examples for split, examples in splits.items() if split != "all"}
    pool = _pool(splits)
    if test_split and "test" in splits:
        raise InputError(
            f"--test-split is {test_split:g}, but the data has a test split; leave it out"
        )
    makes_val = "val" not in splits
    if test_split or makes_val:
        groups = group(pool, group_by)
        if test_split:
            ranks, keep = _ranks(pool, known, "test"), 1 + makes_val
            held = hold_out(pool, groups, classes, test_split, seed + 1, keep=keep, ranks=ranks)
            result["test"] = pool.take(np.flatnonzero(held))
            pool, groups = pool.take(np.flatnonzero(~held)), groups[~held]
        if makes_val:
            ranks = _ranks(pool, known, "val")
            held = hold_out(pool, groups, classes, val_split, seed, ranks=ranks)
            result["val"] = pool.take(np.flatnonzero(held))
            pool = pool.take(np.flatnonzero(~held))
    result["train"] = pool
    return {split: result[split] for split in ("train", "val", "test") if split in result}


def _ranks(
    examples: Examples, known: Mapping[str, Collection[int]], split: str
) -> npt.NDArray[np.int64]:
    """The `ranks` of `hold_out` for a split: 0 for images that were in it before, 1 for new ones, 2
    for those of another held-out split; `_STAYS` for earlier training images."""
    ranks = np.ones(len(examples), np.int64)
    for before, digests in known.items():
        rank = {"train": _STAYS, split: 0}.get(before, 2)
        ranks[are(examples, digests)] = rank
    return ranks


def _pool(splits: Mapping[str, Examples]) -> Examples:
    """The examples to divide."""
    return splits["all"] if "all" in splits else splits["train"]


def warnings(
    splits: Mapping[str, Examples], classes: Sequence[str], group_by: str | None = None
) -> list[str]:
    """Warnings about problems of a data set that would bias scores."""
    lines = []
    for one, other in combinations(splits, 2):
        shared = np.flatnonzero(are(splits[other], splits[one].digests))
        if len(shared):
            first = show(splits[other].names[shared[0]])
            lines.append(
                f"{plural(len(shared), 'image')} of the {other} split {_are(len(shared))} also in "
                f"{one}, such as {first}: scores on {other} will be too good; remove them from one "
                "split"
            )
        if group_by:
            related = [set(keys(splits[split], group_by)) for split in (one, other)]
            common = sorted(filter(None, set.intersection(*related)))
            if common:
                lines.append(
                    f"{plural(len(common), 'group')} of --group-by {group_by} "
                    f"{_are(len(common))} in {one} and {other}, such as {show(common[0])}"
                )
    mislabelled = _mislabelled(list(splits.values()))
    if mislabelled:
        count = len(mislabelled)
        lines.append(
            f"{plural(count, 'image')} {_are(count)} in more than one class, such as "
            f"{show(mislabelled[0])}; keep each in one"
        )
    for split in ("val", "test"):
        if split in splits:
            present = np.bincount(splits[split].labels, minlength=len(classes))
            missing = [classes[k] for k in np.flatnonzero(present == 0).tolist()]
            if missing:
                lines.append(
                    f"the {split} split has no image of class {show(missing[0])} ({len(missing)} "
                    f"of {len(classes)} classes): no score covers it"
                )
    return lines


def are(examples: Examples, digests: Collection[int]) -> npt.NDArray[np.bool_]:
    """Whether each example has one of these digests, bool `(n,)`."""
    return np.isin(examples.digests, np.fromiter(digests, np.int64))


def _mislabelled(pools: Sequence[Examples]) -> list[str]:
    """One name of each image that is in more than one class."""
    digests = np.concatenate([e.digests for e in pools])
    labels = np.concatenate([e.labels for e in pools])
    names = [name for e in pools for name in e.names]
    order = np.lexsort((labels, digests))
    by_digest, by_label = digests[order], labels[order]
    differ = (by_digest[1:] == by_digest[:-1]) & (by_label[1:] != by_label[:-1])
    first: dict[int, str] = {}
    for i in np.flatnonzero(np.isin(digests, by_digest[1:][differ])):
        first[int(digests[i])] = min(names[i], first.get(int(digests[i]), names[i]))
    return sorted(first.values())


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def hold_out(
    examples: Examples,
    groups: npt.NDArray[np.int64],
    classes: Sequence[str],
    share: float,
    seed: int,
    *,
    keep: int = 1,
    ranks: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.bool_]:
    """Chooses examples to hold out, a `share` of each class: bool `(n,)`.

    Whole groups are taken, in a seeded order, as long as each brings the class sizes closer to the
    share; every class has an image on either side.

    Args:
        examples: the examples to divide.
        groups: the group of each example, from `group`.
        classes: names of the classes.
        share: share of the images of each class, in 0…1.
        seed: seed of the order.
        keep: minimum number of groups of each class that are not held out, for this and later
            splits.
        ranks: int `(n,)`: examples of lower rank are held out first, those of `_STAYS` never.

    Raises:
        InputError: a class has too few groups, or nothing can be held out.
    """
    labels, count = examples.labels, len(classes)
    totals = np.bincount(labels, minlength=count)
    wanted = np.clip(np.round(share * totals).astype(int), 1, np.maximum(totals - keep, 1))
    orders = [
        np.random.default_rng([seed, k]).permutation(np.flatnonzero(labels == k))
        for k in range(count)
    ]
    staying: set[int] = set()
    if ranks is not None:
        orders = [order[np.argsort(ranks[order], kind="stable")] for order in orders]
        staying.update(groups[ranks == _STAYS].tolist())
    sizes: dict[int, Counter[int]] = {}  # group -> images by class
    for g, label in zip(groups.tolist(), labels.tolist(), strict=True):
        sizes.setdefault(g, Counter())[label] += 1
    left = Counter(k for parts in sizes.values() for k in parts)  # groups by class
    held: dict[int, Counter[int]] = {}

    def take(g: int) -> None:
        held[g] = sizes[g]
        for k, images in sizes[g].items():
            left[k] -= 1
            wanted[k] -= images

    def may_go(g: int) -> bool:
        return g not in held and g not in staying and all(left[k] > keep for k in sizes[g])

    for k, name in enumerate(classes):
        if left[k] <= keep:
            raise InputError(_too_few(name, int(totals[k]), left[k], keep + 1))
    for k in range(count):
        for g in groups[orders[k]].tolist():
            gain = sum(abs(wanted[c]) - abs(wanted[c] - n) for c, n in sizes[g].items())
            if gain > 0 and may_go(g):
                take(g)
    for k, name in enumerate(classes):
        if any(k in parts for parts in held.values()):
            continue
        fitting = [g for g in groups[orders[k]].tolist() if may_go(g)]
        if staying.issuperset(groups[orders[k]].tolist()):
            continue  # `warnings` reports the class
        if not fitting:
            raise InputError(
                f"class {show(name)} cannot be split: its images are in groups with others; use "
                "another --group-by"
            )
        take(min(fitting, key=lambda g: sum(sizes[g].values())))  # all groups exceed the share
    if not held:
        raise InputError(
            f"none of the {plural(len(examples), 'image')} can be held out: each is a training "
            "image of --weights, or in a group with one; add new ones, or leave --test-split and "
            "--group-by out"
        )
    return np.isin(groups, list(held))


def _too_few(name: str, images: int, groups: int, needed: int) -> str:
    what = plural(images, "image")
    if groups < images:
        what += f" in {plural(groups, 'group')} of identical or related images"
    return (
        f"class {show(name)} has {what}; at least {needed} are needed, one to train on and "
        f"{'one' if needed == 2 else 'one each'} to hold out"
    )


def folds(
    examples: Examples,
    groups: npt.NDArray[np.int64],
    classes: Sequence[str],
    count: int,
    seed: int,
) -> npt.NDArray[np.int64]:
    """The fold of each example, in 0…count-1: int `(n,)`.

    Groups stay whole, and each class is distributed over the folds as evenly as they allow.

    Args:
        examples: the examples to divide.
        groups: the group of each example, from `group`.
        classes: names of the classes.
        count: number of folds.
        seed: seed of the order.

    Raises:
        InputError: fewer groups than folds, or all images of a class are in one fold.
    """
    labels = examples.labels
    totals = np.bincount(labels, minlength=len(classes))
    known, numbers = np.unique(groups, return_inverse=True)
    if len(known) < count:
        raise InputError(
            f"--folds {count} is more than the {len(known)} groups of identical or related images; "
            f"use {max(len(known), 2)} or fewer"
        )
    sizes = np.zeros((len(known), len(classes)), np.int64)  # images of each group by class
    np.add.at(sizes, (numbers, labels), 1)
    shuffled = np.random.default_rng(seed).permutation(len(known)).tolist()
    # Largest groups first, then by class.
    order = sorted(shuffled, key=lambda g: (-sizes[g].sum(), sizes[g].argmax()))
    filled = np.zeros((count, len(classes)))
    chosen = np.zeros(len(known), np.int64)
    for g in order:
        # The fold where the squared shares of the classes grow least; of these, the smallest.
        cost = (filled * (sizes[g] / np.maximum(totals, 1) ** 2)).sum(1)
        chosen[g] = np.lexsort((filled.sum(1), cost))[0]
        filled[chosen[g]] += sizes[g]
    for k, name in enumerate(classes):
        if np.count_nonzero(filled[:, k]) < 2:
            raise InputError(_too_few(name, int(totals[k]), 1, 2))
    return chosen[numbers]


def group(examples: Examples, group_by: str | None = None) -> npt.NDArray[np.int64]:
    """The group of each example, int `(n,)`: equal and related images share a group.

    Args:
        examples: the examples of one split or folder.
        group_by: images are related if, with `"parent"`, they are in folders of the same name below
            their class folders; with a regular expression, if its first group (or its match) in
            their names, relative to the data folder, is equal. None: only equal images.
    """
    _, groups = np.unique(examples.digests, return_inverse=True)
    if group_by is None:
        return groups
    return _join(groups, keys(examples, group_by))


def grouped(splits: Mapping[str, Examples], group_by: str) -> str:
    """A message with the number of groups among the images to divide.

    Raises:
        InputError: `group_by` finds no group.
    """
    pool = _pool(splits)
    found = keys(pool, group_by)
    if not any(found) and group_by == PARENT:
        raise InputError(
            "--group-by parent: all images lie directly in their class folders; put the images of "
            "each group into a sub-folder, CLASS/GROUP/*.jpg, or give a regular expression"
        )
    if not any(found):
        raise InputError(
            f"--group-by {group_by!r} matches no image, such as {show(pool.names[0])}; give "
            "parent, or a regular expression that matches a part of these names"
        )
    alone = found.count(None)
    more = f"; {plural(alone, 'image')} in none" if alone else ""
    return f"--group-by {group_by}: {plural(len(set(found) - {None}), 'group')}{more}"


def keys(examples: Examples, group_by: str) -> list[str | None]:
    """The group name of each image; None for an image without a group."""
    if group_by == PARENT:
        assert examples.folders is not None  # examples of a data folder have them
        return [folder or None for folder in examples.folders]
    pattern = re.compile(group_by)
    matches = [pattern.search(name.replace(os.sep, "/")) for name in examples.names]
    return [_matched(match) or None if match else None for match in matches]


def _matched(match: re.Match[str]) -> str | None:
    return match[1] if match.re.groups else match[0]


def _join(groups: npt.NDArray[np.int64], found: Sequence[str | None]) -> npt.NDArray[np.int64]:
    """Merges groups that share a key."""
    parents = list(range(len(groups)))

    def root(g: int) -> int:
        while parents[g] != g:
            parents[g] = parents[parents[g]]
            g = parents[g]
        return g

    first: dict[str, int] = {}
    for g, key in zip(groups.tolist(), found, strict=True):
        if key is not None:
            parents[root(g)] = root(first.setdefault(key, g))
    return np.array([root(g) for g in groups.tolist()])
