"""Words that the caption and the methods text share, each from a run's manifest and rows alone."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from whycam.explanation import PARTLY_RANDOM, caution_in
from whycam.reports.facts import RunFacts
from whycam.reports.wording import CONTROLS, WORDS, title_of
from whycam.store import Manifest, ModelRecord

HASH_DIGITS = 12
"""Of a SHA-256 in a text; the manifest has all 64."""

_HASH_IN_WORDS = re.compile(r" \(SHA-256 [0-9a-f]+\)")
_CLASS = re.compile(r"\bclass (\d+)")


def listed(items: Iterable[str]) -> str:
    """Return ``a``, ``a and b``, or ``a, b and c``."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def counted(number: int, word: str) -> str:
    """Return ``1 image`` or ``3 images``, in words up to ten, as papers have it."""
    small = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    text = small[number] if 0 <= number < len(small) else str(number)
    return f"{text} {word}{'' if number == 1 else 's'}"


def joined(sentences: Iterable[str]) -> str:
    """Return sentences as one paragraph, without those that are empty."""
    return " ".join(filter(None, sentences))


def capital(text: str) -> str:
    """Return a text with its first letter a capital."""
    return text[:1].upper() + text[1:]


def cited(keys: Sequence[str]) -> str:
    """Return keys as pandoc reads them, behind a space: `` [@one; @two]``; empty for none."""
    return f" [{'; '.join(f'@{key}' for key in keys)}]" if keys else ""


def together(runs: Sequence[RunFacts], say: Callable[[RunFacts], str]) -> str:
    """Say a sentence once where it is the same for all runs, else once for each text with its runs."""
    by_text: dict[str, list[str]] = {}
    for facts in runs:
        by_text.setdefault(say(facts), []).append(facts.name)
    said = {text: names for text, names in by_text.items() if text}
    if len(by_text) == 1:
        return "".join(said)
    return " ".join(f"In {_runs(names)}: {text}" for text, names in said.items())


def _runs(names: Sequence[str]) -> str:
    return f"{'run' if len(names) == 1 else 'runs'} {listed(names)}"


def weights_text(model: ModelRecord) -> str:
    """Say which weights a model has, from its record: ``weights of best.pth (SHA-256 0123456789ab)``."""
    clauses = _HASH_IN_WORDS.sub("", model.provenance).split("; ")
    said = clauses[1] if clauses[0].startswith(PARTLY_RANDOM) and len(clauses) > 1 else clauses[0]
    if said.startswith(("random weights", "weights as ")):
        said = said.split(":")[0]  # what follows is advice, or the caution
    mark = f" (SHA-256 {model.weights_sha256[:HASH_DIGITS]})" if model.weights_sha256 else ""
    return f"{said}{mark}"


def weights_caution(model: ModelRecord) -> str:
    """Say in one sentence why a model's maps may say little; empty for most models."""
    partly = caution_in(model.provenance)
    if partly:
        return f"The network has {partly}; the rest was left random, and the maps depend on it."
    if model.provenance.startswith("random weights"):
        return "The network has random weights: the maps say nothing about any trained model."
    if "whether they are trained is not known" in model.provenance:
        return "Whether the network's weights are trained is not known."
    if model.provenance.startswith("not known"):
        return "Where the network's weights come from was not recorded."
    return ""


def target_text(manifest: Manifest) -> str:
    """Say what was explained, with the names of the classes that it speaks of."""
    names = manifest.class_names or ()

    def named(match: re.Match[str]) -> str:
        index = int(match[1])
        return f"{match[0]} ({names[index]})" if index < len(names) else match[0]

    if manifest.target == "top class":
        return "the class that the network scores highest in each image"
    return _CLASS.sub(named, manifest.target)


def layer_text(facts: RunFacts) -> str:
    """Name the layers; empty where no method looked at one."""
    manifest = facts.manifest
    if manifest.layer is None or manifest.layer.paths in (("input",), ("attention",)):
        return ""
    return listed(manifest.layer.paths)


def methods_of(runs: Sequence[RunFacts]) -> list[str]:
    """Return the methods of all runs, each once, the controls last."""
    names = dict.fromkeys(name for facts in runs for name in facts.methods)
    return sorted(names, key=lambda name: name in CONTROLS)


def titles(methods: Iterable[str]) -> str:
    """List methods by their names in prose; a name from the middle of a sentence keeps its capitals."""
    return listed(title_of(name) for name in methods)


def keys_of(methods: Iterable[str]) -> list[str]:
    """Return the citation keys of methods, each once."""
    return list(dict.fromkeys(key for name in methods if name in WORDS for key in WORDS[name].keys))


def failures_text(facts: RunFacts) -> str:
    """Say how many images failed and how many maps are empty; empty where all is well."""
    said = []
    if facts.failures:
        verb = "is" if facts.failures == 1 else "are"
        said.append(f"{counted(facts.failures, 'image')} could not be explained and {verb} left out")
    if facts.blank:
        by_method = {name: method.blank for name, method in facts.methods.items() if method.blank}
        which = listed(f"{number} of {title_of(name)}" for name, number in by_method.items())
        verb = "is" if facts.blank == 1 else "are"
        said.append(f"{counted(facts.blank, 'map')} {verb} zero everywhere ({which})")
    return f"{capital('; '.join(said))}." if said else ""


def plain(value: object) -> str:
    """Return a manifest's value as a person writes it: ``0.485, 0.456, 0.406``, ``224 x 224``, ``8``."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in value.items())
    return str(value)
