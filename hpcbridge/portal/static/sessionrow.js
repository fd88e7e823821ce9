// One session of the list: what is told of it, and what can be done.
import { ADVICE, ending, failed, parts } from './endings.js';
import { WARN } from './outlook.js';
import { ahead, clock, moment, plain, span, until } from './words.js';

const STATES = { submitting: 'Submitting', queued: 'Queued', starting: 'Starting', ready: 'Running' };
const LONG = 60; // characters of a value that are shown

function make(name, kind = '', text = '') {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

/** Set a text only where it is another one, so that nothing is read out twice. */
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  element.hidden = !text;
}

export class SessionRow {
  /** `does` has `open`, `stop` and `log`, each called with this row; `words` has titles for people. */
  constructor(answer, words, does) {
    this.words = words;
    this.title = words.applications[answer.application] ?? answer.application;
    this.element = make('li', 'row');
    this.element.dataset.id = answer.id;
    this.head = make('h3', '', this.title);
    this.pill = make('span', 'pill');
    this.owner = make('span', 'owner');
    this.when = make('span', 'hint when');
    const first = make('div', 'row-head');
    first.append(this.head, this.pill, this.owner, this.when);
    this.said = make('p', 'said');
    this.left = make('p', 'left');
    this.facts = make('p', 'hint facts');
    this.lines = make('details', 'lines');
    this.lines.append(make('summary', '', 'The last lines of its output'), make('pre'));
    this.lines.querySelector('pre').tabIndex = 0;
    this.actions = make('div', 'row-actions');
    this.problem = make('p', 'field-error');
    this.problem.setAttribute('role', 'alert');
    this.openButton = this.button('Open', 'primary', does.open);
    this.logButton = this.button('Output', 'quiet', does.log);
    this.again = make('a', 'button quiet', 'Launch again');
    this.again.append(make('span', 'unseen', ` ${this.title}`));
    this.stopButton = this.button('Stop', 'danger', does.stop);
    this.actions.append(this.openButton, this.logButton, this.again, this.stopButton);
    this.element.append(first, this.said, this.left, this.facts, this.lines, this.problem, this.actions);
    this.update(answer, 0);
  }

  button(text, kind, act) {
    const made = make('button', kind, text);
    made.type = 'button';
    made.append(make('span', 'unseen', ` ${this.title}`));
    made.addEventListener('click', () => act(this));
    return made;
  }

  /** `offset`: how far the service's clock is ahead of ours, in seconds. */
  update(answer, offset) {
    Object.assign(this, { answer, offset });
    const over = answer.state === 'ended';
    const bad = over && failed(answer);
    this.pill.dataset.state = over ? (bad ? 'error' : 'ended') : answer.state === 'ready' ? 'live' : answer.state;
    put(this.pill, over ? (bad ? 'Failed' : 'Ended') : STATES[answer.state] ?? answer.state);
    put(this.owner, this.words.operator ? answer.owner ?? 'no owner' : '');
    put(this.when, this.whenText());
    this.say(over);
    put(this.facts, this.factsText());
    this.openButton.hidden = over || !this.words.opens(answer);
    this.stopButton.hidden = over;
    this.again.hidden = !(answer.application in this.words.applications);
    this.again.href = this.words.link(answer);
    this.tick();
  }

  say(over) {
    const { answer } = this;
    if (!over) {
      const place = answer.position ? ` ${ahead(answer.position)}.` : '';
      const start = answer.estimated_start ? ` Starts ${until(this.until(answer.estimated_start))}.` : '';
      const waits = answer.waits_for ? `Waiting for ${answer.waits_for}.${place}${start}` : '';
      put(this.said, answer.state === 'ready' ? '' : waits || plain(answer.message));
      this.lines.hidden = true;
      return;
    }
    const { first, log } = parts(plain(answer.error ?? ''));
    put(this.said, failed(answer) && first ? `${ending(answer)}. ${first}` : `${ending(answer)}.`);
    this.lines.hidden = !log;
    const text = this.lines.querySelector('pre');
    if (text.textContent !== log) text.textContent = log;
  }

  until(at) {
    return at - (Date.now() / 1000 + this.offset);
  }

  whenText() {
    const { times = {}, handed_over_at: taken } = this.answer;
    const begun = taken ?? times.submitting;
    if (!begun) return '';
    const ran = times.ended && times.starting ? `, ran ${span(times.ended - times.starting)}` : '';
    return `${moment((begun - this.offset) * 1000)}${ran}`;
  }

  factsText() {
    const { answer, words } = this;
    const titles = words.titles[answer.application] ?? {};
    const values = Object.entries(answer.parameters ?? {}).map(([name, value]) => {
      const text = plain(String(value));
      return `${titles[name] ?? name} ${text.length > LONG ? `${text.slice(0, LONG)}…` : text}`;
    });
    const job = answer.job_id ? [`job ${plain(answer.job_id)}`] : [];
    const node = answer.host ? [`on ${plain(answer.host)}`] : [];
    const several = Object.keys(words.clusters).length > 1;
    const cluster = several ? [words.clusters[answer.cluster] ?? answer.cluster] : [];
    return [...cluster, ...job, ...node, ...values].join(' · ');
  }

  /** The time left goes on between news. */
  tick() {
    const { ends, state } = this.answer;
    const rest = state === 'ready' && ends ? Math.max(0, this.until(ends.at)) : Infinity;
    const near = rest <= WARN;
    this.left.classList.toggle('near', near);
    if (rest === Infinity) put(this.left, '');
    else if (near) put(this.left, `Ends in ${clock(rest)}. ${ADVICE[ends.reason] ?? plain(ends.message)}`);
    else put(this.left, `${span(rest)} left`);
  }
}
