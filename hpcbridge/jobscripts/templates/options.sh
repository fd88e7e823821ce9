{% if cluster.gpus is defined %}
{% set gpus = cluster.gpus %}
{% endif %}
{% if job.scheduler in ("slurm", "slurmrest") %}
{% include "slurm-options.sh" %}
{% elif job.scheduler == "pbs" %}
{% include "pbs-options.sh" %}
{% elif job.scheduler == "torque" %}
{% include "torque-options.sh" %}
{% elif job.scheduler == "gridengine" %}
{% include "gridengine-options.sh" %}
{% endif %}
