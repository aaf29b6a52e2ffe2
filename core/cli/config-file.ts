import { readFileSync } from 'node:fs';
import { GearError, isErrno, messageOf } from '../errors.ts';

/** What one line of a configuration file says. */
export interface Setting {
  readonly value: string;
  /** "/etc/gear/driver.conf:12". */
  readonly origin: string;
}

export interface ConfigFileFacts {
  /** Read where no other file is named; it need not exist. */
  readonly path: string;
  /** What becomes of options that the command does not have. A command that reads another's file ignores them. */
  readonly others: 'refused' | 'ignored';
}

export interface ParseConfigOptions {
  /** Gives whether the option may be said on several lines; undefined: there is no such option. */
  readonly repeats: (option: string) => boolean | undefined;
  readonly others: ConfigFileFacts['others'];
}

/**
 * Reads lines "option = value". A line that begins with "#" is a comment; nothing else is, so that values may have any character. Throws
 * invalid-argument naming file and line.
 */
export function parseConfig(
  text: string,
  path: string,
  { repeats, others }: ParseConfigOptions,
): Map<string, Setting[]> {
  const settings = new Map<string, Setting[]>();
  for (const [at, raw] of text.split(/\r?\n/).entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const origin = `${path}:${at + 1}`;
    const refuse = (reason: string) => new GearError('invalid-argument', `${origin}: ${reason}`);
    const [, option, value] = /^([^\s=]+)\s*=\s*(.*)$/.exec(line) ?? [];
    if (option === undefined || value === undefined) {
      throw refuse(`expected "option = value" or a comment, not ${JSON.stringify(line)}`);
    }
    const isList = repeats(option);
    if (isList === undefined) {
      if (others === 'ignored') continue;
      throw refuse(`unknown option ${JSON.stringify(option)}`);
    }
    const earlier = settings.get(option);
    if (earlier === undefined) settings.set(option, [{ value, origin }]);
    else if (isList) earlier.push({ value, origin });
    else throw refuse(`${option} is said already at ${earlier[0]?.origin}`);
  }
  return settings;
}

/** The content of a configuration file. A file that was named has to be there; the usual one (`named` false) may be missing. */
export function readConfig(path: string, named: boolean): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (!named && isErrno(error, 'ENOENT', 'ENOTDIR')) return '';
    throw new GearError('invalid-argument', `cannot read the configuration file ${path}: ${messageOf(error)}`, {
      cause: error,
    });
  }
}
