import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.reports.browser import Browser, Seen, browser, without_checks
from tests.reports.made_evaluations import evaluate_run, ordinary
from tests.reports.made_runs import made_row, made_run
from tests.reports.test_page import EVIL
from tests.reports.test_references import parsed

from whycam.errors import RunError
from whycam.evaluation import METRICS
from whycam.methods import METHODS
from whycam.reports import ReportOptions, write_report
from whycam.reports.bibliography import ENTRIES
from whycam.reports.evaluation.facts import Evaluated, Figure, read_evaluations
from whycam.reports.evaluation.figure import drawn_columns, evaluation_figure
from whycam.reports.evaluation.plot import Label, Sizes, curve_plots, draw_curves, looks, ticks_between
from whycam.reports.evaluation.tables import evaluation_csv, evaluation_tex
from whycam.reports.evaluation.text import evaluation_caption, evaluation_keys, evaluation_methods
from whycam.reports.evaluation.words import METRIC_WORDS, alike, figure_text, headline, main_columns
from whycam.store import EVALUATION_NAME, METRICS_NAME, MethodRecord, Run

__all__ = ["browser"]

METHODS_OF_RUN = ("gradcam", "layercam")
FILES = {"evaluation.pdf", "evaluation.png", "evaluation.csv", "evaluation.tex"}
TEXTS = ReportOptions(parts=("methods", "references", "page"))


def plain_run(folder: Path, methods: Sequence[str] = METHODS_OF_RUN, images: int = 6) -> Run:
    rows = [made_row(index, method) for index in range(images) for method in methods]
    return made_run(folder, rows, methods=tuple(MethodRecord(name=method) for method in methods))


def evaluated_run(folder: Path, methods: Sequence[str] = METHODS_OF_RUN, images: int = 6, **how: Any) -> Run:
    run = plain_run(folder, methods, images)
    evaluate_run(run, **how)
    return run


def known(run: Run) -> Evaluated:
    [found], problems = read_evaluations([run], ["run"])
    assert found is not None, problems
    return found


def flat(method: str, place: int, column: str, image: int) -> float:
    """Give every method and control the same figures."""
    return ordinary("same", 0, column, image)


def nothing(method: str, place: int, column: str, image: int) -> float:
    """Give the first method no figure at all."""
    return float("nan") if place == 0 else ordinary(method, place, column, image)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# the report


def test_a_run_without_an_evaluation_has_the_report_that_it_had(tmp_path: Path) -> None:
    run = plain_run(tmp_path / "run", images=2)
    write_report([run], tmp_path / "before", ReportOptions(width=3.5))
    before = content(tmp_path / "before")
    assert not FILES & set(before)
    assert [name for name, data in before.items() if b"valuation" in data] == []
    evaluate_run(run)
    write_report([run], tmp_path / "evaluated", TEXTS)
    (run.folder / EVALUATION_NAME).unlink()
    (run.folder / METRICS_NAME).unlink()
    write_report([run], tmp_path / "after", TEXTS)
    for name in ("methods.txt", "references.bib", "report.html"):
        assert (tmp_path / "after" / name).read_bytes() == before[name]
        assert (tmp_path / "evaluated" / name).read_bytes() != before[name]


def test_an_evaluation_that_came_later_makes_again_what_shows_it_and_keeps_the_rest(tmp_path: Path) -> None:
    run = plain_run(tmp_path / "run")
    parts: Any = ("methods", "references", "class-means", "page")
    write_report([run], tmp_path / "report", ReportOptions(parts=parts, width=3.5))
    evaluate_run(run)
    again = write_report([run], tmp_path / "report", ReportOptions(parts=parts, width=3.5))
    assert {path.name for path in again.kept} == {"class_means.csv", "class_means.png"}
    third = write_report([run], tmp_path / "report", ReportOptions(parts=parts, width=3.5))
    assert third.written == ()


def test_the_evaluation_of_a_run_without_one_is_refused_where_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none of these runs was evaluated.*whycam evaluate RUN"):
        write_report([plain_run(tmp_path / "run")], tmp_path / "report", ReportOptions(parts=("evaluation",)))


def break_document(run: Run) -> None:
    (run.folder / EVALUATION_NAME).write_text('{"schema_version": "1.0"')


def break_table(run: Run) -> None:
    (run.folder / METRICS_NAME).write_bytes(b"PAR1")


def break_curve(run: Run) -> None:
    document = json.loads((run.folder / EVALUATION_NAME).read_text())
    document["curves"]["fills"]["blur"]["gradcam"]["most"]["mean"].pop()
    (run.folder / EVALUATION_NAME).write_text(json.dumps(document))


@pytest.mark.parametrize("damage", [break_document, break_table, break_curve])
def test_a_damaged_evaluation_is_one_line_and_the_rest_is_made(tmp_path: Path, damage: Any) -> None:
    run, other = evaluated_run(tmp_path / "run"), evaluated_run(tmp_path / "other")
    damage(run)
    summary = write_report([run, other], tmp_path / "report", TEXTS)
    [said] = [text for text in summary.warnings if "evaluation" in text]
    assert "is damaged" in said
    assert len(said.splitlines()) == 1
    assert "In run other: The maps of" in (tmp_path / "report" / "methods.txt").read_text()
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count('<section class="evaluation"') == 1
    with pytest.raises(RunError, match="is damaged"):
        write_report([run], tmp_path / "alone", ReportOptions(parts=("evaluation",)))


def test_a_flipped_bit_among_the_rows_leaves_the_rest_of_the_evaluation(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run")
    data = bytearray((run.folder / METRICS_NAME).read_bytes())
    data[data.index(b"0.jpg")] ^= 1
    (run.folder / METRICS_NAME).write_bytes(data)
    summary = write_report([run], tmp_path / "report", TEXTS)
    assert [text for text in summary.warnings if "the page has no figures by image" in text]
    page = (tmp_path / "report" / "report.html").read_text()
    assert '<section class="evaluation"' in page
    assert "SRG (blur, logit) · gradcam" not in page


# words and tables


def test_every_metric_has_words_and_its_published_source() -> None:
    assert set(METRIC_WORDS) == set(METRICS)
    for name, metric in METRICS.items():
        keys = METRIC_WORDS[name].keys
        assert set(keys) <= set(ENTRIES)
        if re.fullmatch(r"\w+ \d{4}", metric.source):
            family, year = metric.source.split()
            assert [key for key in keys if ENTRIES[key].year == int(year)], name
            assert ENTRIES[keys[0]].authors[0].startswith(family), name


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        (("insertion", "srg", "energy"), ["srg_blur_logit", "srg_push-pull_logit", "energy"]),
        (("averagedrop", "road"), ["road_logit", "road_probability"]),
        (("averagedrop", "increase"), ["averagedrop", "increase"]),
        (("sparsity",), ["sparsity"]),
    ],
)  # fmt: skip
def test_few_columns_stand_for_the_evaluation_legacy_ones_last(
    tmp_path: Path, metrics: Sequence[str], shown: Sequence[str]
) -> None:
    found = known(evaluated_run(tmp_path / "run", metrics=metrics))
    assert [column.name.replace("_linear", "") for column in main_columns(found)] == shown


def test_the_headline_names_a_method_only_where_every_main_figure_does(tmp_path: Path) -> None:
    def mixed(method: str, place: int, column: str, image: int) -> float:
        return ordinary(method, place, column, image) * (0.2 if column == "energy" and place == 0 else 1)

    both = evaluated_run(tmp_path / "both", metrics=("srg", "energy"))
    assert headline(known(both)) == "Grad-CAM is best by all 3 main figures."
    unlike = evaluated_run(tmp_path / "unlike", metrics=("srg", "energy"), figure=mixed)
    assert headline(known(unlike)) == "No single method is best by all 3 main figures."
    none = evaluated_run(tmp_path / "none", metrics=("srg", "energy"), figure=flat)
    assert headline(known(none)) == "Nothing can be concluded about which heatmap to trust."


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0.41, 0.352, 0.467], ["0.410", "0.352", "0.467"]),
        ([1.2, -0.0004, 1.31], ["1.20", "0.00", "1.31"]),
        ([-12.34, -13.0, 5.0], ["−12.3", "−13.0", "5.0"]),
        ([0.0], ["0.00"]),
        ([2e-5, 1e-5], ["2e−05", "1e−05"]),
    ],
)
def test_figures_are_written_with_as_many_digits_as_they_bear(values: Any, said: Sequence[str]) -> None:
    assert alike(values) == said


def test_bold_is_the_one_method_that_the_evaluation_calls_best_and_nothing_else(tmp_path: Path) -> None:
    def two_lead(method: str, place: int, column: str, image: int) -> float:
        return ordinary("same" if place < 2 and column == "energy" else method, place % 2, column, image)

    methods = ("gradcam", "layercam", "eigencam")
    run = evaluated_run(tmp_path / "run", methods, metrics=("srg", "energy", "sparsity"), figure=two_lead)
    document = json.loads((run.folder / EVALUATION_NAME).read_text())["columns"]
    table = evaluation_tex([known(run)])
    bold = [(line.split(" & ")[0], place) for line in table.splitlines() if "&" in line
            for place, cell in enumerate(line.split(" & ")) if "textbf" in cell]  # fmt: skip
    named = [len(document[column.name]["best"]) for column in main_columns(known(run))]
    assert len(bold) == named.count(1)
    assert table.count(r"\toprule") == table.count(r"\bottomrule") == 1


def test_a_hostile_name_stays_one_cell_of_the_latex_table(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run", ("[2cm] & \\\\ %\n$x_1$",), metrics=("energy",))
    [line] = [line for line in evaluation_tex([known(run)]).splitlines() if "2cm" in line and line[0] != "%"]
    assert line.startswith(r"{[2cm] \& \textbackslash{}\textbackslash{} \% \$x\_1\$} & ")


def test_the_csv_has_every_figure_and_leaves_empty_what_is_undefined(tmp_path: Path) -> None:
    run = evaluated_run(tmp_path / "run", figure=nothing, blank=lambda method, image: method == "layercam")
    lines = list(csv.DictReader(io.StringIO(evaluation_csv([known(run)]))))
    document = json.loads((run.folder / EVALUATION_NAME).read_text())
    assert len(lines) == len(document["columns"]) * len(document["maps"])
    for line in lines:
        figure = document["columns"][line["column"]]["figures"][line["method"]]
        assert line["n"] == str(figure["n"])
        assert line["mean"] == ("" if figure["mean"] is None else f"{figure['mean']:.6g}")
        assert (line["control"] == "yes") == (line["method"] in document["controls"])
    assert {line["blank"] for line in lines if line["method"] == "layercam"} == {"6"}
    assert figure_text(known(run).columns[0].figures["gradcam"]) == "–"
    assert figure_text(Figure(0.5, None, None, 1, 0)) == "0.500"


def test_the_methods_paragraph_says_what_the_record_says_and_cites_what_the_file_has(tmp_path: Path) -> None:
    def settle(document: dict[str, Any]) -> None:
        document["skipped"] = {"count": 2, "first": [["7.jpg", "no picture"]]}
        document["seed"], document["forwards"] = 17, 4321
        document["settings"]["masks"], document["without_mask"] = "masks.csv", 1

    run = evaluated_run(tmp_path / "run", change=settle, blank=lambda method, image: method == "centre")
    said = evaluation_methods(known(run))
    for fact in (
        "Grad-CAM and LayerCAM were evaluated on six images; two images were left out",
        "removed in 10 steps",
        "a blurred image",
        "a push-pull interpolation",
        "random, blurred random, centre and edges, which know nothing",
        "(seed 17)",
        "The true masks are those of 'masks.csv'; one image had none.",
        "4,321 forward passes on cuda:0 (Test GPU)",
        "Average drop [@chattopadhay2018gradcampp], a legacy metric",
        "6 of Centre",
    ):
        assert fact in said
    assert set(re.findall(r"@(\w+)", said)) == set(evaluation_keys([known(run)]))
    write_report([run], tmp_path / "report", TEXTS)
    entries = parsed((tmp_path / "report" / "references.bib").read_text())
    assert set(evaluation_keys([known(run)])) <= set(entries)
    assert (tmp_path / "report" / "methods.txt").read_text().endswith(f"\n{said}\n")


# the figure


def many(folder: Path) -> Evaluated:
    names = [name for name in METHODS if name not in ("random", "centre", "edges")][:25]
    return known(evaluated_run(folder, names, images=3, metrics=("srg", "energy", "enrichment")))


def test_twenty_five_methods_fit_on_a_page_in_embedded_truetype(tmp_path: Path) -> None:
    with without_checks():
        files, warned = evaluation_figure([many(tmp_path / "run")], 3.5, "paper")
    assert warned == ()  # it would warn of a figure that is higher than a page
    if not shutil.which("pdffonts"):
        pytest.skip("pdffonts (poppler-utils) is not installed")
    (tmp_path / "evaluation.pdf").write_bytes(files["evaluation.pdf"])
    said = subprocess.run(
        ["pdffonts", str(tmp_path / "evaluation.pdf")], capture_output=True, text=True, check=True
    ).stdout.splitlines()[2:]
    assert said
    assert all("TrueType" in line and " yes yes " in line for line in said)


def test_the_caption_says_what_is_drawn_on_a_column_and_on_a_page(tmp_path: Path) -> None:
    found = many(tmp_path / "run")
    [narrow], [wide] = drawn_columns([found], 3.5), drawn_columns([found], 7.0)
    assert [column.metric for column in narrow] == ["srg", "energy"]
    assert [column.metric for column in wide] == ["srg", "srg", "energy", "enrichment"]
    assert "of the first 6 of 25 methods" in evaluation_caption(found, narrow)
    assert "Below: SRG (blur, logit) and Energy in the mask over" in evaluation_caption(found, narrow)
    assert "Enrichment over three images" in evaluation_caption(found, wide)


def test_runs_of_every_kind_are_drawn_below_each_other_the_same_each_time(tmp_path: Path) -> None:
    alone = known(evaluated_run(tmp_path / "one", images=1, metrics=("energy", "pointing"), figure=nothing))
    logits = known(evaluated_run(tmp_path / "logits", ("gradcam", "方法"), metrics=("road",), scale="logit"))
    assert alone.curves is None
    with without_checks():
        both, _ = evaluation_figure([alone, logits], 3.5, "dark")
        one, again, gray = (
            evaluation_figure([alone], 3.5, style)[0] for style in ("dark", "dark", "print-gray")
        )
    assert one == again
    assert one != gray
    assert len(both["evaluation.pdf"]) > len(one["evaluation.pdf"])
    assert evaluation_caption(alone, main_columns(alone)).startswith("The evaluation's figure. Shown: ")


def test_insertion_is_the_curve_of_removing_the_least_important_backwards(tmp_path: Path) -> None:
    found = known(evaluated_run(tmp_path / "run", metrics=("srg",)))
    assert found.curves is not None
    deletion, insertion = curve_plots(found)[:2]
    assert (deletion.name, insertion.name) == ("Deletion", "Insertion")
    drawn = [
        next(mark for mark in draw_curves(plot, looks(found), 200.0, 100.0, Sizes(7.0, 6.0, 1.0))
             if getattr(mark, "ink", "") == "m0" and hasattr(mark, "dash"))
        for plot in (deletion, insertion)
    ]  # fmt: skip
    courses = found.curves.fills["blur"]["gradcam"]
    for stroke, values in zip(drawn, (courses.most.mean, courses.least.mean[::-1]), strict=True):
        heights = [-y for _, y in stroke.points]  # type: ignore[union-attr]
        known_values = [value or 0.0 for value in values]
        slope = (heights[-1] - heights[0]) / (known_values[-1] - known_values[0])
        assert heights == pytest.approx([heights[0] + slope * (v - known_values[0]) for v in known_values])


def test_a_curve_is_broken_where_a_score_is_undefined(tmp_path: Path) -> None:
    def hole(document: dict[str, Any]) -> None:
        for values in document["curves"]["fills"]["blur"]["gradcam"]["most"].values():
            values[5] = None

    found = known(evaluated_run(tmp_path / "run", metrics=("srg",), change=hole))
    marks = draw_curves(curve_plots(found)[0], looks(found), 200.0, 100.0, Sizes(7.0, 6.0, 1.0))
    lines = [mark for mark in marks if getattr(mark, "ink", "") == "m0"]
    assert [type(mark).__name__ for mark in lines] == ["Band", "Band", "Stroke", "Stroke"]
    assert "Deletion, blur fill" in [mark.text for mark in marks if isinstance(mark, Label)]


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 17.0), (0.0, 1e-6), (99.0, 101.5), (-5e4, 2.0)])
def test_ticks_are_round_few_and_inside(low: float, high: float) -> None:
    ticks = ticks_between(low, high)
    assert 2 <= len(ticks) <= 5
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


# the page


def opened(browser: Browser, run: Run, folder: Path, **how: Any) -> Any:
    write_report([run], folder, ReportOptions(parts=("page",)))
    return browser.open(folder / "report.html", **how)


def options(seen: Seen) -> list[str]:
    found: list[str] = seen.page.eval_on_selector_all(
        "#sort option", "all => all.map(one => one.textContent)"
    )
    return found


def test_images_are_sorted_by_the_main_figures_of_a_method_and_no_others(
    browser: Browser, tmp_path: Path
) -> None:
    run = evaluated_run(tmp_path / "run", metrics=("srg", "insertion", "energy", "averagedrop"))
    with opened(browser, run, tmp_path / "report", height=6000) as seen:
        titles = [text for text in options(seen) if "layercam" in text]
        assert titles == [
            f"{name} · layercam"
            for name in ("score", "SRG (blur, logit)", "SRG (push-pull, logit)", "Energy in the mask")
        ]
        place = options(seen).index("Energy in the mask · layercam")
        seen.change(
            "sort", seen.page.eval_on_selector_all("#sort option", "all => all.map(o => o.value)")[place]
        )
        by_energy = {f"{image}.jpg": ordinary("layercam", 1, "energy", image) for image in range(6)}
        assert seen.names() == sorted(by_energy, key=by_energy.__getitem__)


def test_the_page_says_what_may_be_concluded_before_any_figure_also_without_scripts(
    browser: Browser, tmp_path: Path
) -> None:
    run = evaluated_run(tmp_path / "run", metrics=("srg", "energy", "averagedrop"))
    sentence = json.loads((run.folder / EVALUATION_NAME).read_text())["columns"]["energy"]["conclusion"]
    with opened(browser, run, tmp_path / "report", width=360, scheme="dark") as seen:
        section = seen.page.locator("section.evaluation")
        text = section.inner_text()
        assert (
            text.index("Grad-CAM is best by all 3 main figures.") < text.index(sentence) < text.index("Maps")
        )
        assert section.locator("svg[role=img]").count() == 4
        assert section.locator(".controls-part tr").first.is_visible()
        assert section.locator("details").first.locator(".best").count() == 3
        seen.page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        assert "legacy; lower is better" in section.inner_text()
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
        seen.page.evaluate("location.hash = '#image-1'")
        section.wait_for(state="hidden")


def test_hostile_names_in_an_evaluation_are_texts(browser: Browser, tmp_path: Path) -> None:
    names = tuple(name for name in EVIL if name != "__proto__")
    run = evaluated_run(
        tmp_path / "run", names, images=2, change=lambda document: document.update(
            device=EVIL[0], skipped={"count": 1, "first": [[EVIL[1], EVIL[2]]]}
        ),
    )  # fmt: skip
    with opened(browser, run, tmp_path / "report", width=360) as seen:
        section = seen.page.locator("section.evaluation")
        assert section.locator("img, script").count() == 0
        assert section.locator("b").count() == section.locator("ul > li > b").count()
        assert seen.page.evaluate("document.querySelectorAll('script:not([type])').length") == 1
        assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
