import { systemCall } from './syscall.ts';

/** ioctl(2) with a pointer: a Buffer that is read and written in place, or null. */
export const ioctl = systemCall('ioctl', ['int', 'ulong', 'void *']);
