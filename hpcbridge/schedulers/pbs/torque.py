"""Torque by its commands, which are those of PBS with other options and formats."""

from hpcbridge.schedulers.base import Forecast, JobRequest
from hpcbridge.schedulers.pbs import forecast as estimates
from hpcbridge.schedulers.pbs.commands import parse_told
from hpcbridge.schedulers.pbs.directives import read
from hpcbridge.schedulers.pbs.jobs import TORQUE_ENDS
from hpcbridge.schedulers.pbs.readers import Jobs, read_blocks, read_xml
from hpcbridge.schedulers.pbs.scheduler import PBSScheduler


class TorqueScheduler(PBSScheduler):
    """The same for Torque: ``-x`` means XML there, and ended jobs stay in state C for a while."""

    ends = TORQUE_ENDS
    refusals = frozenset[int]()  # its numbers are others, and errno's are among them
    submit_options = ()  # -f means something else there, and the letter d of -k is unknown
    formats = ((("-x", "-f"), read_xml),)
    history = ()
    subjobs = ()

    async def forecast(self, request: JobRequest) -> Forecast:
        """See :meth:`hpcbridge.schedulers.base.Forecaster.forecast`.

        Only whether the queue is closed: what Maui or Moab would start, only they can tell.
        """
        name = estimates.queue_of(read(request.text), await self.server())
        queue = (await self._tell("Queue", "qstat", "-Q")).get(name, {}) if name else {}
        return Forecast(closed=estimates.closed(name, queue))

    async def _tell(self, section: str, command: str, option: str) -> Jobs:
        done = await self._run(self._commands.argv(command, option, "-f"))
        return parse_told(command, done, lambda text: read_blocks(text, section))
