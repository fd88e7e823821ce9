// The link that opens an application's form filled in. It launches nothing: a job costs something, and
// any other site can make a link.

/** The address of the form with what stands in it; `request` is `{application, ...parameters}`. */
export function bookmark(request) {
  const address = new URL('./', location.href);
  address.search = new URLSearchParams(request);
  return address.href;
}

/** Put what the page's address says into the fields; what does not fit a choice is left as it is. */
export function fillIn(form, asked) {
  for (const field of form.querySelectorAll('[data-type]')) {
    const value = asked.get(field.name);
    if (value === null) continue;
    if (field.type === 'checkbox') field.checked = ['true', '1', 'yes', 'on'].includes(value.toLowerCase());
    else if (field.dataset.uploads !== undefined) field.dataset.wanted = value; // uploads.js has its list
    else if (field.localName === 'select') choose(field, value);
    else field.value = value;
  }
  form.dispatchEvent(new Event('input'));
}

function choose(select, value) {
  const found = [...select.options].find((option) => option.value.toLowerCase() === value.toLowerCase());
  if (found) select.value = found.value;
}
