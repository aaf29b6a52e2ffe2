/** "missing": Gear does not work without it; "warning": it works worse; "unknown": it could not be looked at, `found` says why. */
export type CheckState = 'ok' | 'warning' | 'missing' | 'unknown';

/** One thing that was looked at. */
export interface Check {
  /** For programs: "kernel.overlay". */
  readonly id: string;
  /** For people. */
  readonly title: string;
  readonly state: CheckState;
  /** What was found. */
  readonly found: string;
  /** Unless it is ok: what that costs, and how to get it. */
  readonly cost?: string;
  readonly remedy?: string;
}

type Advice = Required<Pick<Check, 'cost' | 'remedy'>>;

/** A check with advice that only matters when it is not ok. */
export function check(id: string, title: string, state: CheckState, found: string, advice?: Advice): Check {
  return state === 'ok' || advice === undefined ? { id, title, state, found } : { id, title, state, found, ...advice };
}

/** Whether all that is needed is there. */
export function isFine(checks: readonly Check[]): boolean {
  return checks.every(({ state }) => state !== 'missing');
}
