"""The history of a training as a picture."""

import io
from collections.abc import Sequence
from typing import Any

from whycam.training.history import EpochRecord, best_of

_INCHES = (7.0, 2.9)
_DPI = 200
# told apart without red and green, and where one lies on the other
_LINES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("train", "training, on random crops", {"color": "#56b4e9", "linewidth": 2.4, "markersize": 4.5}),
    ("val", "validation", {"color": "#a63603", "linewidth": 1.0, "markersize": 2.5}),
)


def curves_of(history: Sequence[EpochRecord]) -> bytes:
    """Draw losses and accuracies by epoch, the best epoch marked, as PNG.

    The losses' axis begins at 0; that of the accuracies goes from 0 to 1.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_INCHES, layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    _draw(losses, history, "loss")
    _draw(accuracies, history, "accuracy")
    highest = max(max(record.train_loss, record.val_loss) for record in history)
    losses.set(ylabel="cross-entropy", ylim=(0, 1.05 * highest or 1))
    accuracies.set(ylabel="accuracy", ylim=(0, 1.02))
    best = best_of(history)
    note = f"best: epoch {best.epoch}, {best.val_accuracy:.1%} on validation"
    figure.legend(*losses.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    accuracies.set_title(note, fontsize="small", loc="right")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=_DPI, format="png")
    return buffer.getvalue()


def _draw(axes: Any, history: Sequence[EpochRecord], what: str) -> None:
    epochs = [record.epoch for record in history]
    for split, name, style in _LINES:
        values = [getattr(record, f"{split}_{what}") for record in history]
        axes.plot(epochs, values, label=name, marker="o", **style)
    axes.axvline(best_of(history).epoch, color="0.6", linewidth=0.8, linestyle="--", label="best epoch")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
