"""What a session directory holds before its job is submitted."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcbridge.config.applications import ApplicationSettings
from hpcbridge.config.clusters import ClusterSettings, RemoteCluster, bind_address
from hpcbridge.config.fields import Primitive
from hpcbridge.jobscripts.render import LAUNCH_STUB, ScriptContext, TemplateSet, render
from hpcbridge.store import SessionRow
from hpcbridge.transports.base import StagedFile

NEW_SECRET = "secret.new"  # noqa: S105
"""The file by which an application gets a new secret; see :mod:`hpcbridge.warm.secret`."""


def script_context(
    cluster: ClusterSettings,
    application_name: str,
    application: ApplicationSettings,
    parameters: Mapping[str, Primitive],
    *,
    job_name: str,
    directory: str,
) -> ScriptContext:
    """What the application's template sees."""
    python = cluster.python or ("python3" if isinstance(cluster, RemoteCluster) else sys.executable)
    return ScriptContext(
        job_name=job_name,
        directory=directory,
        walltime=application.walltime,
        bind=bind_address(cluster),
        application=application_name,
        properties=application.properties,
        parameters=parameters,
        options={**cluster.options, **application.options},
        scheduler=cluster.scheduler,
        python=python,
        command=application.command,
    )


class JobFiles:
    """Makes the files of session directories from the admin's templates and hpcbridge's own."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._templates = TemplateSet(directories)
        self._stub = StagedFile(LAUNCH_STUB.read_bytes())

    def for_session(
        self,
        application: ApplicationSettings,
        cluster: ClusterSettings,
        row: SessionRow,
        directory: str,
    ) -> dict[str, StagedFile]:
        """The script, the launch stub, and the secret in a file of its own (0600).

        Raises :class:`~hpcbridge.errors.TemplateError` and
        :class:`~hpcbridge.errors.BadParameter`.
        """
        context = script_context(
            cluster,
            row.application,
            application,
            row.parameters,
            job_name=row.attempt_name,
            directory=directory,
        )
        script = render(self._templates, application.template, context)
        files = {
            "job.sh": StagedFile(script.encode(), mode=0o700),
            "launch.py": self._stub,
            "secret": StagedFile((row.secret or "").encode()),
        }
        if row.warm and application.warm is not None and application.warm.new_secret:
            files[NEW_SECRET] = StagedFile(b"")
        return files
