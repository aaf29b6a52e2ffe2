import { ioctl } from './ioctl.ts';

/** FUSE_DEV_IOC_BACKING_OPEN and _CLOSE of linux/fuse.h: _IOW(229, 1, struct fuse_backing_map) and _IOW(229, 2, uint32_t). */
const FUSE_DEV_IOC_BACKING_OPEN = 0x4010e501;
const FUSE_DEV_IOC_BACKING_CLOSE = 0x4004e502;

/**
 * Tells the kernel that reads of a FUSE file may go straight to the open file `fd` (passthrough, kernel 6.9). `fuseFd` is the open
 * /dev/fuse of the mount. Gives the backing id for the reply to OPEN; `fd` may be closed afterwards. Throws EPERM where the mount was not
 * initialised with passthrough, ELOOP where `fd` lies on a stacked filesystem, EOPNOTSUPP or ENOTTY where the kernel has none.
 */
export function backingOpen(fuseFd: number, fd: number): number {
  // struct fuse_backing_map: int32 fd, uint32 flags, uint64 padding.
  const map = Buffer.alloc(16);
  map.writeInt32LE(fd, 0);
  return ioctl({}, fuseFd, FUSE_DEV_IOC_BACKING_OPEN, map);
}

/** Gives a backing id back; files that were opened with it stay open. */
export function backingClose(fuseFd: number, id: number): void {
  const word = Buffer.alloc(4);
  word.writeUInt32LE(id, 0);
  ioctl({}, fuseFd, FUSE_DEV_IOC_BACKING_CLOSE, word);
}
