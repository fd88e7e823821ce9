"""qstat(1) with -xml: the queue, what jobs wait for, and why some are in error. Pure functions."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from xml.etree import ElementTree

from hpcbridge.errors import UnexpectedReply
from hpcbridge.schedulers.base import JobInfo, JobState, Listing, Outlook
from hpcbridge.schedulers.gridengine.commands import JOB_ID, raise_if_failed
from hpcbridge.transports.base import Completed

WAITING = ["qstat", "-xml", "-u", "*", "-s", "p", "-r"]

ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")

# qstat(1), the letters of a job's state; each can stand with others.
QUEUED_LETTERS, RUNNING_LETTERS = frozenset("qw"), frozenset("rtN")
SUSPENDED_LETTERS = frozenset("sST")
KNOWN_LETTERS = frozenset("qwrtsSTNdhERP")

# What a queue says of a job that it does not take now: sched_message(5) has no page, so these are
# the texts of 8.1.9. What is not here is told in Grid Engine's own words.
_MESSAGES = (
    (r"dropped because it is full|because of overload or full", "a free slot"),
    (r"dropped because it is overloaded", "a node that is less busy"),
    (r"it only offers \d+ slots", "free slots"),
    (
        r"dropped because it is (temporarily not available|disabled)",
        "a node that is out of service",
    ),
    (r"rejected.* dependency|job dependencies|Job dropped because of.*predecessor", "another job"),
    (r"(cannot|can't) run .*because it offers only", "resources that are in use or not there"),
    (r"because .*resource quota|due to .*limit", "the limits of its user or project"),
)


def listing_argv(accounts: Iterable[str] = ()) -> list[str]:
    """All jobs of whoever calls qstat, and of these accounts.

    $user is qstat's own word, so it needs no shell; without -u, a site's sge_qstat file may choose
    other users.
    """
    users = ["$user", *sorted(filter(ACCOUNT.fullmatch, accounts))]
    return ["qstat", "-xml", "-u", ",".join(users), "-s", "prs"]


def parse_listing(done: Completed) -> Listing:
    """All jobs of a complete listing; anything less is "could not ask"."""
    raise_if_failed("qstat", done)
    jobs = (_job(element) for element in _jobs(done))
    return Listing({job.job_id: job for job in jobs})


def _jobs(done: Completed) -> Iterable[ElementTree.Element]:
    root = read_xml(done)
    if root.tag != "job_info" or [child.tag for child in root] != ["queue_info", "job_info"]:
        raise UnexpectedReply(f"qstat printed no listing, but <{root.tag}>.")
    return root.iter("job_list")


def read_xml(done: Completed) -> ElementTree.Element:
    """The document that a command printed with -xml."""
    # qstat declares no entities. Whoever does wants this parser to work for ever.
    text = done.out[max(0, done.out.find("<?xml")) :]  # below what a site's wrapper prints
    if "<!" in text:
        raise UnexpectedReply("qstat printed XML with declarations, which it never does.")
    try:
        return ElementTree.fromstring(text)  # noqa: S314  # no declarations, and bounded
    except ElementTree.ParseError as error:
        raise UnexpectedReply(f"qstat printed no XML, or only a part: {error}.") from error


def _job(element: ElementTree.Element) -> JobInfo:
    number, letters = text_of(element, "JB_job_number"), text_of(element, "state")
    if not JOB_ID.fullmatch(number) or not letters:
        raise UnexpectedReply(f"qstat printed a job that cannot be read: {number!r} {letters!r}.")
    tasks = text_of(element, "tasks")  # of a job array, which shares one number
    state = _state(frozenset(letters))
    host = text_of(element, "queue_name").partition("@")[2]
    return JobInfo(
        f"{number}.{tasks}" if tasks else number,
        text_of(element, "JB_name"),
        state,
        (host or None) if state == JobState.RUNNING else None,
        _detail(letters),
        suspended=bool(SUSPENDED_LETTERS & set(letters)),
        run=text_of(element, "JAT_start_time") if state == JobState.RUNNING else "",
    )


def _state(letters: frozenset[str]) -> JobState:
    if letters - KNOWN_LETTERS:
        return JobState.UNKNOWN
    if letters & (QUEUED_LETTERS | SUSPENDED_LETTERS):
        return JobState.QUEUED
    return JobState.RUNNING if letters & RUNNING_LETTERS else JobState.UNKNOWN


def _detail(letters: str) -> str:
    for letter, words in (
        ("d", "being deleted"),
        ("E", "in error"),
        ("h", "held"),
        ("s", "suspended"),
        ("S", "suspended with its queue"),
        ("T", "suspended because its node is too busy"),
        ("R", "run again"),
        ("w", "waiting for its turn"),
    ):
        if letter in letters:
            return f"{words} ({letters})"
    return letters


def in_error(info: JobInfo) -> bool:
    """Whether the job stands in error, where it stays until somebody clears it."""
    return info.detail.startswith("in error")


def details_argv(job_ids: Iterable[str]) -> list[str]:
    """What the scheduler has to say of these jobs. Only ids: other words are names of jobs."""
    ids = ",".join(sorted(job_id for job_id in job_ids if JOB_ID.fullmatch(job_id)))
    return ["qstat", "-xml", "-j", ids]


def parse_living(done: Completed, job_id: str) -> JobInfo | None:
    """A job that the master still has, in whatever state; None where it says that it has none."""
    root = _details(done)
    for job in root.iter("element"):
        if text_of(job, "JB_job_number") == job_id:
            return JobInfo(job_id, text_of(job, "JB_job_name"), JobState.UNKNOWN)
    if root.tag != "unknown_jobs":
        raise UnexpectedReply(f"qstat told neither of job {job_id} nor that it is unknown.")
    return None


def parse_errors(done: Completed) -> Mapping[str, str]:
    """Of each job that is in error, why."""
    found = {}
    for job in _details(done).iter("element"):
        number = text_of(job, "JB_job_number")
        messages = [
            text_of(each, "QIM_message") for each in job.iter() if each.tag == "ulong_sublist"
        ]
        if number and any(messages):
            said = next(filter(None, messages))
            # "11/21/2026 23:45:07 [1001:115]: error: can't chdir to ..."
            found[number] = re.sub(r"^[\d/]+ [\d:]+ (\[[\d:]+\]: )?(error: )?", "", said).strip()
    return found


def parse_reasons(done: Completed) -> Mapping[str, str]:
    """Of each job that has to wait, for what; nothing where the site has turned that off.

    See schedd_job_info in sched_conf(5).
    """
    root = _details(done)
    found: dict[str, list[str]] = {}
    for element in root.iter("element"):
        message = text_of(element, "MES_message")
        for number in element.iter("ULNG_value"):
            if message:
                found.setdefault(number.text or "", []).append(message)
    everybody = [
        text_of(element, "MES_message")
        for part in root.iter("SME_global_message_list")
        for element in part.iter("element")
    ]
    numbers = [element.text or "" for element in root.iter("JB_job_number")]
    reasons = {number: _words([*found.get(number, []), *everybody]) for number in numbers}
    return {number: words for number, words in reasons.items() if words}


def _details(done: Completed) -> ElementTree.Element:
    raise_if_failed("qstat", done)
    root = read_xml(done)
    if root.tag not in ("detailed_job_info", "unknown_jobs"):
        raise UnexpectedReply(f"qstat printed no jobs, but <{root.tag}>.")
    return root


def _words(messages: Iterable[str]) -> str:
    """The first message that has plain words, or else the first."""
    said = [message for message in messages if "no messages available" not in message]
    for pattern, words in _MESSAGES:
        if any(re.search(pattern, message) for message in said):
            return words
    return said[0][:200] if said else ""


def parse_waiting(done: Completed, job_ids: Collection[str]) -> Mapping[str, Outlook]:
    """Where these jobs stand among all that wait, which qstat sorts as the scheduler does."""
    before = Counter[frozenset[str]]()
    found = {}
    for job_id, wanted, passed_over in _waiting(done):
        if job_id in job_ids:
            ahead = _rivals(before, wanted)
            found[job_id] = Outlook(queue=",".join(sorted(wanted)), ahead=ahead)
        before[wanted] += not passed_over
    return found


def count_waiting(done: Completed, wanted: frozenset[str]) -> int:
    """How many jobs wait that could take the place of one that asks for these queues."""
    queues = (queues for _, queues, passed_over in _waiting(done) if not passed_over)
    return _rivals(Counter(queues), wanted)


def _waiting(done: Completed) -> Iterator[tuple[str, frozenset[str], bool]]:
    """Ids, the queues that are asked for, and whether the job is held or in error."""
    raise_if_failed("qstat", done)
    for element in _jobs(done):
        wanted = frozenset(each.text or "" for each in element.findall("hard_req_queue"))
        held = bool(set("hE") & set(text_of(element, "state")))
        yield _job(element).job_id, wanted, held


def _rivals(jobs: Counter[frozenset[str]], wanted: frozenset[str]) -> int:
    """A job asks for some queues, or takes any: those count that could take its place."""
    return sum(n for queues, n in jobs.items() if not (queues and wanted) or queues & wanted)


def text_of(element: ElementTree.Element, name: str) -> str:
    """The text of a child, "" where there is none."""
    child = element.find(name)
    return "" if child is None or child.text is None else child.text.strip()
