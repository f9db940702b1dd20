"""A manifest's preprocessing as a sentence."""

from collections.abc import Mapping
from typing import Any

from whycam.reports.sentences import listed, plain

_NEEDED = {"size", "resize", "resize_to", "interpolation", "mean", "std"}
_RESIZED = {
    "shorter": "resized with their aspect kept so that they cover {pixels} pixels",
    "longest": "resized with their aspect kept so that they fit into {pixels} pixels",
    "squash": "resized to {pixels} pixels without regard to their aspect",
    "keep": "not resized",
    "bounded": "resized with their aspect kept to a shorter edge of {least} pixels, or less where the longer "
    "edge would exceed {most}",
}


def preprocessing_text(recorded: Mapping[str, object]) -> str:
    """Say how pictures became the network's input, height before width; what is not known as it stands."""
    if not recorded:
        return "How the images were preprocessed was not recorded."
    if not recorded.keys() >= _NEEDED or recorded["resize"] not in _RESIZED:
        values = "; ".join(f"{key}: {plain(value)}" for key, value in recorded.items())
        return f"The recorded preprocessing of the images is {values}."
    steps = [_resized(recorded), *_cropped(recorded), *_channels(recorded)]
    steps += ["scaled to between 0 and 1", _normalised(recorded)]
    return f"Images were {listed(steps)}."


def _resized(recorded: Mapping[str, Any]) -> str:
    first, second = recorded["resize_to"]
    text = _RESIZED[recorded["resize"]].format(
        pixels=f"{first} x {second}", least=min(first, second), most=max(first, second)
    )
    if recorded["resize"] == "keep":
        return text
    if recorded.get("side_multiple", 1) != 1:
        text += (
            f", both edges rounded {recorded['side_rounding']} to a multiple of {recorded['side_multiple']}"
        )
    smooth = "" if recorded.get("antialias", True) else ", without antialiasing"
    return f"{text} ({recorded['interpolation']} interpolation{smooth})"


def _cropped(recorded: Mapping[str, Any]) -> list[str]:
    size, aim = list(recorded["size"]), list(recorded["resize_to"])
    if recorded["resize"] == "bounded" or (recorded["resize"] == "squash" and size == aim):
        return []
    pixels = f"{size[0]} x {size[1]} pixels"
    fill = plain(_once(recorded.get("fill", [0])))
    padded = f"padded with the value {fill} (of 255) to {pixels}"
    if recorded["resize"] == "longest":
        return [padded]
    if recorded["resize"] == "keep" or size[0] > aim[0] or size[1] > aim[1]:
        return [f"cropped at the centre to {pixels}, padded with the value {fill} (of 255) where smaller"]
    return [f"cropped at the centre to {pixels}"]


def _channels(recorded: Mapping[str, Any]) -> list[str]:
    if recorded.get("channels", 3) == 1:
        return ["reduced to one channel of luma"]
    return ["put in the channel order blue, green, red"] if recorded.get("channel_order") == "bgr" else []


def _normalised(recorded: Mapping[str, Any]) -> str:
    mean, deviation = plain(_once(recorded["mean"])), plain(_once(recorded["std"]))
    return f"normalised per channel (mean {mean}; standard deviation {deviation})"


def _once(values: list[Any]) -> list[Any]:
    """Return one value where all are the same."""
    return values[:1] if len(set(values)) == 1 else values
