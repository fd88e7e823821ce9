// Why a session ended, in words.

const ENDED = {
  stopped: 'The session was stopped',
  finished: 'The application has ended',
  failed: 'The application failed',
  timed_out: 'The job ran out of time',
  out_of_memory: 'The job ran out of memory',
  node_failed: 'The node failed',
  preempted: 'The job had to make room for another',
  cancelled: 'The job was cancelled',
  never_ready: 'The application did not get ready',
  idle: 'The session was idle for too long',
  rejected: 'The job was refused',
};
// Ends that were told beforehand, and are nobody's failure.
const FORESEEN = ['stopped', 'finished', 'timed_out', 'idle'];
const NEVER_STARTED = 'The job did not start in time';

/** What to do before an end that comes, by its reason. */
export const ADVICE = {
  timed_out: 'Save what you need; the job ends then.',
  idle: 'Nobody is connected; use it to keep it.',
};

/** One sentence, without a full stop. */
export function ending({ reason, times }) {
  if (reason === 'never_ready' && !times?.starting) return NEVER_STARTED;
  return ENDED[reason] ?? 'The session has ended';
}

/** Whether it is a failure that should be looked into. */
export function failed({ reason, error }) {
  return Boolean(error) && !FORESEEN.includes(reason);
}

/** A failure's text: a sentence for people, a title, and below that the job's last lines. */
export function parts(text) {
  const [first, ...log] = text.trim().split('\n');
  const heading = log.length === 1 || log[0]?.endsWith(':') ? log.shift() : '';
  return { first, heading, log: log.join('\n').trimEnd() };
}
