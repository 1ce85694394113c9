"""Files of options: YAML 1.2's plain words, of which PyYAML knows those of 1.1."""

import re
from typing import Any, ClassVar

import yaml

YAML = "yaml_1_2"  # jsonargparse's name for how it is read


class _Yaml(yaml.SafeLoader):
    """Plain words as YAML 1.2 reads them. In YAML 1.1 `no` is a boolean, 5e-5 a text and 2026-11-03 a date."""

    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, words) for tag, words in resolvers if tag.endswith((":null", ":merge"))]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


# In this order: what is a whole number is also a number.
for _kind, _words, _letters in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", "[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
):
    _Yaml.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^({_words})$"), list(_letters))
_Yaml.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))


def load_yaml(text: str) -> Any:
    value = yaml.load(text, _Yaml)
    # A file of comments alone holds no option, and not nothing.
    return {} if value is None and yaml.compose(text, _Yaml) is None else value
