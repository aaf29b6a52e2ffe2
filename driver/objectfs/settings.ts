import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { ObjectFilesystemSettings } from './interface.ts';

export type Settings = Required<ObjectFilesystemSettings>;

const LEARNING = { prefetch: true, fill: 'eager', audit: 16, recordLongest: 600_000, recordIdle: 30_000 } as const;
const DEFAULTS = { access: {}, deadline: 60_000, cacheSize: 0, fetch: 'auto', logLevel: 'info', ...LEARNING } as const;

/** Fills in what is not said. */
export function completeSettings(settings: ObjectFilesystemSettings): Settings {
  return { ...DEFAULTS, ...definedOnly(settings) } as Settings;
}

/** The settings with some of them changed. */
export function changeSettings(settings: Settings, change: Partial<ObjectFilesystemSettings>): Settings {
  return { ...settings, ...definedOnly(change) };
}

/** Settings outlive the process that serves: the next one reads them from the file. */
export function readSettings(file: string): Settings {
  return completeSettings(JSON.parse(readFileSync(file, 'utf8')) as ObjectFilesystemSettings);
}

export function writeSettings(file: string, settings: Settings): void {
  writeFileSync(`${file}.new`, JSON.stringify(settings), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

function definedOnly<T extends object>(value: T): Partial<T> {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== undefined)) as Partial<T>;
}
