"""Backbones that a configuration only names: described here, else transformers would ask the hub for them."""

from collections.abc import Mapping
from typing import Any

from whycam.errors import ModelError
from whycam.models.messages import one_line

_TIMM = "timm_backbone"
# how releases before transformers 5 told of a backbone; "pretrained" ones would be fetched
_OLD_FIELDS = ("backbone", "backbone_kwargs", "use_timm_backbone", "use_pretrained_backbone")
_RENAMED = {"in_chans": "num_channels"}


def names_a_backbone(told: Mapping[str, Any]) -> bool:
    """Say whether a configuration names its backbone and does not describe it."""
    return isinstance(told.get("backbone"), str) and not told.get("backbone_config")


def with_described_backbone(told: Mapping[str, Any], config_class: Any) -> dict[str, Any]:
    """Describe the timm backbone that a configuration of ``config_class`` names, without weights of its own.

    What the configuration leaves open is as the class has it where its backbones come from timm (the stages
    of DETR's), and as timm has it elsewhere. Raises ModelError for a name that is none of timm's: it can
    only be the hub's.
    """
    name, kwargs = told["backbone"], told.get("backbone_kwargs") or {}
    if not _is_timms(name):
        raise ModelError(
            f"config.json names its backbone, '{one_line(name, 80)}', and does not describe it; that is no "
            "network of timm, so transformers would ask the hub for it; save the model again with a newer "
            "transformers, which writes backbone_config"
        )
    if not isinstance(kwargs, Mapping):
        raise ModelError(
            f"backbone_kwargs in config.json is {one_line(kwargs, 80)}; expected fields by name, as "
            "save_pretrained writes them"
        )
    rest = {key: value for key, value in told.items() if key not in _OLD_FIELDS}
    given = {_RENAMED.get(str(key), str(key)): value for key, value in kwargs.items()}
    described: dict[str, Any] = {
        "model_type": _TIMM,
        **_defaults(rest, name, config_class),
        "backbone": name,
        **given,
    }
    return {**rest, "backbone_config": described}


def _is_timms(name: str) -> bool:
    import timm

    return bool(timm.is_model(name)) and "/" not in name and ":" not in name


def _defaults(rest: Mapping[str, Any], name: str, config_class: Any) -> dict[str, Any]:
    """Give what the class says of a timm backbone that is named alone; nothing where it says nothing."""
    if getattr(config_class().backbone_config, "model_type", None) != _TIMM:
        return {}
    own = config_class.from_dict({**rest, "backbone": name, "use_timm_backbone": True})
    return dict(own.backbone_config.to_dict())
