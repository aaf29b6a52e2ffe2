import koffi from 'koffi';

// The tests read xattrs by their own few lines, not by the code that they judge.
const libc = koffi.load('libc.so.6');
const llistxattr = libc.func('intptr_t llistxattr(const uint8_t *path, _Out_ uint8_t *list, size_t size)');
const lgetxattr = libc.func(
  'intptr_t lgetxattr(const uint8_t *path, const uint8_t *name, _Out_ uint8_t *value, size_t size)',
);

// The kernel gives at most 64 KiB of names, and of a value.
const LIMIT = 65_536;
const scratch = Buffer.alloc(LIMIT);

const terminated = (text: Buffer): Buffer => Buffer.concat([text, Buffer.from([0])]);

function checked(result: number | bigint, what: string): number {
  const length = Number(result);
  if (length >= 0) return length;
  const errno = koffi.errno();
  if (errno === koffi.os.errno['EOPNOTSUPP'] || errno === koffi.os.errno['ENODATA']) return 0;
  throw new Error(`${what}: errno ${errno}`);
}

/** The xattrs of `path` (a symlink's own), name (latin1 of its bytes) -> value in hexadecimal, in order of the names. */
export function xattrsOf(path: Buffer): Record<string, string> {
  const file = terminated(path);
  const length = checked(llistxattr(file, scratch, LIMIT), `llistxattr ${path}`);
  const names = scratch.toString('latin1', 0, length).split('\0').filter(Boolean).sort();
  return Object.fromEntries(
    names.map((name) => {
      const size = checked(
        lgetxattr(file, terminated(Buffer.from(name, 'latin1')), scratch, LIMIT),
        `lgetxattr ${path}`,
      );
      return [name, scratch.toString('hex', 0, size)];
    }),
  );
}
