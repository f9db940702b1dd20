"""The paragraphs for a paper's methods section, from the manifests and rows of runs and nothing else."""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from whycam.reports.facts import RunFacts
from whycam.reports.preprocessing_text import preprocessing_text
from whycam.reports.sentences import (
    capital,
    cited,
    counted,
    failures_text,
    joined,
    keys_of,
    layer_text,
    listed,
    methods_of,
    plain,
    target_text,
    titles,
    together,
    weights_caution,
    weights_text,
)
from whycam.reports.wording import CONTROLS, LIBRARIES, PYTORCH, SMOOTHINGS, WHYCAM, WORDS
from whycam.store import Manifest

_INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}
_SOFTWARE = {"python": "Python", "torch": "PyTorch", "numpy": "NumPy", "pillow": "Pillow"}
_SMOOTHING = re.compile(r"(\w+)\((.*)\)")
_CLASS = re.compile(r"class \d+( \(.*\))?")
_GRIDS_NAMED = 3


def methods_text(runs: Sequence[RunFacts]) -> str:
    """Return plain text, a paragraph a line, whose ``[@key]`` are among ``citation_keys``.

    What holds for all runs is said once, what differs with the runs that it is true of.
    """
    paragraphs: Sequence[Sequence[Callable[[RunFacts], str]]] = (
        (_network, _preprocessing),
        (_explained, _layer, *_descriptions(runs), _controls, _smoothed),
        (_kept, _displayed, _images, failures_text),
        (_software, _resumed),
    )
    texts = [joined(together(runs, sentence) for sentence in sentences) for sentences in paragraphs]
    texts[0] = joined((comparison_text(runs), texts[0]))
    return "\n\n".join(texts) + "\n"


def citation_keys(runs: Sequence[RunFacts]) -> list[str]:
    """Return the keys of all that these runs should cite."""
    keys = [PYTORCH, WHYCAM, *keys_of(methods_of(runs))]
    for facts in runs:
        keys += _library_keys(facts)
        keys += [key for text in _smoothings(facts.manifest).values() for key in _smoothing_keys(text)]
    return list(dict.fromkeys(keys))


def comparison_text(runs: Sequence[RunFacts]) -> str:
    """Say of several runs which they are and in what they differ; empty for one."""
    if len(runs) == 1:
        return ""
    manifests = [facts.manifest for facts in runs]
    aspects: dict[str, Callable[[Manifest], object]] = {
        "the network": lambda manifest: manifest.model.reference,
        "the network's weights": lambda manifest: (
            manifest.model.weights_sha256,
            weights_text(manifest.model),
        ),
        "what is explained": lambda manifest: manifest.target,
        "the methods": lambda manifest: manifest.methods,
        "the explained layer": lambda manifest: manifest.layer and manifest.layer.paths,
        "the preprocessing": lambda manifest: manifest.preprocessing,
        "the images": lambda manifest: manifest.sources,
    }
    differing = [name for name, of in aspects.items() if any(of(m) != of(manifests[0]) for m in manifests)]
    how = f"They differ in {listed(differing)}." if differing else "Their settings are the same."
    return f"{capital(counted(len(runs), 'run'))} are compared: {listed(facts.name for facts in runs)}. {how}"


def _network(facts: RunFacts) -> str:
    model = facts.manifest.model
    name = f"{model.reference!r}{cited(_library_keys(facts))}"
    said = f"The explained network was {name}, with {weights_text(model)}."
    return joined((said, weights_caution(model)))


def _library_keys(facts: RunFacts) -> list[str]:
    start, colon, _ = facts.manifest.model.reference.partition(":")
    return [LIBRARIES[start]] if colon and start in LIBRARIES else []


def _preprocessing(facts: RunFacts) -> str:
    return preprocessing_text(facts.manifest.preprocessing)


def _explained(facts: RunFacts) -> str:
    target = target_text(facts.manifest)
    if facts.manifest.target == "top class" or _CLASS.fullmatch(target):
        return f"The maps explain the score of {target}."
    return f"The explained quantity is: {target}."


def _layer(facts: RunFacts) -> str:
    layer = facts.manifest.layer
    if layer is None:
        return "No layer was recorded."
    if not layer_text(facts):
        return f"{capital(layer.reason)}."
    word = "layer was" if len(layer.paths) == 1 else "layers were"
    said = f"The explained {word} {layer_text(facts)} ({layer.reason})."
    at = {place: [m for m in names if m not in CONTROLS] for place, names in facts.layers.items()}
    used = {place: names for place, names in at.items() if names}
    if len(used) > 1:
        said += f" {capital('; '.join(_at(place, names) for place, names in used.items()))}."
    return said


def _at(place: str, names: Sequence[str]) -> str:
    looked = "looks" if len(names) == 1 else "look"
    where = {"input": "the input itself", "attention": "the self-attentions"}.get(place, place)
    return f"{titles(names)} {looked} at {where}"


def _descriptions(runs: Sequence[RunFacts]) -> list[Callable[[RunFacts], str]]:
    """Return what says each method of the runs, one by one: those that runs share are said once."""
    own = [name for name in methods_of(runs) if name not in CONTROLS]
    return [partial(_described, name=name) for name in own]


def _described(facts: RunFacts, name: str) -> str:
    return _method(facts.manifest, name) if name in facts.methods else ""


def _method(manifest: Manifest, name: str) -> str:
    if name not in WORDS:
        said = f"The method {name!r}{_parameters(manifest, name)} is not one of whycam's own"
        return f"{said}: its formula and its source are those that its package names."
    words = WORDS[name]
    return f"{words.title}{cited(words.keys)} {words.does}{_parameters(manifest, name)}."


def _parameters(manifest: Manifest, name: str) -> str:
    """Give the values that a method ran with, behind a space and in brackets; empty where it takes none."""
    recorded = next((method.parameters for method in manifest.methods if method.name == name), {})
    return _in_brackets({key: value for key, value in recorded.items() if key != "smoothing"})


def _in_brackets(values: Mapping[str, object]) -> str:
    said = [f"{key} = {plain(value)}" for key, value in values.items() if value is not None]
    return f" ({'; '.join(said)})" if said else ""


def _controls(facts: RunFacts) -> str:
    names = [name for name in CONTROLS if name in facts.methods]
    if not names:
        return ""
    said = [f"{name} ({WORDS[name].does}{_within(facts.manifest, name)})" for name in names]
    know = "A control that knows" if len(said) == 1 else "Controls that know"
    were = "was" if len(said) == 1 else "were"
    return f"{know} nothing of the network {were} computed for comparison: {listed(said)}."


def _within(manifest: Manifest, name: str) -> str:
    return _parameters(manifest, name).replace(" (", "; ").removesuffix(")")


def _smoothings(manifest: Manifest) -> dict[str, str]:
    """Return each smoothed method's smoothing, as the manifest writes it."""
    return {
        method.name: str(method.parameters["smoothing"])
        for method in manifest.methods
        if method.parameters.get("smoothing") is not None
    }


def _smoothing_keys(text: str) -> tuple[str, ...]:
    match = _SMOOTHING.fullmatch(text)
    return SMOOTHINGS[match[1]].keys if match and match[1] in SMOOTHINGS else ()


def _smoothed(facts: RunFacts) -> str:
    by_text: dict[str, list[str]] = {}
    for name, text in _smoothings(facts.manifest).items():
        by_text.setdefault(text, []).append(name)
    sentences = []
    for text, names in by_text.items():
        which = "All maps" if len(names) == len(facts.methods) else f"The maps of {titles(names)}"
        sentences.append(f"{which} were {_smoothing(text)}.")
    return joined(sentences)


def _smoothing(text: str) -> str:
    match = _SMOOTHING.fullmatch(text)
    if match is None or match[1] not in SMOOTHINGS:
        return f"smoothed by {text}"
    given = f" ({match[2].replace('=', ' = ')})" if match[2] else ""
    return f"{SMOOTHINGS[match[1]].does}{cited(SMOOTHINGS[match[1]].keys)}{given}"


def _kept(facts: RunFacts) -> str:
    return f"Maps were kept signed and at their own resolution ({_grids(facts, _all_grids(facts))})."


def _displayed(facts: RunFacts) -> str:
    how = listed(dict.fromkeys(_INTERPOLATION.get(len(grid), "linear") for grid in _all_grids(facts)))
    return (
        f"For display, negative values were set to zero, the map was resized by {how} interpolation and then "
        "divided by its maximum, in this order."
    )


def _all_grids(facts: RunFacts) -> list[tuple[int, ...]]:
    return sorted({grid for method in facts.methods.values() for grid in method.grids})


def _grids(facts: RunFacts, grids: Sequence[tuple[int, ...]]) -> str:
    if len(grids) > _GRIDS_NAMED:
        return f"from {_cells(grids[0])} to {_cells(grids[-1])} cells, by image and method"
    if len(grids) == 1:
        return f"{_cells(grids[0])} cells"
    of = {g: [name for name, method in facts.methods.items() if g in method.grids] for g in grids}
    return "; ".join(f"{_cells(grid)} cells: {titles(names)}" for grid, names in of.items())


def _cells(grid: tuple[int, ...]) -> str:
    return " x ".join(map(str, grid))


def _images(facts: RunFacts) -> str:
    planned = facts.manifest.image_count
    said = (
        f"{capital(counted(facts.explained, 'image'))} {'was' if facts.explained == 1 else 'were'} explained"
    )
    if not facts.manifest.finished:
        said += f" so far, of {planned} planned: the run is not finished"
    if facts.labelled:
        said += f"; {facts.right} of the {facts.labelled} that have a label were predicted as labelled"
    return f"{said}."


def _software(facts: RunFacts) -> str:
    manifest = facts.manifest
    keys = {"torch": [PYTORCH], "whycam": [WHYCAM]}
    used = [
        f"{_SOFTWARE.get(name, name)} {version}{cited(keys.get(name, []))}"
        for name, version in manifest.versions.items()
    ]
    device = "the CPU" if manifest.device == "cpu" else manifest.device
    where = f"The maps were computed on {device}{f' with {listed(used)}' if used else ''}."
    return where if manifest.seed is None else f"{where} The run's random seed was {manifest.seed}."


def _resumed(facts: RunFacts) -> str:
    manifest = facts.manifest
    others: dict[str, None] = {}
    for later in manifest.resumed:
        changed = [f"{name} {v}" for name, v in later.versions.items() if manifest.versions.get(name) != v]
        changed += [later.device] if later.device != manifest.device else []
        if changed:
            others[listed(changed)] = None
    return f"The run was taken up again with {'; then with '.join(others)}." if others else ""
