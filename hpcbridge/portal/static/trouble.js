// What an application complains of in its output, told beside its view.
import { byId } from './words.js';

const LOOK = 5000; // ms between two looks, while the tab is seen
const COMPLAINT = /\bERR\||\berrors?\b|\bexception\b|\btraceback\b|\bfatal\b|\bcannot\b|segmentation fault/i;
const HARMLESS = /\b(no|0|without) (errors?|exceptions?)\b/i;
const MOST = 40; // lines that are shown

export class Trouble {
  constructor(launcher) {
    this.launcher = launcher;
    this.clear();
  }

  /** Begin to look at the output of a session. */
  watch(id) {
    this.clear();
    this.id = id;
    this.look(this.run);
  }

  clear() {
    this.run = (this.run ?? 0) + 1;
    this.offset = 0;
    this.rest = '';
    this.lines = [];
    byId('trouble').hidden = true;
  }

  async look(run) {
    if (!document.hidden) {
      try {
        const { text, next, ended } = await this.launcher.log(this.id, this.offset);
        if (run !== this.run) return;
        this.offset = next;
        this.take(text);
        if (ended) return;
      } catch (error) {
        if (error.status === 404) return; // no output is kept here
      }
    }
    setTimeout(() => { if (run === this.run) this.look(run); }, LOOK);
  }

  take(text) {
    const lines = (this.rest + text).split('\n');
    this.rest = lines.pop().slice(-4096);
    for (const line of lines) {
      const complains = COMPLAINT.test(line) && !HARMLESS.test(line);
      if (complains || this.lines.length) this.lines.push(line);
    }
    this.lines = this.lines.slice(-MOST);
    if (!this.lines.length) return;
    byId('trouble').hidden = false;
    byId('trouble-log').textContent = this.lines.join('\n');
  }
}
