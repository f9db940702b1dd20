"""Measure every method on the cases with known answers and write the table: ``make verify``."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from benchmarks.known_answers import CASES, CHECKS, CLAIMS, Figure, whole_forwards

from whycam.methods import METHODS

MARK = "<!-- figures -->"


def figures() -> dict[tuple[str, str], Figure | None]:
    """Measure each case with each method, on all cores; what takes longest goes first."""
    pairs = [(case.name, method) for case in CASES for method in METHODS]
    pairs.sort(key=lambda pair: -whole_forwards(pair[1]))
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_one_thread) as pool:
        return dict(zip(pairs, pool.map(_measure, pairs), strict=True))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _measure(pair: tuple[str, str]) -> Figure | None:
    name, method = pair
    start = time.perf_counter()
    found = next(case for case in CASES if case.name == name).measure(method)
    taken = time.perf_counter() - start
    if taken > 10:
        print(f"{name}, {method}: {taken:.0f} s", file=sys.stderr, flush=True)
    return found


def cell(figure: Figure | None) -> str:
    """Return a figure as the table shows it; an interval where it is a mean."""
    if figure is None:
        return "-"
    if figure.low is None or figure.high is None:
        return "0" if abs(figure.value) < 1e-12 else f"{figure.value:.3g}"
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def lines(found: dict[tuple[str, str], Figure | None]) -> Iterator[str]:
    """Give the table of all figures and that of what was claimed beforehand."""
    yield "| method | " + " | ".join(case.name for case in CASES) + " |"
    yield "| --- |" + " --- |" * len(CASES)
    for method in METHODS:
        yield f"| `{method}` | " + " | ".join(cell(found[case.name, method]) for case in CASES) + " |"
    yield ""
    yield "| case | method | expected | measured | holds |"
    yield "| --- | --- | --- | --- | --- |"
    for claim in CLAIMS:
        figure = found[claim.case, claim.method]
        measured = "-" if figure is None else f"{figure.value:.3g}"
        expected = f"{claim.value:g} within {claim.within:g}"
        holds = "yes" if claim.holds(figure) else "**no**"
        yield f"| {claim.case} | `{claim.method}` | {expected} | {measured} | {holds} |"


def check_lines(values: list[float]) -> Iterator[str]:
    """Give the table of the checks of single methods."""
    yield "| what | between | measured | holds |"
    yield "| --- | --- | --- | --- |"
    for check, value in zip(CHECKS, values, strict=True):
        holds = "yes" if check.holds(value) else "**no**"
        yield f"| {check.title} | {check.low:g} and {check.high:g} | {value:.2g} | {holds} |"


def put_between_marks(page: Path, made: Sequence[str]) -> None:
    """Put lines into a Markdown page in the place of those between its marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(MARK)
    after = rest.partition(MARK)[2]
    table = "\n".join(made)
    page.write_text(f"{before}{MARK}\n{table}\n{MARK}{after}", encoding="utf-8")


def main() -> None:
    """Measure, put the tables into the page where asked, and fail where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help=f"a Markdown file with {MARK} around the tables")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    found = figures()
    checked = [check.measure() for check in CHECKS]
    made = [*lines(found), "", *check_lines(checked)]
    print("\n".join(made))
    if arguments.out:
        put_between_marks(arguments.out, made)
    broken = [claim for claim in CLAIMS if not claim.holds(found[claim.case, claim.method])]
    broken_checks = [check for check, value in zip(CHECKS, checked, strict=True) if not check.holds(value)]
    if broken or broken_checks:
        sys.exit(
            f"{len(broken) + len(broken_checks)} of {len(CLAIMS) + len(CHECKS)} do not hold; see 'holds'"
        )


if __name__ == "__main__":
    main()
