// News of a session: server-sent events, and questions where those do not come through.

const QUIET = 20_000; // ms without an event after which is asked all the same
const POLL = 1000; // ms between two questions while no events come

export class Feed {
  /** `url` streams descriptions of a session, the first one at once. */
  constructor(url) {
    this.newest = null;
    this.alive = false;
    this.wake = () => {};
    this.source = new EventSource(url);
    this.source.addEventListener('message', ({ data }) => {
      this.alive = true;
      this.newest = JSON.parse(data);
      this.wake();
    });
    // The browser connects again by itself, unless the service said no.
    this.source.addEventListener('error', () => {
      this.alive = false;
      this.wake();
    });
  }

  /** The newest description that was not seen yet, or null when it is time to ask for one. */
  async next() {
    if (!this.newest) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, this.alive ? QUIET : POLL);
        this.wake = () => { clearTimeout(timer); resolve(); };
      });
    }
    const { newest } = this;
    this.newest = null;
    return newest;
  }

  close() {
    this.source.close();
    this.wake();
  }
}
