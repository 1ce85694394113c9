// What the page asks its server. An answer that is an error becomes an Error with the server's one line.

async function ask(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new Error('the viewer has ended on its terminal: start `kitsam view` again');
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let line = `the viewer failed (${answer.status}): its terminal says why`;
  try {
    line = JSON.parse(text).error ?? line;
  } catch { /* no answer of ours */ }
  throw new Error(line);
}

const post = async (action, body) => (await ask(action, {
  method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body ?? null),
})).json();

export const getState = async () => (await ask('state')).json();
export const getProgress = async () => (await ask('progress')).json();
export const getLabels = async (first, count) =>
  new Uint8Array(await (await ask(`labels?first=${first}&count=${count}`)).arrayBuffer());
export const label = (entry) => post('label', entry);
export const erase = (entry) => post('erase', entry);
export const undo = () => post('undo');
export const stop = () => post('stop');
export const save = () => post('save');
