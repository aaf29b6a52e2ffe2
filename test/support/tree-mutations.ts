import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  constants,
  lchownSync,
  linkSync,
  mkdirSync,
  openSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { mknod, setTimes } from '../../driver/kernel/inode.ts';
import { llistxattr, lremovexattr, lsetxattr } from '../../driver/kernel/xattr.ts';
import type { Random } from './random.ts';
import type { TreeManifest } from './tree.ts';

/** One change to a tree, chosen without looking at any particular copy of it, so that it can be made in several. */
export interface Mutation {
  /** For the report when copies come to differ. */
  readonly text: string;
  /** Makes the change in the tree at `root`; the same every time. */
  apply(root: string): void;
}

/** Hard links stay in folders with this prefix that nothing else is done in once another layer sees them: overlayfs breaks them up then. */
export const LINKS = 'hard-links-';

/** A capability as the kernel stores it: revision 2, cap_net_bind_service. */
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex');

class Chooser {
  readonly #random: Random;
  readonly #tree: TreeManifest;
  readonly #id: string;
  #clock: number;

  constructor(random: Random, tree: TreeManifest, id: string, clock: number) {
    this.#random = random;
    this.#tree = tree;
    this.#id = id;
    this.#clock = clock;
  }

  mutation(): Mutation {
    const choices: (() => Mutation | undefined)[] = [
      () => this.#writeNew(),
      () => this.#writeNew(),
      () => this.#writeNew(),
      () => this.#makeDirectory(),
      () => this.#makeDirectory(),
      () => this.#overwrite(),
      () => this.#overwrite(),
      () => this.#append(),
      () => this.#truncate(),
      () => this.#chmod(),
      () => this.#chown(),
      () => this.#xattr(),
      () => this.#removeXattrs(),
      () => this.#capability(),
      () => this.#symlink(),
      () => this.#special(),
      () => this.#rename(),
      () => this.#rename(),
      () => this.#remove(),
      () => this.#remove(),
      () => this.#replace(),
      () => this.#hardLinks(),
      () => this.#touch(),
    ];
    for (;;) {
      const mutation = this.#random.pick(choices)();
      if (mutation !== undefined) return mutation;
    }
  }

  #paths(...types: string[]): string[] {
    const found: string[] = [];
    for (const [path, { type }] of this.#tree) {
      if (path !== '' && !path.startsWith(LINKS) && (types.length === 0 || types.includes(type))) found.push(path);
    }
    return found;
  }

  #existing(...types: string[]): string | undefined {
    const paths = this.#paths(...types);
    return paths.length === 0 ? undefined : this.#random.pick(paths);
  }

  #directory(): string {
    const paths = ['', ...this.#paths('directory').filter((path) => path.split('/').length < 6)];
    return this.#random.pick(paths);
  }

  /** A path where nothing is yet. */
  #newPath(): string {
    const random = this.#random;
    for (;;) {
      const odd = random.pick(['x', 'y z', 'new\nline', '\xff\xfe', 'ü', '-rf', 'n'.repeat(100)]);
      const name = random.chance(0.9) ? `${random.pick([...'abcdefghijklmnopqrstuvwxyz'])}${random.int(0, 30)}` : odd;
      const directory = this.#directory();
      const path = directory === '' ? name : `${directory}/${name}`;
      if (!this.#tree.has(path)) return path;
    }
  }

  #body(): Buffer {
    const size = this.#random.chance(0.05) ? this.#random.int(100_000, 400_000) : this.#random.int(0, 3000);
    return Buffer.alloc(size, this.#random.bytes(13));
  }

  /** A change to `path`, which has a time of its own afterwards, as have all directories that it touched. */
  #on(path: string, text: string, change: (full: Buffer) => void, also: readonly string[] = []): Mutation {
    const seconds = this.#clock++;
    const nanoseconds = this.#random.chance(0.5) ? 0 : this.#random.int(1, 999_999_999);
    const touched = [path, parentOf(path), ...also.flatMap((other) => [other, parentOf(other)])];
    return {
      text: `${text} ${JSON.stringify(path)}`,
      apply: (root) => {
        change(fullPath(root, path));
        for (const each of touched) {
          try {
            setTimes(fullPath(root, each), seconds, nanoseconds);
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
          }
        }
      },
    };
  }

  #onExisting(path: string | undefined, text: string, change: (full: Buffer) => void): Mutation | undefined {
    return path === undefined ? undefined : this.#on(path, text, change);
  }

  #writeNew(): Mutation {
    const [body, mode] = [this.#body(), this.#random.pick([0o644, 0o600, 0o4755, 0o2711, 0o222])];
    return this.#on(this.#newPath(), `write ${body.length} bytes, mode ${mode.toString(8)}, new`, (full) => {
      writeFileSync(full, body, { flag: 'wx' });
      chmodSync(full, mode);
    });
  }

  #makeDirectory(): Mutation {
    const mode = this.#random.pick([0o755, 0o700, 0o1777, 0o2775, 0o5]);
    return this.#on(this.#newPath(), `mkdir, mode ${mode.toString(8)}`, (full) => {
      mkdirSync(full);
      chmodSync(full, mode);
    });
  }

  #overwrite(): Mutation | undefined {
    const path = this.#existing('file');
    const body = this.#body();
    return this.#onExisting(path, `overwrite with ${body.length} bytes`, (full) =>
      writeInto(full, body, constants.O_TRUNC),
    );
  }

  #append(): Mutation | undefined {
    const path = this.#existing('file');
    const body = this.#body();
    return this.#onExisting(path, `append ${body.length} bytes`, (full) => writeInto(full, body, constants.O_APPEND));
  }

  #truncate(): Mutation | undefined {
    const path = this.#existing('file');
    const size = this.#random.int(0, 2000);
    return this.#onExisting(path, `truncate to ${size} bytes`, (full) => truncateSync(full, size));
  }

  #chmod(): Mutation | undefined {
    const path = this.#existing('file', 'directory', 'fifo');
    const mode = this.#random.int(0, 0o7777);
    return this.#onExisting(path, `chmod ${mode.toString(8)}`, (full) => chmodSync(full, mode));
  }

  #chown(): Mutation | undefined {
    const path = this.#existing();
    const [uid, gid] = [this.#random.int(0, 70_000), this.#random.int(0, 5)];
    return this.#onExisting(path, `chown ${uid}:${gid}`, (full) => lchownSync(full, uid, gid));
  }

  #xattr(): Mutation | undefined {
    const path = this.#existing('file', 'directory');
    const name = `${this.#random.pick(['user', 'trusted'])}.${this.#random.pick(['a', 'b'])}`;
    const value = this.#random.bytes(this.#random.int(0, 40));
    return this.#onExisting(path, `set ${name}`, (full) => lsetxattr(full, name, value));
  }

  #removeXattrs(): Mutation | undefined {
    const path = this.#existing('file', 'directory');
    return this.#onExisting(path, 'remove all xattrs', (full) => {
      const own = llistxattr(full).filter((name) => name.startsWith('user.') || name.startsWith('trusted.'));
      for (const name of own) if (!name.includes('.overlay.')) lremovexattr(full, name);
    });
  }

  #capability(): Mutation | undefined {
    const path = this.#existing('file');
    return this.#onExisting(path, 'set a capability', (full) => lsetxattr(full, 'security.capability', CAPABILITY));
  }

  #symlink(): Mutation {
    const target = this.#random.pick(['a1', '../b2', '/absolute', 'dangling', '.']);
    return this.#on(this.#newPath(), `symlink to ${target}`, (full) => symlinkSync(target, full));
  }

  #special(): Mutation {
    const type = this.#random.pick(['fifo', 'character-device', 'block-device'] as const);
    const [major, minor] = type === 'fifo' ? [0, 0] : [this.#random.int(1, 300), this.#random.int(0, 70_000)];
    return this.#on(this.#newPath(), `mknod ${type} ${major}:${minor}`, (full) =>
      mknod(full, type, 0o640, major, minor),
    );
  }

  #rename(): Mutation | undefined {
    const from = this.#existing();
    const to = this.#newPath();
    if (from === undefined || to.startsWith(`${from}/`)) return undefined;
    // mv copies where the filesystem cannot rename (overlayfs and directories of lower layers, without redirect_dir).
    return this.#on(
      to,
      `rename ${JSON.stringify(from)} to`,
      (full) =>
        moveTo(Buffer.concat([full.subarray(0, full.length - Buffer.byteLength(to, 'latin1')), latin1(from)]), full),
      [parentOf(from)],
    );
  }

  #remove(): Mutation | undefined {
    const path = this.#existing();
    return this.#onExisting(path, 'remove', (full) => rmSync(full, { recursive: true }));
  }

  /** Something of another type, or a new directory, under a name that is there. */
  #replace(): Mutation | undefined {
    const path = this.#existing();
    const kind = this.#random.pick(['file', 'directory', 'symlink'] as const);
    return this.#onExisting(path, `replace by a ${kind}`, (full) => {
      rmSync(full, { recursive: true });
      if (kind === 'file') writeFileSync(full, 'replaced');
      else if (kind === 'symlink') symlinkSync('replaced', full);
      else {
        mkdirSync(full);
        writeFileSync(Buffer.concat([full, Buffer.from('/inside')]), 'inside');
        setTimes(Buffer.concat([full, Buffer.from('/inside')]), 12, 0);
      }
    });
  }

  #hardLinks(): Mutation | undefined {
    const path = `${LINKS}${this.#id}`;
    if (this.#tree.has(path)) return undefined;
    const body = this.#body();
    return this.#on(path, 'make hard links in', (full) => {
      mkdirSync(full);
      const at = (name: string) => Buffer.concat([full, Buffer.from(`/${name}`)]);
      writeFileSync(at('one'), body);
      linkSync(at('one'), at('two'));
      linkSync(at('one'), at('three'));
      setTimes(at('one'), 1234, 0);
    });
  }

  #touch(): Mutation | undefined {
    const path = this.#existing();
    return this.#onExisting(path, 'touch', () => {});
  }
}

/** A change to a tree that looks like `tree`; `id` names the layer, `clock` is later than all before (seconds). */
export function randomMutation(random: Random, tree: TreeManifest, id: string, clock: number): Mutation {
  return new Chooser(random, tree, id, clock).mutation();
}

function latin1(text: string): Buffer {
  return Buffer.from(text, 'latin1');
}

function fullPath(root: string, path: string): Buffer {
  return path === '' ? Buffer.from(root) : Buffer.concat([Buffer.from(`${root}/`), latin1(path)]);
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0));
}

/** Arguments of a process are text to Node, so the paths go by a NUL-separated list. */
function moveTo(from: Buffer, to: Buffer): void {
  const input = Buffer.concat([from, Buffer.from([0]), to, Buffer.from([0])]);
  execFileSync('xargs', ['-0', '-n', '2', 'mv', '-T', '--'], { input, stdio: ['pipe', 'ignore', 'pipe'] });
}

/** Without O_CREAT: where fs.protected_regular is set, not even root may open another's file with it in a directory of mode 1777. */
function writeInto(path: Buffer, body: Buffer, flag: number): void {
  const descriptor = openSync(path, constants.O_WRONLY | flag);
  try {
    writeFileSync(descriptor, body);
  } finally {
    closeSync(descriptor);
  }
}
