"""What each epoch gave: the records, their order, and their table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class EpochRecord:
    """One epoch's figures.

    Losses are mean cross-entropies, accuracies and the macro-F1 shares of 0 to 1. Those of training are
    taken while the network learns, on cropped and flipped images; those of validation afterwards, as a
    prediction is made. ``lr`` is the learning rate of the epoch, ``seconds`` its time, validation included.
    """

    epoch: int
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    val_macro_f1: float
    lr: float
    seconds: float

    @property
    def merit(self) -> tuple[float, float, int]:
        """What the best epoch has most of: accuracy on validation, then a small loss, then being early."""
        return self.val_accuracy, -self.val_loss, -self.epoch


def best_of(history: Sequence[EpochRecord]) -> EpochRecord:
    """Return the best epoch of at least one."""
    return max(history, key=lambda record: record.merit)


def csv_of(history: Sequence[EpochRecord]) -> bytes:
    """Give the table, a row an epoch; figures are written so that they read back as they were."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRecord)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in history)
    return text.getvalue().encode()
