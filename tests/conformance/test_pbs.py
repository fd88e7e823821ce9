"""PBS passes the suite: the fake one, and a site's own in ``make test-pbs``."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hpcbridge.conformance import Ability, Conformance
from tests.pbs import site
from tests.pbs.bench import PBSBench, opened

FACTS = site.facts()
CANNOT = {}
if FACTS:
    CANNOT[Ability.FORGET] = "a real server can only be made to lose a job by its operator"
if FACTS and not FACTS.history:
    CANNOT[Ability.HISTORY] = "job_history_enable is off on this server, as it is by default"
if FACTS and not FACTS.roomy:
    CANNOT[Ability.CROWD] = "a limit on waiting jobs (or its tester) keeps a thousand of them away"


@pytest.mark.timeout(site.LIMIT)
class TestPBS(Conformance):
    cannot = CANNOT

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[PBSBench]:
        async with opened(tmp_path) as bench:
            yield bench
