"""The order of records in many files, and how hosts share it out."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from convzoo.data import tfrecord_source
from convzoo.data.tfrecord_source import VIRTUAL_SHARDS, TFRecordSource

# Fewer records than lanes, and more; files of all sizes, some of them empty.
FEW = (5, 0, 11, 3, 22)
MANY = (100, 0, 3, 150, 40, 0, 207)


def _write(folder, counts):
    """Files whose records say their number; list of (path, number of records)."""
    files, number = [], 0
    for index, count in enumerate(counts):
        path = str(folder / f"records-{index}")
        with tf.io.TFRecordWriter(path) as writer:
            for _ in range(count):
                writer.write(b"%d" % number)
                number += 1
        files.append((path, count))
    return files


def _source(**files):
    return TFRecordSource("records", ["one"], files, _parse)


def _parse(record):
    return {"image": record, "label": tf.strings.to_number(record, tf.int64)}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    return _source(train=_write(tmp_path_factory.mktemp("few"), FEW))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return _source(train=_write(tmp_path_factory.mktemp("many"), MANY))


@pytest.fixture(scope="module", params=["few", "many"])
def source(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def whole(source):
    """The records of two epochs, one host's stream."""
    return _numbers(source, 2 * source.num_examples("train"))[1]


def _stream(source, split="train", **options):
    options = {"seed": 3, "first_example": 0, "shard": (0, 1), "shuffle_buffer": 700, **options}
    return source.shuffled(split, **options)


def _numbers(source, count, **options):
    """Returns the first `count` numbers of a stream and their records."""
    found = [(n, example["label"]) for n, example in _stream(source, **options).take(count).as_numpy_iterator()]
    return [int(n) for n, _ in found], [int(record) for _, record in found]


def test_every_epoch_has_each_record_once_in_another_order(source):
    size = source.num_examples("train")
    numbers, found = _numbers(source, 3 * size)
    assert numbers == list(range(3 * size))
    epochs = [found[:size], found[size : 2 * size], found[2 * size :]]
    for epoch in epochs:
        assert sorted(epoch) == list(range(size))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert _numbers(source, size)[1] == epochs[0]
    assert _numbers(source, size, seed=4)[1] != epochs[0]
    assert _numbers(source, 5, first_example=size * 10**9)[0][0] == size * 10**9


# 128 shares a divisor with the number of lanes, 5 shares none; 384 is twice that.
@pytest.mark.parametrize("count", [2, 3, 5, 8, 128, 384])
def test_hosts_share_the_one_stream(source, whole, count):
    for index in range(count) if count <= 8 and len(whole) < 100 else {1, count - 1}:
        expected = range(index, len(whole), count)
        numbers, found = _numbers(source, len(expected), shard=(index, count))
        assert numbers == list(expected)
        assert found == whole[index::count]


def test_a_stream_resumes_at_every_batch(few):
    _, whole = _numbers(few, 82)
    for first in range(0, 82, 8):
        numbers, found = _numbers(few, 82 - first, first_example=first)
        assert numbers == list(range(first, 82))
        assert found == whole[first:]


@pytest.mark.parametrize("first", [1, VIRTUAL_SHARDS - 1, 497, 877])
def test_a_stream_resumes_within_and_between_the_rounds_of_the_lanes(many, first):
    _, whole = _numbers(many, 1000)
    assert _numbers(many, 1000 - first, first_example=first)[1] == whole[first:]
    expected = [n for n in range(first, 1000) if n % 12 == 7]
    numbers, found = _numbers(many, len(expected), first_example=first, shard=(7, 12))
    assert numbers == expected
    assert found == [whole[n] for n in expected]


def _places(source, epochs, shuffle_buffer):
    """Returns the position of each record in each epoch, int [epochs, records]."""
    size = source.num_examples("train")
    batches = _stream(source, shuffle_buffer=shuffle_buffer).map(lambda _, example: example["label"]).batch(size)
    return np.stack([np.argsort(epoch) for epoch in batches.take(epochs).as_numpy_iterator()])


@pytest.fixture(scope="module")
def places(source):
    """Of 30 epochs, with a buffer that holds every record."""
    return _places(source, 30, 700)


@pytest.fixture(scope="module")
def places_without_buffer(many):
    return _places(many, 15, 1)


def test_every_place_is_as_likely_for_every_record(places):
    """With a buffer that holds all. The standard deviation of a chi-square is the root of twice its expectation."""
    epochs, size = places.shape
    parts = 5
    counts = np.stack([((places * parts) // size == part).sum(axis=0) for part in range(parts)])
    expected = epochs * np.bincount(np.arange(size) * parts // size)[:, np.newaxis] / size
    chi_square = ((counts - expected) ** 2 / expected).sum()
    freedom = (size - 1) * (parts - 1)
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_records_of_a_file_are_spread_over_an_epoch(source, places):
    apart = np.abs(np.diff(places, axis=1))
    assert (apart == 1).mean() < 4 / places.shape[1]  # a drawn order has twice one over the number of records


def test_order_without_shuffle_buffer(places_without_buffer):
    assert (np.ptp(places_without_buffer, axis=0) > 500 / 4).all()


def test_the_buffer_parts_the_records_of_a_lane(many, places_without_buffer):
    """A lane holds two or three records that lie side by side; with a buffer, either may come first."""
    steps = np.diff(places_without_buffer, axis=1)
    assert (steps[np.abs(steps) == VIRTUAL_SHARDS] > 0).all()
    assert (steps == VIRTUAL_SHARDS).mean() > 0.5
    steps = np.diff(_places(many, 5, 2 * VIRTUAL_SHARDS), axis=1)
    assert 0.4 < (steps[np.abs(steps) == VIRTUAL_SHARDS] > 0).mean() < 0.6


def test_virtual_shards_change_between_epochs(tmp_path):
    """In one file of two records a lane, a neighbor is as often in the same lane as in the next."""
    source = _source(train=_write(tmp_path, (2 * VIRTUAL_SHARDS,)))
    share = np.abs(np.diff(_places(source, 20, 1), axis=1)) == VIRTUAL_SHARDS
    assert share.any(axis=0).all()
    assert not share.all(axis=0).any()


def test_file_order_changes_between_epochs(tmp_path):
    source = _source(train=_write(tmp_path, (25,) * 16))
    files = np.argsort(_places(source, 10, 1), axis=1) // 25
    first, second = files[:, :-VIRTUAL_SHARDS], files[:, VIRTUAL_SHARDS:]
    following = set(zip(first[first != second], second[first != second], strict=True))
    assert len(following) > 40  # sixteen, if it never changed


def test_slices_are_records_of_the_files_in_their_order(tmp_path):
    (tmp_path / "test").mkdir()
    source = _source(train=_write(tmp_path, FEW), test=_write(tmp_path / "test", (4, 7)))
    train, test = list(range(41)), list(range(11))
    for split, expected in {
        "train[:90%]": train[:37],
        "train[5:6]": train[5:6],
        "test[3:-2]+train[30:]": test[3:-2] + train[30:],
    }.items():
        assert source.num_examples(split) == len(expected)
        assert sorted(e["label"] for e in source.dataset(split).as_numpy_iterator()) == sorted(expected)
        numbers, found = _numbers(source, 2 * len(expected), split=split)
        assert numbers == list(range(2 * len(expected)))
        for epoch in (found[: len(expected)], found[len(expected) :]):
            assert sorted(epoch) == sorted(expected)


def test_shards_of_the_fixed_order(source):
    whole = [int(e["label"]) for e in source.dataset("train").as_numpy_iterator()]
    assert sorted(whole) == list(range(source.num_examples("train")))
    for index in range(3):
        shard = source.ordered("train", (index, 3)).as_numpy_iterator()
        assert [e["label"] for e in shard] == whole[index::3]


def _name_of(counts, files, record):
    """What messages should call a record."""
    ends = np.cumsum(counts)
    file = int(np.searchsorted(ends, record, side="right"))
    return f"{files[file][0]}, record {record - (ends[file] - counts[file])}"


def test_where_names_the_record(tmp_path):
    files = _write(tmp_path, MANY)
    source = _source(train=files)
    _, found = _numbers(source, 1500)
    fixed = [int(e["label"]) for e in source.dataset("train").as_numpy_iterator()]
    for path, _ in files:
        os.remove(path)  # nothing is read for a name
    for number in (0, 191, 192, 500, 737, 1499):
        tf.random.set_seed(number)
        name = source.describe_example("train", number, seed=3, shuffle_buffer=700)
        assert name == _name_of(MANY, files, found[number])
    for position in (0, 15, 16, 499):
        assert source.describe_ordered_example("train", position) == _name_of(MANY, files, fixed[position])


def test_where_knows_slices(few):
    found = _numbers(few, 60, split="train[7:]+train[:2]", shuffle_buffer=1)[1]
    for number in (0, 20, 36, 59):
        name = few.describe_example("train[7:]+train[:2]", number, seed=3, shuffle_buffer=1)
        assert name == _name_of(FEW, few._files["train"], found[number])


def test_a_host_reads_its_share(tmp_path, monkeypatch):
    source = _source(train=_write(tmp_path, (10,) * 48))
    read, real = [], tfrecord_source._read_records

    def noted(path, skip, take):
        def note(row, record):
            return row, tf.numpy_function(lambda value: read.append(value) or value, [record], tf.string)

        return real(path, skip, take).map(note)

    monkeypatch.setattr(tfrecord_source, "_read_records", noted)
    _numbers(source, 480 // 24, shard=(5, 24))
    assert 20 <= len(read) < 100  # twenty, and what is fetched ahead of the second epoch


@pytest.mark.parametrize("damage", ["missing", "short", "wrong"])
def test_damage_costs_records_of_one_file_and_moves_no_other(tmp_path, damage):
    files = _write(tmp_path, FEW)
    source = _source(train=files)
    whole = dict(zip(*_numbers(source, 82), strict=True))
    path, count = files[2]  # records 5 to 15, of 17 to 18 bytes
    content = pathlib.Path(path).read_bytes()
    if damage == "missing":
        os.remove(path)
    elif damage == "short":
        pathlib.Path(path).write_bytes(content[:60])
    else:
        pathlib.Path(path).write_bytes(content[:80] + bytes([content[80] ^ 1]) + content[81:])
    with pytest.raises(tf.errors.InvalidArgumentError, match="cannot be read from its file"):
        _numbers(source, 41)
    readable = [(int(n), int(e["label"])) for n, e in _stream(source).ignore_errors().take(60).as_numpy_iterator()]
    assert all(whole[number] == record for number, record in readable if number < 82)
    lost = set(range(41)) - {record for number, record in readable if number < 41}
    assert lost
    assert lost <= set(range(5, 5 + count))
    fixed = list(source.dataset("train").ignore_errors().as_numpy_iterator())
    assert len(fixed) < 41
    assert {int(e["label"]) for e in fixed} >= set(range(41)) - set(range(5, 5 + count))
    assert "records-2, record" in source.describe_ordered_example("train", 5)
