import { readFile } from 'node:fs/promises';
import { execa } from 'execa';
import type { Abortable } from '#core/abort.ts';
import { orUndefined } from '#core/errors.ts';
import { type Check, check } from './check.ts';
import { PROXY } from './containerd.ts';

/** Where nerdctl, run by root, looks for its configuration. */
const FILE = '/etc/nerdctl/nerdctl.toml';

/** What is known of nerdctl on this machine. */
export interface NerdctlFacts {
  /** Of the program; undefined: there is none. */
  readonly version: string | undefined;
  /** What it uses where no --snapshotter is given; undefined: containerd's own. */
  readonly snapshotter: string | undefined;
}

/** The snapshotter that a nerdctl.toml names; undefined where it names none. */
export function readNerdctlSnapshotter(toml: string): string | undefined {
  // Its keys stand above any table.
  const [top = ''] = toml.split(/^\s*\[/m);
  const [, quote, literal] = /^\s*snapshotter\s*=\s*(?:"([^"\n]*)"|'([^'\n]*)')/m.exec(top) ?? [];
  return quote ?? literal;
}

/** Asks nerdctl for its version and reads its configuration. */
export async function lookAtNerdctl({ signal }: Abortable = {}): Promise<NerdctlFacts> {
  const { code, stdout } = await execa('nerdctl', ['--version'], {
    ...{ reject: false, timeout: 5_000, stdin: 'ignore' },
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
  if (code === 'ENOENT') return { version: undefined, snapshotter: undefined };
  const toml = await orUndefined(readFile(process.env['NERDCTL_TOML'] ?? FILE, 'utf8'), 'ENOENT', 'ENOTDIR', 'EACCES');
  return {
    version: /\d+(\.\d+)+[^\s,]*/.exec(stdout ?? '')?.[0] ?? 'unknown',
    snapshotter: process.env['CONTAINERD_SNAPSHOTTER'] || readNerdctlSnapshotter(toml ?? ''),
  };
}

/** The check of nerdctl, where there is one. `wanted`: somebody said that containerd goes through Gear here. */
export function nerdctlChecks({ version, snapshotter }: NerdctlFacts, wanted: boolean): Check[] {
  if (version === undefined) return [];
  const state = snapshotter === PROXY ? 'ok' : wanted ? 'warning' : 'unknown';
  return [
    check('containerd.nerdctl', 'nerdctl', state, `${version}, snapshotter ${snapshotter ?? "containerd's own"}`, {
      cost: 'nerdctl downloads and unpacks whole images, unless it is called with --snapshotter gear',
      remedy: `snapshotter = "${PROXY}" in ${FILE}, as in deploy/containerd/nerdctl.toml`,
    }),
  ];
}
