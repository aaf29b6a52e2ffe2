import { formatBytes } from '#core/cli/table.ts';
import { bar, percent } from './bar.ts';
import { type Html, html } from './html.ts';
import type { NodeView, Overview } from './overview.ts';
import { activity, images, nodes } from './sections.ts';

/** The whole page: everything is in it, so that it needs no script; live.js only puts newer parts (those with `data-live`) in the place of older ones. */
export function page(overview: Overview): string {
  const at = new Date(overview.at).toISOString();
  return String(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Gear manager</title>
<link rel="icon" href="icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="style.css">
<script src="live.js" defer></script>
</head>
<body>
<header>
<h1><img src="icon.svg" alt="" width="28" height="28"> Gear manager</h1>
<p id="status" data-at="${at}">as of ${at.slice(11, 19)} UTC</p>
</header>
<main>
<section id="summary" class="tiles" data-live aria-label="Summary">${summary(overview)}</section>
<section id="activity" data-live>${activity(overview)}</section>
<section id="images" data-live>${images(overview)}</section>
<section id="nodes" data-live>${nodes(overview)}</section>
</main>
<footer>Gear ${overview.version}. Also here: <a href="../metrics">metrics</a>, <a href="../healthz">health</a>.</footer>
</body>
</html>
`);
}

function tile(id: string, title: string, value: string, more: Html | string): Html {
  return html`<div class="tile" id="${id}"><h2>${title}</h2><p class="value">${value}</p>${more}</div>`;
}

function summary({
  images,
  pending,
  failed,
  logicalBytes,
  storedBytes,
  storedObjects,
  nodes,
  transfers,
  ...rest
}: Overview): Html {
  const saved = logicalBytes === 0 ? 0 : Math.max(0, 1 - storedBytes / logicalBytes);
  const converting = rest.conversions.length;
  const waiting = Math.max(0, pending.total - failed - converting);
  const hits = hitRate(nodes.shown);
  const sum = (bytes: (each: Overview['transfers']['shown'][number]) => number) =>
    transfers.shown.reduce((total, each) => total + bytes(each), 0);
  const moving = transfers.shown.filter(({ ended }) => !ended).length;
  return html`
${tile(
  'tile-images',
  'Images',
  String(images.total),
  html`<p>${converting} converting, ${waiting} waiting, ${html`<span class="${failed > 0 ? 'bad' : ''}">${failed} failed</span>`}</p>`,
)}
${tile(
  'tile-savings',
  'Saved',
  percent(saved),
  html`${bar(`${percent(1 - saved)} of the images' files is stored`, logicalBytes, [{ kind: 'accent', amount: storedBytes }])}
<p>${formatBytes(logicalBytes)} of files are ${formatBytes(storedBytes)} in ${storedObjects} objects</p>`,
)}
${tile(
  'tile-nodes',
  'Nodes',
  String(nodes.total),
  html`<p>${hits === undefined ? 'no first touches yet' : `${percent(hits)} of first touches found on the node`}</p>`,
)}
${tile('tile-rate', 'Moving now', `${formatBytes(Math.round(sum(({ rate }) => rate)))}/s`, html`<p>in ${moving} ${moving === 1 ? 'transfer' : 'transfers'}</p>`)}
`;
}

/** The share of first touches, on all of these nodes together, that found their object on the node. Undefined: there were none. */
export function hitRate(nodes: readonly Pick<NodeView, 'reads'>[]): number | undefined {
  let found = 0;
  let all = 0;
  for (const { reads } of nodes) {
    found += reads?.publicObjects ?? 0;
    all += (reads?.publicObjects ?? 0) + (reads?.remoteObjects ?? 0);
  }
  return all === 0 ? undefined : found / all;
}
