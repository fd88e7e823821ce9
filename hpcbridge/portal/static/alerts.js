// Notifications of the browser, while the tab is not seen: a session is ready, about to end, or has ended.
// They are asked for by a button, never when a page is opened.
import { ADVICE, ending } from './endings.js';
import { WARN } from './outlook.js';
import { plain, span } from './words.js';

const KEY = 'hpcbridge.alerts';
const SAME = 60; // seconds by which an end may move without being told again

/** Whether this browser can; not where it is refused, nor on a page without TLS of another host. */
function possible() {
  return globalThis.isSecureContext && 'Notification' in globalThis && Notification.permission !== 'denied';
}

function wanted() {
  return possible() && Notification.permission === 'granted' && localStorage.getItem(KEY) === 'on';
}

export class Alerts {
  /** `button` turns them on and off; `titles` names applications for people. */
  constructor(button, launcher, titles) {
    Object.assign(this, { button, launcher, titles, known: new Map() });
    button.addEventListener('click', () => this.toggle());
    this.show();
  }

  get on() {
    return wanted();
  }

  async toggle() {
    if (this.on) localStorage.removeItem(KEY);
    else if (await Notification.requestPermission() === 'granted') localStorage.setItem(KEY, 'on');
    this.show();
  }

  show() {
    this.button.hidden = !possible();
    this.button.setAttribute('aria-pressed', String(this.on));
  }

  /** What is known of a session now; tells what is new in it. */
  see(answer) {
    const { id, state } = answer;
    const before = this.known.get(id);
    if (before?.state === 'ended') return;
    clearTimeout(before?.timer);
    const now = { state, warned: before?.warned };
    this.known.set(id, now);
    if (state === 'ready' && before && before.state !== 'ready') this.tell(answer, 'is ready', 'Open it in the portal.');
    if (state === 'ended' && before) this.tell(answer, 'has ended', `${ending(answer)}.`);
    if (state === 'ready' && answer.ends) this.warn(answer, now);
  }

  /** All that live; of those that do no more it is asked why. */
  async seeAll(answers) {
    const living = new Set(answers.map(({ id }) => id));
    answers.forEach((answer) => this.see(answer));
    for (const [id, { state, timer }] of [...this.known]) {
      if (state === 'ended' || living.has(id)) continue;
      try {
        this.see(await this.launcher.status(id));
      } catch (error) {
        if (error.status !== 404) throw error;
        clearTimeout(timer);
        this.known.delete(id);
      }
    }
  }

  warn(answer, now) {
    const { ends } = answer;
    if (Math.abs((now.warned ?? 0) - ends.at) < SAME) return;
    const left = ends.at - (Date.now() / 1000 + this.launcher.offset);
    if (left > WARN) {
      now.timer = setTimeout(() => this.warn(answer, now), Math.min((left - WARN) * 1000, 2 ** 31 - 1));
      return;
    }
    now.warned = ends.at;
    const advice = ADVICE[ends.reason] ?? plain(ends.message);
    this.tell(answer, `ends in ${span(Math.max(60, left))}`, advice);
  }

  tell({ id, application }, what, body) {
    if (!document.hidden || !this.on) return;
    try {
      // Of several tabs that tell the same, one notification is seen.
      const made = new Notification(`${this.titles[application] ?? application} ${what}`, { body, tag: `${id} ${what}` });
      made.addEventListener('click', () => { globalThis.focus(); made.close(); });
    } catch {
      // Android's Chrome has them for service workers only.
    }
  }
}
