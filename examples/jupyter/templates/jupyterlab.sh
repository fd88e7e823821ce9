#!/bin/bash
# JupyterLab. The session's secret is its token, which the bridge sends with every request; so no
# user has to have it, and other users of the node get in with none.
#
#   app.NAME      the properties of this application: python, one that has jupyterlab; directory,
#                 where users begin, may be left out
#   cluster.NAME  the options of the cluster, all of which may be left out (options.sh)
#   job.NAME      bind, directory, walltime: set by hpcbridge
{% include "options.sh" %}

{% include "prelude.sh" %}
{% include "environment.sh" %}

python={{ app.python }}
bind={{ job.bind }}
directory={{ app.directory | default("") }}

# Jupyter reads its token from a file that it then erases, and keeps what is secret in this session.
mkdir -p jupyter/config
export JUPYTER_CONFIG_DIR=$PWD/jupyter/config JUPYTER_RUNTIME_DIR=$PWD/jupyter/runtime
cat >jupyter/config/jupyter_server_config.py <<CONFIG
from pathlib import Path
told = Path("$HPCBRIDGE_DIRECTORY/secret")
c.IdentityProvider.token = told.read_text().strip()
told.unlink()
c.ServerApp.ip = "$bind"
c.ServerApp.port = $HPCBRIDGE_PORT
c.ServerApp.port_retries = 0
c.ServerApp.open_browser = False
c.ServerApp.allow_remote_access = True  # its host name is the session's; the bridge asks who comes
c.ServerApp.root_dir = "${directory:-$HOME}"
CONFIG
allow=()
(( EUID )) || allow=(--allow-root)

hpcbridge_run "${hpcbridge_inside[@]}" "$python" -m jupyterlab "${allow[@]}"
