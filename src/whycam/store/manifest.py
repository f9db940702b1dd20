"""``manifest.json``: how a run was made."""

import dataclasses
import json
import math
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import cast

from whycam.errors import RunError
from whycam.store.files import one_line, read_errors
from whycam.store.folder import FolderState, RunFolder

SCHEMA_VERSION = "1.1"
"""Major and minor version of the run folder. A later minor only adds; a later major is refused."""

_SAME_RUN = (
    "model.reference",
    "model.weights_sha256",
    "settings.weights",
    "class_names",
    "preprocessing",
    "methods",
    "target",
    "layer.paths",
    "seed",
    "style",
    "sources",
)
_MOST_NAMED = 12
_SURROGATE = re.compile("[\ud800-\udfff]")


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """Which model: its reference, where its weights come from, and the SHA-256 of those (hex)."""

    reference: str
    provenance: str
    weights_sha256: str | None


@dataclass(frozen=True, kw_only=True)
class MethodRecord:
    """A method's registered name and its parameters."""

    name: str
    parameters: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LayerRecord:
    """The explained layer's dotted path, or those of several fused layers, and why it was taken."""

    paths: tuple[str, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """When, how and where a run was taken up again."""

    time: str
    command: tuple[str, ...]
    versions: Mapping[str, str]
    device: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """How a run was made, and whether it is finished.

    ``failures`` is the number of images with an error, counted when the run finishes and 0 before.
    ``image_count`` is the number of images planned. ``created`` is UTC, ISO 8601. ``style`` says how the
    pictures were drawn (colormap and opacity), ``settings`` what else was set when the run began. These,
    ``preprocessing`` and the methods' parameters are JSON values; tuples come back as lists.
    """

    command: tuple[str, ...]
    versions: Mapping[str, str]
    device: str
    seed: int | None
    model: ModelRecord
    preprocessing: Mapping[str, object]
    class_names: tuple[str, ...] | None
    methods: tuple[MethodRecord, ...]
    target: str
    layer: LayerRecord | None
    sources: tuple[str, ...]
    image_count: int
    style: Mapping[str, object] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    failures: int = 0
    finished: bool = False
    resumed: tuple[Resumption, ...] = ()
    created: str = field(default_factory=utc_now)
    schema_version: str = SCHEMA_VERSION

    def to_document(self) -> dict[str, object]:
        """The manifest as JSON values. Raises RunError for a value that JSON does not have."""
        return {item.name: _plain(getattr(self, item.name), item.name) for item in dataclasses.fields(self)}

    @classmethod
    def from_document(cls, document: object) -> "Manifest":
        """The manifest in a JSON value; unknown keys are passed over.

        Raises RunError for another major version and for keys that are missing or of another type.
        """
        if not isinstance(document, dict):
            raise RunError(f"manifest.json holds {_short(document)}; expected an object")
        check_version(document)
        return _manifest(_Fields(document, ""))


def dump_document(document: Mapping[str, object]) -> bytes:
    """A manifest's JSON values as indented UTF-8 text that any JSON reader takes."""
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    # lone surrogates stand for undecodable bytes in a path; UTF-8 has none, JSON escapes do
    return (_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n").encode()


def read_document(folder: RunFolder) -> dict[str, object]:
    """The JSON object in a run's manifest, later versions' keys included.

    Raises RunError when there is no run, or its manifest is damaged or of another major version.
    """
    place = str(folder.path)
    with read_errors(folder.path):
        state = folder.state()
    if state is not FolderState.RUN:
        found = "does not exist" if state is FolderState.MISSING else "holds no manifest.json"
        raise RunError(
            f"run folder {place!r} {found}; expected one that 'whycam explain ... --out FOLDER' wrote"
        )
    try:
        with read_errors(folder.manifest):
            document = json.loads(folder.manifest.read_bytes().decode())
    except (ValueError, RecursionError) as error:
        raise RunError(
            f"manifest.json of {place!r} is damaged ({one_line(error)}); expected JSON as whycam writes it; "
            "restore it from a copy, or explain again into another --out"
        ) from error
    try:
        Manifest.from_document(document)
    except RunError as error:
        raise RunError(f"run folder {place!r}: {error}") from error
    return cast("dict[str, object]", document)


def check_version(document: Mapping[str, object], current: str = SCHEMA_VERSION) -> tuple[int, int]:
    """A document's (major, minor) schema version. Raises RunError for another major than ``current``'s."""
    version = document.get("schema_version")
    match = re.fullmatch(r"(\d{1,6})\.(\d{1,6})", version) if isinstance(version, str) else None
    if match is None:
        raise RunError(f"its schema_version is {_short(version)}; expected text such as {current!r}")
    major, minor = int(match[1]), int(match[2])
    known = int(current.split(".")[0])
    if major != known:
        mend = "install a newer whycam" if major > known else "install the whycam that wrote it"
        raise RunError(f"it has schema version {match[0]}; this whycam reads {known}.x; {mend}")
    return major, minor


def check_same_run(old: Mapping[str, object], new: Mapping[str, object], place: str) -> None:
    """Refuse to go on with a run under other settings. Raises RunError that names the first."""
    found = [text for path in _SAME_RUN for text in _differences(_at(old, path), _at(new, path), path)]
    if found:
        # other class names may differ in a thousand places
        more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
        raise RunError(
            f"run folder {place!r} was made with other settings: {'; '.join(found[:_MOST_NAMED])}{more}; "
            "resume with the same ones, or choose another --out"
        )


def check_resumable(document: Mapping[str, object], place: str) -> None:
    """Refuse to write into a run of a later minor version, whose rows hold more. Raises RunError."""
    major, minor = check_version(document)
    if minor > int(SCHEMA_VERSION.split(".")[1]):
        raise RunError(
            f"run folder {place!r} was written by a newer whycam (schema version {major}.{minor}); "
            f"this one writes {SCHEMA_VERSION}; resume with the newer one, or choose another --out"
        )


def _at(document: Mapping[str, object], path: str) -> object:
    value: object = document
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _differences(old: object, new: object, path: str) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for position, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _differences(one, other, f"{path}[{position}]")
    elif old != new:
        yield f"{path} was {_short(old)}, now {_short(new)}"


def _plain(value: object, where: str) -> object:
    """A value as JSON has it: tuples as lists, records as objects, numpy's numbers as Python's."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and math.isfinite(value):
        return float(value)
    if dataclasses.is_dataclass(value):
        return {item.name: _plain(getattr(value, item.name), where) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{position}]") for position, item in enumerate(value)]
    raise RunError(
        f"the manifest's {where} is {_short(value)}, a {type(value).__name__}; "
        "expected text, finite numbers, lists or mappings with text keys; turn it into one of these"
    )


def _short(value: object) -> str:
    return one_line(reprlib.repr(value))


@dataclass(frozen=True)
class _Fields:
    """Typed reading of a JSON object; every error names the key and what was found."""

    document: Mapping[str, object]
    where: str

    def _get(self, key: str, kinds: tuple[type, ...], expected: str) -> object:
        if key not in self.document:
            raise RunError(f"manifest.json lacks {self.where + key!r}; expected {expected}")
        value = self.document[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise RunError(f"manifest.json's {self.where + key!r} is {_short(value)}; expected {expected}")
        return value

    def text(self, key: str) -> str:
        return cast("str", self._get(key, (str,), "text"))

    def text_or_null(self, key: str) -> str | None:
        return cast("str | None", self._get(key, (str, type(None)), "text or null"))

    def integer(self, key: str) -> int:
        return cast("int", self._get(key, (int,), "a whole number"))

    def integer_or_null(self, key: str) -> int | None:
        return cast("int | None", self._get(key, (int, type(None)), "a whole number or null"))

    def flag(self, key: str) -> bool:
        return cast("bool", self._get(key, (bool,), "true or false"))

    def mapping(self, key: str) -> Mapping[str, object]:
        return cast("Mapping[str, object]", self._get(key, (dict,), "an object"))

    def text_mapping(self, key: str) -> Mapping[str, str]:
        value = self.mapping(key)
        return {name: _Fields(value, f"{self.where}{key}.").text(name) for name in value}

    def texts(self, key: str) -> tuple[str, ...]:
        items = cast("Sequence[object]", self._get(key, (list,), "a list of text"))
        if not all(isinstance(item, str) for item in items):
            raise RunError(
                f"manifest.json's {self.where + key!r} is {_short(items)}; expected a list of text"
            )
        return tuple(cast("Sequence[str]", items))

    def texts_or_null(self, key: str) -> tuple[str, ...] | None:
        return None if self.document.get(key, "") is None else self.texts(key)

    def inner(self, key: str) -> "_Fields":
        return _Fields(self.mapping(key), f"{self.where}{key}.")

    def inner_or_null(self, key: str) -> "_Fields | None":
        return None if self.document.get(key, "") is None else self.inner(key)

    def inners(self, key: str) -> "list[_Fields]":
        items = cast("Sequence[object]", self._get(key, (list,), "a list of objects"))
        named = {f"{key}[{position}]": item for position, item in enumerate(items)}
        return [_Fields(named, self.where).inner(name) for name in named]


def _manifest(fields: _Fields) -> Manifest:
    model, layer = fields.inner("model"), fields.inner_or_null("layer")
    return Manifest(
        command=fields.texts("command"),
        versions=fields.text_mapping("versions"),
        device=fields.text("device"),
        seed=fields.integer_or_null("seed"),
        model=ModelRecord(
            reference=model.text("reference"),
            provenance=model.text("provenance"),
            weights_sha256=model.text_or_null("weights_sha256"),
        ),
        preprocessing=fields.mapping("preprocessing"),
        class_names=fields.texts_or_null("class_names"),
        methods=tuple(
            MethodRecord(name=method.text("name"), parameters=method.mapping("parameters"))
            for method in fields.inners("methods")
        ),
        target=fields.text("target"),
        layer=None if layer is None else LayerRecord(paths=layer.texts("paths"), reason=layer.text("reason")),
        sources=fields.texts("sources"),
        image_count=fields.integer("image_count"),
        style=fields.mapping("style"),
        settings=fields.mapping("settings"),
        failures=fields.integer("failures"),
        finished=fields.flag("finished"),
        resumed=tuple(_resumption(item) for item in fields.inners("resumed")),
        created=fields.text("created"),
        schema_version=fields.text("schema_version"),
    )


def _resumption(fields: _Fields) -> Resumption:
    return Resumption(
        time=fields.text("time"),
        command=fields.texts("command"),
        versions=fields.text_mapping("versions"),
        device=fields.text("device"),
    )
