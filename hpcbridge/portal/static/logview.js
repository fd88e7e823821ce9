// A session's output in a dialog: followed, searched, downloaded.
import { FULL } from './api.js';
import { byId, plain, write } from './words.js';

const LOOK = 2000; // ms between two looks while it may grow
const MOST = 1e6; // characters that are shown; the download has all
const SKIP = 2 ** 21; // bytes from which on only the end is read
const TAIL = 2 ** 18; // bytes of that end
const MARKS = 1000; // matches that are marked

export class LogView {
  constructor(launcher) {
    this.launcher = launcher;
    this.run = 0;
    this.dialog = byId('log');
    this.text = byId('log-text');
    byId('log-close').addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('close', () => { this.run += 1; });
    this.dialog.addEventListener('click', (event) => { if (event.target === this.dialog) this.dialog.close(); });
    byId('log-search').addEventListener('input', () => this.find());
    byId('log-search').addEventListener('keydown', (event) => {
      if (event.key === 'Enter') this.go(event.shiftKey ? -1 : 1);
    });
    byId('log-next').addEventListener('click', () => this.go(1));
    byId('log-before').addEventListener('click', () => this.go(-1));
    byId('log-follow').addEventListener('change', () => this.follow());
    byId('log-download').addEventListener('click', () => this.download());
  }

  /** Show the output of a session; the focus comes back when it is closed. */
  async open({ id }, title) {
    this.run += 1;
    const { run } = this;
    Object.assign(this, { id, title, shown: '', offset: 0, marks: [], at: -1 });
    write('log-title', `Output of ${title}`);
    write('log-said', '');
    this.text.replaceChildren();
    byId('log-search').value = '';
    byId('log-follow').checked = true;
    this.tell();
    this.dialog.showModal();
    this.text.focus();
    try {
      await this.skip(run);
      while (run === this.run && !(await this.look(run))) await new Promise((done) => { setTimeout(done, LOOK); });
    } catch (error) {
      if (run === this.run) write('log-said', this.shown ? error.message : 'There is no output of this session (any more).');
    }
  }

  /** Of a long output only the end is shown: find where it ends by looking what is there. */
  async skip(run) {
    const there = async (at) => (await this.launcher.log(this.id, at, 1)).text !== '';
    let [low, high] = [0, SKIP];
    while (run === this.run && await there(high)) [low, high] = [high, high * 4];
    if (!low) return;
    while (run === this.run && high - low > TAIL / 4) {
      const middle = Math.floor((low + high) / 2);
      if (await there(middle)) low = middle;
      else high = middle;
    }
    this.offset = Math.max(0, low - TAIL);
    write('log-said', `Only the end is shown; the download has all ${Math.round(low / 1e6)} MB.`);
  }

  /** Read what is new; whether nothing will be added. */
  async look(run) {
    for (;;) {
      const { text, next, ended } = await this.launcher.log(this.id, this.offset);
      if (run !== this.run) return true;
      const more = next - this.offset >= FULL;
      this.offset = next;
      if (text) this.add(plain(text));
      if (!more) {
        if (!this.shown) write('log-said', ended ? 'It printed nothing.' : 'It has printed nothing yet.');
        else if (byId('log-said').textContent.startsWith('It ')) write('log-said', '');
        byId('log-follow').disabled = ended;
        return ended;
      }
    }
  }

  add(text) {
    this.shown = (this.shown + text).slice(-MOST);
    if (byId('log-search').value || this.shown.length === MOST) this.find(false);
    else this.text.append(text);
    this.follow();
  }

  follow() {
    if (byId('log-follow').checked && !byId('log-search').value) this.text.scrollTop = this.text.scrollHeight;
  }

  /** Mark what is searched for, and go to the last place of it. */
  find(move = true) {
    const wanted = byId('log-search').value.toLowerCase();
    const low = this.shown.toLowerCase();
    const pieces = [];
    let from = 0;
    this.marks = [];
    if (wanted && low.length === this.shown.length) {
      for (let at = low.indexOf(wanted); at >= 0 && this.marks.length < MARKS; at = low.indexOf(wanted, from)) {
        const mark = document.createElement('mark');
        mark.textContent = this.shown.slice(at, at + wanted.length);
        pieces.push(this.shown.slice(from, at), mark);
        this.marks.push(mark);
        from = at + wanted.length;
      }
    }
    this.text.replaceChildren(...pieces, this.shown.slice(from));
    if (move) {
      this.at = this.marks.length;
      this.go(-1);
      if (!wanted) this.follow();
    }
    this.tell();
  }

  go(step) {
    if (!this.marks.length) return;
    this.marks[this.at]?.removeAttribute('aria-current');
    this.at = (this.at + step + this.marks.length) % this.marks.length;
    this.marks[this.at].setAttribute('aria-current', 'true');
    this.marks[this.at].scrollIntoView({ block: 'center' });
    this.tell();
  }

  tell() {
    const many = this.marks.length;
    const wanted = byId('log-search').value;
    const all = many === MARKS ? `${many} or more` : many;
    write('log-found', !wanted ? '' : many ? `${this.at + 1} of ${all}` : 'Not found');
    for (const id of ['log-next', 'log-before']) byId(id).disabled = !many;
  }

  /** All of it as a file, put together here: the service gives it part by part. */
  async download() {
    const button = byId('log-download');
    const { id, title } = this;
    button.disabled = true;
    try {
      const blob = await this.launcher.wholeLog(id, (bytes) => { button.textContent = `${(bytes / 1e6).toFixed(1)} MB`; });
      const link = document.createElement('a');
      link.href = URL.createObjectURL(blob);
      link.download = `${title.replace(/[^\p{L}\p{N}._ -]/gu, '_')} ${id.slice(0, 6)}.log`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      write('log-said', error.message);
    } finally {
      button.textContent = 'Download';
      button.disabled = false;
    }
  }
}
