import { request } from 'node:http';
import { join } from 'node:path';
import { deadline } from '#core/abort.ts';
import { defineCommand, EXIT, main } from '#core/cli/command.ts';
import { formatBytes, formatTable } from '#core/cli/table.ts';
import { GearError, isErrno } from '#core/errors.ts';
import type { NodeMountStatus } from '../nfs/node-mount.ts';
import type { PrefetchStats } from '../objectfs/interface.ts';
import { DEFAULT_ROOT, DRIVER_CONFIG, nodePaths } from '../paths.ts';
import type { SourceStats } from '../remote/manager-source.ts';
import { CONTROL_SOCKET } from '../status/control-server.ts';
import type { NodeStatus } from '../status/node-status.ts';

const TIMEOUT = 10_000;

async function ask(socketPath: string, signal: AbortSignal): Promise<NodeStatus> {
  using limit = deadline(TIMEOUT, `driver at ${socketPath}`, signal);
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  request({ socketPath, path: '/status', signal: limit }, (response) => {
    const pieces: Buffer[] = [];
    response.on('data', (piece: Buffer) => pieces.push(piece));
    response.on('error', reject);
    response.on('end', () => {
      const body = Buffer.concat(pieces).toString();
      if (response.statusCode === 200) resolve(body);
      else
        reject(
          new GearError(
            'internal',
            `the driver at ${socketPath} answers ${response.statusCode}: ${body.slice(0, 500)}`,
          ),
        );
    });
  })
    .on('error', reject)
    .end();
  try {
    return JSON.parse(await promise) as NodeStatus;
  } catch (error) {
    if (limit.aborted) throw limit.reason;
    if (!isErrno(error, 'ENOENT', 'ECONNREFUSED')) throw error;
    throw new GearError(
      'unavailable',
      `no driver runs for this root: nobody answers at ${socketPath}; start it with gear driver`,
      {
        cause: error,
      },
    );
  }
}

/** What one way to the manager has done. */
function sourceLine(source: SourceStats): string {
  const { kind, state, reason, reads, bytes, failures, cost } = source;
  const done = reads === 0 ? '' : `, ${reads} reads, ${formatBytes(bytes)}`;
  const pace = cost === undefined ? '' : `, ${cost.toFixed(1)} ms/MiB`;
  const failed = failures === 0 ? '' : `, ${failures} failed`;
  return `  by ${kind.padEnd(8)} ${state}${done}${pace}${failed}${reason === '' ? '' : `: ${reason}`}`;
}

function nfsLine({ state, reason, server, version, since, ended }: NodeMountStatus): string {
  const where = server === undefined ? '' : ` ${server}, version ${version}`;
  const cut = ended === 0 ? '' : `; reads that waited too long were ended ${ended} times`;
  return `NFS mount:  ${where} ${state} since ${new Date(since).toISOString()}${cut}${reason === '' ? '' : `: ${reason}`}`;
}

function containerdLines({ containerd }: NodeStatus): string[] {
  if (containerd === undefined) return [];
  const { socket, committed, lazy, active, views, ordinary, conversions } = containerd;
  return [
    `containerd:  ${socket}: ${committed} layers (${lazy} lazy), ${active} active, ${views} views`,
    ...ordinary.map(({ image, layers, reason, conversion, conversionFailed }) => {
      const asked = conversionFailed === '' ? conversion : `${conversion}: ${conversionFailed}`;
      return `Ordinary:    ${image || 'an image without a name'}, ${layers} layers: ${reason}; conversion: ${asked}`;
    }),
    ...conversions.map(
      ({ image, state, reason }) => `Conversion:  ${image}: ${[state, reason].filter(Boolean).join(': ')}`,
    ),
  ];
}

/** What the start-up profile did for one image. */
function startLine(image: string, startUp: PrefetchStats): string {
  const { plannedChunks, prefetchedChunks, prefetchedBytes, prefetching, unusedChunks, missedChunks } = startUp;
  const brought =
    plannedChunks === undefined
      ? 'no profile'
      : `${prefetchedChunks} of ${plannedChunks} chunks of its profile (${formatBytes(prefetchedBytes)})${prefetching ? ' so far' : ''}`;
  const unused = unusedChunks === undefined ? '' : `, ${unusedChunks} not used`;
  const missed = missedChunks === undefined ? '' : `, ${missedChunks} touched that it lacks`;
  return `${image.slice(0, 12)} start: ${brought}${unused}${missed}; last waited for ${startUp.lastDemandMilliseconds} ms after its mount`;
}

/** The text for people. */
export function statusText(status: NodeStatus): string {
  const { objectFilesystem: stats } = status;
  const lines = [
    `Root:        ${status.root}`,
    `Manager:     ${status.manager}${status.managerAway ? ` (${['away', status.managerAwayReason].filter(Boolean).join(': ')})` : ''}`,
    `Data path:   ${status.dataPath}`,
    `Fetched:     ${stats.fetchedObjects} objects, ${formatBytes(stats.fetchedBytes)} (${formatBytes(stats.demandBytes)} that somebody waited for)`,
    `Prefetched:  ${formatBytes(stats.prefetchedBytes)}, ${formatBytes(stats.prefetchedWireBytes)} on the wire; ${stats.joinedChunks} chunks just in time`,
    ...stats.fetch.sources.map(sourceLine),
    ...(status.nfs === undefined ? [] : [nfsLine(status.nfs)]),
    `In flight:   ${stats.inFlight} reads${stats.inFlight > 0 ? `, the oldest for ${stats.oldestMilliseconds} ms` : ''}`,
    ...status.homes.map(
      (home) => `Home:        ${home.home}: ${home.layers} layers (${home.ordinary} ordinary), ${home.mounts} mounted`,
    ),
    ...containerdLines(status),
  ];
  const rows = status.images.map((image) => [
    image.image.slice(0, 12),
    image.state,
    `${image.objectsHere}/${image.objects}`,
    `${formatBytes(image.bytesHere)}/${formatBytes(image.bytes)}`,
    String(image.touchedObjects),
    String(image.fromPublic),
    String(image.fromRemote),
    formatBytes(image.fetchedBytes),
    String(image.errors),
    String(image.users),
    String(image.mounts),
  ]);
  const starts = status.images.flatMap(({ image, startUp }) =>
    startUp === undefined ? [] : [startLine(image, startUp)],
  );
  const header = [
    'IMAGE',
    'STATE',
    'OBJECTS',
    'BYTES',
    'PRIVATE',
    'PUBLIC HITS',
    'REMOTE HITS',
    'FETCHED',
    'ERRORS',
    'USERS',
    'MOUNTS',
  ];
  const table = rows.length === 0 ? 'No images.' : formatTable(header, rows);
  return `${lines.join('\n')}\n\n${[table, ...starts].join('\n')}\n`;
}

const command = defineCommand({
  name: 'status',
  summary: 'Show what the driver of this node has and does.',
  details: `
An image is "lazy" while some of its objects are not on this node, "filling" while they are brought here, "complete" when all are. A layer that nobody converted is "ordinary".
PRIVATE counts the objects that the image has touched: those the kernel finds without Gear. PUBLIC HITS and REMOTE HITS count first touches
since the object filesystem started: answered from the public cache, or fetched.`,
  options: {
    root: { type: 'string', value: 'FOLDER', default: DEFAULT_ROOT, help: "The driver's root" },
    json: { type: 'flag', help: 'Print JSON' },
  },
  configFile: { path: DRIVER_CONFIG, others: 'ignored' },
  async run(values, _operands, signal) {
    const status = await ask(join(nodePaths(values.root).run, CONTROL_SOCKET), signal);
    process.stdout.write(values.json ? `${JSON.stringify(status, undefined, 2)}\n` : statusText(status));
    return EXIT.ok;
  },
});

if (import.meta.main) await main(command);
