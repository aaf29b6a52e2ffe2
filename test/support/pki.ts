import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { projectRoot } from '../../deploy/sandbox/gear.ts';

/** A CA as `deploy/ca` makes it, in a folder of its own. */
export interface Pki extends AsyncDisposable {
  /** The path of a file in it. */
  file(name: string): string;
  /** `deploy/ca FOLDER ARGS`; throws with its output where it fails. */
  ca(args: readonly string[], env?: Readonly<Record<string, string>>): Promise<string>;
  /** Options for a manager with TLS, mutual TLS and tokens. */
  readonly managerArgs: readonly string[];
  /** Options for whoever talks to it as the node NAME. */
  nodeArgs(name: string): readonly string[];
  /** The token of a node. */
  token(name: string): Promise<string>;
}

/** Makes one, with a manager's certificate for this machine, and nodes. */
export async function makePki(...nodes: readonly string[]): Promise<Pki> {
  await using stack = new AsyncDisposableStack();
  const { path: folder } = stack.use(await temporaryFolder());
  const file = (name: string) => join(folder, name);
  const ca = async (args: readonly string[], env: Readonly<Record<string, string>> = {}) => {
    const { stdout } = await execa(join(projectRoot, 'deploy/ca'), [folder, ...args], { env });
    return stdout;
  };
  await ca(['manager', '127.0.0.1', 'localhost']);
  if (nodes.length > 0) await ca(['node', ...nodes]);
  const owned = stack.move();
  return {
    file,
    ca,
    managerArgs: [
      ...['--tls-cert', file('manager.crt'), '--tls-key', file('manager.key')],
      ...['--tls-client-ca', file('ca.crt'), '--token-file', file('tokens')],
    ],
    nodeArgs: (name) => {
      const at = (part: string) => file(`nodes/${name}/${part}`);
      return [
        ...['--tls-ca', at('ca.crt'), '--tls-cert', at('node.crt'), '--tls-key', at('node.key')],
        ...['--token-file', at('token')],
      ];
    },
    token: async (name) => (await readFile(file(`nodes/${name}/token`), 'utf8')).trim().split(' ')[1] ?? '',
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
