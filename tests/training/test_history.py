"""The order of the epochs, and their table."""

import csv

from whycam.training import EpochRecord, best_of
from whycam.training.history import csv_of


def record(epoch: int, accuracy: float, loss: float) -> EpochRecord:
    return EpochRecord(epoch, 1.5, 0.25, loss, accuracy, 1 / 3, 1e-5, 2.5)


def test_the_best_epoch_is_by_accuracy_then_loss_then_the_earlier() -> None:
    assert best_of([record(0, 0.5, 0.1), record(1, 0.7, 0.9)]).epoch == 1
    assert best_of([record(0, 0.7, 0.9), record(1, 0.7, 0.8), record(2, 0.6, 0.1)]).epoch == 1
    assert best_of([record(0, 0.1, 0.9), record(1, 0.7, 0.8), record(2, 0.7, 0.8)]).epoch == 1


def test_the_table_reads_back_as_it_was() -> None:
    written = [record(0, 0.44444445, 1e-9), record(1, 1.0, 2.0)]
    rows = list(csv.DictReader(csv_of(written).decode().splitlines()))
    assert list(rows[0])[:5] == ["epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy"]
    read = [EpochRecord(int(row.pop("epoch")), *(float(value) for value in row.values())) for row in rows]
    assert read == written
