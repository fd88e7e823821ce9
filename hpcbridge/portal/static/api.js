// The launcher API, as this page uses it: asynchronous launches, then events.

/** A failure with a text for people: the service's own `error`, or that it was not reached. */
export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** Bytes of an answer with output after which there may be more at once. */
export const FULL = 2 ** 19;

/** How far the service's clock is ahead of ours, in seconds, by its last answer. */
let offset = 0;

async function call(url, options = {}) {
  let response;
  try {
    response = await fetch(url, { cache: 'no-store', ...options });
  } catch {
    throw new ApiError('The service does not answer. Is it still running?');
  }
  const now = Date.parse(response.headers.get('Date') ?? '');
  if (now) offset = (now - Date.now()) / 1000;
  const answer = await response.json().catch(() => null);
  if (!response.ok || answer === null) {
    const text = answer?.error ?? `The service answered ${response.status} ${response.statusText}.`;
    throw new ApiError(text, response.status);
  }
  return answer;
}

export class Launcher {
  constructor(endpoint) {
    this.endpoint = endpoint;
  }

  /** Ask for a session; `request` is `{application, ...parameters}`. Answers at once. */
  async launch(request) {
    const answer = await call(this.endpoint, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', Prefer: 'respond-async' },
      body: JSON.stringify(request),
    });
    if (answer.error) throw new ApiError(answer.error);
    return answer;
  }

  /** Who asks, and their sessions: by default those that live; `asked` has filters and a page. */
  list(asked = {}) {
    const query = new URLSearchParams(asked).toString();
    return call(query ? `${this.endpoint}?${query}` : this.endpoint);
  }

  /** The applications, and what keeps sessions away from their clusters. */
  applications() {
    return call(`${this.endpoint}/applications`);
  }

  /** What operators announce. */
  announcements() {
    return call(`${this.endpoint}/announcements`);
  }

  /** `about` is `site`, `cluster/NAME` or `application/NAME`; `said` is `{text, drain}`. */
  announce(about, said) {
    return call(`${this.endpoint}/announcements/${about}`, {
      method: 'PUT', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(said),
    });
  }

  withdraw(about) {
    return call(`${this.endpoint}/announcements/${about}`, { method: 'DELETE' });
  }

  status(id) {
    return call(`${this.endpoint}/${encodeURIComponent(id)}`);
  }

  /** The address that leads to a session's own page, and admits whoever may see it. */
  opening(id) {
    return `${this.endpoint}/${encodeURIComponent(id)}/open`;
  }

  /** What a session's application printed, from `offset` (bytes) on: `{text, next, ended}`. */
  async log(id, offset, limit) {
    const { response, next, ended } = await this.logPart(id, offset, limit);
    return { text: await response.text(), next, ended };
  }

  async logPart(id, offset, limit) {
    const most = limit ? `&limit=${limit}` : '';
    const url = `${this.endpoint}/${encodeURIComponent(id)}/log?offset=${offset}${most}`;
    let response;
    try {
      response = await fetch(url, { cache: 'no-store' });
    } catch {
      throw new ApiError('The service does not answer. Is it still running?');
    }
    if (!response.ok) throw new ApiError('The output cannot be read.', response.status);
    const next = Number(response.headers.get('X-Log-Next'));
    return { response, next, ended: response.headers.get('X-Log-Ended') === 'true' };
  }

  /** All that it printed so far, as a Blob; `progress` is called with the bytes so far. */
  async wholeLog(id, progress) {
    const parts = [];
    for (let offset = 0; ;) {
      const { response, next } = await this.logPart(id, offset);
      const bytes = await response.arrayBuffer();
      parts.push(bytes);
      progress(next);
      if (bytes.byteLength < FULL) return new Blob(parts, { type: 'text/plain' });
      offset = next;
    }
  }

  /** The address of the same as server-sent events. */
  events(id) {
    return `${this.endpoint}/${encodeURIComponent(id)}/events`;
  }

  get offset() {
    return offset;
  }

  /** `keepalive`: also when the page is being left. */
  stop(id) {
    const url = `${this.endpoint}/${encodeURIComponent(id)}`;
    return call(url, { method: 'DELETE', keepalive: true });
  }

  /** The shell command that launches the same. */
  curl(request) {
    const body = JSON.stringify(request).replaceAll("'", String.raw`'\''`);
    return `curl -X POST -d '${body}' ${new URL(this.endpoint, document.baseURI).href}`;
  }
}
