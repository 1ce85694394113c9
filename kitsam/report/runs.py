"""The training runs that `metrics.json` names: of each target one, or several that answered together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kitsam.system.options import as_list


def runs_by_name(settings: Mapping[str, Any]) -> dict[str, Path]:
    """`roi`, `tumor`, ..., and `roi 1`, `roi 2`, ... where a target has several."""
    runs = {}
    for target, some in (settings.get("runs") or {}).items():
        paths = [Path(path) for path in as_list(some) if path]
        names = [target] if len(paths) == 1 else [f"{target} {number}" for number in range(1, len(paths) + 1)]
        runs.update(zip(names, paths))
    return runs
