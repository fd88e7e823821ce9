// The session's part of the page: title, steps, words, facts, failure. It shows and decides nothing.
import { parts } from './endings.js';
import { Outlook } from './outlook.js';
import { ahead, byId, clock, traffic, write } from './words.js';

const STEPS = ['submitting', 'queued', 'starting', 'ready'];
const UNKNOWN = '–';
const LABELS = {
  submitting: 'Submitting',
  queued: 'Queued',
  starting: 'Starting',
  ready: 'Connecting',
  live: 'Live',
  lost: 'Reconnecting',
  stopping: 'Stopping',
  ended: 'Ended',
  error: 'Failed',
  broken: 'Not shown',
  open: 'Running',
};

/** "4.2 s", and "26:05 min" for a wait. */
function seconds(ms) {
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${clock(Math.floor(ms / 1000))} min`;
}

export class Stage {
  constructor() {
    this.state = 'idle';
    this.outlook = new Outlook();
    setInterval(() => this.tick(), 100); // seconds go on between news
  }

  open(title) {
    this.state = 'idle';
    this.title = title;
    this.asked = performance.now();
    this.since = {};
    this.times = {};
    this.outlook.forget();
    byId('session-title').textContent = title;
    byId('session').hidden = false;
    document.body.dataset.view = 'session';
    byId('facts').hidden = false;
    for (const id of ['job', 'host', 'cluster', 'first', 'rate']) byId(`fact-${id}`).textContent = UNKNOWN;
    for (const step of byId('stepper').children) {
      step.dataset.status = 'todo';
      step.querySelector('.elapsed').textContent = '';
    }
    this.report({ state: 'submitting', message: 'Handing the job to the scheduler.' });
    byId('stop').focus({ preventScroll: true });
    globalThis.scrollTo(0, 0);
  }

  close() {
    this.blank();
    this.state = 'idle';
    byId('session').hidden = true;
    byId('stage').dataset.state = 'idle';
    document.body.dataset.view = 'catalogue';
    document.title = 'hpcbridge';
  }

  /** One of LABELS' names: what the page is doing now. */
  show(state) {
    this.state = state;
    const { live } = this;
    const over = ['error', 'ended', 'broken'].includes(state);
    byId('stage').dataset.state = state;
    byId('connection').dataset.state = state;
    byId('connection').textContent = LABELS[state];
    byId('progress').hidden = live || over || state === 'open';
    byId('page').hidden = state !== 'open';
    byId('leave').hidden = over;
    for (const fact of ['first', 'rate']) byId(`fact-${fact}`).parentElement.hidden = state === 'open';
    byId('failure').hidden = !over;
    byId('reset-view').hidden = !live;
    byId('fullscreen').hidden = !(live || state === 'open') || !document.fullscreenEnabled;
    byId('stop').hidden = over && state !== 'broken';
    byId('again').textContent = state === 'broken' ? 'Connect again' : 'Try again';
    byId('stop').disabled = state === 'stopping';
    this.entitle();
  }

  /** The tab's title tells how far it is to those who look at another one meanwhile. */
  entitle(position) {
    const place = position ? ` (${ahead(position).toLowerCase()})` : '';
    document.title = `${LABELS[this.state]}${place} · ${this.title}`;
  }

  get live() {
    return this.state === 'live' || this.state === 'lost';
  }

  /** What the service says about the session; `offset` as for {@link Outlook}. */
  report(answer, offset) {
    const { state, message, times, job_id: job, host, cluster, waits_for: missing } = answer;
    this.outlook.report(answer, offset);
    if (STEPS.includes(state) && (this.state === 'idle' || STEPS.includes(this.state))) {
      this.times = times ?? this.times;
      this.since[state] ??= this.moment(this.times[state], offset);
      if (this.times.submitting) this.asked = this.moment(this.times.submitting, offset);
      if (state !== this.state) this.show(state);
      this.steps();
      this.entitle(state === 'queued' ? answer.position : undefined);
    }
    if (message) this.say(state === 'queued' && missing ? `Waiting for ${missing}.` : message);
    if (job) byId('fact-job').textContent = job;
    if (host) byId('fact-host').textContent = host;
    if (cluster) byId('fact-cluster').textContent = cluster;
    byId('fact-traffic-row').hidden = !answer.traffic;
    if (answer.traffic) write('fact-traffic', traffic(answer.traffic));
  }

  /** A moment of the service's clock on ours, as `performance.now()` counts; now, if unknown. */
  moment(at, offset = 0) {
    const ago = at ? Date.now() + offset * 1000 - at * 1000 : 0;
    return performance.now() - Math.max(0, ago);
  }

  /** The application's own page, at the session's own address. */
  page(url) {
    byId('page-frame').src = url;
    byId('page-frame').title = this.title;
    byId('page-link').href = url;
    this.show('open');
  }

  say(message) {
    write('message', message);
  }

  steps() {
    const current = STEPS.indexOf(this.state);
    for (const [index, step] of [...byId('stepper').children].entries()) {
      const done = index < current || this.state === 'ready';
      step.dataset.status = done ? 'done' : index === current ? 'active' : 'todo';
      if (index === current) step.setAttribute('aria-current', 'step');
      else step.removeAttribute('aria-current');
      if (index <= current) step.querySelector('.elapsed').textContent = this.elapsed(index, done);
    }
  }

  /** How long a step took or takes. The service's clock is not ours: only its differences count. */
  elapsed(index, done) {
    const begun = this.times[STEPS[index]];
    const next = STEPS.slice(index + 1).map((name) => this.times[name]).find(Boolean);
    if (done) return begun && next ? seconds((next - begun) * 1000) : '';
    return seconds(performance.now() - this.since[STEPS[index]]);
  }

  tick() {
    this.outlook.tick();
    if (!STEPS.includes(this.state)) return;
    this.steps();
    byId('waited').textContent = `${seconds(performance.now() - this.asked)} since you asked`;
  }

  pictured({ first, rate, width, height }) {
    if (first) {
      const label = byId('fact-first');
      const after = performance.now() - this.asked;
      if (label.textContent === UNKNOWN) label.textContent = `${seconds(after)} after the click`;
      this.show('live');
      byId('hint').hidden = false;
      byId('view').focus({ preventScroll: true });
    }
    byId('fact-rate').textContent = rate > 2 ? `${rate} pictures/s` : `${width} × ${height} pixels`;
  }

  /** The first line of `text` is for people; then come, below a title, the job's last lines. */
  fail(title, text, state = 'error') {
    this.blank();
    const { first, heading, log } = parts(text);
    byId('failure-title').textContent = title;
    byId('failure-text').textContent = first;
    byId('failure-log-title').textContent = heading;
    byId('failure-log-title').hidden = !heading;
    byId('failure-log').textContent = log;
    byId('failure-log').hidden = !log;
    this.tail = byId('failure-log');
    byId('facts').hidden = byId('fact-job').textContent === UNKNOWN;
    this.show(state);
    this.tail.scrollTop = this.tail.scrollHeight; // what it said last says why
    byId('again').focus({ preventScroll: true });
  }

  blank() {
    if (document.fullscreenElement) document.exitFullscreen();
    this.outlook.forget();
    byId('view').hidden = true;
    byId('hint').hidden = true;
    byId('page').hidden = true;
    byId('page-frame').removeAttribute('src');
  }
}
