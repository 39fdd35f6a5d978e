"""Splits are honest: equal and related images are on one side, and shares are kept."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from keras_resnet.config import SETTINGS
from keras_resnet.data import folder, sources, splitting
from keras_resnet.data.check import check
from keras_resnet.data.examples import from_pixels
from keras_resnet.data.photo import EXIF_ORIENTATION
from keras_resnet.errors import InputError


def _save(path, seed, **options):
    """A JPEG of random blocks: other seeds look different."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 255, (8, 9, 3)).astype(np.uint8)
    Image.fromarray(blocks).resize((36, 32), 0).save(path, **options)


def _people(root, inside):
    """Two classes of five people with four images each, of which two are equal."""
    for k, label in enumerate(("hi", "yo")):
        for person in range(5):
            for i in range(4):
                name = inside.format(person, i)
                _save(str(root / label / name), 100 * k + 10 * person + max(i, 1))
    return str(root)


@pytest.fixture
def flat(tmp_path):
    return _people(tmp_path / "flat", "p{}_{}.jpg")


@pytest.fixture
def people(tmp_path):
    return _people(tmp_path / "people", "p{0}/p{0}_{1}.jpg")


def _by_split(source, key):
    return {split: {key(name) for name in e.names} for split, e in source.splits.items()}


def _person(name):
    return name.split(os.sep)[1]


def _disjoint(sets):
    return sum(map(len, sets)) == len(set.union(*sets))


@pytest.mark.parametrize("seed", range(4))
def test_equal_images_are_in_one_split(flat, seed):
    source = sources.load(flat, val_split=0.3, test_split=0.3, seed=seed)
    contents = [set(examples.digests.tolist()) for examples in source.splits.values()]
    assert list(source.splits) == ["train", "val", "test"]
    assert _disjoint(contents) and sum(map(len, contents)) == 30
    assert sum(map(len, source.splits.values())) == 40


def test_uncompressed_images_that_differ_in_their_middle_differ(tmp_path):
    for k, label in enumerate("ab"):
        for i in range(4):
            image = np.zeros((300, 300, 3), np.uint8)
            image[150, 150] = (k, i, 0)
            (tmp_path / label).mkdir(exist_ok=True)
            Image.fromarray(image).save(tmp_path / label / f"{i}.bmp")
    (examples,) = sources.load_all(tmp_path).splits.values()
    assert len(set(examples.digests.tolist())) == 8


@pytest.mark.parametrize("group_by", ["parent", "p[0-9]+_", "/p([0-9])/"])
def test_related_images_are_in_one_split(people, group_by):
    for seed in range(4):
        source = sources.load(people, val_split=0.2, test_split=0.2, group_by=group_by, seed=seed)
        assert _disjoint(list(_by_split(source, _person).values()))
        counts = {s: np.bincount(e.labels).tolist() for s, e in source.splits.items()}
        assert counts == {"train": [12, 12], "val": [4, 4], "test": [4, 4]}


def test_the_groups_are_counted_once(people, capsys):
    sources.load(people, group_by="p[0-3]_", test_split=0.2)
    assert capsys.readouterr().err.count("--group-by") == 1
    sources.load(people, group_by="p[0-3]_")
    assert capsys.readouterr().err == "--group-by p[0-3]_: 4 groups; 8 images in none\n"
    sources.load(people, group_by="hi/p0")
    assert capsys.readouterr().err == "--group-by hi/p0: 1 group; 36 images in none\n"


@pytest.mark.parametrize("seed", range(4))
def test_a_split_may_have_no_image_that_is_in_a_group(people, seed):
    source = sources.load(people, group_by="p0_", seed=seed, val_split=0.2)
    assert _disjoint([{n for n in e.names if "p0_" in n} for e in source.splits.values()])


def _numbered(labels, contents):
    """Images of one number each; those of one content are equal."""
    pixels = np.array(contents, np.uint8)[:, None, None, None] * np.ones((2, 2, 3), np.uint8)
    return from_pixels(pixels, np.array(labels), [f"{i}.png" for i in range(len(labels))])


def test_a_large_share_leaves_each_class_images_to_train_on():
    pool = _numbered([0] * 10 + [1] * 10, [*[0] * 9, 1, *[2] * 9, 3])  # two groups of a class
    for seed in range(4):
        held = splitting.hold_out(pool, splitting.group(pool), "ab", 0.9, seed)
        assert 0 < held[:10].sum() < 10 and 0 < held[10:].sum() < 10
    three = _numbered([0, 0, 0, 1, 1, 1], range(6))
    splits = splitting.divide({"all": three}, "ab", 0.6, 0.6, None, 0)
    assert list(splits) == ["train", "val", "test"]
    assert all(sorted(examples.labels) == [0, 1] for examples in splits.values())


def _digests(splits):
    return {split: {*examples.digests.tolist()} for split, examples in splits.items()}


@pytest.mark.parametrize("seed", range(4))
def test_images_of_the_run_whose_weights_are_taken_stay_in_their_split(seed):
    """More photos later: of 20 old ones and 20 new ones in two classes."""
    old, new = _numbered([0, 1] * 10, range(20)), _numbered([0, 1] * 20, range(40))
    first = _digests(splitting.divide({"all": old}, "ab", 0.2, 0.1, None, 7))
    later = splitting.divide({"all": new}, "ab", 0.2, 0.1, None, seed, first)
    assert all(first[split] <= found for split, found in _digests(later).items())
    assert np.bincount(later["test"].labels).tolist() == [2, 2]
    assert np.bincount(later["val"].labels).tolist() == [4, 4]  # of the 18 others of each class
    # Of the same images, the split stays what it was, whatever the seed.
    again = splitting.divide({"all": old}, "ab", 0.2, 0.1, None, seed, first)
    assert _digests(again) == first


def test_held_out_are_only_images_that_the_first_weights_have_not_seen():
    pool = _numbered([0] * 6 + [1] * 6, range(12))
    of_one = pool.digests[pool.labels == 0]
    splits = splitting.divide({"all": pool}, "ab", 0.5, 0.0, None, 0, {"train": of_one})
    assert np.bincount(splits["val"].labels).tolist() == [0, 3]
    (line,) = splitting.warnings(splits, "ab")
    assert "the val split has no image of class a (1 of 2 classes)" in line
    with pytest.raises(InputError, match="none of the 12 images can be held out: each is a tr"):
        splitting.divide({"all": pool}, "ab", 0.5, 0.0, None, 0, {"train": pool.digests})
    # A group with one of them stays whole.
    related = np.array([0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 9])
    ranks = np.where(np.arange(12) == 1, splitting._STAYS, 0)
    held = splitting.hold_out(pool, related, "ab", 0.5, 0, ranks=ranks)
    assert not held[:2].any() and held[2:6].sum() == held[6:].sum() == 3


def test_images_are_related_through_others(tmp_path):
    """By equal images and by their names in turn."""
    for name, content in {"x1": 1, "y1": 2, "x2": 3, "y2": 3, "z1": 4, "x3": 4, "w1": 5}.items():
        _save(str(tmp_path / "hi" / f"{name}.jpg"), content)
    _save(str(tmp_path / "yo" / "v1.jpg"), 6)
    pool = sources.load_all(tmp_path).splits["all"]
    groups = dict(zip(pool.names, splitting.group(pool, "/([a-z])[0-9]").tolist(), strict=True))
    assert len({groups[f"hi/{name}.jpg"] for name in ("x1", "x2", "x3", "y1", "y2", "z1")}) == 1
    assert len(set(groups.values())) == 3


def test_a_test_split_is_seeded_and_of_each_class():
    first, again, other = (sources.load("digits", test_split=0.1, seed=s) for s in (1, 1, 2))
    assert first.splits["test"].names == again.splits["test"].names
    assert first.splits["test"].names != other.splits["test"].names
    share = np.bincount(first.splits["test"].labels) / np.bincount(
        sources.load_all("digits").splits["all"].labels
    )
    assert abs(share - 0.1).max() < 0.01


def test_a_test_split_of_its_own_is_kept(tmp_path):
    for split in ("train", "test"):
        for label in ("a", "b"):
            for i in range(4):
                _save(str(tmp_path / split / label / f"{i}.png"), hash((split, label, i)) % 2**32)
    with pytest.raises(InputError, match=r"--test-split is 0\.2, but the data has a test split"):
        sources.load(tmp_path, test_split=0.2)
    assert set(sources.load(tmp_path).splits) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("group_by", "said"),
    [
        ("zebra", r"--group-by 'zebra' matches no image, such as hi/p0/p0_0\.jpg"),
        ("hi|yo", "cannot be split|at least 2 are needed"),
    ],
)
def test_a_grouping_that_cannot_be_is_refused(people, group_by, said):
    with pytest.raises(InputError, match=said):
        sources.load(people, group_by=group_by)
    assert any(group_by in line or "group" in line for line in _obstacles(people, group_by))


def test_images_without_folders_have_no_groups():
    for each in (check, sources.load):
        with pytest.raises(InputError, match="--group-by parent is for a folder of images, not di"):
            each("digits", group_by="parent")


def _held_out(*parts):
    """The groups that are held out, a tenth of each class, of `(class, group, images)`."""
    labels, groups, images = map(np.array, zip(*parts, strict=True))
    labels, groups = labels.repeat(images), groups.repeat(images)
    held = splitting.hold_out(SimpleNamespace(labels=labels), groups, list("abc"), 0.1, seed=0)
    assert all(held[groups == g].mean() in (0, 1) for g in set(groups))  # whole
    return set(groups[held].tolist())


def test_of_groups_that_are_all_larger_than_the_share_the_smallest_is_held_out():
    singles = [(k, 10 * k + i, 1) for k in (1, 2) for i in range(10)]
    held = _held_out((0, 0, 8), (0, 1, 6), (0, 2, 7), *singles)
    assert held & {0, 1, 2} == {1} and len(held) == 3


def test_a_class_that_others_need_whole_cannot_be_divided():
    with pytest.raises(InputError, match="class a cannot be split: its images are in groups"):
        _held_out((0, 0, 9), (1, 0, 1), (0, 1, 9), (2, 1, 1), (1, 2, 1), (2, 3, 1))


def test_a_class_of_one_image_or_of_one_group_is_too_small():
    others = [(k, 10 * k + i, 1) for k in (1, 2) for i in range(10)]
    with pytest.raises(InputError, match="class a has 1 image; at least 2 are needed, one to"):
        _held_out((0, 0, 1), *others)
    with pytest.raises(InputError, match="class a has 5 images in 1 group of identical"):
        _held_out((0, 0, 5), *others)


def _obstacles(data, group_by):
    return check(data, group_by=group_by).obstacles


def test_no_folder_below_the_classes_and_no_folder_at_all_have_no_parent(tmp_path):
    for i in range(4):
        _save(str(tmp_path / "ab"[i % 2] / f"{i}.jpg"), i)
    with pytest.raises(InputError, match="all images lie directly in their class folders"):
        sources.load(tmp_path, group_by="parent")
    with pytest.raises(InputError, match="--group-by parent is for a folder of images"):
        sources.load("digits", group_by="parent")


def test_a_regular_expression_that_is_none_is_refused():
    with pytest.raises(InputError, match=r"--group-by is '\('; expected parent, or a regular"):
        SETTINGS["group_by"].require("(")


def test_equal_and_similar_images_of_the_users_own_splits_are_counted(tmp_path, capsys):
    for split, first in (("train", 0), ("val", 5)):
        for k, label in enumerate("ab"):
            for i in range(first, first + 6):  # number 5 is in both
                _save(str(tmp_path / split / label / f"{i}.jpg"), 100 * k + i)
            quality = 95 if split == "train" else 40
            _save(str(tmp_path / split / label / "saved_again.jpg"), 77 + k, quality=quality)
    sources.load(tmp_path)
    said = "2 images of the val split are also in train, such as val/a/5.jpg"
    assert said in capsys.readouterr().err
    checked = check(tmp_path)
    assert not checked.passed and checked.leaks == 2 and checked.warnings[0].startswith(said)
    assert checked.near_duplicates == 2
    assert ["val/a/saved_again.jpg", "train/a/saved_again.jpg"] in checked.near_pairs


def test_images_of_one_hash_that_differ_otherwise_are_not_alike(tmp_path):
    """As photos before the same wall."""
    signs = np.random.default_rng(0).choice([-1, 1], (8, 8))
    for k, label in enumerate("ab"):
        (tmp_path / label).mkdir()
        for i in range(2):
            rng = np.random.default_rng(10 * k + i)
            steps = np.cumsum(signs * rng.uniform(2, 10, (8, 8)), 1)
            rows = np.pad(steps, ((0, 0), (1, 0))) + rng.uniform(-40, 40, (8, 1))
            blocks = np.uint8(rows + 128)
            pixels = Image.fromarray(blocks).resize((36, 32), 0)
            pixels.save(tmp_path / label / f"{i}.png")
            if i == 0:
                pixels.point(lambda v: v * 0.8 + 20).save(tmp_path / label / "darker.png")
    found = folder.scan(tmp_path, look=True)
    assert len({photo.look.hash for photo in found.photos["all"]}) == 1
    assert sorted(check(tmp_path).near_pairs) == [
        ["a/darker.png", "a/0.png"],
        ["b/darker.png", "b/0.png"],
    ]


def test_a_photo_that_was_turned_and_saved_is_like_its_original(tmp_path):
    """As a program saves it that turns the pixels instead of leaving that to Exif."""
    for k, label in enumerate("ab"):
        (tmp_path / label).mkdir()
        grey = np.random.default_rng(k).integers(0, 256, (6, 8), np.uint8)
        photo = Image.fromarray(grey).resize((64, 48), Image.Resampling.NEAREST)
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = 6
        photo.save(tmp_path / label / "original.jpg", exif=exif)
        photo.rotate(-90, expand=True).save(tmp_path / label / "turned.jpg")
    assert sorted(check(tmp_path).near_pairs) == [
        ["a/turned.jpg", "a/original.jpg"],
        ["b/turned.jpg", "b/original.jpg"],
    ]


def test_an_image_in_two_classes_is_named(flat, capsys):
    _save(os.path.join(flat, "yo", "lost.jpg"), 1)  # hi/p0_0.jpg
    sources.load(flat)
    said = "1 image is in more than one class, such as hi/p0_0.jpg; keep each in one"
    assert said in capsys.readouterr().err
    assert said in check(flat).warnings


def test_groups_in_two_splits_of_the_user_are_counted(tmp_path, capsys):
    for split, people in (("train", "ab"), ("val", "bc")):
        for label in ("hi", "yo"):
            for person in people:
                path = tmp_path / split / label / person / "x.jpg"
                _save(str(path), int.from_bytes(f"{split} {label} {person}".encode()))
    sources.load(tmp_path, group_by="parent")
    said = "1 group of --group-by parent is in train and val, such as b"
    assert said in capsys.readouterr().err


def test_groups_of_the_users_splits_are_joined_in_folds(tmp_path):
    """People with images of both classes; one class is named as its split, and has an image of no
    group; the val split is of that class only."""
    for split, label, persons in (
        ("train", "train", "abcd"), ("train", "yo", "abcd"), ("val", "train", "ae"),
    ):  # fmt: skip
        _save(str(tmp_path / split / label / "x.jpg"), len(split + label))
        for person in persons:
            path = tmp_path / split / label / person / "x.jpg"
            _save(str(path), int.from_bytes(f"{split} {label} {person}".encode()))
    source = sources.load(tmp_path, group_by="parent")
    assert {split: set(splitting.keys(e, "parent")) for split, e in source.splits.items()} == {
        "train": {None, *"abcd"}, "val": {None, *"ae"},
    }  # fmt: skip
    said = "1 group of --group-by parent is in train and val, such as a"
    assert said in splitting.warnings(source.splits, source.classes, "parent")
    pool = sources.pool(source)
    groups = splitting.group(pool, "parent")
    assert len(set(groups.tolist())) == 3 + 5  # images of no group, and people
    fold = splitting.folds(pool, groups, source.classes, 2, 0)
    keys = splitting.keys(pool, "parent")
    sides = [{key for key, k in zip(keys, fold, strict=True) if key and k == n} for n in (0, 1)]
    assert _disjoint(sides) and set.union(*sides) == set("abcde")


@pytest.mark.parametrize("group_by", ["parent", "p[0-9]+_"])
def test_a_split_of_the_user_may_have_no_groups(people, tmp_path, group_by):
    shutil.move(people, tmp_path / "data" / "train")
    for label in ("hi", "yo"):
        _save(str(tmp_path / "data" / "test" / label / "x.jpg"), len(label) + ord(label[0]))
    source = sources.load(tmp_path / "data", group_by=group_by)
    assert {split: len(e) for split, e in source.splits.items()} == {
        "train": 32, "val": 8, "test": 2,
    }  # fmt: skip
    persons = [{name.split(os.sep)[2] for name in source.splits[s].names} for s in ("train", "val")]
    assert _disjoint(persons)


def test_a_run_knows_the_content_of_its_images(flat, tmp_path):
    source = sources.load(flat)
    sources.save_split(source, tmp_path / "split.json")
    saved = sources.read_split(tmp_path / "split.json")
    for split, examples in source.splits.items():
        assert [image.digest for image in saved[split]] == examples.digests.tolist()


def test_changed_and_moved_images_are_named(flat, tmp_path, capsys):
    source = sources.load(flat)
    sources.save_split(source, tmp_path / "split.json")
    saved, name = sources.read_split(tmp_path / "split.json"), source.splits["val"].names[0]
    moved = os.path.join(str(tmp_path), "moved")
    os.rename(flat, moved)

    def read(data):
        return sources.load_split(saved, "val", data=data, classes=source.classes)

    with pytest.raises(
        InputError, match="the data folder of the run, no longer exists; give the current folder"
    ):
        read(flat)
    sources.require_moved(saved, moved, source.classes)
    os.utime(os.path.join(moved, name), (2e9, 2e9))  # touched, not changed
    assert read(moved).names == source.splits["val"].names
    assert "changed" not in capsys.readouterr().err
    _save(os.path.join(moved, name), 12345)
    read(moved)
    assert f"{name} changed since the run started (1 in all)" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"is not the image used in training \(1 of 40 differ\)"):
        sources.require_moved(saved, moved, source.classes)
    os.remove(os.path.join(moved, name))
    with pytest.raises(InputError, match=r"has no .* \(1 of 40 images of the run are missing\)"):
        sources.require_moved(saved, moved, source.classes)


def test_the_order_of_single_images_decides_as_it_always_did():
    """The split of a run can be made again: the first of each class in a seeded permutation."""
    pool = sources.load_all("digits").splits["all"]
    held = splitting.hold_out(pool, splitting.group(pool), list("0123456789"), 0.2, 3)
    for k in range(10):
        members = np.flatnonzero(pool.labels == k)
        order = np.random.default_rng([3, k]).permutation(members)
        assert set(np.flatnonzero(held & (pool.labels == k))) == set(
            order[: round(0.2 * len(members))]
        )
