import { ConvertProgress_Phase as Phase, type ConvertProgress as WireProgress } from '#proto/gen/gear/v1/images.ts';
import type { ConvertPhase, ConvertProgress } from './request.ts';

const TO_WIRE: Readonly<Record<ConvertPhase, Phase>> = {
  resolve: Phase.PHASE_RESOLVE,
  fetch: Phase.PHASE_FETCH,
  layers: Phase.PHASE_LAYERS,
  index: Phase.PHASE_INDEX,
  push: Phase.PHASE_PUSH,
  done: Phase.PHASE_DONE,
};
const FROM_WIRE = new Map<Phase, ConvertPhase>(
  Object.entries(TO_WIRE).map(([phase, value]) => [value, phase as ConvertPhase]),
);

/** Progress as a message; without the image, which comes with the last one. */
export function progressToWire(progress: ConvertProgress): WireProgress {
  return {
    phase: TO_WIRE[progress.phase],
    doneBytes: BigInt(progress.doneBytes),
    totalBytes: BigInt(progress.totalBytes),
    layer: progress.layer,
    layers: progress.layers,
    entries: BigInt(progress.entries),
    newObjects: BigInt(progress.newObjects),
    newBytes: BigInt(progress.newBytes),
    image: undefined,
    unchanged: false,
  };
}

/** Progress from a message. A phase that is not known here counts as the first. */
export function progressFromWire(progress: WireProgress): ConvertProgress {
  return {
    phase: FROM_WIRE.get(progress.phase) ?? 'resolve',
    doneBytes: Number(progress.doneBytes),
    totalBytes: Number(progress.totalBytes),
    layer: progress.layer,
    layers: progress.layers,
    entries: Number(progress.entries),
    newObjects: Number(progress.newObjects),
    newBytes: Number(progress.newBytes),
  };
}
