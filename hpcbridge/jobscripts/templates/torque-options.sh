{% if job.walltime %}
#PBS -l walltime={{ job.walltime | hms(days=false) }}
{% endif %}
{% if cluster.queue is defined %}
#PBS -q {{ cluster.queue | directive }}
{% endif %}
{% if cluster.account is defined %}
#PBS -A {{ cluster.account | directive }}
{% endif %}
{% if cluster.project is defined %}
#PBS -P {{ cluster.project | directive }}
{% endif %}
{% if cluster.qos is defined %}
#PBS -l qos={{ cluster.qos | directive }}
{% endif %}
{% if cluster.reservation is defined %}
#PBS -l advres={{ cluster.reservation | directive }}
{% endif %}
{% set nodes = cluster.nodes | default(1) | directive | int %}
{% set tasks = cluster.tasks | default(1) | directive | int %}
{% set cpus = cluster.cpus | default(1) | directive | int %}
{% set wanted = nodes ~ ":ppn=" ~ tasks * cpus %}
{% if gpus is defined %}
{% set wanted = wanted ~ ":gpus=" ~ (gpus | directive) %}
{% endif %}
{% if cluster.constraint is defined %}
{% set wanted = wanted ~ ":" ~ (cluster.constraint | directive) %}
{% endif %}
#PBS -l nodes={{ wanted | directive }}
{% if cluster.memory is defined %}
#PBS -l mem={{ cluster.memory | directive }}
{% endif %}
{% if cluster.exclusive is defined and cluster.exclusive %}
#PBS -l naccesspolicy=singlejob
{% endif %}
