"""A job as slurmrestd wants it described, made from a rendered script."""

import math
import re
from collections.abc import Mapping
from typing import Any

from hpcbridge.config.slurmrestversions import is_typed
from hpcbridge.errors import JobRejected
from hpcbridge.schedulers.base import JobRequest
from hpcbridge.schedulers.slurmrest.amounts import Fields, boxed
from hpcbridge.schedulers.slurmrest.directives import directives
from hpcbridge.schedulers.slurmrest.options import OPTIONS, VARIABLES

_JOINED = ("tres_per_node", "tres_per_task")
# With which sbatch of Slurm 23.11 and later has each MPI's mpiexec start its processes.
_MPI = {
    "HYDRA_BOOTSTRAP": "slurm",
    "HYDRA_LAUNCHER_EXTRA_ARGS": "--external-launcher",
    "I_MPI_HYDRA_BOOTSTRAP": "slurm",
    "I_MPI_HYDRA_BOOTSTRAP_EXEC_EXTRA_ARGS": "--external-launcher",
    "OMPI_MCA_plm_slurm_args": "--external-launcher",
    "PRTE_MCA_plm_slurm_args": "--external-launcher",
}


def submission(request: JobRequest, version: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """The body of a request to ``job/submit``: the job that sbatch would have made of this script.

    What hpcbridge sets itself counts more than a directive. Raises
    :class:`~hpcbridge.errors.JobRejected` for a directive that this version has no words for.
    """
    typed = is_typed(version)
    given = directives(request.text)
    job: Fields = {}
    variables = dict(environment)
    for name, value in given.items():
        for field, content in _written(name, value, version).items():
            if field == "environment":
                variables |= content
            elif field in job and field in _JOINED:
                job[field] += f",{content}"
            else:
                job[field] = content
    job |= _counted(job, given, typed=typed)
    job |= _own(request, typed=typed)
    variables |= {VARIABLES[name]: value for name, value in given.items() if name in VARIABLES}
    if typed:
        variables.pop("SLURM_GPUS_PER_TASK", None)
        variables = _MPI | _resources_of_tasks(job) | variables
    job["environment"] = [f"{k}={v}" for k, v in variables.items()] if typed else variables
    return {"script": request.text, "job": job}


def _written(name: str, value: str, version: str) -> Fields:
    option = OPTIONS[name]
    write = option.typed if is_typed(version) else option.words
    said = f"--{name}={value}" if value else f"--{name}"
    if write is None:
        can = ", ".join(
            f"--{each}"
            for each, other in sorted(OPTIONS.items())
            if (other.typed if is_typed(version) else other.words) is not None
        )
        raise JobRejected(
            f"The job script says #SBATCH {said}, for which {version} of slurmrestd's interface "
            f"has no words. It has some for: {can}."
        )
    try:
        return write(value)
    except ValueError as error:
        raise JobRejected(f"The job script says #SBATCH {said}: {error}.") from None


def _own(request: JobRequest, *, typed: bool) -> Fields:
    log = f"{request.directory}/scheduler.out"
    own: Fields = {
        "name": request.name,
        "current_working_directory": request.directory,
        "standard_input": "/dev/null",
        "standard_output": log,
        "standard_error": log,
    }
    own |= {"requeue": False} if typed else {"no_requeue": True}
    if request.walltime is not None:
        limit = math.ceil(request.walltime / 60)
        own["time_limit"] = boxed(limit) if typed else limit
    return own


def _counted(job: Fields, given: Mapping[str, str], *, typed: bool) -> Fields:
    """Tasks and CPUs as sbatch derives them where they are not given, see its opt.c."""
    least = int((re.match(r"\d{1,6}", given.get("nodes", "")) or [1])[0])
    tasks = job.get("tasks")
    if tasks is None and "tasks_per_node" in job:
        tasks = least * job["tasks_per_node"]
    if typed:
        counted = {"minimum_cpus": (tasks or least) * job.get("cpus_per_task", 1)}
        return counted | ({} if tasks is None else {"tasks": tasks})
    # These versions have no word for the job's CPUs, of which each node needs one at least.
    tasks = tasks or (least if least > 1 else None)
    return {} if tasks is None else {"tasks": tasks}


def _resources_of_tasks(job: Fields) -> dict[str, str]:
    fields = {"SLURM_TRES_PER_TASK": "tres_per_task", "SLURM_TRES_BIND": "tres_bind"}
    return {variable: job[field] for variable, field in fields.items() if field in job}
