import { formatBytes } from '#core/cli/table.ts';
import type { RunningConversion } from '../conversions.ts';
import { bar, percent } from './bar.ts';
import { type Html, type HtmlValue, html } from './html.ts';
import type { NodeView, Overview, Part, PendingImage, ReadyImage, TransferView } from './overview.ts';

const MAX_REASON = 500;

/** "12 s", "5 min", "3 h", "2 d" of milliseconds. */
export function ago(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 100) return `${seconds} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

const time = (at: number): Html => {
  const text = new Date(at).toISOString();
  return html`<time datetime="${text}">${text.slice(0, 16).replace('T', ' ')}</time>`;
};

/** What strangers named; kept from changing the direction of what stands around it. */
const name = (text: string): Html => html`<bdi class="name">${text}</bdi>`;
/** An image's name; where it is in a registry, as Docker writes it. */
const imageName = (source: string): Html => name(source.replace(/^docker:\/\//, ''));
const badge = (state: string): Html => html`<span class="badge ${state}">${state}</span>`;
const more = ({ shown, total }: Part<unknown>): Html | undefined =>
  total > shown.length ? html`<p class="more">and ${total - shown.length} more</p>` : undefined;

/** A table whose cells know their column, for screens on which each row becomes a block. */
function table(columns: readonly string[], rows: readonly (readonly HtmlValue[])[], empty: string): Html {
  if (rows.length === 0) return html`<p class="empty">${empty}</p>`;
  const cells = (row: readonly HtmlValue[]) =>
    row.map((cell, at) => html`<td data-column="${columns[at]}"><div>${cell}</div></td>`);
  return html`<div class="wide"><table><thead><tr>${columns.map((column) => html`<th scope="col">${column}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${cells(row)}</tr>\n`)}</tbody></table></div>`;
}

/** What moves right now: transfers, and conversions. */
export function activity({ transfers, conversions, at }: Overview): Html {
  return html`<h2>Transfers</h2>
${table(['With', 'What', 'Moved', 'Rate', 'For'], transfers.shown.map(transferRow), 'Nothing is being sent or received.')}${more(transfers)}
<h2>Conversions under way</h2>
${table(
  ['Image', 'Step', 'Read of it', 'New objects', 'For'],
  conversions.map((conversion) => conversionRow(conversion, at)),
  'None.',
)}`;
}

function transferRow({
  peer,
  node,
  what,
  image,
  imageName: named,
  sent,
  received,
  rate,
  age,
  ended,
}: TransferView): HtmlValue[] {
  const of = named ?? (image === '' ? undefined : image.slice(0, 19));
  const moved = [sent > 0 ? `${formatBytes(sent)} sent` : '', received > 0 ? `${formatBytes(received)} received` : ''];
  return [
    node === undefined ? name(peer) : html`${name(node)} <small>${peer}</small>`,
    html`${name(what)}${of === undefined ? undefined : html` <small>of ${imageName(of)}</small>`}`,
    moved.filter((text) => text !== '').join(', '),
    ended ? badge('ended') : `${formatBytes(Math.round(rate))}/s`,
    ago(age),
  ];
}

function progressBar({ doneBytes, totalBytes }: { readonly doneBytes: number; readonly totalBytes: number }): Html {
  const label = `${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`;
  return html`${bar(label, totalBytes, [{ kind: 'accent', amount: doneBytes }])}<small>${label}</small>`;
}

function conversionRow({ source, since, progress }: RunningConversion, at: number): HtmlValue[] {
  const { phase = 'resolve', layer = 0, layers = 0, newObjects = 0, newBytes = 0 } = progress ?? {};
  return [
    imageName(source),
    layer > 0 ? `${phase}, layer ${layer} of ${layers}` : phase,
    progress === undefined || progress.totalBytes === 0 ? '' : progressBar(progress),
    `${newObjects} (${formatBytes(newBytes)})`,
    ago(at - since),
  ];
}

/** The images: what is to be done, and what is there. */
export function images({ pending, images: ready, olderToken, at }: Overview): Html {
  const rows = [...pending.shown.map((image) => pendingRow(image, at)), ...ready.shown.map(readyRow)];
  const older = olderToken === '' ? undefined : html`<a rel="next" href="?older=${olderToken}">older images</a>`;
  return html`<h2>Images</h2>
${table(['Image', 'State', 'Files and what of them is distinct', 'Objects', 'On nodes', 'Since'], rows, 'No image was converted yet: “gear convert” converts one.')}
${more({ shown: pending.shown, total: pending.total })}<p class="more">${older}</p>`;
}

function pendingRow(
  { source, state, error, attempts, retryAt, changedAt, progress }: PendingImage,
  at: number,
): HtmlValue[] {
  const again = retryAt === undefined ? undefined : html` <small>tried again in ${ago(retryAt - at)}</small>`;
  const why = state === 'failed' ? html`<span class="error">${reasonOf(source, error)}</span>` : undefined;
  return [
    imageName(source),
    html`${badge(state)}${attempts > 1 ? html` <small>${attempts} attempts</small>` : undefined}${state === 'failed' ? again : undefined}`,
    why ?? (progress === undefined || progress.totalBytes === 0 ? '' : progressBar(progress)),
    '',
    '',
    time(changedAt),
  ];
}

/** Without the name of the image, which stands beside it. */
function reasonOf(source: string, error: string): string {
  const rest = error.startsWith(`${source}: `) ? error.slice(source.length + 2) : error;
  return rest.slice(0, MAX_REASON);
}

function readyRow({
  source,
  fileBytes,
  objectBytes,
  objects,
  nodes,
  complete,
  convertedAt,
  warnings,
}: ReadyImage): HtmlValue[] {
  const warned =
    warnings.length === 0
      ? undefined
      : html` <small title="${warnings.slice(0, 5).join('\n')}">${warnings.length} warnings</small>`;
  const label = `${formatBytes(fileBytes)}, ${formatBytes(objectBytes)} distinct`;
  return [
    imageName(source),
    html`${badge('ready')}${warned}`,
    html`${bar(label, fileBytes, [{ kind: 'accent', amount: objectBytes }])}<small>${label}</small>`,
    objects,
    nodes === 0 ? '' : `${nodes}${complete > 0 ? `, ${complete} complete` : ''}`,
    time(convertedAt),
  ];
}

/** The nodes, and how much of what they need they have. */
export function nodes({ nodes: all, at }: Overview): Html {
  const columns = ['Node', 'Images', 'First touches', 'Bytes that came, by why', 'Cache', 'Heard of'];
  return html`<h2>Nodes</h2>
${table(
  columns,
  all.shown.map((node) => nodeRow(node, at)),
  'No node has reported.',
)}${more(all)}
<p class="legend">First touches: <span class="key accent"></span>found on the node <span class="key soft"></span>fetched</p>
<p class="legend">Bytes: <span class="key accent"></span>ahead, by a start-up profile <span class="key soft"></span>a reader waited
<span class="key faint"></span>an image was filled</p>`;
}

function nodeRow(node: NodeView, at: number): HtmlValue[] {
  const { reads } = node;
  const { imageBytesHere, imageBytes } = node;
  return [
    html`${name(node.name)} <small>${node.version}</small>`,
    html`${node.images}${node.complete > 0 ? `, ${node.complete} complete` : ''}
<small>${formatBytes(imageBytesHere)} of ${formatBytes(imageBytes)} here</small>`,
    reads === undefined ? 'not said' : touches(reads),
    reads === undefined ? 'not said' : arrivals(reads),
    formatBytes(node.cacheBytes),
    `${ago(at - node.seenAt)} ago`,
  ];
}

type Reads = NonNullable<NodeView['reads']>;

function touches({ privateObjects, publicObjects, remoteObjects }: Reads): Html {
  const all = publicObjects + remoteObjects;
  const rate = all === 0 ? 'none yet' : `${percent(publicObjects / all)} hits`;
  return html`<span class="hits">${rate}</span>
${bar(rate, all, [
  { kind: 'accent', amount: publicObjects },
  { kind: 'soft', amount: remoteObjects },
])}
<small>${publicObjects} public, ${remoteObjects} remote; ${privateObjects} are private now</small>`;
}

function arrivals({ demandBytes, profileBytes, fillBytes }: Reads): Html {
  const all = demandBytes + profileBytes + fillBytes;
  const label = `${formatBytes(profileBytes)} ahead, ${formatBytes(demandBytes)} waited for, ${formatBytes(fillBytes)} filled`;
  return html`${bar(label, all, [
    { kind: 'accent', amount: profileBytes },
    { kind: 'soft', amount: demandBytes },
    { kind: 'faint', amount: fillBytes },
  ])}<small>${label}</small>`;
}
