import type { ImageReference } from '../registry/reference.ts';
import type { SkopeoOptions } from '../registry/skopeo.ts';
import type { Progress } from './progress.ts';
import type { ConversionOptions, ConversionRequest } from './request.ts';
import type { Scratch } from './scratch.ts';

/** Everything that the steps of one conversion share. */
export interface Job {
  readonly request: ConversionRequest;
  readonly options: ConversionOptions;
  readonly source: ImageReference;
  /** Undefined: the Gear image goes nowhere. */
  readonly destination: ImageReference | undefined;
  readonly scratch: Scratch;
  readonly skopeo: SkopeoOptions;
  readonly progress: Progress;
}
