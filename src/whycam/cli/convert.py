"""``whycam convert``: a checkpoint's tensors as safetensors."""

from pathlib import Path
from typing import Annotated

import typer

from whycam.cli.answer import Answer
from whycam.cli.console import tell
from whycam.cli.options import JsonOption

_OUT_HELP = "The file to write.  [default: FILE with the ending .safetensors]"
_TRUST_HELP = "Load also a pickle that holds more than tensors. THIS RUNS ANY CODE IN IT."


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help=_OUT_HELP)] = None,
    trust_pickle: Annotated[bool, typer.Option("--trust-pickle", help=_TRUST_HELP)] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    json: JsonOption = False,
) -> Answer:
    """Write a checkpoint's tensors as safetensors.

    The result holds the same keys and values and nothing else, so it can be read without running anything.
    """
    from whycam.models.convert import convert_weights, trusting
    from whycam.models.weights import unpickle_tensors

    trusted: list[Path] = []

    def warn() -> None:
        trusted.append(file)
        tell("warning", f"--trust-pickle: loading {str(file)!r} runs whatever code it holds, as you")

    unpickle = trusting(warn) if trust_pickle else unpickle_tensors
    done = convert_weights(file, out, unpickle=unpickle, overwrite=force)
    if trust_pickle and not trusted:
        tell("note", "--trust-pickle was not needed: the file holds tensors only, and nothing in it was run")
    for note in done.weights.notes:
        tell("note", note)
    if done.shared:
        tell("note", f"{done.shared} tensors shared memory with others; each is written whole")
    data = {
        "source": str(file),
        "source_sha256": done.weights.sha256,
        "out": str(done.place),
        "tensors": done.count,
        "shared": done.shared,
        "notes": done.weights.notes,
        "trusted_pickle": bool(trusted),
    }
    return Answer([f"{done.count} tensors of {done.weights.name} written to {str(done.place)!r}"], data)
