import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { isErrno } from '#core/errors.ts';
import { createLogger } from '#core/log.ts';
import { CacheLayout } from '../cache/layout.ts';
import { sweepTemporaries } from '../cache/recover.ts';
import { Channel } from '../kernel/fuse/channel.ts';
import { Link } from './link.ts';
import { rotateLog } from './log-file.ts';
import { FUSE_FD, LINK_FD, processId, protectFromOutOfMemory, startProcess, WARM } from './processes.ts';
import { Service } from './service.ts';
import { objectfsFiles } from './session.ts';
import { readSettings } from './settings.ts';

// Answers the kernel on the open /dev/fuse that its supervisor holds. It may be killed at any moment: whatever matters is on the disk or in the kernel.
//
//   server.ts ROOT first|again [refuse-resent]
//
// It never touches the mount that it serves: its own request would wait for itself.

const ALIVE_MS = 2_000;
const TICK_MS = 10_000;
const LOG_BYTES = 16 * 1024 * 1024;

if (process.argv[2] === WARM) process.exit(0);
const [root, how, refuse] = process.argv.slice(2) as [string, string, string?];
process.umask(0o022);
protectFromOutOfMemory();
// Errors are part of ordinary life here (ENOENT, EEXIST), and few stacks are looked at.
Error.stackTraceLimit = 4;

const layout = new CacheLayout(root);
const files = objectfsFiles(layout.paths);
const settings = readSettings(files.settings);
const log = createLogger('objectfs', settings.logLevel);

// Nobody but the server writes there, and the one before is dead.
sweepTemporaries(layout);
const channel = new Channel(FUSE_FD, log);
const service = new Service({
  layout,
  files,
  settings,
  channel,
  log,
  refuseResent: refuse !== undefined,
  control: {
    supervisor: () => supervisor.pid,
    stop: () => stop(),
    replace: (script) => replace(script),
  },
});

let supervisor: { pid: number } = { pid: process.ppid };
let stopped: PromiseWithResolvers<void> | undefined;
let link = connect(new Socket({ fd: LINK_FD }));

function connect(stream: Duplex): Link {
  return new Link(
    stream,
    (message) => {
      if (message.type === 'stopped') stopped?.resolve();
    },
    () => {
      if (stopped !== undefined) stopped.resolve();
      else startSupervisor();
    },
  );
}

function startSupervisor(): void {
  log.warn({ supervisor: supervisor.pid }, 'the supervisor has ended; another one takes over');
  const self = processId(process.pid);
  const args = [root, 'adopt', String(process.pid), self?.startTime ?? ''];
  const child = startProcess('supervisor', {
    args,
    log: 'inherit',
    fuse: FUSE_FD,
    link: true,
  });
  child.once('error', (err) => log.error({ err }, 'no supervisor can be started'));
  if (child.pid === undefined) {
    setTimeout(startSupervisor, 1_000);
    return;
  }
  supervisor = { pid: child.pid };
  link = connect(child.stdio[LINK_FD] as Duplex);
}

async function stop(): Promise<void> {
  stopped ??= Promise.withResolvers<void>();
  link.send({ type: 'stop' });
  await stopped.promise;
  // After the answer to whoever asked for it.
  setTimeout(() => void finish(), 20);
}

function replace(script: string | undefined): void {
  link.send(script === undefined ? { type: 'replace' } : { type: 'replace', script });
  setTimeout(() => void finish(), 20);
}

async function finish(): Promise<void> {
  await service.flush();
  // An ordinary exit waits for the threads that read from the kernel, and those wait as long as anybody has the mount: a copy of it may live on in another mount
  // namespace, such as that of a container which looks at the whole machine.
  process.kill(process.pid, 'SIGKILL');
}

// What the one before left unanswered comes again. Before anything is read here: a request that was already read comes a second time too, and with two
// answers under way to one OPEN, the one that the kernel no longer wants takes back what the other one gives.
function askAgain(): void {
  try {
    channel.askAgain();
  } catch (err) {
    if (!isErrno(err, 'EINVAL')) throw err;
    log.error({ err }, 'this kernel (older than 6.9) does not send again what the server that ended left unanswered');
  }
}

for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    // The machine may be going down.
    log.info({ signal }, 'flushing; only the end of the mount ends the object filesystem');
    void service.flush();
  });
}
setInterval(() => link.send({ type: 'alive' }), ALIVE_MS);
setInterval(() => {
  service.tick();
  rotateLog(2, files.log, LOG_BYTES, log);
}, TICK_MS);

if (how === 'again') askAgain();
await service.start();
log.info({ root, how, manager: settings.manager }, 'serving');
await service.ended;
log.info('the mount is gone');
// Whoever asked for it is still to be answered.
if (stopped === undefined) await finish();
