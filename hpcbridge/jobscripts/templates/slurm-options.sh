{% if cluster.partition is defined %}
#SBATCH --partition={{ cluster.partition | directive }}
{% endif %}
{% if cluster.account is defined %}
#SBATCH --account={{ cluster.account | directive }}
{% endif %}
{% if cluster.qos is defined %}
#SBATCH --qos={{ cluster.qos | directive }}
{% endif %}
{% if cluster.constraint is defined %}
#SBATCH --constraint={{ cluster.constraint | directive }}
{% endif %}
{% if cluster.reservation is defined %}
#SBATCH --reservation={{ cluster.reservation | directive }}
{% endif %}
{% if cluster.cpus is defined %}
#SBATCH --cpus-per-task={{ cluster.cpus | directive }}
{% endif %}
{% if cluster.memory is defined %}
#SBATCH --mem={{ cluster.memory | directive }}
{% endif %}
