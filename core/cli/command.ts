import { parseArgs } from 'node:util';
import { GearError, isGearError, messageOf } from '../errors.ts';
import { type ConfigFileFacts, parseConfig, readConfig, type Setting } from './config-file.ts';

/** Exit codes of every command. */
export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const;

interface OptionBase {
  /** One line for `--help`. */
  readonly help: string;
  /** What stands behind the option in `--help`: "HOST:PORT". */
  readonly value?: string;
  readonly short?: string;
}
export interface StringOption extends OptionBase {
  readonly type: 'string';
  readonly default?: string;
}
export interface NumberOption extends OptionBase {
  readonly type: 'number';
  readonly default?: number;
  /** In place of the default's number, where that depends on the machine. */
  readonly defaultText?: string;
  readonly min?: number;
  readonly max?: number;
}
export interface FlagOption extends OptionBase {
  readonly type: 'flag';
}
export interface ListOption extends OptionBase {
  readonly type: 'list';
}
export interface ChoiceOption<C extends string = string> extends OptionBase {
  readonly type: 'choice';
  readonly choices: readonly C[];
  readonly default?: C;
}
export type Option = StringOption | NumberOption | FlagOption | ListOption | ChoiceOption;

type ValueOf<O extends Option> = O extends FlagOption
  ? boolean
  : O extends ListOption
    ? string[]
    : O extends ChoiceOption<infer C>
      ? O extends { default: C }
        ? C
        : C | undefined
      : O extends NumberOption
        ? O extends { default: number }
          ? number
          : number | undefined
        : O extends { default: string }
          ? string
          : string | undefined;
export type Values<T extends Readonly<Record<string, Option>>> = { -readonly [K in keyof T]: ValueOf<T[K]> };

export interface Command<T extends Readonly<Record<string, Option>>> {
  /** As typed after `gear`. */
  readonly name: string;
  /** One line. */
  readonly summary: string;
  /** What stands behind the name in the usage line: "IMAGE [DESTINATION]". */
  readonly operands?: string;
  /** How many operands there may be. */
  readonly operandCount?: readonly [min: number, max: number];
  /** More text for `--help`, after the options. */
  readonly details?: string;
  readonly options: T;
  /** A file that options are also read from. The command then has --config, too. */
  readonly configFile?: ConfigFileFacts;
  /** Gives the exit code. A GearError that it throws is printed as one line. */
  run(values: Values<T>, operands: string[], signal: AbortSignal): Promise<number>;
}

/** Gives the command back; its options' types are inferred on the way. */
export function defineCommand<const T extends Readonly<Record<string, Option>>>(command: Command<T>): Command<T> {
  return command;
}

/** The environment variable that stands for an option: `GEAR_MANAGER` for `--manager`. A list is split at commas. */
export function variableOf(option: string): string {
  return `GEAR_${option.toUpperCase().replaceAll('-', '_')}`;
}

/** What an option is where nobody says anything; '' for nothing. */
export function defaultTextOf(option: Option): string {
  if (option.type === 'number' && option.defaultText !== undefined) return option.defaultText;
  return 'default' in option && option.default !== undefined ? String(option.default) : '';
}

/** What stands behind an option's name: "HOST:PORT", "on|off"; '' for a flag. */
export function valueTextOf(option: Option): string {
  if (option.type === 'flag') return '';
  return option.value ?? (option.type === 'choice' ? option.choices.join('|') : 'VALUE');
}

/** The text of `--help`. */
export function helpText(command: Command<Readonly<Record<string, Option>>>): string {
  const rows = Object.entries(command.options).map(([name, option]) => {
    const value = valueTextOf(option);
    const short = option.short === undefined ? '    ' : `-${option.short}, `;
    const fallback = defaultTextOf(option);
    return [
      `  ${short}--${name}${value === '' ? '' : ` ${value}`}`,
      `${option.help}${fallback === '' ? '' : ` (default: ${fallback})`}`,
    ] as const;
  });
  const { configFile } = command;
  if (configFile !== undefined) {
    rows.push([
      '      --config FILE',
      `Read options from this file, too (default: ${configFile.path} where it exists)`,
    ]);
  }
  rows.push(['  -h, --help', 'Show this text']);
  const width = Math.min(34, Math.max(...rows.map(([left]) => left.length)) + 2);
  const lines = rows.map(([left, right]) =>
    left.length + 2 > width ? `${left}\n${' '.repeat(width)}${right}` : left.padEnd(width) + right,
  );
  const operands = command.operands === undefined ? '' : ` ${command.operands}`;
  const details = command.details === undefined ? '' : `\n${command.details.trim()}\n`;
  const file = configFile === undefined ? '' : ', and that over the file';
  return `Usage: gear ${command.name} [options]${operands}\n\n${command.summary}\n\nOptions:\n${lines.join('\n')}\n${details}
Each option can also be given as an environment variable, e.g. ${variableOf('log-level')} for --log-level; the command line wins over it${file}.\n`;
}

function convert(name: string, option: Option, raw: string): string | number {
  if (option.type === 'choice' && !option.choices.includes(raw)) {
    throw new GearError(
      'invalid-argument',
      `--${name} takes one of ${option.choices.join(', ')}, not ${JSON.stringify(raw)}`,
    );
  }
  if (option.type !== 'number') return raw;
  const number = raw.trim() === '' ? Number.NaN : Number(raw);
  const { min = 0, max = Number.MAX_SAFE_INTEGER } = option;
  if (!Number.isFinite(number) || number < min || number > max) {
    throw new GearError(
      'invalid-argument',
      `--${name} takes a number from ${min} to ${max}, not ${JSON.stringify(raw)}`,
    );
  }
  return number;
}

const ON = /^(1|true|yes|on)$/i;
const OFF = /^(0|false|no|off)$/i;

/** Where options come from, the strongest first. */
interface Sources {
  readonly commandLine: ReturnType<typeof parseArgs>['values'];
  readonly environment: NodeJS.ProcessEnv;
  readonly file: ReadonlyMap<string, readonly Setting[]>;
}

function resolveValue(name: string, option: Option, { commandLine, environment, file }: Sources): unknown {
  const given = commandLine[name];
  const variable = environment[variableOf(name)];
  const lines = file.get(name);
  if (option.type === 'flag') {
    if (given === true) return true;
    if (variable !== undefined) return ON.test(variable);
    const word = lines?.[0]?.value ?? 'off';
    if (ON.test(word) || OFF.test(word)) return ON.test(word);
    throw new GearError('invalid-argument', `--${name} is on or off, not ${JSON.stringify(word)}`);
  }
  if (option.type === 'list') {
    const items = variable?.split(',') ?? lines?.map(({ value }) => value) ?? [];
    return (given as string[] | undefined) ?? items.filter((item) => item !== '');
  }
  const raw = (given as string | undefined) ?? variable ?? lines?.[0]?.value;
  return raw === undefined ? option.default : convert(name, option, raw);
}

/** Where an option that is not on the command line was said: a variable, or a line of the file. */
function originOf(name: string, { commandLine, environment, file }: Sources): string | undefined {
  if (commandLine[name] !== undefined) return undefined;
  const variable = variableOf(name);
  return environment[variable] === undefined ? file.get(name)?.[0]?.origin : variable;
}

/** An error about options, with where those that it names were said. */
function withOrigins(error: unknown, sources: Sources): unknown {
  if (!isGearError(error, 'invalid-argument')) return error;
  const named = new Set([...error.message.matchAll(/--([a-z][a-z0-9-]*)/g)].map((match) => match[1] as string));
  const origins = [...named].flatMap((name) => originOf(name, sources) ?? []);
  return origins.length === 0
    ? error
    : new GearError('invalid-argument', `${origins.join(', ')}: ${error.message}`, { cause: error });
}

export interface Parsed<V> {
  readonly values: V;
  readonly operands: string[];
  /** Gives an error about options of this command line with where they were said. */
  readonly explain: (error: unknown) => unknown;
}

/**
 * Reads a command line: options, then variables of the environment, then the configuration file, then defaults. Throws invalid-argument; gives "help"
 * when asked for help.
 */
export function parseCommand<const T extends Readonly<Record<string, Option>>>(
  command: Command<T>,
  argv: readonly string[],
  environment: NodeJS.ProcessEnv,
): Parsed<Values<T>> | 'help' {
  const { configFile } = command;
  const options: Record<string, { type: 'string' | 'boolean'; short?: string; multiple?: boolean }> = {
    help: { type: 'boolean', short: 'h' },
    ...(configFile === undefined ? {} : { config: { type: 'string' } }),
  };
  for (const [name, option] of Object.entries(command.options)) {
    options[name] = {
      type: option.type === 'flag' ? 'boolean' : 'string',
      multiple: option.type === 'list',
      ...(option.short === undefined ? {} : { short: option.short }),
    };
  }
  let parsed: ReturnType<typeof parseArgs>;
  try {
    parsed = parseArgs({ args: [...argv], options, allowPositionals: true, strict: true });
  } catch (error) {
    throw new GearError('invalid-argument', messageOf(error), { cause: error });
  }
  if (parsed.values['help'] === true) return 'help';
  const [min, max] = command.operandCount ?? [0, 0];
  if (parsed.positionals.length < min || parsed.positionals.length > max) {
    throw new GearError('invalid-argument', `gear ${command.name} takes ${command.operands ?? 'no operands'}`);
  }
  const named = (parsed.values['config'] as string | undefined) ?? environment[variableOf('config')];
  const sources: Sources = { commandLine: parsed.values, environment, file: settingsOf(command, named) };
  const explain = (error: unknown) => withOrigins(error, sources);
  const values: Record<string, unknown> = {};
  try {
    for (const [name, option] of Object.entries(command.options)) values[name] = resolveValue(name, option, sources);
  } catch (error) {
    throw explain(error);
  }
  return { values: values as Values<T>, operands: parsed.positionals, explain };
}

/** What the command's configuration file says. `named`: a file in place of the usual one; '' for none. */
function settingsOf(
  { configFile, options }: Command<Readonly<Record<string, Option>>>,
  named: string | undefined,
): ReadonlyMap<string, readonly Setting[]> {
  if (configFile === undefined || named === '') return new Map();
  const path = named ?? configFile.path;
  const repeats = (name: string) => (Object.hasOwn(options, name) ? options[name]?.type === 'list' : undefined);
  return parseConfig(readConfig(path, named !== undefined), path, { repeats, others: configFile.others });
}

/**
 * Runs a command as the process's main: parses, aborts `signal` on SIGINT and SIGTERM, prints an error as one line and sets the
 * exit code. A second signal ends the process at once.
 */
export async function main<const T extends Readonly<Record<string, Option>>>(
  command: Command<T>,
  argv: readonly string[] = process.argv.slice(2),
): Promise<void> {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort(new GearError('cancelled', `stopped by ${name}`));
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  // Whoever reads the output has seen enough ("gear inspect --files | head").
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(process.exitCode ?? EXIT.ok);
    throw error;
  });
  let explain = (error: unknown) => error;
  try {
    const parsed = parseCommand(command, argv, process.env);
    if (parsed === 'help') process.stdout.write(helpText(command));
    else {
      explain = parsed.explain;
      process.exitCode = await command.run(parsed.values, parsed.operands, controller.signal);
    }
  } catch (thrown) {
    const error = explain(thrown);
    process.exitCode = controller.signal.aborted
      ? EXIT.interrupted
      : isGearError(error, 'invalid-argument')
        ? EXIT.usage
        : EXIT.failed;
    process.stderr.write(
      `gear ${command.name}: ${isGearError(error) ? error.message : ((error as Error).stack ?? String(error))}\n`,
    );
    if (process.exitCode === EXIT.usage) process.stderr.write(`Try: gear ${command.name} --help\n`);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
