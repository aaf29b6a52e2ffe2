import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GearError } from '#core/errors.ts';
import type { Layer } from './layer.ts';

/** Lies beside a layer's files while a tar is applied to it. */
const MARK = 'applying';

/**
 * Notes that a tar is being applied to the layer, until `done`. Docker repeats a call whose connection broke with what is left of the body, which
 * may look like an empty layer; so after a crash in the middle the layer takes no tar any more. Throws failed-precondition where that happened.
 */
export function markApplying(layer: Layer): { done(): void } {
  const mark = join(layer.folder, MARK);
  if (existsSync(mark)) {
    throw new GearError(
      'failed-precondition',
      `applying a tar to layer ${layer.id} was interrupted before, so what comes now may be only a part of it; remove the layer and start again`,
    );
  }
  writeFileSync(mark, '');
  // A failure leaves the mark: the layer is not whole.
  return { done: () => rmSync(mark) };
}
