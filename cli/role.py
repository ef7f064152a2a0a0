"""`podstrap role`: the Role of the controller, exactly what it needs, as YAML for `kubectl apply -f -`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """For which settings and which account."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings: its namespaces each get a Role")
    parser.add_argument("--namespace", metavar="N", help="instead of the settings' own")
    parser.add_argument("--service-account", default="podstrap", metavar="NAME", help="whom to bind (podstrap)")


def run(options: argparse.Namespace) -> int:
    """Print it."""
    import yaml

    from controller import settings_file
    from controller.permissions import manifests

    settings = settings_file.load(options.config) if options.config else settings_file.load_text("{}", "no settings")
    if options.namespace:
        settings = settings.model_copy(update={"namespace": options.namespace})
    found = manifests(settings, options.service_account, settings.namespace)
    print(yaml.safe_dump_all(found, sort_keys=False, default_flow_style=None), end="")
    return 0
