// One session, from the click to the end: launch, follow, connect, reconnect, stop.
import { ending, failed } from './endings.js';
import { Feed } from './feed.js';
import { memory } from './memory.js';
import { Stage } from './stage.js';
import { Trouble } from './trouble.js';
import { RemoteView } from './viewer.js';
import { byId } from './words.js';

const RETRIES = [250, 500, 1000, 2000, 4000]; // ms; the last one again for as long as it lives
const SILENT_TRIES = 2; // an application that says nothing to that many greetings speaks another protocol
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** For measuring: the first time each thing happened, and not again after a reconnection. */
function mark(name) {
  const full = `hpcbridge:${name}`;
  if (!performance.getEntriesByName(full).length) performance.mark(full);
}

export class Session {
  /** `alerts` are told what is heard; `leave` is called when the user goes back to the catalogue. */
  constructor(launcher, client, alerts, leave) {
    this.launcher = launcher;
    this.alerts = alerts;
    this.leave = leave;
    this.run = 0; // which launch we are in: answers that belong to an earlier one are dropped
    this.stage = new Stage();
    this.view = new RemoteView(byId('view'), client);
    this.view.addEventListener('image', ({ detail }) => this.pictured(detail));
    this.trouble = new Trouble(launcher);
    this.view.addEventListener('close', () => this.reconnect(this.run));
    byId('stop').addEventListener('click', () => this.stop());
    byId('again').addEventListener('click', () => this.again());
    byId('back').addEventListener('click', () => this.close());
    byId('leave').addEventListener('click', () => this.close());
    byId('reset-view').addEventListener('click', () => this.view.reset());
    byId('fullscreen').addEventListener('click', () => {
      if (document.fullscreenElement) document.exitFullscreen();
      else byId('stage').requestFullscreen();
    });
    document.addEventListener('fullscreenchange', () => {
      byId('fullscreen').setAttribute('aria-pressed', String(Boolean(document.fullscreenElement)));
    });
  }

  /**
   * `request` is `{application, ...parameters}`; `title` names it for people. `open` is the same
   * without secret values: what this browser keeps.
   */
  async launch(title, request, open = request) {
    const run = this.open({ title, request });
    performance.clearMarks();
    mark('launch');
    this.view.prepare().catch(() => null); // connect() tells
    try {
      const answer = await this.launcher.launch(request);
      const { id, secret } = answer;
      if (run !== this.run) { // the user left while it was submitted
        memory.add({ id, secret, title, request: open });
        memory.leave();
        await this.launcher.stop(id);
        memory.remove(id);
        return;
      }
      Object.assign(this, { id, secret });
      memory.add({ id, secret, title, request: open });
      await this.follow(run, answer);
    } catch (error) {
      if (run === this.run) this.fail('The session could not be started', error.message);
    }
  }

  /** Show a session that was launched before: here, in another tab, or before a reload. */
  async take(kept, answer) {
    const run = this.open(kept);
    memory.add(kept);
    try {
      await this.follow(run, answer);
    } catch (error) {
      if (run === this.run) this.fail('The session cannot be followed', error.message);
    }
  }

  /** Take up the session that this tab had before it was reloaded, if it is still there. */
  async resume() {
    const kept = memory.shown;
    if (!kept) return;
    const answer = await this.launcher.status(kept.id).catch(() => null);
    if (answer && answer.state !== 'ended') this.take(kept, answer);
    else if (answer) memory.remove(kept.id);
    else memory.leave();
  }

  open({ title, request, id = null, secret = null }) {
    this.run += 1;
    Object.assign(this, { title, request, id, secret, url: null, tries: 0, living: Boolean(id) });
    this.stage.open(title);
    return this.run;
  }

  async follow(run, first) {
    this.living = true;
    this.feed = new Feed(this.launcher.events(this.id));
    for (let answer = first; run === this.run; answer = await this.news(run, answer)) {
      // Once it is ready, what the page itself does is what is said.
      const told = this.url && answer.state === 'ready' ? { ...answer, message: '' } : answer;
      this.stage.report(told, this.launcher.offset);
      this.alerts.see(answer);
      if (answer.state === 'ended') this.ended(answer);
      else if (answer.state === 'ready' && !this.url) this.show(run, answer);
    }
  }

  /** The next description of the session; the `last` one again while nothing can be heard of it. */
  async news(run, last) {
    const told = await this.feed.next();
    if (told || run !== this.run) return told ?? last;
    const ask = () => this.launcher.status(this.id);
    // Once it is shown, a broken connection is what counts: see reconnect().
    return this.url ? ask().catch(() => last) : this.patiently(run, ask);
  }

  /** Ask until the service answers: it may be restarting, and the session outlives that. */
  async patiently(run, ask) {
    for (let tries = 0; ; tries += 1) {
      try {
        return await ask();
      } catch (error) {
        if (error.status || run !== this.run) throw error;
        this.stage.say('The service does not answer; trying again.');
        await pause(RETRIES[tries] ?? RETRIES.at(-1));
      }
    }
  }

  /** The session is ready: show its own page, or connect to its pictures. */
  show(run, { viewer, page, sessionURL }) {
    if (viewer === 'page' && page) {
      this.url = this.launcher.opening(this.id);
      this.stage.page(this.url);
      this.trouble.watch(this.id);
    } else if (sessionURL) {
      this.attach(run, sessionURL);
    }
  }

  async attach(run, url, before) {
    mark('ready');
    this.url = url;
    this.stage.say(before ? `${before.message} Trying again.` : 'Ready. Connecting to the application.');
    byId('view').hidden = false;
    try {
      this.secret ??= await this.told(run);
      await this.view.connect(url, this.secret);
      mark('connected');
    } catch (error) {
      await this.reconnect(run, error);
    }
  }

  /** The secret, where another browser has launched the session: its owner is told. */
  async told(run) {
    const { secret } = await this.patiently(run, () => this.launcher.status(this.id));
    if (secret) return secret;
    throw Object.assign(new Error('Only the browser that launched this session can show it.'), { lasting: true });
  }

  /** The connection broke: find out whether the session ended, and take it up again if not. */
  async reconnect(run, error = new Error('The connection was lost.')) {
    if (run !== this.run || this.reconnecting) return;
    this.reconnecting = true;
    const wait = RETRIES[this.tries] ?? RETRIES.at(-1);
    this.tries += 1;
    try {
      if (this.stage.state === 'live') this.stage.show('lost');
      else this.stage.say(`${error.message} Trying again.`);
      await pause(wait);
      const answer = await this.patiently(run, () => this.launcher.status(this.id));
      if (run !== this.run) return;
      if (answer.state === 'ended') this.ended(answer);
      else if (error.lasting || (error.silent && this.tries > SILENT_TRIES)) this.broken(error.message);
      else queueMicrotask(() => this.attach(run, answer.sessionURL ?? this.url, error));
    } catch (problem) {
      if (run !== this.run) return;
      if (problem.status === 404) this.living = false;
      this.fail('The connection was lost', problem.message);
    } finally {
      this.reconnecting = false;
    }
  }

  pictured(detail) {
    if (detail.first) {
      mark('first-image');
      this.tries = 0;
      this.trouble.watch(this.id);
    }
    this.stage.pictured(detail);
  }

  ended(answer) {
    this.alerts.see(answer);
    this.living = false;
    if (this.id) memory.remove(this.id);
    const text = answer.error ?? answer.message ?? '';
    this.fail(ending(answer), text, failed(answer) ? 'error' : 'ended');
  }

  /** The session lives, but this page cannot show it. */
  broken(text) {
    this.fail('The picture cannot be shown', `${text} The session goes on.`, 'broken');
  }

  fail(title, text, state = this.living ? 'broken' : 'error') {
    this.unfollow();
    this.view.close();
    this.stage.fail(title, text, state);
  }

  /** Connect again to a session that lives; launch another where it has ended. */
  async again() {
    const { id, secret, title, request, living } = this;
    if (!living || !id) {
      this.launch(title, request);
      return;
    }
    const run = this.open({ id, secret, title, request });
    try {
      await this.follow(run, await this.patiently(run, () => this.launcher.status(id)));
    } catch (error) {
      if (run !== this.run) return;
      if (error.status === 404) this.living = false;
      this.fail('The session cannot be followed', error.message);
    }
  }

  async stop() {
    const { id } = this;
    this.unfollow();
    this.view.close();
    this.stage.show('stopping');
    try {
      if (id) await this.launcher.stop(id);
    } catch (error) {
      if (error.status !== 404) { // else it had ended already
        this.fail('The session could not be stopped', error.message);
        return;
      }
    }
    if (id) memory.remove(id);
    this.living = false;
    this.close();
  }

  /** Nothing that is still under way may touch the page. */
  unfollow() {
    this.run += 1;
    this.feed?.close();
    this.trouble.clear();
  }

  /** Back to the catalogue; a session that lives is listed there. */
  close() {
    this.unfollow();
    memory.leave();
    this.view.close();
    this.stage.close();
    this.leave();
  }
}
