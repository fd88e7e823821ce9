// The sessions that this browser launched, so that a closed tab loses none of them.
//
// The service lists the sessions of its users and, where it has none, those of this browser; what a
// session's application wants to hear, its secret, is here.

const KEY = 'hpcbridge.sessions';
const TAB = 'hpcbridge.session'; // the one that this tab shows, for a reload
const MOST = 50;

/** Call `look` when another tab has launched or stopped a session. */
export function onChange(look) {
  addEventListener('storage', ({ key }) => { if (key === KEY || key === null) look(); });
}

function read(storage, key, otherwise) {
  try {
    return JSON.parse(storage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise; // somebody else's, or none
  }
}

/** Of each session `{id, secret, title, request}`, the newest first. */
export const memory = {
  all() {
    const found = read(localStorage, KEY, []);
    return Array.isArray(found) ? found : [];
  },

  add(session) {
    const others = this.all().filter((each) => each.id !== session.id);
    localStorage.setItem(KEY, JSON.stringify([session, ...others].slice(0, MOST)));
    sessionStorage.setItem(TAB, JSON.stringify(session.id));
  },

  find(id) {
    return this.all().find((each) => each.id === id);
  },

  /** The session that this tab shows. */
  get shown() {
    return this.find(read(sessionStorage, TAB, null));
  },

  /** This tab shows none any more; the session goes on. */
  leave() {
    sessionStorage.removeItem(TAB);
  },

  remove(id) {
    localStorage.setItem(KEY, JSON.stringify(this.all().filter((each) => each.id !== id)));
    if (read(sessionStorage, TAB, null) === id) this.leave();
  },
};
