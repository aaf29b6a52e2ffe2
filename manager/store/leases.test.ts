import { describe, expect, it } from 'vitest';
import { Leases } from './leases.ts';

const MINUTE = 60_000;
const T = 1_800_000_000_000;

describe('Leases', () => {
  it('keeps what was used since now only, when nobody relies on anything', () => {
    const keeps = new Leases(10 * MINUTE, 0, T - 100 * MINUTE).snapshot(T);
    expect([keeps(T - 1), keeps(T), keeps(T + 5)]).toEqual([false, true, true]);
  });

  it('keeps what was used since the oldest open lease began', async () => {
    const leases = new Leases(10 * MINUTE, 0, Date.now() - 100 * MINUTE);
    const first = leases.open();
    await new Promise((resolve) => setTimeout(resolve, 5));
    const second = leases.open();
    expect(second.since).toBeGreaterThan(first.since);
    expect(leases.snapshot()(first.since)).toBe(true);
    first[Symbol.dispose]();
    expect(leases.snapshot()(first.since)).toBe(false);
    expect(leases.snapshot()(second.since)).toBe(true);
    second[Symbol.dispose]();
    expect(leases.snapshot(second.since + 1)(second.since)).toBe(false);
  });

  it('honours a claim for the grace period, and no longer', () => {
    const leases = new Leases(10 * MINUTE, 0, T - 100 * MINUTE);
    const since = leases.claim(T);
    expect(since).toBe(T - 2000);
    const later = T + 5 * MINUTE;
    expect(leases.snapshot(later)(T + 10)).toBe(true);
    expect(leases.snapshot(later)(T - 2010)).toBe(false);
    // What came long after the claim was not claimed.
    expect(leases.snapshot(later)(T + 2 * MINUTE)).toBe(false);
    expect(leases.snapshot(T + 12 * MINUTE)(T + 10)).toBe(false);
  });

  it('makes one claim of many calls', () => {
    const leases = new Leases(10 * MINUTE, 0, T - 100 * MINUTE);
    expect(leases.claim(T)).toBe(T - 2000);
    expect(leases.claim(T + 30_000)).toBe(T - 2000);
    expect(leases.claim(T + 61_000)).toBe(T + 59_000);
  });

  it('honours the claims of before a restart', () => {
    const leases = new Leases(10 * MINUTE, 0, T);
    expect(leases.snapshot(T + MINUTE)(T - 9 * MINUTE)).toBe(true);
    expect(leases.snapshot(T + MINUTE)(T - 11 * MINUTE)).toBe(false);
    expect(leases.snapshot(T + 11 * MINUTE)(T - MINUTE)).toBe(false);
  });

  it('allows for a filesystem that rounds times down', () => {
    const leases = new Leases(10 * MINUTE, 2000, T - 100 * MINUTE);
    expect(leases.snapshot(T)(T - 1999)).toBe(true);
    expect(leases.snapshot(T)(T - 2001)).toBe(false);
  });
});
