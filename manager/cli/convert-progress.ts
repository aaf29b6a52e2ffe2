import type { ConvertPhase, ConvertProgress } from '../converter/request.ts';
import { amountLine } from './progress-view.ts';

const PHASES: Readonly<Record<ConvertPhase, string>> = {
  resolve: 'looking up the image',
  fetch: 'fetching',
  layers: 'converting',
  index: 'writing the index',
  push: 'writing the Gear image',
  done: 'done',
};

/** One line: what a conversion is doing, and how far it is. */
export function convertLine(progress: ConvertProgress, bar: boolean): string {
  const { phase, doneBytes, totalBytes, layer, layers, newObjects } = progress;
  const words = PHASES[phase];
  if ((phase !== 'fetch' && phase !== 'layers') || totalBytes === 0) return words;
  const amount = `${words}  ${amountLine(doneBytes, totalBytes, bar)}`;
  return phase === 'fetch' ? amount : `${amount}  layer ${layer} of ${layers}  ${newObjects} new objects`;
}
