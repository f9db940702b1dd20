"""Going through the checkpoints: each is put into the one network, scored on the same views, and kept."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TypeAlias

from whycam.errors import EngineError, RunError, WeightsError
from whycam.selection.checkpoints import Checkpoint
from whycam.selection.network import Network
from whycam.selection.ranking import Result
from whycam.selection.results import SelectionFolder
from whycam.selection.scoring import Classes, evaluate, warm_up
from whycam.selection.views import Views

Advance: TypeAlias = Callable[[int, int], None]


@dataclass
class Round:
    """What has become of each checkpoint so far: a result, or the reason why it has none.

    ``labels`` are the views' classes, as the network's outputs; ``reused`` counts an earlier call's results.
    """

    network: Network
    views: Views
    labels: Classes
    batch_size: int
    results: list[Result] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    reused: int = 0

    def go_through(
        self, checkpoints: Sequence[Checkpoint], folder: SelectionFolder, progress: Advance
    ) -> None:
        """Score what has no result in the folder yet, and put each result there.

        Raises WeightsError where there is none in the end, RunError where a checkpoint that has one is gone
        or has changed.
        """
        earlier = folder.results()
        _refuse_gone(earlier.keys() - {one.name for one in checkpoints})
        progress(0, len(checkpoints))
        if len(earlier) < len(checkpoints):
            warm_up(self.network.model, self.views.images, self.batch_size)
        for done, checkpoint in enumerate(checkpoints, 1):
            if checkpoint.name in earlier:
                self._reuse(checkpoint, earlier[checkpoint.name])
            else:
                self._score(checkpoint, folder)
            progress(done, len(checkpoints))
        if not self.results:
            name, reason = self.skipped[0]
            raise WeightsError(
                f"none of {len(checkpoints)} checkpoints can be ranked; the first, {name}: {reason}"
            )

    def _reuse(self, checkpoint: Checkpoint, earlier: Result) -> None:
        _refuse_changed(checkpoint, earlier)
        self.results.append(earlier)
        self.reused += 1

    def _score(self, checkpoint: Checkpoint, folder: SelectionFolder) -> None:
        try:
            provenance = self.network.fill(checkpoint.path)
            score = evaluate(self.network.model, self.views.images, self.labels, self.batch_size)
        except (WeightsError, EngineError) as error:
            self.skipped.append((checkpoint.name, str(error)))
            return
        result = Result(
            name=checkpoint.name, number=checkpoint.number, sha256=provenance.sha256 or "", score=score
        )
        folder.commit(result)
        self.results.append(result)


def _refuse_gone(names: set[str]) -> None:
    if names:
        raise RunError(
            f"there is a result of {min(names)}, which is not among the checkpoints any more; put it back, "
            "widen --pattern, --from and --to, or choose another --out"
        )


def _refuse_changed(checkpoint: Checkpoint, earlier: Result) -> None:
    digest = sha256()
    try:
        with checkpoint.path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    except OSError as error:
        raise RunError(
            f"{checkpoint.name} has a result and cannot be read any more ({error.strerror}); check its "
            "permissions, or choose another --out"
        ) from error
    if digest.hexdigest() != earlier.sha256:
        raise RunError(
            f"{checkpoint.name} is not the file any more that was ranked (its SHA-256 was "
            f"{earlier.sha256[:12]}, now {digest.hexdigest()[:12]}); put that one back, or choose another "
            "--out"
        )
