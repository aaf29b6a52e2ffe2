import { isGearError } from '#core/errors.ts';

/** When what failed is tried again. Milliseconds. */
export interface RetryPolicy {
  readonly first: number;
  readonly most: number;
}

const USUAL: RetryPolicy = { first: 5_000, most: 30 * 60_000 };
/** From then on only a new version of the image, or somebody who asks for it, is a reason to try again. */
const MAX_ATTEMPTS = 50;

/** Whether trying again the same image cannot help. */
export function isPermanent(error: unknown): boolean {
  return isGearError(error, 'unsupported', 'invalid-argument', 'out-of-range');
}

/** The wait before the attempt that follows `attempts` failed ones: twice as long each time, and a little random so that not all come at once. Undefined: none. */
export function retryDelay(
  attempts: number,
  { first, most }: RetryPolicy = USUAL,
  random = Math.random(),
): number | undefined {
  if (attempts >= MAX_ATTEMPTS) return undefined;
  return Math.round(Math.min(most, first * 2 ** (attempts - 1)) * (0.8 + 0.4 * random));
}
