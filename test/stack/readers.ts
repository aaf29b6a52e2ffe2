import { until } from '#core/abort.ts';
import type { ServiceName, Stack } from './stack.ts';

// Reads one file after the other, slowly, so that there is always something that nobody has read before; a line for each, with the time.
const SCRIPT = `
while read -r sum path; do
  if got=$(sha256sum "$path" 2>&1); then
    [ "\${got%% *}" = "$sum" ] && result=right || result="wrong $path"
  else
    result="failed $path: $got"
  fi
  printf '%s %s\\n' "$EPOCHREALTIME" "$result"
  sleep 0.03
done </reader/list >/reader/log
`;

/** A container on a node that reads its image's files and compares them with what they should be. */
export interface Reader {
  readonly name: string;
  progress(): Promise<Progress>;
  /** Waits until it has read so many files more. */
  advance(files: number): Promise<void>;
}

export interface Progress {
  readonly right: number;
  /** What was not as it should be, a line each. */
  readonly wrong: readonly string[];
  /** Seconds between two files, at most. */
  readonly pause: number;
}

function progressOf(log: string): Progress {
  const lines = log.split('\n').filter((line) => line !== '');
  const times = lines.map((line) => Number(line.split(' ', 1)[0]));
  const results = lines.map((line) => line.slice(line.indexOf(' ') + 1));
  return {
    right: results.filter((result) => result === 'right').length,
    wrong: results.filter((result) => result !== 'right'),
    pause: Math.max(0, ...times.map((time, i) => time - (times[i - 1] ?? time))),
  };
}

/** The files of an image that its user may read, "SHA256  PATH" each, in an order that is not that of the tree. */
export async function filesOf(stack: Stack, image: string, count: number): Promise<string[]> {
  const find =
    'find / -xdev -type f -readable -size -1024k ! -path "/etc/host*" ! -path /etc/resolv.conf ! -name "*\\\\\\\\*"';
  const list = await stack.docker.run([
    ...[
      'run',
      '--rm',
      '--network=none',
      '--entrypoint=sh',
      image,
      '-c',
      `${find} -exec sha256sum {} + 2>/dev/null || true`,
    ],
  ]);
  return list.split('\n').sort().slice(0, count);
}

export interface ReaderOptions {
  readonly node: ServiceName;
  /** By which engine of the node. */
  readonly engine: 'docker' | 'containerd';
  readonly image: string;
  readonly files: readonly string[];
}

/** Starts a reader. Its list and its log lie on the node, so that no engine is needed to follow it. */
export async function startReader(stack: Stack, { node, engine, image, files }: ReaderOptions): Promise<Reader> {
  const name = `${engine}-reader`;
  const folder = `/run/${name}`;
  await stack.exec(node, ['install', '--directory', '--mode=777', folder]);
  await stack.exec(node, ['sh', '-c', `cat >${folder}/list`], `${files.join('\n')}\n`);
  await stack.exec(node, ['sh', '-c', `cat >${folder}/script`], SCRIPT);
  const command =
    engine === 'docker'
      ? ['docker', 'run', '--detach', '--name', name, '--volume', `${folder}:/reader`, '--entrypoint=bash', image]
      : [
          ...['ctr', 'run', '--detach', '--snapshotter=gear'],
          ...['--mount', `type=bind,src=${folder},dst=/reader,options=rbind:rw`, image, name, 'bash'],
        ];
  await stack.exec(node, [...command, '/reader/script']);
  const progress = async () =>
    progressOf(await stack.exec(node, ['sh', '-c', `cat ${folder}/log 2>/dev/null || true`]));
  return {
    name: `${engine} on ${node}`,
    progress,
    advance: async (count) => {
      const { right } = await progress();
      await until(
        `${count} more files read by ${name} on ${node}`,
        async () => (await progress()).right >= right + count,
        {
          timeout: 90_000,
          interval: 500,
        },
      );
    },
  };
}
