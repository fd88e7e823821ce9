"""What can be done about a refusal stands below Slurm's own words."""

import pytest

from hpcbridge.schedulers.slurm.advice import advice

from .recordings import recorded


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("err_bad_partition", "'partition' must be one that sinfo lists"),
        ("err_time_over_limit", "more than the partition allows"),
        ("err_gres_too_many", "No node of the partition has that much"),
        ("err_mem_too_much", "No node of the partition has that much"),
    ],
)
def test_recorded_refusals_come_with_advice(name: str, said: str) -> None:
    assert said in advice(recorded(name).err)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Invalid account or account/partition combination specified", "The option 'account'"),
        ("Invalid qos specification", "The option 'qos'"),
        ("Job violates accounting/QOS policy (job submit limit, ...)", "sacctmgr show qos"),
        ("Requested reservation is invalid", "The option 'reservation'"),
        ("Access denied to requested reservation", "The option 'reservation'"),
    ],
)
def test_refusals_that_need_accounting_come_with_advice(error: str, said: str) -> None:
    assert said in advice(f"sbatch: error: Batch job submission failed: {error}")


@pytest.mark.parametrize("error", ["", "sbatch: error: something else"])
def test_what_is_not_known_is_left_as_it_is(error: str) -> None:
    assert advice(error) == ""
