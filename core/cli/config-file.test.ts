import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { GearError } from '../errors.ts';
import { defineCommand, helpText, parseCommand } from './command.ts';

const OPTIONS = {
  place: { type: 'string', value: 'FOLDER', default: '/somewhere', help: 'Where' },
  often: { type: 'number', min: 1, max: 9, default: 3, help: 'How often' },
  mode: { type: 'choice', choices: ['slow', 'quick'], default: 'slow', help: 'How' },
  host: { type: 'list', help: 'Whom' },
  loud: { type: 'flag', help: 'Whether' },
} as const;

/** A configuration file with this content. */
async function file(text: string): Promise<string> {
  const folder = await mkdtemp('/tmp/gear-');
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(folder, 'x.conf');
  await writeFile(path, text);
  return path;
}

function parse(
  path: string,
  args: string[],
  environment: NodeJS.ProcessEnv,
  others: 'refused' | 'ignored' = 'refused',
) {
  const command = defineCommand({
    name: 'x',
    summary: '',
    options: OPTIONS,
    configFile: { path, others },
    run: async () => 0,
  });
  const parsed = parseCommand(command, args, environment);
  if (parsed === 'help') throw new Error('help was not asked for');
  return parsed;
}

describe('a configuration file', () => {
  test('gives options of every kind', async () => {
    const path = await file(
      '# a comment\n\nplace = /a b # c\noften=5\r\n mode = quick \nhost = a\nhost = b,c\nloud = on\n',
    );
    expect(parse(path, [], {}).values).toEqual({
      place: '/a b # c',
      often: 5,
      mode: 'quick',
      host: ['a', 'b,c'],
      loud: true,
    });
  });

  test('stands behind the environment, which stands behind the command line', async () => {
    const path = await file('place = file\noften = 7\nmode = quick\nhost = file\nloud = on\n');
    const environment = { GEAR_PLACE: 'variable', GEAR_OFTEN: '8', GEAR_HOST: 'v,w', GEAR_LOUD: 'off' };
    expect(parse(path, ['--place', 'line', '--host', 'line'], environment).values).toEqual({
      place: 'line',
      often: 8,
      mode: 'quick',
      host: ['line'],
      loud: false,
    });
    expect(parse(path, ['--loud'], environment).values).toMatchObject({ loud: true, host: ['v', 'w'] });
  });

  test('can be another one, or none', async () => {
    const usual = await file('place = usual\n');
    const other = await file('place = other\n');
    expect(parse(usual, ['--config', other], {}).values.place).toBe('other');
    expect(parse(usual, [], { GEAR_CONFIG: other }).values.place).toBe('other');
    expect(parse(usual, ['--config', usual], { GEAR_CONFIG: other }).values.place).toBe('usual');
    expect(parse(usual, ['--config', ''], {}).values.place).toBe('/somewhere');
    expect(parse(usual, [], { GEAR_CONFIG: '' }).values.place).toBe('/somewhere');
  });

  test('may be missing where it was not named', async () => {
    const missing = `${await file('')}.not`;
    expect(parse(missing, [], {}).values.place).toBe('/somewhere');
    expect(() => parse(missing, ['--config', missing], {})).toThrow(`cannot read the configuration file ${missing}`);
  });

  test.each([
    ['often = 10', ':1: --often takes a number from 1 to 9, not "10"'],
    ['\nmode = fast', ':2: --mode takes one of slow, quick, not "fast"'],
    ['loud = perhaps', ':1: --loud is on or off, not "perhaps"'],
    ['loud = on\n# x\nplaces = /a', ':3: unknown option "places"'],
    ['toString = /a', ':1: unknown option "toString"'],
    ['config = /a', ':1: unknown option "config"'],
    ['place = a\nplace = b', ':2: place is said already at '],
    ['place', ':1: expected "option = value" or a comment, not "place"'],
    ['= a', ':1: expected'],
  ])('%j is refused by file and line', async (text, message) => {
    const path = await file(text);
    expect(() => parse(path, [], {})).toThrow(`${path}${message}`);
  });

  test('names file and line, or the variable, of a value that is refused later', async () => {
    const path = await file('\nplace = relative\nmode = quick');
    const { explain } = parse(path, ['--mode', 'slow'], { GEAR_OFTEN: '1' });
    const other = new Error('--place, too');
    expect(explain(other)).toBe(other);
    const refused = (message: string) => (explain(new GearError('invalid-argument', message)) as Error).message;
    expect(refused('--place takes an absolute path')).toBe(`${path}:2: --place takes an absolute path`);
    expect(refused('--place and --often exclude each other')).toBe(
      `${path}:2, GEAR_OFTEN: --place and --often exclude each other`,
    );
    expect(refused('--mode is wrong')).toBe('--mode is wrong');
  });

  test("may be another command's, whose own options are passed over", async () => {
    const path = await file('strange = 1\nplace = /a\nstrange = 2\n');
    expect(parse(path, [], {}, 'ignored').values.place).toBe('/a');
  });

  test('is told of by --help', async () => {
    const options = { often: { ...OPTIONS.often, defaultText: 'as the machine has' } };
    const command = { name: 'x', summary: '', options, run: async () => 0 } as const;
    expect(helpText(command)).not.toContain('--config');
    const text = helpText({ ...command, configFile: { path: '/etc/gear/x.conf', others: 'refused' } });
    expect(text).toMatch(/--config FILE +.*\(default: \/etc\/gear\/x.conf where it exists\)/);
    expect(text).toContain('How often (default: as the machine has)');
  });
});
