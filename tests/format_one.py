"""A shard set as kitsam wrote it in format 1: without cases by content, checksums, boxes and records of units."""

import json
import shutil
from pathlib import Path

SINCE_FORMAT_2 = ("cases", "folds", "initial_decoder", "seal")
SAMPLE_SINCE_FORMAT_2 = ("crc32", "ct", "kidneys", "tumors", "cysts")


def as_format_one(shards: Path, out: Path) -> Path:
    """A copy of the set `shards` in format 1."""
    shutil.copytree(shards, out)
    shutil.rmtree(out / "units")
    (out / "plan.json").unlink()
    manifest = json.loads((out / "manifest.json").read_text())
    for part in ("train", "val"):
        for shard in manifest[part]:
            shard.pop("index_sha256")
            index = (out / shard["name"]).with_suffix(".json")
            content = json.loads(index.read_text())
            samples = [{k: v for k, v in one.items() if k not in SAMPLE_SINCE_FORMAT_2} for one in content["samples"]]
            index.write_text(json.dumps({**content, "samples": samples, "unit": {"planned": {}, "skipped": {}}}))
    for name in ("grid", "normalization"):
        manifest["encoder"].pop(name)
    manifest["embedding"].pop("precision")
    content = {name: value for name, value in manifest.items() if name not in SINCE_FORMAT_2}
    (out / "manifest.json").write_text(json.dumps({**content, "format": 1}))
    return out
