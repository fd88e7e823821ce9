// What operators announce, and what keeps sessions away from clusters, on the first page.
import { byId, plain } from './words.js';

/** Seconds as people say them in a list of choices. */
function waitText(seconds) {
  if (seconds < 30) return 'at once';
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `in about ${minutes} min` : `in about ${Math.round(minutes / 60)} h`;
}

/** Put these texts into a list, unless they are there: they would be read out again. */
function list(element, texts) {
  if (JSON.stringify(texts) !== JSON.stringify([...element.children].map((each) => each.textContent))) {
    element.replaceChildren(...texts.map((text) => {
      const item = document.createElement('li');
      item.textContent = text;
      return item;
    }));
  }
  element.hidden = !texts.length;
}

/** What is said of an application, or of its clusters, that keeps nobody away. */
function said({ name, clusters }, announcements) {
  const titles = new Map(clusters.map((each) => [each.name, each.title]));
  return announcements.filter(({ drain }) => !drain).flatMap((each) => {
    if (each.about === 'application' && each.name === name) return [plain(each.text)];
    if (each.about === 'cluster' && titles.has(each.name)) return [`${titles.get(each.name)}: ${plain(each.text)}`];
    return [];
  });
}

function tell(application, announcements) {
  const form = document.querySelector(`form[data-application="${CSS.escape(application.name)}"]`);
  if (!form) return;
  const { notice, clusters } = application;
  const away = notice ? [notice] : clusters.map((each) => each.notice).filter(Boolean);
  const notices = form.querySelector('.notices');
  list(notices, [...away, ...said(application, announcements)].map(plain));
  notices.classList.toggle('shut', Boolean(notice) || away.length === clusters.length);
  form.querySelector('.at-once').hidden = !application.warm;
  for (const { name, title, wait } of clusters) {
    const option = form.querySelector(`select[name="cluster"] option[value="${CSS.escape(name)}"]`);
    if (option) option.textContent = wait === null ? title : `${title}, ${waitText(wait)}`;
  }
}

/** Show the catalogue's news on the cards, and what is said of the whole site above them. */
export function told({ applications, announcements }) {
  const site = announcements.filter(({ about }) => about === 'site');
  list(byId('announcements'), site.map(({ text, drain }) => (
    drain ? `No new sessions begin now. ${plain(text)}`.trim() : plain(text)
  )));
  for (const application of applications) tell(application, announcements);
}
