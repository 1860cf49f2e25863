"""Settings that are checked: YAML files into pydantic models, or one line on what is wrong."""

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lai_training.errors import ConfigError


class Checked(BaseModel):
    """A record that accepts no other keys and does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Config = TypeVar("Config", bound=BaseModel)


def read_yaml(path: Path, kind: type[Config]) -> Config:
    """Read a YAML file and check it against a model.

    Raises:
        ConfigError: the file cannot be read, or a key or value of it is wrong; both are named.
    """
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        raise ConfigError(f"config {path}: {list_faults(error)}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"cannot read the config {path}: {reason}") from error


def list_faults(error: ValidationError) -> str:
    """Return what is wrong with which key, in one line; tags of unions are no keys."""
    faults = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"] if not str(part).endswith(" pool"))
        if fault["type"] == "extra_forbidden":
            faults.append(f"unknown key {key}")
        elif fault["type"] == "missing":
            faults.append(f"key {key} is missing")
        else:
            faults.append(f"{key or 'the file'}: {fault['msg']}, got {fault['input']!r}")
    return "; ".join(faults)
