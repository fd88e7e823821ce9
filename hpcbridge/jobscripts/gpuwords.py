"""The two ways in which a job of Slurm asks for a node's GPUs. It may use one: sbatch(1)."""

import re

_DIRECTIVE = re.compile(r"^#SBATCH\s(.*)$", re.MULTILINE)
_PER_NODE = re.compile(r"(?:^|\s)--gpus-per-node(?:=|\s)")
_GRES = re.compile(r"(?:^|\s)--gres(?:=|\s+)\S*\bgpu\b")


def why_not_both(script: str) -> str:
    """What is wrong with a script that asks both ways, as a sentence; "" for any other."""
    lines = [re.sub(r"\s#.*", "", line) for line in _DIRECTIVE.findall(script)]
    both = all(any(pattern.search(line) for line in lines) for pattern in (_PER_NODE, _GRES))
    if not both:
        return ""
    return (
        "it asks for GPUs by --gpus-per-node (the option gpus) and by --gres (the option gres), "
        "which Slurm refuses from 26.05 on; say it once"
    )
