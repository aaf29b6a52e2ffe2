import { closeSync, openSync, readSync } from 'node:fs';
import { constants } from 'node:os';
import { isErrno } from '#core/errors.ts';
import { cString, type Path, rawSystemCall } from './syscall.ts';

// The calls that mount in steps (kernel 5.2): one number on every architecture (asm-generic/unistd.h).
const moveMount = rawSystemCall('move_mount', { x64: 429, arm64: 429 }, [
  'int',
  'const void *',
  'int',
  'const void *',
  'uint',
]);
const fsopen = rawSystemCall('fsopen', { x64: 430, arm64: 430 }, ['const void *', 'uint']);
const fsconfig = rawSystemCall('fsconfig', { x64: 431, arm64: 431 }, [
  'int',
  'uint',
  'const void *',
  'const void *',
  'int',
]);
const fsmount = rawSystemCall('fsmount', { x64: 432, arm64: 432 }, ['int', 'uint', 'uint']);

/** FSCONFIG_* of linux/mount.h. */
const COMMAND = { flag: 0, string: 1, fd: 5, create: 6 } as const;
const CLOEXEC = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const AT_FDCWD = -100;
const O_PATH = 0o10000000;
/** fsconfig(2) copies a string of up to 256 bytes with its NUL (fs/fsopen.c). */
const VALUE_MAX = 255;
const EMPTY = cString('');

/** MOUNT_ATTR_* of linux/mount.h. */
export const MOUNT_ATTRIBUTE = { readOnly: 1, noSuid: 2, noDev: 4, noExec: 8 } as const;

/**
 * A filesystem being configured by fsopen(2) and fsconfig(2), then mounted by fsmount(2) and move_mount(2). Dispose it in any case. What
 * the kernel says about a mistake is in `messages()`.
 */
export class FilesystemContext implements Disposable {
  readonly type: string;
  readonly #fd: number;
  // Descriptors that the kernel finds by path while the filesystem is created.
  readonly #held: number[] = [];

  /** Throws ENOSYS where the kernel has no such calls, ENODEV where it has no such filesystem. */
  constructor(type: string) {
    this.type = type;
    this.#fd = fsopen({ path: type }, cString(type), CLOEXEC);
  }

  /** An option without a value. */
  setFlag(key: string): void {
    fsconfig({ path: key }, this.#fd, COMMAND.flag, cString(key), null, 0);
  }

  /** An option with a value: at most 255 bytes, taken as it is (no escapes). */
  setString(key: string, value: Path): void {
    fsconfig({ path: `${key}=${value.toString()}` }, this.#fd, COMMAND.string, cString(key), cString(value), 0);
  }

  /**
   * An option that names an existing folder, however long its path is. A path that is too long for a string goes as a descriptor (kernel 6.13),
   * or else through /proc/self/fd, which is then what mountinfo shows. `text`: the path as the filesystem wants to read it, where that differs.
   */
  setPath(key: string, path: string, text: string = path): void {
    if (Buffer.byteLength(text) <= VALUE_MAX) {
      this.setString(key, text);
      return;
    }
    const fd = openSync(path, O_PATH);
    this.#held.push(fd);
    try {
      fsconfig({ path: `${key}=${path}` }, this.#fd, COMMAND.fd, cString(key), null, fd);
    } catch (error) {
      if (!isErrno(error, 'EINVAL')) throw error;
      this.setString(key, `/proc/self/fd/${fd}`);
    }
  }

  /** Makes the filesystem and puts it at `target`. `attributes`: MOUNT_ATTRIBUTE. May wait for whatever serves what is below. */
  async mount(target: Path, attributes = 0): Promise<void> {
    await fsconfig.async({ dest: target }, this.#fd, COMMAND.create, null, null, 0);
    const mountFd = await fsmount.async({ dest: target }, this.#fd, CLOEXEC, attributes);
    try {
      const place = cString(target, 'move_mount');
      await moveMount.async({ dest: target }, mountFd, EMPTY, AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH);
    } finally {
      closeSync(mountFd);
    }
  }

  /** What the kernel noted since the last call: "overlay: No changes allowed in reconfigure". Many filesystems only write to the kernel's log. */
  messages(): string[] {
    const messages: string[] = [];
    const buffer = Buffer.allocUnsafe(1024);
    try {
      for (;;) {
        const size = readSync(this.#fd, buffer);
        if (size === 0) break;
        // "e", "w" or "i", a space, the text.
        messages.push(buffer.toString('utf8', 2, size).trim());
      }
    } catch (error) {
      // ENODATA: no more. Whatever else goes wrong here must not hide the error that is being explained.
      if ((error as NodeJS.ErrnoException).errno !== -constants.errno.ENODATA) messages.push(String(error));
    }
    return messages;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#held.splice(0)) closeSync(fd);
    closeSync(this.#fd);
  }
}
