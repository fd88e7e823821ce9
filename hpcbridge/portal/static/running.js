// "Your sessions" on the first page: what still runs, with a way back to each.
import { memory } from './memory.js';
import { byId } from './words.js';

const LABELS = {
  submitting: 'Submitting',
  queued: 'In the queue',
  starting: 'Starting',
  ready: 'Running',
};

function button(text, kind, title, act) {
  const made = document.createElement('button');
  made.type = 'button';
  made.className = kind;
  made.textContent = text;
  const whose = document.createElement('span');
  whose.className = 'unseen';
  whose.textContent = ` ${title}`;
  made.append(whose);
  made.addEventListener('click', act);
  return made;
}

export class Running {
  /** `open` is called with a session of the memory; `titles` names applications for people. */
  constructor(launcher, open, titles, users) {
    Object.assign(this, { launcher, open, titles, users });
    this.shown = '';
  }

  /** Look which sessions live, list them, and return what is told of them. */
  async look() {
    const listed = await this.listed();
    const others = this.users ? [] : await this.remembered(new Set(listed.map(({ answer }) => answer.id)));
    const found = [...listed, ...others];
    const answers = found.map(({ answer }) => answer);
    const text = JSON.stringify(found.map(({ answer }) => [answer.id, answer.state, answer.message]));
    if (text === this.shown) return answers; // the focus may be on one of the buttons
    this.shown = text;
    byId('running').hidden = !found.length;
    byId('running-list').replaceChildren(...found.map((each) => this.item(each)));
    return answers;
  }

  /** One's own: the page of sessions has everybody's for operators. */
  async listed() {
    const all = await this.launcher.list();
    const { sessions } = all.operator ? await this.launcher.list({ owner: all.user }) : all;
    return sessions.map((answer) => ({ answer, kept: memory.find(answer.id) }));
  }

  /** What this browser launched without the cookie that it is listed by, but for those `known`. */
  async remembered(known) {
    const looks = memory.all().filter(({ id }) => !known.has(id)).map(async (kept) => {
      try {
        const answer = await this.launcher.status(kept.id);
        if (answer.state !== 'ended') return { answer, kept };
        memory.remove(kept.id);
      } catch (error) {
        if (error.status === 404) memory.remove(kept.id);
      }
      return null;
    });
    return (await Promise.all(looks)).filter(Boolean);
  }

  item({ answer, kept }) {
    const title = kept?.title ?? this.titles[answer.application] ?? answer.application;
    const item = document.createElement('li');
    const name = document.createElement('strong');
    name.textContent = title;
    const state = document.createElement('span');
    state.className = 'pill';
    state.dataset.state = answer.state === 'ready' ? 'live' : answer.state;
    state.textContent = LABELS[answer.state] ?? answer.state;
    const message = document.createElement('span');
    message.className = 'hint';
    message.textContent = answer.state === 'ready' ? `on ${answer.host}` : answer.message;
    const request = kept?.request ?? { application: answer.application };
    item.append(name, state, message);
    if (answer.viewer !== 'content') { // a page of the site would launch another one
      item.append(button('Open', 'primary', title, async () => {
        const now = await this.launcher.status(answer.id).catch(() => answer);
        this.open({ id: answer.id, secret: kept?.secret ?? now.secret, title, request }, now);
      }));
    }
    item.append(button('Stop', 'danger', title, async () => {
      try {
        await this.launcher.stop(answer.id);
      } catch (error) {
        if (error.status !== 404) { // else it has ended already
          message.textContent = error.message;
          return;
        }
      }
      memory.remove(answer.id);
      this.shown = '';
      byId('catalogue-title').focus();
      await this.look();
    }));
    return item;
  }
}
