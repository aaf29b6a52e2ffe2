import { parseArgs } from 'node:util';
import { GearError, isGearError, messageOf } from '../errors.ts';

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

/** The text of `--help`. */
export function helpText(command: Command<Readonly<Record<string, Option>>>): string {
  const rows = Object.entries(command.options).map(([name, option]) => {
    const value =
      option.type === 'flag'
        ? ''
        : ` ${option.value ?? (option.type === 'choice' ? option.choices.join('|') : 'VALUE')}`;
    const short = option.short === undefined ? '    ' : `-${option.short}, `;
    const fallback =
      'default' in option && option.default !== undefined && option.default !== ''
        ? ` (default: ${option.default})`
        : '';
    return [`  ${short}--${name}${value}`, `${option.help}${fallback}`] as const;
  });
  rows.push(['  -h, --help', 'Show this text']);
  const width = Math.min(34, Math.max(...rows.map(([left]) => left.length)) + 2);
  const lines = rows.map(([left, right]) =>
    left.length + 2 > width ? `${left}\n${' '.repeat(width)}${right}` : left.padEnd(width) + right,
  );
  const operands = command.operands === undefined ? '' : ` ${command.operands}`;
  const details = command.details === undefined ? '' : `\n${command.details.trim()}\n`;
  return `Usage: gear ${command.name} [options]${operands}\n\n${command.summary}\n\nOptions:\n${lines.join('\n')}\n${details}
Each option can also be given as an environment variable, e.g. ${variableOf('log-level')} for --log-level; the command line wins.\n`;
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

function resolveValue(name: string, option: Option, given: unknown, environment: string | undefined): unknown {
  if (option.type === 'flag')
    return given === true || (given === undefined && /^(1|true|yes|on)$/i.test(environment ?? ''));
  if (option.type === 'list')
    return (given as string[] | undefined) ?? environment?.split(',').filter((item) => item !== '') ?? [];
  const raw = (given as string | undefined) ?? environment;
  return raw === undefined ? option.default : convert(name, option, raw);
}

/** Reads a command line: options, then variables of the environment, then defaults. Throws invalid-argument; gives "help" when asked for help. */
export function parseCommand<const T extends Readonly<Record<string, Option>>>(
  command: Command<T>,
  argv: readonly string[],
  environment: NodeJS.ProcessEnv,
): { values: Values<T>; operands: string[] } | 'help' {
  const options: Record<string, { type: 'string' | 'boolean'; short?: string; multiple?: boolean }> = {
    help: { type: 'boolean', short: 'h' },
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
  const values: Record<string, unknown> = {};
  for (const [name, option] of Object.entries(command.options)) {
    values[name] = resolveValue(name, option, parsed.values[name], environment[variableOf(name)]);
  }
  const [min, max] = command.operandCount ?? [0, 0];
  if (parsed.positionals.length < min || parsed.positionals.length > max) {
    throw new GearError('invalid-argument', `gear ${command.name} takes ${command.operands ?? 'no operands'}`);
  }
  return { values: values as Values<T>, operands: parsed.positionals };
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
  try {
    const parsed = parseCommand(command, argv, process.env);
    if (parsed === 'help') process.stdout.write(helpText(command));
    else process.exitCode = await command.run(parsed.values, parsed.operands, controller.signal);
  } catch (error) {
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
