"""How the wait in a queue is told to a person."""

import time

from hpcbridge.schedulers.base import JobInfo, Outlook

DAY = 86400.0


def message(job: JobInfo, outlook: Outlook | None) -> str:
    """``Waiting for 2 GPUs; 14 jobs are ahead in partition viz; it should start at 14:05 UTC.``"""
    outlook = outlook or Outlook()
    why = f"waiting for {outlook.waits_for}" if outlook.waits_for else job.detail
    if not why:
        why = "waiting"
    elif not why.startswith("waiting"):
        why = f"waiting in the queue: {why}"
    parts = [f"{why[0].upper()}{why[1:]}", _place(outlook)]
    if outlook.start is not None and outlook.start > time.time():
        parts.append(f"it should start {clock(outlook.start)}")
    return "; ".join(part for part in parts if part) + "."


def _place(outlook: Outlook) -> str:
    where = f" in {outlook.kind} {outlook.queue}" if outlook.queue else ""
    if outlook.ahead is None:
        return f"it is{where}" if where else ""
    if outlook.ahead == 0:
        return f"it is the next{where}"
    return f"{outlook.ahead} {'job is' if outlook.ahead == 1 else 'jobs are'} ahead{where}"


def clock(at: float) -> str:
    """A time of this machine's clock, in seconds since the epoch, with the day if it is far."""
    day = "" if at < time.time() + DAY / 2 else "on %d %b "
    return time.strftime(f"{day}at %H:%M %Z", time.localtime(at))
