// The page of sessions: those that live and those that have ended, by filters, page by page.
import { Alerts } from './alerts.js';
import { Launcher } from './api.js';
import { LogView } from './logview.js';
import { memory, onChange } from './memory.js';
import { SessionRow } from './sessionrow.js';
import { byId, write } from './words.js';

const PAGE = 50; // sessions of one answer
const SOON = 3000; // ms between two looks while a session starts
const LIVE = 8000; // while one is ready
const QUIET = 20_000; // while none lives
const { endpoint, root } = document.body.dataset;
const launcher = new Launcher(endpoint);
const titled = (id) => Object.fromEntries(
  [...byId(id)?.options ?? []].filter(({ value }) => value).map(({ value, textContent }) => [value, textContent]),
);
const filters = byId('filters');
const log = new LogView(launcher);
const alerts = new Alerts(byId('alerts'), launcher, titled('filter-application'));
let me = { user: null, operator: false };

const words = {
  applications: titled('filter-application'),
  clusters: titled('filter-cluster'),
  titles: Object.fromEntries([...byId('filter-application').options].filter(({ value }) => value)
    .map(({ value, dataset }) => [value, JSON.parse(dataset.titles)])),
  get operator() { return me.operator; },

  /** The bookmark that opens the application's form filled in. */
  link({ application, parameters }) {
    return `${root}?${new URLSearchParams({ application, ...parameters })}`;
  },

  /** Whether this browser can show the session: its secret is here, or told to its owner. */
  opens({ id, viewer, owner }) {
    if (viewer === 'page') return !me.user || me.user === owner;
    return viewer === 'portal' && Boolean(memory.find(id)?.secret || (me.user && me.user === owner));
  },
};

const does = {
  /** The first page shows the session that this tab has. */
  async open({ answer, title, problem }) {
    try {
      const now = await launcher.status(answer.id);
      const kept = memory.find(answer.id);
      const request = kept?.request ?? { application: answer.application, ...answer.parameters };
      memory.add({ id: answer.id, secret: kept?.secret ?? now.secret, title, request });
      location.href = root;
    } catch (error) {
      problem.textContent = error.message;
    }
  },

  async stop({ answer, title, problem, stopButton }) {
    stopButton.disabled = true;
    try {
      await launcher.stop(answer.id);
    } catch (error) {
      if (error.status !== 404) { // else it has ended already
        problem.textContent = error.message;
        stopButton.disabled = false;
        return;
      }
    }
    memory.remove(answer.id);
    byId('live-title').focus();
    write('sessions-said', `${title} is stopped.`);
    await look();
  },

  log({ answer, title }) {
    log.open(answer, title);
  },
};

/** What stands in the filters, without what is left open. */
function chosen() {
  return Object.fromEntries([...new FormData(filters)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
}

/** The live or the ended ones. */
class Section {
  constructor(state) {
    this.state = state;
    this.element = byId(state);
    this.list = this.element.querySelector('.rows');
    this.older = this.element.querySelector('.older');
    this.rows = new Map();
    this.older.addEventListener('click', () => this.more().catch(complain));
    this.clear();
  }

  clear() {
    this.pages = 1;
    this.key = '';
    this.next = null;
  }

  ask(before) {
    const { state: _, ...rest } = chosen();
    return launcher.list({ ...rest, state: this.state, limit: PAGE, ...(before ? { before } : {}) });
  }

  /** Ask for as many pages as are shown; whether other sessions are in it than before. */
  async look() {
    const { state = this.state } = chosen();
    this.element.hidden = state !== this.state;
    if (this.element.hidden) return false;
    const found = [];
    let answer = null;
    for (let page = 0; page < this.pages; page += 1) {
      if (page && !answer.next) break;
      answer = await this.ask(answer?.next);
      found.push(...answer.sessions);
    }
    me = { user: answer.user, operator: answer.operator };
    this.show(found, answer.next);
    const key = found.map(({ id }) => id).join();
    const changed = key !== this.key;
    this.key = key;
    return changed;
  }

  show(answers, next) {
    const kept = new Map();
    for (const answer of answers) {
      const row = this.rows.get(answer.id) ?? new SessionRow(answer, words, does);
      row.update(answer, launcher.offset);
      kept.set(answer.id, row);
    }
    for (const [id, row] of this.rows) if (!kept.has(id)) row.element.remove();
    let place = this.list.firstChild;
    for (const { element } of kept.values()) {
      if (element === place) place = place.nextSibling;
      else this.list.insertBefore(element, place); // only what is not there: the focus may be in a row
    }
    this.rows = kept;
    this.next = next;
    this.older.hidden = !next;
    this.element.querySelector('.count').textContent = kept.size ? `${kept.size}${next ? '+' : ''}` : '';
    this.element.querySelector('.empty').hidden = kept.size > 0;
  }

  async more() {
    const answer = await this.ask(this.next);
    const first = answer.sessions[0]?.id;
    this.pages += 1;
    this.show([...[...this.rows.values()].map((row) => row.answer), ...answer.sessions], answer.next);
    write('sessions-said', `${answer.sessions.length} more.`);
    this.rows.get(first)?.element.querySelector('a, button:not([hidden])')?.focus();
  }

  get answers() {
    return [...this.rows.values()].map(({ answer }) => answer);
  }
}

const live = new Section('live');
const ended = new Section('ended');
let timer = 0;
let looking = null;
let endedAt = 0;

function complain(error) {
  write('sessions-problem', error.message);
}

/** Operators see everybody's; notifications are of one's own. */
function mine({ owner }) {
  return me.user === null || owner === me.user;
}

/** Look at what lives, and at what has ended where that may have changed. */
async function once() {
  try {
    const changed = await live.look();
    if (!live.element.hidden && !Object.keys(chosen()).length) await alerts.seeAll(live.answers.filter(mine));
    if (changed || !endedAt || Date.now() - endedAt > QUIET) {
      await ended.look();
      endedAt = Date.now();
    }
    write('sessions-problem', '');
    if (byId('who')) byId('who').textContent = me.operator ? `${me.user} (operator)` : me.user;
    if (byId('nav-announcements')) byId('nav-announcements').hidden = !me.operator;
    if (byId('filter-owner-field')) byId('filter-owner-field').hidden = !me.operator;
  } catch (error) {
    complain(error);
  }
}

async function look() {
  clearTimeout(timer);
  looking = (looking ?? Promise.resolve()).then(once);
  await looking;
  clearTimeout(timer);
  const states = live.answers.map(({ state }) => state);
  const wait = states.some((state) => state !== 'ready') ? SOON : states.length ? LIVE : QUIET;
  if (!document.hidden || (alerts.on && states.length)) timer = setTimeout(look, wait);
}

function refilter() {
  for (const section of [live, ended]) section.clear();
  endedAt = 0;
  history.replaceState(null, '', `?${new URLSearchParams(chosen())}`);
  look();
}

const asked = new URLSearchParams(location.search);
for (const field of filters.elements) if (asked.has(field.name)) field.value = asked.get(field.name);
for (const field of filters.querySelectorAll('select')) if (field.selectedIndex < 0) field.value = '';
filters.addEventListener('submit', (event) => event.preventDefault());
filters.addEventListener('change', refilter);
onChange(look); // another tab has launched or stopped one
document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });
setInterval(() => live.rows.forEach((row) => row.tick()), 1000);
look();
