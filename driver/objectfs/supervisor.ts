import type { ChildProcess } from 'node:child_process';
import { openSync, writeFileSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { mount, unmount } from '../kernel/mount.ts';
import { findMount } from '../kernel/mount-info.ts';
import { nodePaths } from '../paths.ts';
import { Link } from './link.ts';
import {
  FUSE_FD,
  isRunning,
  killProcess,
  LINK_FD,
  type ProcessId,
  processId,
  protectFromOutOfMemory,
  startProcess,
  WARM,
} from './processes.ts';
import { newSession, objectfsFiles } from './session.ts';

// Holds the open /dev/fuse and keeps a server running on it: when the server dies another takes over, and the kernel asks it again for whatever the
// dead one left unanswered. When this process dies the server starts another one. It stays small, so it does next to nothing and imports little.
//
//   supervisor.ts ROOT                      mounts, and starts a server
//   supervisor.ts ROOT adopt PID START      takes over from a supervisor that died; the descriptors are inherited from the server PID

/** A server that says nothing for this long is stuck. */
const STUCK_MS = 30_000;
/** One that dies sooner after its start crashed at once. */
const QUICK_DEATH_MS = 5_000;
/** After so many quick deaths in a row a request is suspected of killing it, and what comes again is refused. */
const SUSPICIOUS_DEATHS = 4;

if (process.argv[2] === WARM) process.exit(0);
const [root, mode, adoptedPid, adoptedStart] = process.argv.slice(2) as [string, string?, string?, string?];
const paths = nodePaths(root);
const files = objectfsFiles(paths);

let server: ProcessId;
let serverScript: string | undefined;
let lastAlive = performance.now();
let deaths = 0;
let stopping = false;
let replacing = false;
let stuck = false;

function log(level: 30 | 40 | 50, message: string, fields: object = {}): void {
  const line = {
    level,
    time: new Date().toISOString(),
    component: 'objectfs-supervisor',
    pid: process.pid,
    ...fields,
    msg: message,
  };
  writeSync(2, `${JSON.stringify(line)}\n`);
}

async function mountFresh(): Promise<number> {
  newSession(files);
  const fd = openSync('/dev/fuse', 'r+');
  const options = [
    'ro',
    'nosuid',
    'nodev',
    'noatime',
    `fd=${fd}`,
    'rootmode=40000',
    'user_id=0',
    'group_id=0',
    'allow_other',
    'default_permissions',
  ];
  await mount({ type: 'fuse.gear', source: 'gear', target: paths.remote, options });
  return fd;
}

/** Listens to the server, and does what has to be done when it is gone. `ended` resolves when the process is. */
function attach(fuse: number, stream: Duplex, ended: () => Promise<NodeJS.Signals | null>): void {
  const started = performance.now();
  lastAlive = started;
  const link = new Link(
    stream,
    (message) => {
      lastAlive = performance.now();
      if (message.type === 'stop') void stop(link);
      if (message.type === 'replace') {
        replacing = true;
        serverScript = message.script ?? serverScript;
      }
    },
    () => {
      void ended().then((signal) => afterDeath(fuse, performance.now() - started, signal));
    },
  );
}

async function stop(link: Link): Promise<void> {
  stopping = true;
  try {
    if (findMount(paths.remote)?.type === 'fuse.gear') await unmount(paths.remote, { detach: true });
  } catch (error) {
    log(50, `not unmounted: ${String(error)}`);
  }
  link.send({ type: 'stopped' });
}

function afterDeath(fuse: number, lived: number, signal: NodeJS.Signals | null): void {
  if (stopping || findMount(paths.remote)?.type !== 'fuse.gear') {
    log(30, 'the mount is gone; the object filesystem ends');
    process.exit(0);
  }
  // Somebody else's SIGKILL says nothing about what it was doing.
  const innocent = replacing || (signal === 'SIGKILL' && !stuck);
  if (lived > QUICK_DEATH_MS && !stuck) deaths = 0;
  if (!innocent) deaths++;
  stuck = false;
  const pause = deaths < 2 ? 0 : Math.min(1_000, 50 * 2 ** deaths);
  log(replacing ? 30 : 40, 'the server has ended; another one takes over', { lived: Math.round(lived), deaths, pause });
  replacing = false;
  setTimeout(() => startServer(fuse, 'again'), pause);
}

function startServer(fuse: number, how: 'first' | 'again'): void {
  const refuse = deaths >= SUSPICIOUS_DEATHS ? ['refuse-resent'] : [];
  const child: ChildProcess = startProcess('server', {
    args: [root, how, ...refuse],
    log: 'inherit',
    fuse,
    link: true,
    ...(serverScript === undefined ? {} : { script: serverScript }),
  });
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals | null>();
  child.once('exit', (_code, signal) => resolve(signal));
  child.once('error', (error) => {
    log(50, `the server cannot be started: ${String(error)}`);
    resolve(null);
  });
  if (child.pid === undefined) {
    void promise.then(() => afterDeath(fuse, 0, null));
    return;
  }
  server = processId(child.pid) ?? { pid: child.pid, startTime: '' };
  attach(fuse, child.stdio[LINK_FD] as Duplex, () => promise);
}

/** Resolves when a process that is not our child is gone (of what, cannot be known); ends it where it only closed its side. */
async function untilGone(id: ProcessId): Promise<NodeJS.Signals> {
  for (let i = 0; isRunning(id); i++) {
    if (i === 50) killProcess(id);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return 'SIGKILL';
}

function watch(): void {
  setInterval(() => {
    if (performance.now() - lastAlive < STUCK_MS) return;
    log(50, 'the server is stuck and is killed', { server: server.pid });
    lastAlive = performance.now();
    stuck = true;
    killProcess(server);
  }, 5_000);
}

protectFromOutOfMemory();
// Only the end of the mount ends it.
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => log(30, `${signal} ignored; use the driver's --shutdown`));
if (mode === 'adopt') {
  server = { pid: Number(adoptedPid), startTime: adoptedStart ?? '' };
  attach(FUSE_FD, new Socket({ fd: LINK_FD }), () => untilGone(server));
} else {
  startServer(await mountFresh(), 'first');
}
writeFileSync(`${paths.run}/objectfs-supervisor.pid`, `${process.pid}\n`);
watch();
