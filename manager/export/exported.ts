import { readFile, rm } from 'node:fs/promises';
import { execa } from 'execa';
import { writeAtomically } from '#core/atomic-file.ts';
import { GearError, orUndefined } from '#core/errors.ts';
import type { Logger } from '#core/log.ts';

const TIMEOUT = 10_000;

/**
 * What this store is exported as by the kernel's NFS server: one name that exportfs knows ("CLIENT:PATH") a line, written before it is exported. The kernel
 * goes on when a manager is killed, so the next one takes back what it does not export itself, whatever it was told to export.
 */
export class Exported {
  readonly #file: string;
  readonly #log: Logger;
  readonly #names: Set<string>;

  private constructor(file: string, names: readonly string[], log: Logger) {
    this.#file = file;
    this.#log = log;
    this.#names = new Set(names);
  }

  static async open(file: string, log: Logger): Promise<Exported> {
    const text = (await orUndefined(readFile(file, 'utf8'), 'ENOENT')) ?? '';
    return new Exported(
      file,
      text.split('\n').filter((name) => name !== ''),
      log,
    );
  }

  /** Exports under these names, with these options. Throws failed-precondition; what was exported by then is taken back by `keepOnly`. */
  async add(names: readonly string[], options: string): Promise<void> {
    for (const name of names) this.#names.add(name);
    await this.#write();
    for (const name of names) await exportfs(['-i', '-o', options, name]);
  }

  /** Takes back everything else; what cannot be taken back stays written down, for the next time. Without a stop for those that are kept. */
  async keepOnly(names: readonly string[]): Promise<void> {
    const others = [...this.#names].filter((name) => !names.includes(name));
    if (others.length === 0) return;
    for (const name of others) {
      try {
        await exportfs(['-u', name]);
      } catch (err) {
        // As after a reboot.
        if (!/could not find/i.test(String(err))) {
          this.#log.error(
            { err, export: name },
            'an export of the store could not be removed: its clients can still read',
          );
          continue;
        }
      }
      this.#names.delete(name);
    }
    await this.#write();
  }

  async #write(): Promise<void> {
    if (this.#names.size === 0) await rm(this.#file, { force: true });
    else await writeAtomically(this.#file, `${[...this.#names].join('\n')}\n`, { mode: 0o600 });
  }
}

async function exportfs(args: readonly string[]): Promise<void> {
  const { exitCode, stderr, shortMessage } = await execa('exportfs', args, {
    reject: false,
    timeout: TIMEOUT,
    stdin: 'ignore',
    env: { LC_ALL: 'C' },
  });
  if (exitCode === 0) return;
  throw new GearError('failed-precondition', `exportfs ${args.join(' ')}: ${stderr || shortMessage}`);
}
