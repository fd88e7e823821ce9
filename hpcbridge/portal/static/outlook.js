// What is to come: the place in the queue while the job waits, and the end of a live session.
import { ADVICE } from './endings.js';
import { ahead, byId, clock, span, timeOfDay, until, write } from './words.js';

export const WARN = 300; // seconds before the end
const SAY_AGAIN = [60, 120]; // seconds before the end at which screen readers say it once more

export class Outlook {
  constructor() {
    this.forget();
  }

  forget() {
    this.offset = 0;
    this.report({});
  }

  /** `offset`: how far the service's clock is ahead of ours, in seconds. */
  report({ state, queue, position, estimated_start: start, ends, gives_up_at: limit }, offset = this.offset) {
    const waits = state === 'queued';
    const unready = ['submitting', 'queued', 'starting'].includes(state);
    Object.assign(this, { offset, ends, start: waits ? start : undefined, limit: unready ? limit : undefined });
    byId('wait').hidden = (!waits || (!position && !start)) && !this.limit;
    byId('wait-limit').hidden = !this.limit;
    byId('wait-place').hidden = !position;
    byId('wait-start').hidden = !start;
    byId('wait-hint').hidden = !waits;
    if (waits && position) {
      write('wait-queue', queue ? `In the queue ${queue}` : 'In the queue');
      write('wait-ahead', ahead(position));
    }
    this.tick();
  }

  left(at) {
    return at - (Date.now() / 1000 + this.offset);
  }

  tick() {
    if (this.start) {
      const left = this.left(this.start);
      write('wait-until', until(left));
      write('wait-at', left > 0 ? `${timeOfDay(Date.now() + left * 1000)}; it may change` : '');
    }
    if (this.limit) {
      const rest = this.left(this.limit);
      const early = this.start > this.limit ? '; before its expected start' : '';
      write('wait-limit-at', rest > 0 ? `${timeOfDay(Date.now() + rest * 1000)}${early}` : 'now');
    }
    const left = this.ends ? Math.max(0, this.left(this.ends.at)) : Infinity;
    byId('fact-left-row').hidden = left === Infinity;
    if (left < Infinity) write('fact-left', left > WARN ? span(left) : clock(left));
    byId('ending').hidden = left > WARN;
    if (left > WARN) {
      write('ending-said', '');
      return;
    }
    write('ending-clock', clock(left));
    write('ending-text', ADVICE[this.ends.reason] ?? this.ends.message);
    const near = SAY_AGAIN.find((limit) => left <= limit) ?? WARN;
    write('ending-said', `This session ends in ${span(near)}. ${ADVICE[this.ends.reason] ?? ''}`);
  }
}
