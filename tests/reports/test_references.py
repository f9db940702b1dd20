import re
from pathlib import Path

import pytest
from tests.reports.made_runs import MANIFEST, made_facts, made_row

from whycam.methods import METHODS
from whycam.reports.bibliography import ENTRIES, bibtex, escaped
from whycam.reports.methods_text import citation_keys, methods_text
from whycam.reports.wording import CONTROLS, LIBRARIES, WORDS
from whycam.store import MethodRecord, ModelRecord

NEEDED = {
    "inproceedings": {"author", "title", "booktitle", "year"},
    "article": {"author", "title", "journal", "year"},
    "misc": {"author", "title"},
}

PUBLISHED = [name for name, method in METHODS.items() if re.search(r"\d{4}$", method.source)]


def parsed(text: str) -> dict[str, dict[str, str]]:
    """Read BibTeX as strictly as its grammar is: {key: fields}, the entry's kind under "kind"."""
    entries: dict[str, dict[str, str]] = {}
    rest = text
    while rest.strip():
        head = re.match(r"\s*@([a-z]+)\{([A-Za-z0-9]+),\n", rest)
        assert head, rest[:60]
        rest = rest[head.end() :]
        fields = {"kind": head[1]}
        while not rest.startswith("}\n"):
            name = re.match(r"  ([a-z]+) = \{", rest)
            assert name, rest[:60]
            value, rest = braced(rest[name.end() :])
            assert name[1] not in fields
            assert rest.startswith(",\n"), rest[:20]
            fields[name[1]], rest = value, rest[2:]
        rest = rest[2:]
        assert head[2] not in entries
        entries[head[2]] = fields
    return entries


def braced(text: str) -> tuple[str, str]:
    """Read up to the brace that closes a value; a reserved character must stand behind a backslash."""
    depth, at = 1, 0
    while depth:
        character = text[at]
        if character == "\\":
            at += 1
        elif character in "&%$#_~^":
            raise AssertionError(f"{character} is not escaped in {text[: at + 1]}")
        else:
            depth += {"{": 1, "}": -1}.get(character, 0)
        at += 1
    return text[: at - 1], text[at:]


def references_of(folder: Path, *names: str, reference: str = "timm:resnet18") -> dict[str, dict[str, str]]:
    methods = tuple(MethodRecord(name=name) for name in names)
    model = ModelRecord(reference=reference, provenance="weights of a.pth", weights_sha256=None)
    rows = [made_row(0, name) for name in names]
    facts = made_facts(folder, rows, methods=methods, model=model)
    return parsed(bibtex(citation_keys(facts), facts[0].manifest.versions))


def test_every_entry_is_valid_bibtex_in_ascii_with_the_fields_of_its_kind() -> None:
    text = bibtex(ENTRIES, MANIFEST.versions)
    entries = parsed(text)
    assert text.isascii()
    assert set(entries) == set(ENTRIES)
    for key, fields in entries.items():
        assert set(fields) >= NEEDED[fields["kind"]], key


def test_a_methods_entry_agrees_with_the_registrys_source() -> None:
    entries = parsed(bibtex(ENTRIES, {}))
    for name in PUBLISHED:
        author, year = METHODS[name].source.rsplit(" ", 1)
        own = [entries[key] for key in WORDS[name].keys]
        firsts = [(fields["author"].split(",")[0], fields["year"]) for fields in own]
        assert (author, year) in firsts, name


def test_a_method_without_a_published_source_is_a_control_or_known_from_practice() -> None:
    others = {METHODS[name].source for name in METHODS if name not in PUBLISHED}
    assert others == {"control", "practice"}


def test_controls_have_no_entry(tmp_path: Path) -> None:
    assert set(references_of(tmp_path / "run", *CONTROLS, reference="demo")) == {
        "paszke2019pytorch",
        "whycam",
    }


@pytest.mark.parametrize("start", LIBRARIES)
def test_a_librarys_architecture_is_cited_where_the_reference_shows_it(tmp_path: Path, start: str) -> None:
    found = references_of(tmp_path / "run", "gradcam", reference=f"{start}:some")
    assert set(found) & set(LIBRARIES.values()) == {LIBRARIES[start]}


def test_the_text_cites_the_keys_of_the_file_and_no_others(tmp_path: Path) -> None:
    methods = tuple(MethodRecord(name=name) for name in METHODS)
    facts = made_facts(tmp_path / "run", [made_row(0, name) for name in METHODS], methods=methods)
    cited = set(re.findall(r"@(\w+)", methods_text(facts)))
    assert cited == set(parsed(bibtex(citation_keys(facts), {})))


def test_whycams_own_entry_is_that_of_the_citation_file_with_the_runs_version() -> None:
    citation = (Path(__file__).parents[2] / "CITATION.cff").read_text(encoding="utf-8")
    fields = parsed(bibtex(["whycam"], {"whycam": "0.0.71"}))["whycam"]
    title = re.search(r'^title: "(.*)"$', citation, re.MULTILINE)
    author = re.search(r'- name: "(.*)"$', citation, re.MULTILINE)
    assert title is not None
    assert author is not None
    assert fields["title"] == title[1]
    assert fields["author"] == f"{{{author[1]}}}"
    assert fields["note"] == "Version 0.0.71"


def test_accents_and_reserved_characters_are_written_as_latex_has_them() -> None:
    assert escaped("Süß & François_50%") == r"S{\"u}ß \& Fran{\c c}ois\_50\%"
    assert escaped("a\\b{c}~") == r"a\textbackslash{}b\{c\}\textasciitilde{}"


def test_no_style_can_make_a_methods_name_small() -> None:
    entries = parsed(bibtex(["selvaraju2017gradcam", "cai2025shapleycam"], {}))
    assert entries["selvaraju2017gradcam"]["title"].startswith("{Grad-CAM}: Visual")
    assert "{Shapley}" in entries["cai2025shapleycam"]["title"]
