// The operators' page of announcements: said, drained, changed, withdrawn.
import { Launcher } from './api.js';
import { byId, moment, plain, write } from './words.js';

const launcher = new Launcher(document.body.dataset.endpoint);
const about = byId('announce-about');
const titles = Object.fromEntries([...about.options].map(({ value, textContent }) => [value, textContent]));
let operator = false;

const key = ({ about: kind, name }) => (name ? `${kind}/${name}` : kind);

function make(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  made.textContent = text;
  return made;
}

function button(text, kind, title, act) {
  const made = make('button', kind, text);
  made.type = 'button';
  made.append(make('span', 'unseen', ` ${title}`));
  made.addEventListener('click', act);
  return made;
}

function item(announced) {
  const title = titles[key(announced)] ?? announced.name;
  const made = make('li', 'row', '');
  const head = make('div', 'row-head', '');
  head.append(make('h3', '', title));
  if (announced.drain) {
    const pill = make('span', 'pill', 'Drained');
    pill.dataset.state = 'queued';
    head.append(pill);
  }
  const by = announced.by ? `${announced.by}, ` : '';
  head.append(make('span', 'hint when', `${by}${moment((announced.at - launcher.offset) * 1000)}`));
  made.append(head, make('p', 'said', plain(announced.text)));
  if (operator) {
    const actions = make('div', 'row-actions', '');
    actions.append(
      button('Change', 'quiet', title, () => change(announced)),
      button(announced.drain ? 'Undrain' : 'Drain', 'quiet', title, () => tell(`${title} ${announced.drain ? 'takes new sessions again' : 'is drained'}.`, async () => {
        if (announced.drain && !announced.text) return launcher.withdraw(key(announced));
        return launcher.announce(key(announced), { text: announced.text, drain: !announced.drain });
      })),
      button('Withdraw', 'danger', title, () => tell('Withdrawn.', () => launcher.withdraw(key(announced)))),
    );
    made.append(actions);
  }
  return made;
}

function change(announced) {
  about.value = key(announced);
  byId('announce-text').value = announced.text;
  byId('announce-drain').checked = announced.drain;
  byId('announce-text').focus();
}

function show({ announcements }) {
  byId('announced-list').replaceChildren(...announcements.map(item));
  byId('announced-none').hidden = announcements.length > 0;
}

/** Do it, show what is announced then, and say so. */
async function tell(said, work) {
  write('announced-problem', '');
  try {
    show(await work());
    write('announced-said', said);
    byId('announced-title').focus();
    return true;
  } catch (error) {
    write('announced-problem', error.message);
    return false;
  }
}

byId('announce').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = byId('announce-text').value;
  const drain = byId('announce-drain').checked;
  const title = titles[about.value];
  if (!(await tell(`${title}: announced.`, () => launcher.announce(about.value, { text, drain })))) return;
  byId('announce').reset();
});

try {
  const me = await launcher.list({ limit: 1 });
  ({ operator } = me);
  if (byId('who')) byId('who').textContent = operator ? `${me.user} (operator)` : me.user;
  byId('announce').hidden = !operator;
  byId('nav-announcements').hidden = false;
  show(await launcher.announcements());
} catch (error) {
  write('announced-problem', error.message);
}
