// "Your files" on the first page: files are sent, listed and deleted.
import { byId } from './words.js';

const url = `${document.body.dataset.endpoint}/uploads`;
const choose = byId('files-choose');
let files = [];
let limit = Infinity;
let sending = null;
let decline = () => null; // of the question that is open

/** Bytes as people say them. */
function sizeText(bytes) {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(bytes, 1)) / 10));
  return `${(bytes / 1024 ** power).toLocaleString('en', { maximumFractionDigits: power ? 1 : 0 })} ${units[power]}`;
}

/** A file's name as the service takes it: no accents, nothing special, at most 128 characters. */
function fitting(name) {
  const plain = name.normalize('NFKD').replace(/\p{M}/gu, '')
    .replace(/[^A-Za-z0-9._ -]/gu, '_').replace(/^[. -]+/, '_').trimEnd();
  const ending = /\.[A-Za-z0-9.]{1,20}$/.exec(plain)?.[0] ?? '';
  return plain.length <= 128 ? plain : plain.slice(0, 128 - ending.length) + ending;
}

async function call(method, name = '') {
  let response;
  try {
    response = await fetch(name ? `${url}/${encodeURIComponent(name)}` : url, { method, cache: 'no-store' });
  } catch {
    throw new Error('The service does not answer. Is it still running?');
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(answer.error ?? `The service answered ${response.status}.`);
  return answer;
}

/** Send a file; fetch() does not tell how far it is. */
function send(file, name, replace) {
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    sending = request;
    request.open('PUT', `${url}/${encodeURIComponent(name)}${replace ? '?replace=true' : ''}`);
    request.responseType = 'json';
    request.upload.addEventListener('progress', ({ loaded, total }) => {
      byId('files-bar').value = total ? loaded / total : 0;
    });
    request.addEventListener('load', () => {
      if (request.status < 300) done(request.response);
      else failed(new Error(request.response?.error ?? `The service answered ${request.status}.`));
    });
    request.addEventListener('error', () => failed(new Error(`The upload of ${name} broke off. Try again.`)));
    request.addEventListener('abort', () => failed(new Error(`The upload of ${name} was cancelled.`)));
    request.send(file);
  });
}

/** Ask for a yes; the focus goes there, and back to where it was. */
function ask(question, yes) {
  decline();
  const before = document.activeElement;
  byId('files-question').textContent = question;
  byId('files-yes').textContent = yes;
  byId('files-ask').hidden = false;
  byId('files-no').focus();
  return new Promise((done) => {
    const answered = (answer) => () => {
      byId('files-ask').hidden = true;
      before?.focus();
      done(answer);
    };
    byId('files-yes').onclick = answered(true);
    decline = answered(false);
    byId('files-no').onclick = decline;
  });
}

function item(file) {
  const made = document.createElement('li');
  const name = document.createElement('span');
  name.className = 'name';
  name.textContent = file.name;
  const size = document.createElement('span');
  size.className = 'hint';
  const when = new Date(file.modified * 1000).toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' });
  size.textContent = `${sizeText(file.size)}, ${when}`;
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'danger';
  button.textContent = 'Delete';
  const whose = document.createElement('span');
  whose.className = 'unseen';
  whose.textContent = ` ${file.name}`;
  button.append(whose);
  button.addEventListener('click', () => tell(() => remove(file.name)));
  made.append(name, size, button);
  return made;
}

/** List the files, and offer them where an application takes one. */
async function look() {
  const found = await call('GET');
  files = found.files;
  limit = found.file_limit;
  byId('files-limit').textContent = ` (up to ${sizeText(limit)} each)`;
  byId('files-list').replaceChildren(...files.map(item));
  for (const select of document.querySelectorAll('select[data-uploads]')) {
    const chosen = select.dataset.wanted ?? select.value; // what a link asks for
    delete select.dataset.wanted;
    const options = files.map(({ name }) => new Option(name, name, false, name === chosen));
    select.replaceChildren(select.options[0], ...options);
    select.dispatchEvent(new Event('input', { bubbles: true }));
  }
}

async function remove(name) {
  if (!(await ask(`Delete ${name}?`, 'Delete'))) return;
  await call('DELETE', name);
  await look();
  byId('files-said').textContent = `${name} is deleted.`;
  byId('files-title').focus();
}

async function upload(file) {
  const name = fitting(file.name);
  if (file.size > limit) throw new Error(`${file.name} has ${sizeText(file.size)}; ${sizeText(limit)} is the most.`);
  const there = files.some((each) => each.name === name);
  if (there && !(await ask(`${name} is there already. Replace it?`, 'Replace'))) return;
  byId('files-doing').textContent = `Sending ${name}`;
  byId('files-bar').value = 0;
  byId('files-sending').hidden = false;
  try {
    await send(file, name, there);
  } finally {
    byId('files-sending').hidden = true;
    sending = null;
  }
  await look();
  byId('files-said').textContent = `${name} is uploaded.`;
}

/** Do it, and tell what went wrong. */
async function tell(work) {
  byId('files-problem').textContent = '';
  byId('files-said').textContent = '';
  try {
    await work();
  } catch (error) {
    byId('files-problem').textContent = error.message;
  }
}

byId('files-cancel').addEventListener('click', () => sending?.abort());
choose.addEventListener('change', () => tell(async () => {
  choose.disabled = true;
  try {
    for (const file of choose.files) await upload(file);
  } finally {
    choose.value = '';
    choose.disabled = false;
    choose.focus();
  }
}));
addEventListener('beforeunload', (event) => { if (sending) event.preventDefault(); });
tell(look);
