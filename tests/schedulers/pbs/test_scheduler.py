"""The commands of PBS: recorded and hostile output in, typed answers or the right error out."""

import json
import re
from collections.abc import Sequence

import pytest

from hpcbridge.errors import (
    ClusterError,
    ClusterUnreachable,
    JobRejected,
    OutcomeUnknown,
    UnexpectedReply,
)
from hpcbridge.schedulers.base import JobRequest, JobState, Listing
from hpcbridge.schedulers.pbs import PBSCluster, PBSScheduler, commands
from hpcbridge.schedulers.pbs.readers import Jobs, read_json, read_text
from hpcbridge.transports.base import Completed
from tests.schedulers.pbs.recordings import DIRECTORY, names, raw, recorded
from tests.schedulers.printed import printed

REAL = DIRECTORY.parent / "pbs-real"
REQUEST = JobRequest("hpcb-1", "/home/alice/s", "/home/alice/s/job.sh", walltime=90061)
DOWN = [*names("down_*"), *names("badhost_*"), "noconf_qstat", "err_baddest_server"]
REFUSED = [
    name
    for name in [*names("err_*"), "qsub_root", "dir_bad", "dir_crlf"]
    if recorded(name).exit_status != 0 and name not in DOWN
]
ACCEPTED = [
    name
    for name in [*names("err_*"), *names("dir_big_*"), "nh_job", "jobid_dir"]
    if recorded(name).exit_status == 0
]


def qstat(done: Completed) -> Jobs | None:
    return commands.parse_qstat(done, read_json)


# -- qsub


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_accepted_job_has_the_id_that_qsub_printed(name: str) -> None:
    done = recorded(name)
    assert commands.parse_qsub(done) == done.out.strip()


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_job_is_told_in_the_words_of_pbs(name: str) -> None:
    done = recorded(name)
    with pytest.raises(JobRejected) as caught:
        commands.parse_qsub(done)
    first = done.err.strip().partition("\nusage")[0]
    assert " ".join(first.split()) in str(caught.value)
    assert "[-A account_string]" not in str(caught.value)


@pytest.mark.parametrize("name", ["down_qsub", "badhost_qsub", "err_baddest_server"])
def test_a_server_that_is_down_at_submit_took_nothing(name: str) -> None:
    with pytest.raises(ClusterUnreachable) as caught:
        commands.parse_qsub(recorded(name))
    assert not isinstance(caught.value, OutcomeUnknown)


@pytest.mark.parametrize(
    "words", ["qsub: End of File", "qsub: Batch protocol error", "qsub: Connection timed out"]
)
def test_a_submission_whose_answer_was_lost_may_have_been_accepted(words: str) -> None:
    with pytest.raises(OutcomeUnknown):
        commands.parse_qsub(printed(err=words, status=190))


HOOK = (REAL / "qsub_hook_rejects_with_time_out_in_text.txt").read_text().partition("\n")[2]


@pytest.mark.parametrize(
    "words",
    [
        HOOK,
        "qsub: Connection refused: your project has no lic=1",
        "qsub: End of File",
        "qsub: munge your data first",
    ],
)
def test_the_exit_status_of_a_refusal_decides_whatever_a_hook_says(words: str) -> None:
    for status in (32, 188):
        with pytest.raises(JobRejected) as caught:
            commands.parse_qsub(printed(err=words, status=status))
        assert " ".join(words.split()) in str(caught.value)


@pytest.mark.parametrize(
    "words", [HOOK, "qsub: we timed out this project", "qsub: is the License server down?"]
)
@pytest.mark.parametrize("status", [1, 32, 99, 250])
def test_words_within_a_sites_sentence_are_no_outage(words: str, status: int) -> None:
    for refusals in (commands.REFUSALS, frozenset[int]()):
        with pytest.raises(JobRejected):
            commands.parse_qsub(printed(err=words, status=status), refusals)


async def test_a_refusal_for_the_queue_names_it() -> None:
    adapter, _ = scheduler(qsub=[recorded("err_badqueue")])
    text = "#!/bin/bash\n#PBS -q nosuch\n"
    with pytest.raises(JobRejected, match=r"Unknown queue. The script asks for the queue nosuch\."):
        await adapter.submit(JobRequest("hpcb-1", "/d", "/d/job.sh", text=text))


def test_a_long_refusal_keeps_its_beginning() -> None:
    words = "qsub: The hook says no: " + "and here is why, " * 30
    with pytest.raises(JobRejected, match="The hook says no"):
        commands.parse_qsub(printed(err=words, status=32))


@pytest.mark.parametrize("out", ["", "garbage", "12x", "-1\n", "<html>502</html>\n"])
def test_success_without_a_job_id_is_an_unknown_outcome(out: str) -> None:
    with pytest.raises(OutcomeUnknown):
        commands.parse_qsub(printed(out))


@pytest.mark.parametrize("out", ["Welcome!\n12.pbs\n", b"\xff\xfe\n\n12.pbs\n\n", "12.pbs"])
def test_the_id_is_found_below_what_a_site_prints(out: str | bytes) -> None:
    assert commands.parse_qsub(printed(out, "qsub: a hook says hello")) == "12.pbs"


def test_the_walltime_has_hours_minutes_and_seconds_and_no_days() -> None:
    assert commands.qsub_options(REQUEST)[-2:] == ["-l", "walltime=25:01:01"]
    short = JobRequest("n", "/d", "/d/s", walltime=59)
    assert commands.qsub_options(short)[-1] == "walltime=00:00:59"
    assert "-l" not in commands.qsub_options(JobRequest("n", "/d", "/d/s"))


@pytest.mark.parametrize(
    "name",
    [
        *("", "-o/etc/x", "x;cmd", "x\n#PBS -q other", "$(id)", "`id`", "a,b=c", "a b", "1", "ä"),
        *("'", "x|y", "a" * 231),
    ],
)
def test_a_name_that_is_more_than_a_name_never_reaches_a_command(name: str) -> None:
    with pytest.raises(JobRejected, match="cannot be the name of a job"):
        commands.qsub_options(JobRequest(name, "/d", "/d/job.sh"))


@pytest.mark.parametrize(
    "path",
    ["-o/etc/x", "relative", "/a;id", "/a\n#PBS", "/$(id)", "/a b", "host:/a", "/a,b", "/`x`"],
)
def test_a_path_that_is_more_than_a_path_never_reaches_a_command(path: str) -> None:
    for request in (JobRequest("n", path, "/d/s"), JobRequest("n", "/d", path)):
        with pytest.raises(JobRejected, match="cannot be given to PBS"):
            commands.qsub_options(request)


# -- qselect


@pytest.mark.parametrize("name", ["qselect_u", "qselect_x_u", "qselect_name", "qselect_none"])
def test_selected_ids_are_read(name: str) -> None:
    assert commands.parse_qselect(recorded(name)) == recorded(name).out.split()


def test_a_server_without_a_history_selects_no_ended_job() -> None:
    assert commands.parse_qselect(recorded("nh_qselect_x")) == []


def test_the_account_is_what_id_printed() -> None:
    assert commands.parse_account(printed("alice\n")) == "alice"


@pytest.mark.parametrize("out", ["", "\n", "a b\n", "-x\n", "x;id\n", b"\xff\n"])
def test_an_account_that_is_none_is_could_not_ask(out: str | bytes) -> None:
    with pytest.raises(UnexpectedReply):
        commands.parse_account(printed(out))


@pytest.mark.parametrize("out", ["12.pbslab", "12.pbslab\n13.pb", "12.pbslab\n<html>\n", b"\xff\n"])
def test_a_selection_that_was_cut_or_is_garbage_is_not_believed(out: str | bytes) -> None:
    with pytest.raises(UnexpectedReply):
        commands.parse_qselect(printed(out))


# -- qstat


@pytest.mark.parametrize("name", names("E_*"))
def test_one_request_for_many_ids_tells_of_those_that_live(name: str) -> None:
    done = recorded(name)
    if name == "E_badserver":  # one id is of another server, of which this one can say nothing
        with pytest.raises(UnexpectedReply, match="illegally formed"):
            qstat(done)
        return
    alive = {"818.pbslab"} & set(done.argv) if "run" in name else set()
    assert set(qstat(done) or {}) == alive


@pytest.mark.parametrize("name", [*names("Ex_*"), *names("nh_E*"), "nh_qstat", "nh_x_run"])
def test_history_tells_of_ended_jobs_where_there_is_one(name: str) -> None:
    done = recorded(name)
    expected = set(re.findall(r'^\t\t"(\d+\.pbslab)"', done.out, re.MULTILINE))
    assert set(qstat(done) or {}) == expected
    if name.startswith("nh") and "-x" in done.argv:
        assert expected == set()


@pytest.mark.parametrize("name", DOWN)
def test_a_server_that_is_down_says_nothing_about_jobs(name: str) -> None:
    done = recorded(name)
    for parse in (qstat, commands.parse_qselect, commands.parse_qdel):
        with pytest.raises(ClusterUnreachable, match="does not answer"):
            parse(done)


def test_no_jobs_are_proof_only_with_the_word_that_they_are_over() -> None:
    nothing = recorded("E_only_unk").out
    assert qstat(printed(nothing, "qstat: Unknown Job Id 9.pbslab", 153)) == {}
    for status in (0, 1, 153, 255):
        with pytest.raises(UnexpectedReply):
            qstat(printed(nothing, "", status))


def test_an_error_counts_even_with_status_0() -> None:
    with pytest.raises(UnexpectedReply):
        qstat(printed(recorded("E_run_done").out, "qstat: Something new"))


@pytest.mark.parametrize("name", raw("hostile_*"))
def test_a_variable_of_a_job_cannot_change_what_qstat_says_of_it(name: str) -> None:
    text = (DIRECTORY / name).read_bytes()
    jobs = qstat(printed(text))
    if jobs is None:
        with pytest.raises(ValueError, match="Expecting"):
            json.loads(text.decode(errors="replace"), strict=False)
        assert name.startswith("hostile_v23")  # the releases that print values bare
        return
    told = re.search(rb'"(\d+\.pbslab)":\s*\{(?:.*\n)*?\s*"job_state":\s*"(\w)"', text)
    assert told is not None
    (job_id, attributes), *others = jobs.items()
    assert not others
    assert (job_id, attributes["job_state"]) == (told[1].decode(), told[2].decode())
    assert not any(key.startswith("Variable_List") for key in attributes)
    assert all(isinstance(value, str) for value in attributes.values())


@pytest.mark.parametrize(
    "text",
    [
        *("", "garbage", "{}", "[]", "null", '{"timestamp": 1}', '{"timestamp": ' + "[" * 100000),
        '{"timestamp": 1, "pbs_version": "23", "Jobs": []}',
        '{"timestamp": 1, "pbs_version": "23", "Jobs": {"x;id": {}}}',
        '{"timestamp": 1, "pbs_version": "23", "Jobs": {"7.pbs": "R"}}',
    ],
)
def test_garbage_is_not_an_answer(text: str) -> None:
    assert read_json(text) is None


def test_a_login_shells_greeting_before_the_answer_is_left_out() -> None:
    text = "Welcome {to} the cluster\n{\n" + recorded("E_run_done").out
    assert set(read_json(text) or {}) == {"818.pbslab"}


def test_an_answer_cut_anywhere_is_not_believed() -> None:
    whole = recorded("E_run_done").out.rstrip()
    assert [end for end in range(len(whole)) if read_json(whole[:end]) is not None] == []


def test_the_wide_text_cannot_be_forged_by_a_variable() -> None:
    jobs = commands.parse_qstat(recorded("qstat_text_hostile_w"), read_text) or {}
    assert list(jobs) == ["287.pbslab"]
    assert (jobs["287.pbslab"]["job_state"], jobs["287.pbslab"]["Hold_Types"]) == ("H", "u")


def test_a_text_cut_anywhere_is_not_believed() -> None:
    whole = recorded("qstat_text_hostile_w").out
    believed = [end for end in range(1, len(whole)) if read_text(whole[:end])]
    assert believed == []


def test_both_formats_tell_the_same_of_a_job() -> None:
    wide = commands.parse_qstat(recorded("qstat_text_hostile_w"), read_text) or {}
    told = qstat(printed((DIRECTORY / "hostile_v23_plain.raw.json").read_bytes())) or {}
    (job,), (other,) = wide.values(), told.values()
    assert set(job) - {"Variable_List"} == set(other)


# -- qdel


@pytest.mark.parametrize(
    "name", [each for each in names("qdel_*") if each != "qdel_noarg"] + ["nh_qdel"]
)
def test_cancelling_what_is_over_or_unknown_is_no_error(name: str) -> None:
    commands.parse_qdel(recorded(name))


def test_a_job_of_somebody_else_cannot_be_cancelled() -> None:
    with pytest.raises(ClusterError, match="Unauthorized"):
        commands.parse_qdel(recorded("perm_qdel_other"))


def test_a_qdel_that_fails_without_a_word_is_told() -> None:
    with pytest.raises(ClusterError):
        commands.parse_qdel(printed(status=1))


@pytest.mark.parametrize(
    "parse", [commands.parse_qsub, qstat, commands.parse_qselect, commands.parse_qdel]
)
def test_a_missing_command_is_told_as_such(parse) -> None:
    with pytest.raises(ClusterUnreachable, match="Set the cluster's commands"):
        parse(printed(err="sh: 1: qstat: not found", status=127))


# -- the adapter's questions


class Script:
    """A transport that answers each command in turn with what was prepared for it."""

    def __init__(self, **answers: list[Completed]) -> None:
        self.answers = answers
        self.asked: list[Sequence[str]] = []

    async def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float) -> Completed:
        self.asked.append(argv)
        if argv == ["id", "-un"]:
            return printed("alice\n")
        name = next(each for each in self.answers if each in argv)
        return self.answers[name].pop(0)


def scheduler(**answers: list[Completed]) -> tuple[PBSScheduler, Script]:
    script = Script(**answers)
    return PBSScheduler(script, timeout=8), script  # type: ignore[arg-type]


@pytest.mark.parametrize("name", raw("hostile_*"))
async def test_every_recorded_variable_leaves_the_listing_whole(name: str) -> None:
    text = (DIRECTORY / name).read_bytes()
    job_id = re.search(rb'"(\d+\.pbslab)"', text)[1].decode()  # type: ignore[index]
    wide = recorded("qstat_text_hostile_w").out.replace("287.pbslab", job_id)
    adapter, script = scheduler(
        qselect=[printed(f"{job_id}\n")], qstat=[printed(text), printed(wide)]
    )
    jobs = (await adapter.list_jobs()).jobs
    assert list(jobs) == [job_id]
    assert jobs[job_id].state in (JobState.QUEUED, JobState.RUNNING, JobState.COMPLETING)
    assert len(script.asked) == (3 if read_json(text.decode(errors="replace")) else 4)


async def test_a_listing_cut_in_both_formats_is_could_not_ask() -> None:
    adapter, _ = scheduler(
        qselect=[printed("818.pbslab\n")],
        qstat=[printed(recorded("E_run_done").out[:-9]), printed("Job Id: 818.pbslab\n    job_st")],
    )
    with pytest.raises(UnexpectedReply, match="cannot be read"):
        await adapter.list_jobs()


async def test_a_round_without_jobs_is_one_question() -> None:
    adapter, script = scheduler(qselect=[printed("")])
    assert (await adapter.list_jobs()).jobs == {}
    assert script.asked == [["id", "-un"], ["qselect", "-u", "alice"]]


async def test_only_this_accounts_jobs_are_asked_for_in_one_request() -> None:
    adapter, script = scheduler(
        qselect=[printed("818.pbslab\n819.pbslab\n")], qstat=[recorded("E_run_done")]
    )
    assert list((await adapter.list_jobs()).jobs) == ["818.pbslab"]
    status = script.asked[-1]
    assert script.asked[-2] == ["qselect", "-u", "alice"]
    assert status[1:] == ["-E", "-f", "-F", "json", "818.pbslab", "819.pbslab"]


async def test_a_job_that_a_selection_leaves_out_is_asked_for_by_its_id() -> None:
    adapter, script = scheduler(
        qsub=[printed("818.pbslab\n")], qselect=[printed("")], qstat=[recorded("E_run_done")]
    )
    await adapter.submit(REQUEST)
    assert list((await adapter.list_jobs()).jobs) == ["818.pbslab"]
    assert "818.pbslab" in script.asked[-1]


async def test_the_jobs_of_several_accounts_are_asked_for_at_once() -> None:
    script = Script(qselect=[printed("818.pbslab\n")], qstat=[recorded("E_run_done")])
    adapter = PBSScheduler(
        script,  # type: ignore[arg-type]
        timeout=8,
        account="svc",
        accounts=lambda: ["bob", "alice", "-x"],
    )
    assert (await adapter.list_jobs()).jobs["818.pbslab"].account == "bob"
    assert script.asked[0] == ["qselect", "-u", "alice,bob"]


async def test_ids_that_are_none_never_reach_a_command() -> None:
    adapter, script = scheduler(qdel=[printed()], qstat=[UNKNOWN])
    await adapter.cancel({})
    await adapter.cancel(dict.fromkeys(["--help", "-W force", "x;id", "1 2", ""], "n"))
    assert await adapter.describe_end("-x") is None
    assert await adapter.find("-u") is None
    assert await adapter.outlook(["*"]) == {}
    assert script.asked == []
    await adapter.cancel({"7.pbs": "n"})
    assert script.asked[1:] == [["qdel", "7.pbs"]]


async def test_a_job_that_has_another_name_is_left_alone() -> None:
    text = recorded("E_run_done")
    (attributes,) = (read_json(text.out) or {}).values()
    adapter, script = scheduler(qdel=[printed()], qstat=[text, text])
    await adapter.cancel({"818.pbslab": "another"})
    assert not [argv for argv in script.asked if "qdel" in argv]
    await adapter.cancel({"818.pbslab": str(attributes["Job_Name"])})
    assert script.asked[-1] == ["qdel", "818.pbslab"]


async def test_thousands_of_ids_fit_into_a_login_shells_line() -> None:
    ids = [f"{number}.pbs" for number in range(20000)]
    adapter, script = scheduler(qdel=[printed()] * 3, qstat=[UNKNOWN] * 3)
    await adapter.cancel(dict.fromkeys(ids, "n"))
    deleted = [argv[1:] for argv in script.asked if argv[0] == "qdel"]
    assert sorted(each for some in deleted for each in some) == sorted(ids)
    assert max(len(" ".join(argv)) for argv in script.asked) < 2**17


def test_the_directory_of_the_commands_and_the_server_can_be_set() -> None:
    settings = PBSCluster(scheduler="pbs", commands="/opt/pbs/bin/", server="pbs2")
    made = commands.Commands(settings.commands, settings.server)
    argv = made.argv("qdel", "7.pbs")
    assert argv == ["env", "PBS_SERVER=pbs2", "PBS_DEFAULT=pbs2", "/opt/pbs/bin/qdel", "7.pbs"]
    assert commands.Commands().argv("qdel", "7.pbs") == ["qdel", "7.pbs"]


@pytest.mark.parametrize("server", ["-x", "a b", "x;id", "$(id)", ""])
def test_a_server_that_is_no_host_is_refused(server: str) -> None:
    with pytest.raises(ValueError, match="server"):
        PBSCluster(scheduler="pbs", server=server)


# -- ids that an answer leaves out


UNKNOWN = printed(recorded("E_only_unk").out, "qstat: Unknown Job Id 819.pbslab", 153)
NO_HISTORY = printed(
    recorded("E_only_unk").out, "qstat: PBS is not configured to maintain job history 819.pbslab"
)
SILENCE = printed(recorded("E_only_unk").out)
BOTH = "818.pbslab\n819.pbslab\n"


async def second_round(*answers: Completed) -> tuple[Listing, Script]:
    """What a listing says in which qstat leaves out 819, of which the round before told."""
    both = recorded("E_run_done").out.replace("818.pbslab", "819.pbslab")
    adapter, script = scheduler(
        qselect=[printed("819.pbslab\n"), printed(BOTH)],
        qstat=[printed(both), recorded("E_run_done"), *answers],
    )
    await adapter.list_jobs()
    return await adapter.list_jobs(), script


async def test_an_id_that_is_left_out_without_a_word_is_not_missing_but_not_asked_for() -> None:
    found, script = await second_round(NO_HISTORY, SILENCE)
    assert (list(found.jobs), set(found.untold)) == (["818.pbslab"], {"819.pbslab"})
    assert script.asked[-1][-1] == "819.pbslab"


async def test_an_id_of_which_the_server_says_that_it_is_unknown_is_missing() -> None:
    found, _ = await second_round(NO_HISTORY, UNKNOWN)
    assert (list(found.jobs), set(found.untold)) == (["818.pbslab"], set())


async def test_a_living_job_that_was_left_out_is_found_alone() -> None:
    alone = recorded("E_run_done").out.replace("818.pbslab", "819.pbslab")
    found, _ = await second_round(NO_HISTORY, printed(alone))
    assert set(found.jobs) == {"818.pbslab", "819.pbslab"}
    assert not found.untold


async def test_a_selected_job_that_is_left_out_is_asked_for_alone_in_the_next_round() -> None:
    adapter, script = scheduler(
        qselect=[printed(BOTH)] * 2,
        qstat=[recorded("E_run_done"), recorded("E_run_done"), NO_HISTORY, UNKNOWN],
    )
    assert set((await adapter.list_jobs()).untold) == {"819.pbslab"}
    assert not (await adapter.list_jobs()).untold
    assert script.answers["qstat"] == []


async def test_a_server_that_hides_jobs_does_not_say_that_they_are_over() -> None:
    adapter, _ = scheduler(qstat=[SILENCE, SILENCE])
    with pytest.raises(UnexpectedReply, match="query_other_jobs"):
        await adapter.describe_end("819.pbslab")
