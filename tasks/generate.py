"""Write the lm-eval YAML files of this folder: ``python tasks/generate.py [FOLDER]``."""

from __future__ import annotations

import sys
from pathlib import Path

from ecr_bench.corpora.intents import LANGUAGES
from ecr_bench.corpora.messages import LANGUAGES as MESSAGES
from ecr_bench.io import write_text
from ecr_bench.items.pairs import KINDS, pairs

SIB200 = ("ar", "cs", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pl", "pt", "ru", "sv", "sw", "th", "tr")
XCOPA = ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
BASE = """\
# Shared by all languages of this task. The items come from the folder given as metadata: {{"items": "DIR"}}.
custom_dataset: !function ecr_bench.items.lmeval.load
output_type: multiple_choice
test_split: test
doc_to_text: prompt
doc_to_choice: choices
doc_to_target: gold
target_delimiter: " "
num_fewshot: 0
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1.0}}
"""
GROUP = """\
group: {name}
task:
{members}
aggregate_metric_list:
  - {{metric: acc, weight_by_size: false}}
metadata: {{version: 1.0}}
"""


def files() -> dict[str, str]:
    """Path relative to this folder -> content of the YAML file there."""
    tasks = {
        "intent": {"": sorted(LANGUAGES)},
        "slot": {"": sorted(LANGUAGES)},
        "label": {"": sorted({*MESSAGES, *SIB200})},
        "copa": {"": list(XCOPA)},
        "meaning": {f"_{kind.replace('-', '_')}": sorted(pairs(LANGUAGES, [kind])) for kind in KINDS},
    }
    result: dict[str, str] = {}
    for task, groups in tasks.items():
        result[f"{task}/_{task}.yaml"] = BASE.format()
        for suffix, parts in groups.items():
            names = [f"ecr_{task}_{part}" for part in parts]
            result[f"{task}/_group{suffix}.yaml"] = group(f"ecr_{task}{suffix}", names)
            for name in names:
                result[f"{task}/{name}.yaml"] = (
                    f"include: _{task}.yaml\ntask: {name}\ndataset_kwargs: {{task: {name}}}\n"
                )
    result["meaning/_group.yaml"] = group("ecr_meaning", ["ecr_meaning_to_en", "ecr_meaning_from_en"])
    result["_group.yaml"] = group("ecr_all", ["ecr_intent", "ecr_slot", "ecr_meaning"])
    return result


def group(name: str, members: list[str]) -> str:
    """A group whose accuracy is the plain mean over its members."""
    return GROUP.format(name=name, members="\n".join(f"  - {member}" for member in members))


def main(folder: Path) -> None:
    """Write all files under ``folder``."""
    for path, text in files().items():
        write_text(folder / path, text)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
