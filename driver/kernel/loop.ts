import { type FileHandle, open } from 'node:fs/promises';
import { isErrno } from '#core/errors.ts';
import { ioctl } from './ioctl.ts';

/** Of linux/loop.h. LOOP_CONFIGURE does all in one call (kernel 5.8). */
const LOOP_CTL_GET_FREE = 0x4c82;
const LOOP_CONFIGURE = 0x4c0a;
const FLAGS = { readOnly: 1, autoClear: 4 } as const;
/** struct loop_config: u32 fd, u32 block_size, struct loop_info64 (232 bytes), u64 reserved[8]. */
const CONFIG_SIZE = 304;
const FLAGS_OFFSET = 8 + 52;
const FILE_NAME_OFFSET = 8 + 56;
const FILE_NAME_SIZE = 64;
// Between asking for a free device and taking it another process may take it.
const ATTEMPTS = 16;

/**
 * Makes a file a read-only block device. The device goes away by itself when it is neither mounted nor held open; close `handle` once it is
 * mounted. Throws ENOENT where the kernel has no loop devices.
 */
export async function attachLoop(file: string): Promise<{ device: string; handle: FileHandle }> {
  await using image = await open(file, 'r');
  await using control = await open('/dev/loop-control', 'r+');
  const config = Buffer.alloc(CONFIG_SIZE);
  config.writeUInt32LE(image.fd, 0);
  config.writeUInt32LE(FLAGS.readOnly | FLAGS.autoClear, FLAGS_OFFSET);
  // What losetup shows, with a NUL behind.
  config.write(file, FILE_NAME_OFFSET, FILE_NAME_SIZE - 1, 'utf8');
  for (let attempt = 1; ; attempt++) {
    const device = `/dev/loop${ioctl({ path: '/dev/loop-control' }, control.fd, LOOP_CTL_GET_FREE, null)}`;
    const handle = await open(device, 'r');
    try {
      await ioctl.async({ path: device }, handle.fd, LOOP_CONFIGURE, config);
      return { device, handle };
    } catch (error) {
      await handle.close();
      if (!isErrno(error, 'EBUSY') || attempt === ATTEMPTS) throw error;
    }
  }
}
