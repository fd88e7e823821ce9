// The page's entry: the catalogue's forms, and the session that they open.
import { Alerts } from './alerts.js';
import { Launcher } from './api.js';
import { bookmark, fillIn } from './bookmark.js';
import { onChange } from './memory.js';
import { Running } from './running.js';
import { told } from './notices.js';
import { Session } from './session.js';

const { endpoint, client } = document.body.dataset;
const launcher = new Launcher(endpoint);
const who = document.getElementById('who');
/** Milliseconds between two looks at how the clusters are. */
const LOOK = 15000;
let lastButton = null;
const titles = Object.fromEntries(
  [...document.querySelectorAll('form[data-application]')].map(({ dataset }) => [dataset.application, dataset.title]),
);
const alerts = new Alerts(document.getElementById('alerts'), launcher, titles);
const session = new Session(launcher, client, alerts, () => {
  (lastButton ?? document.getElementById('catalogue-title')).focus();
  running.look().catch(() => null);
});
const running = new Running(launcher, (kept, answer) => session.take(kept, answer), titles, Boolean(who));

/** The request that a form stands for: `{application, ...parameters}`, typed; null is left out. */
function requestOf(form, fields = '[data-type]') {
  const request = { application: form.dataset.application };
  for (const field of form.querySelectorAll(fields)) {
    const { type } = field.dataset;
    if (field.type === 'checkbox') request[field.name] = field.checked;
    else if (field.value === '') continue;
    else if (type === 'int' || type === 'float') request[field.name] = Number(field.value);
    else if (type === 'bool') request[field.name] = field.value === 'True';
    else request[field.name] = field.value;
  }
  return request;
}

/** A page of the site launches its session itself, with what stands in its address. */
const OPEN = '[data-type]:not([data-secret])'; // the fields whose values may be seen

function openPage(form) {
  const { application, ...chosen } = requestOf(form, OPEN); // an address is kept and passed on
  const page = new URL(form.dataset.page, location.href);
  for (const [name, value] of Object.entries(chosen)) page.searchParams.set(name, value);
  open(page, '_blank', 'noopener');
}

function complaint(form) {
  for (const field of form.querySelectorAll('[data-type]')) {
    field.setAttribute('aria-invalid', String(!field.validity.valid));
    if (!field.validity.valid) {
      field.focus();
      return `${form.querySelector(`label[for="${field.id}"]`).textContent}: ${field.validationMessage}`;
    }
  }
  return '';
}

for (const form of document.querySelectorAll('form[data-application]')) {
  const command = form.querySelector('.curl code');
  const problem = form.querySelector('.field-error');
  const link = form.querySelector('.link');
  const describe = () => {
    const request = requestOf(form, OPEN); // both are shown, and passed on
    command.textContent = launcher.curl(request);
    link.textContent = bookmark(request);
  };
  describe();
  form.addEventListener('input', () => { problem.hidden = true; describe(); });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    problem.textContent = complaint(form);
    problem.hidden = !problem.textContent;
    if (!problem.hidden) return;
    if (form.dataset.page) {
      openPage(form);
      return;
    }
    lastButton = form.querySelector('button.primary');
    session.launch(form.dataset.title, requestOf(form), requestOf(form, OPEN));
  });
}

for (const button of document.querySelectorAll('button[data-copy]')) {
  button.addEventListener('click', async () => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.firstChild.textContent = 'Copied';
    } catch {
      // No clipboard without https: select it, so that Ctrl-C does.
      getSelection().selectAllChildren(source);
      button.firstChild.textContent = 'Press Ctrl-C';
    }
    setTimeout(() => { button.firstChild.textContent = 'Copy'; }, 2000);
  });
}

async function look() {
  if (document.body.dataset.view === 'catalogue' && (!document.hidden || alerts.on)) {
    try {
      if (!document.hidden) told(await launcher.applications());
      await alerts.seeAll(await running.look());
    } catch {
      // The page does without; a launch says what is wrong.
    }
  }
  setTimeout(look, LOOK);
}

const asked = new URLSearchParams(location.search);
const named = document.querySelector(`form[data-application="${CSS.escape(asked.get('application') ?? '')}"]`);
if (named) {
  fillIn(named, asked);
  named.querySelector('.filled').hidden = asked.size < 2;
  named.closest('.card').dataset.named = '';
  named.scrollIntoView({ block: 'nearest' });
  named.querySelector('button.primary').focus();
}

await session.resume();
look();
onChange(() => running.look().catch(() => null)); // another tab has launched or stopped one

if (who) {
  launcher.list({ limit: 1 }).then(
    ({ user, operator }) => {
      who.textContent = operator ? `${user} (operator)` : user;
      document.getElementById('nav-announcements').hidden = !operator;
    },
    (error) => { who.textContent = error.message; },
  );
}
