"""Measure what can be trusted where the answer is known, and write the tables: ``make verify``.

Three parts: every method on small networks whose right explanation follows from how they are built, every
method on the test beds, and every metric by whether it prefers methods to controls.
"""

import argparse
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import torch
from benchmarks import beds, metrics_reliability
from benchmarks.known_answers import CASES, CHECKS, CLAIMS, Figure, whole_forwards

from whycam.methods import METHODS

MARK = "<!-- figures -->"
BEDS_MARK = "<!-- beds -->"
METRICS_MARK = "<!-- metrics -->"
SLOW = 10
"""Seconds from which on what was measured is told of."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_all_cores(measure: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Measure each item in a process of one thread; give what takes longest first."""
    timed = functools.partial(_timed, measure)
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn"), initializer=_one_thread) as pool:
        return list(pool.map(timed, items))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _timed(measure: Callable[[Item], Result], item: Item) -> Result:
    torch.manual_seed(0)
    start = time.perf_counter()
    found = measure(item)
    taken = time.perf_counter() - start
    if taken > SLOW:
        print(f"{_name(item)}: {taken:.0f} s", file=sys.stderr, flush=True)
    return found


def _name(item: object) -> str:
    if isinstance(item, metrics_reliability.Task):
        return f"{item.network}, {', '.join(metric.told for metric in item.metrics)}"
    return ", ".join(item) if isinstance(item, tuple) else str(item)


def figures() -> dict[tuple[str, str], Figure | None]:
    """Measure each case with each method, on all cores; what takes longest goes first."""
    pairs = [(case.name, method) for case in CASES for method in METHODS]
    pairs.sort(key=lambda pair: -whole_forwards(pair[1]))
    return dict(zip(pairs, on_all_cores(_measure, pairs), strict=True))


def _measure(pair: tuple[str, str]) -> Figure | None:
    name, method = pair
    return next(case for case in CASES if case.name == name).measure(method)


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


def put_between_marks(page: Path, made: Sequence[str], mark: str = MARK) -> None:
    """Put lines into a Markdown page in the place of those between its marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(mark)
    after = rest.partition(mark)[2]
    table = "\n".join(made)
    page.write_text(f"{before}{mark}\n{table}\n{mark}{after}", encoding="utf-8")


@dataclass(frozen=True)
class Part:
    """What a part of the page came to: its lines, and in words each claim that does not hold."""

    mark: str
    lines: Sequence[str]
    broken: Sequence[str] = ()


def known(folder: Path) -> Part:
    """Measure every method on the networks whose answer follows from how they are built."""
    found = figures()
    checked = [check.measure() for check in CHECKS]
    broken = [f"{one.case}, {one.method}" for one in CLAIMS if not one.holds(found[one.case, one.method])]
    broken += [check.title for check, value in zip(CHECKS, checked, strict=True) if not check.holds(value)]
    return Part(MARK, [*lines(found), "", *check_lines(checked)], broken)


def on_beds(folder: Path) -> Part:
    """Measure every method on the test beds, after making those that are not there."""
    for line in on_all_cores(functools.partial(beds.make_one, folder), beds.missing(folder)):
        print(line, file=sys.stderr, flush=True)
    pairs = beds.tasks()
    parts = on_all_cores(functools.partial(_on_bed, folder), pairs)
    found = {
        (column, method): figure
        for (_, method), columns in zip(pairs, parts, strict=True)
        for column, figure in columns.items()
    }
    beds.check_finite(found)
    descriptions = {name: beds.opened(folder / name).description for name in beds.NAMES}
    made = list(beds.lines(found, descriptions, beds.digit_area(folder)))
    return Part(BEDS_MARK, made, [f"{one.case}, {one.method}" for one in beds.broken(found)])


def _on_bed(folder: Path, pair: tuple[str, str]) -> beds.Figures:
    return beds.measure(folder, *pair)


def metrics(folder: Path) -> Part:
    """Measure how far each metric can be relied on, on two of the beds' networks."""
    tasks = metrics_reliability.tasks()
    found = on_all_cores(functools.partial(metrics_reliability.measure, folder), tasks)
    joined = metrics_reliability.joined(list(zip(tasks, found, strict=True)))
    return Part(METRICS_MARK, list(metrics_reliability.lines(joined)))


PARTS: Mapping[str, Callable[[Path], Part]] = {"known": known, "beds": on_beds, "metrics": metrics}
"""The page's parts, in the order in which they are made."""


def main() -> None:
    """Measure, put the tables into the page where asked, and fail where a claim does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="a Markdown file with each part's marks around its tables")
    parser.add_argument("--beds", type=Path, default=Path("testbeds"), help="the folder of the test beds")
    parser.add_argument("--only", choices=PARTS, help="make this part alone")
    arguments = parser.parse_args()
    broken: list[str] = []
    for name in [arguments.only] if arguments.only else PARTS:
        part = PARTS[name](arguments.beds)
        print("\n".join(part.lines), flush=True)
        if arguments.out:  # at once: a later part may fail
            put_between_marks(arguments.out, part.lines, part.mark)
        broken += part.broken
    if broken:
        sys.exit(f"{len(broken)} of what is claimed does not hold: {'; '.join(broken)}")


if __name__ == "__main__":
    main()
