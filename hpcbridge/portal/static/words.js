// Times and places in a queue, as people say them.

const MINUTE = 60;

export const byId = (id) => document.getElementById(id);

/** Set a text only if it is another one: screen readers say it again whenever it is set. */
export function write(id, text) {
  const element = byId(id);
  if (element.textContent !== text) element.textContent = text;
}

/** `count` seconds as "25 min" or "3 h 20 min". */
export function span(count) {
  const minutes = Math.round(count / MINUTE);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return minutes % 60 && hours < 10 ? `${hours} h ${minutes % 60} min` : `${Math.round(minutes / 60)} h`;
}

/** `count` seconds as "4:05". */
export function clock(count) {
  const whole = Math.max(0, Math.ceil(count));
  return `${Math.floor(whole / MINUTE)}:${String(whole % MINUTE).padStart(2, '0')}`;
}

/** How far away a start is that is expected in `count` seconds. */
export function until(count) {
  if (count <= 0) return 'any moment now';
  if (count < 50) return 'in less than a minute';
  return `in about ${span(count)}`;
}

/** A time of day here, with the weekday where it is another day; `at` in ms since the epoch. */
export function timeOfDay(at) {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : { weekday: 'short' };
  return date.toLocaleString([], { ...day, hour: '2-digit', minute: '2-digit' });
}

export function ahead(position) {
  if (position === 1) return 'You are next';
  return position === 2 ? '1 job ahead' : `${position - 1} jobs ahead`;
}

function size(bytes) {
  return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(1)} GB`;
}

/** What passes through a session's tunnel, so that a slow network is told from slow rendering. */
export function traffic({ bytes_out: bytes, connections, round_trip: delay, reconnects }) {
  const said = [`${size(bytes)} received`];
  if (delay) said.unshift(`${(delay * 1000).toFixed(delay < 0.01 ? 1 : 0)} ms away`);
  if (connections !== 1) said.push(`${connections} connections`);
  if (reconnects) said.push(`reconnected ${reconnects} ×`);
  return said.join(' · ');
}

/** A day and a time here, as short as today allows; `at` in ms since the epoch. */
export function moment(at) {
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  return date.toLocaleString([], {
    ...(today ? {} : { day: 'numeric', month: 'short' }), hour: '2-digit', minute: '2-digit',
  });
}

// Escape sequences with what they hold, other control characters, and those that turn text around or hide it.
const ESCAPES = /\u001B(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\u0007\u001B]*(?:\u0007|\u001B\\)?|[@-Z\\-_])/g;
const HIDDEN = /[\u0000-\u0008\u000B-\u001F\u007F-\u009F\u200B-\u200F\u2028-\u202E\u2060-\u2069\uFEFF]/g;

/** What a program or another user wrote, as text that shows what it is. */
export function plain(text) {
  return text.replace(ESCAPES, '').replace(/\r\n?/g, '\n').replace(HIDDEN, '');
}
