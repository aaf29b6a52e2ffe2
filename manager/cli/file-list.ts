import { ociDigest } from '#core/digest.ts';
import { type ByteString, type Inode, type Tree, walk } from '#core/index/tree.ts';

const TYPE_LETTERS: Readonly<Record<Inode['type'], string>> = {
  directory: 'd',
  file: '-',
  symlink: 'l',
  'character-device': 'c',
  'block-device': 'b',
  fifo: 'p',
  whiteout: 'w',
};

/** Raw bytes for a terminal: what is not printable, or no UTF-8, as \xNN; a backslash doubled. */
export function printable(bytes: ByteString): string {
  const escapeBytes = (part: string) =>
    [...Buffer.from(part)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(bytes, 'latin1'));
  } catch {
    return [...bytes].map((char) => (/[ -[\]-~]/.test(char) ? char : escapeLatin1(char))).join('');
  }
  return text.replaceAll('\\', '\\\\').replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escapeBytes);
}

function escapeLatin1(char: string): string {
  return char === '\\' ? '\\\\' : `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
}

/** The twelve permission bits as ls shows them. */
export function formatMode(mode: number): string {
  const bits = [...'rwxrwxrwx'].map((letter, at) => ((mode >> (8 - at)) & 1 ? letter : '-'));
  const special = [
    [0o4000, 2, 's'],
    [0o2000, 5, 's'],
    [0o1000, 8, 't'],
  ] as const;
  for (const [bit, at, letter] of special) {
    if ((mode & bit) !== 0) bits[at] = bits[at] === 'x' ? letter : letter.toUpperCase();
  }
  return bits.join('');
}

/** One name of a tree, as facts for people and for JSON. Sizes in bytes; `object` as OCI writes digests. */
export interface ListedFile {
  readonly path: string;
  readonly type: Inode['type'];
  readonly mode?: string;
  readonly uid?: number;
  readonly gid?: number;
  readonly modified?: string;
  readonly size?: number;
  readonly object?: string;
  readonly target?: string;
  readonly device?: string;
  readonly xattrs?: readonly string[];
}

/** Every name of a tree, in order. */
export function* listFiles(tree: Tree): Generator<ListedFile, void, void> {
  for (const { path, inode } of walk(tree.root)) {
    const name = { path: `/${printable(path)}`, type: inode.type };
    if (inode.type === 'whiteout') {
      yield name;
      continue;
    }
    const { mode, uid, gid, mtimeSeconds, xattrs } = inode;
    yield {
      ...name,
      mode: mode.toString(8).padStart(4, '0'),
      uid,
      gid,
      modified: formatTime(mtimeSeconds),
      ...(inode.type === 'file' ? { size: inode.size } : {}),
      ...(inode.type === 'file' && inode.digest !== undefined ? { object: ociDigest(inode.digest) } : {}),
      ...(inode.type === 'symlink' ? { target: printable(inode.target) } : {}),
      ...('major' in inode ? { device: `${inode.major}:${inode.minor}` } : {}),
      ...(xattrs.size > 0 ? { xattrs: [...xattrs.keys()].map(printable) } : {}),
    };
  }
}

/** A line as `ls -l` has it, with the object's digest (its first 12 digits). */
export function formatFile(file: ListedFile): string {
  const mode = file.mode === undefined ? '?????????' : formatMode(Number.parseInt(file.mode, 8));
  const owner = `${file.uid ?? '?'}:${file.gid ?? '?'}`;
  const size = file.device ?? String(file.size ?? '-');
  const object = file.object?.slice(7, 19) ?? '-';
  const target = file.target === undefined ? '' : ` -> ${file.target}`;
  const left = `${TYPE_LETTERS[file.type]}${mode}  ${owner.padEnd(9)}  ${size.padStart(10)}`;
  return `${left}  ${file.modified ?? '-'.padEnd(19)}  ${object.padEnd(12)}  ${file.path}${target}`;
}

function formatTime(seconds: number): string {
  const date = new Date(seconds * 1000);
  // An image may have times that a Date cannot hold.
  return Number.isNaN(date.getTime()) ? `@${seconds}` : date.toISOString().slice(0, 19).replace('T', ' ');
}
