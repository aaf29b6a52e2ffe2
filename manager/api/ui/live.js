// Puts newer parts of the page in the place of older ones, every few seconds and while somebody looks. All that is shown is made by the manager.
const INTERVAL = 2000;
const PATIENCE = 10_000;
const status = document.getElementById('status');
// A name and a password in the address are for the browser; fetch refuses them.
const page = new URL(location.href);
page.username = '';
page.password = '';
let timer;

/** Somebody is about to copy something out of it. */
function isSelected(part) {
  const selection = getSelection();
  return selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
}

async function update() {
  const answer = await fetch(page, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html');
  const said = fresh.getElementById('status');
  if (said === null) throw new Error('not the page');
  for (const part of document.querySelectorAll('[data-live]')) {
    const next = fresh.getElementById(part.id);
    if (next === null || next.innerHTML === part.innerHTML || isSelected(part)) continue;
    part.replaceChildren(...next.childNodes);
  }
  status.dataset.at = said.dataset.at;
  status.textContent = `live, ${said.textContent}`;
  status.className = 'live';
}

async function turn() {
  clearTimeout(timer);
  if (document.hidden) return;
  try {
    await update();
  } catch {
    status.className = 'bad';
    status.textContent = `no answer since ${status.dataset.at.slice(11, 19)} UTC`;
  }
  clearTimeout(timer);
  timer = setTimeout(turn, INTERVAL);
}

document.addEventListener('visibilitychange', turn);
void turn();
