import koffi from 'koffi';

// The only import of the foreign function library, so that another could take its place.
export type { TypeObject as ForeignType } from 'koffi';
export { koffi };
export type TypeSpec = Parameters<typeof koffi.sizeof>[0];
