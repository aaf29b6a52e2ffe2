import { execa } from 'execa';
import type { Abortable } from '#core/abort.ts';
import { type Check, type CheckState, check } from './check.ts';

interface Tool {
  readonly program: string;
  readonly args: readonly string[];
  readonly title: string;
  readonly absent: CheckState;
  readonly cost: string;
  readonly remedy: string;
}

const TOOLS: readonly Tool[] = [
  {
    program: 'containerd',
    args: ['--version'],
    title: 'containerd',
    absent: 'warning',
    cost: 'dockerd starts no container without it',
    remedy: 'apt install containerd (it comes with docker.io)',
  },
  {
    program: 'runc',
    args: ['--version'],
    title: 'runc',
    absent: 'warning',
    cost: 'dockerd starts no container without it',
    remedy: 'apt install runc (it comes with docker.io)',
  },
  {
    program: 'fsck.erofs',
    args: ['-V'],
    title: 'erofs-utils',
    absent: 'unknown',
    cost: 'only for looking into index images by hand',
    remedy: 'apt install erofs-utils',
  },
];

/** What each program says of its version; undefined where it is not there. */
export async function lookAtTools({ signal }: Abortable = {}): Promise<Map<string, string | undefined>> {
  const versions = TOOLS.map(async ({ program, args }) => {
    const { code, stdout, stderr } = await execa(program, args, {
      reject: false,
      timeout: 5_000,
      stdin: 'ignore',
      ...(signal === undefined ? {} : { cancelSignal: signal }),
    });
    const line = `${stdout ?? ''}\n${stderr ?? ''}`.trim().split('\n')[0] ?? '';
    const version = /\d+(\.\d+)+[^\s,]*/.exec(line)?.[0] ?? line;
    return [program, code === 'ENOENT' ? undefined : version] as const;
  });
  return new Map(await Promise.all(versions));
}

/** The checks of programs beside Docker's own. */
export function toolChecks(versions: ReadonlyMap<string, string | undefined>): Check[] {
  return TOOLS.map(({ program, title, absent, cost, remedy }) => {
    const version = versions.get(program);
    const found = version ?? `no ${program} on the PATH`;
    return check(`tools.${program}`, title, version === undefined ? absent : 'ok', found, { cost, remedy });
  });
}
