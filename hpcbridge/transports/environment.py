"""The part of this service's environment that others may see."""

import os

# What a command inherits: that, and where the batch system's own configuration is. Anything else of
# the service's environment stays here: sbatch would hand it to the job, and with it whatever
# secrets the service was configured with.
PASSED_ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"),
    *("SLURM_CONF", "PBS_CONF_FILE", "SGE_ROOT", "SGE_CELL"),
)


def clean_environment() -> dict[str, str]:
    """The part of this process's environment that commands and jobs may see."""
    found = {key: os.environ[key] for key in PASSED_ENVIRONMENT if key in os.environ}
    found.setdefault("PATH", "/usr/local/bin:/usr/bin:/bin")
    return found
