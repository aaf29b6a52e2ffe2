import type { Logger } from '#core/log.ts';
import type { RegistryAccess } from '../registry/access.ts';
import type { Transport } from '../registry/reference.ts';
import type { Slots } from './slots.ts';
import type { ConversionTarget, ImageRecord, Platform } from './target.ts';

export type ConvertPhase = 'resolve' | 'fetch' | 'layers' | 'index' | 'push' | 'done';

/** How far a conversion is. Sizes in bytes; counts are of this conversion so far. */
export interface ConvertProgress {
  readonly phase: ConvertPhase;
  /** Compressed bytes of layers read so far, and in all. */
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** The layer under way, from 1 (0: none yet), and how many there are. */
  readonly layer: number;
  readonly layers: number;
  /** Names read from layers so far. */
  readonly entries: number;
  readonly newObjects: number;
  readonly newBytes: number;
}

/** What to convert. References are in skopeo's words. */
export interface ConversionRequest {
  readonly source: string;
  /** Empty or undefined: derived from the source. */
  readonly destination?: string | undefined;
  /** Undefined: this machine's own. */
  readonly platform?: Platform | undefined;
  /** Converts again even where the target has the source's digest already. */
  readonly force?: boolean | undefined;
  /** The index and the objects only. */
  readonly noPush?: boolean | undefined;
}

/** What a conversion works with. */
export interface ConversionOptions {
  readonly target: ConversionTarget;
  /** A folder on a disk with room for the compressed image; the conversion makes, and removes, a folder of its own in it. */
  readonly scratch: string;
  /** How to reach registries and daemons. */
  readonly access?: RegistryAccess | undefined;
  /** How many conversions work at the same time; undefined: two in this process. One that finds nothing to do does not wait. */
  readonly slots?: Slots | undefined;
  /** Where images may come from and go to; undefined: anywhere. Who converts for others must not let them name files of this machine. */
  readonly transports?: readonly Transport[] | undefined;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Called at every step, often; the receiver limits its rate. */
  readonly onProgress?: ((progress: ConvertProgress) => void) | undefined;
}

export interface ConversionResult {
  readonly image: ImageRecord;
  /** Nothing had to be done. */
  readonly unchanged: boolean;
}
