{% if job.walltime %}
#PBS -l walltime={{ job.walltime | hms(days=false) }}
{% endif %}
{% if cluster.reservation is defined %}
#PBS -q {{ cluster.reservation | directive }}
{% elif cluster.queue is defined %}
#PBS -q {{ cluster.queue | directive }}
{% endif %}
{% if cluster.account is defined %}
#PBS -A {{ cluster.account | directive }}
{% endif %}
{% if cluster.project is defined %}
#PBS -P {{ cluster.project | directive }}
{% endif %}
{% set nodes = cluster.nodes | default(1) | directive | int %}
{% set tasks = cluster.tasks | default(1) | directive | int %}
{% set cpus = cluster.cpus | default(1) | directive | int %}
{% set chunk = nodes ~ ":ncpus=" ~ tasks * cpus ~ ":mpiprocs=" ~ tasks %}
{% if cluster.memory is defined %}
{% set chunk = chunk ~ ":mem=" ~ (cluster.memory | directive) %}
{% endif %}
{% if gpus is defined %}
{% set chunk = chunk ~ ":ngpus=" ~ (gpus | directive) %}
{% endif %}
{% if cluster.constraint is defined %}
{% set chunk = chunk ~ ":" ~ (cluster.constraint | directive) %}
{% endif %}
#PBS -l select={{ chunk | directive }}
{% if cluster.exclusive is defined and cluster.exclusive %}
#PBS -l place=scatter:excl
{% elif nodes > 1 %}
#PBS -l place=scatter
{% endif %}
