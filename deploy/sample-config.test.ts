import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Option, parseCommand } from '#core/cli/command.ts';
import { parseConfig } from '#core/cli/config-file.ts';
import { DRIVER_OPTIONS, driverConfig } from '../driver/config.ts';
import { MANAGER_OPTIONS, managerConfig } from '../manager/config.ts';
import { sampleConfig } from './sample-config.ts';
import { projectRoot } from './sandbox/gear.ts';

const COMMANDS = [
  ['manager', MANAGER_OPTIONS],
  ['driver', DRIVER_OPTIONS],
] as const;

/** The file with every line that is an option taken in. */
function uncommented(text: string): string {
  return text.replaceAll(/^#(?=[a-z])/gm, '');
}

describe.each(COMMANDS)('deploy/%s.conf', (name, options: Readonly<Record<string, Option>>) => {
  const path = join(projectRoot, 'deploy', `${name}.conf`);

  // Where this fails because an option was added or changed: npx vitest run --project unit deploy/sample-config -u
  test('is what the table of options says', async () => {
    await expect(sampleConfig(name, options)).toMatchFileSnapshot(path);
  });

  test('says nothing as it is, and names every option once', async () => {
    const text = await readFile(path, 'utf8');
    const rules = { repeats: (option: string) => (option in options ? false : undefined), others: 'refused' } as const;
    expect(parseConfig(text, path, rules).size).toBe(0);
    expect([...parseConfig(uncommented(text), path, rules).keys()].sort()).toEqual(Object.keys(options).sort());
  });

  test('has the defaults, which are accepted as they stand there', async () => {
    const lines = parseConfig(uncommented(await readFile(path, 'utf8')), path, {
      repeats: () => false,
      others: 'refused',
    });
    const defaults = parseCommand({ name, summary: '', options, run: async () => 0 }, [], {});
    if (defaults === 'help') throw new Error('help was not asked for');
    const args = Object.entries(options).flatMap(([option, facts]) => {
      const fallback = 'default' in facts && !('defaultText' in facts) ? facts.default : undefined;
      return fallback === undefined || fallback === '' ? [] : [`--${option}=${lines.get(option)?.[0]?.value}`];
    });
    const given = parseCommand({ name, summary: '', options, run: async () => 0 }, args, {});
    expect(given).toMatchObject({ values: defaults.values });
    expect(args.length).toBeGreaterThan(5);
  });
});

test.each(COMMANDS)('the guide has a theme for every option of %s', async (_, options) => {
  const guide = await readFile(join(projectRoot, 'deploy/GUIDE.md'), 'utf8');
  const themes = guide.slice(guide.indexOf('## Options by theme'), guide.indexOf('## Monitoring'));
  expect(Object.keys(options).filter((name) => !themes.includes(`\`${name}\``))).toEqual([]);
});

test('the defaults make a configuration', () => {
  const manager = parseCommand({ name: 'm', summary: '', options: MANAGER_OPTIONS, run: async () => 0 }, [], {});
  const driver = parseCommand({ name: 'd', summary: '', options: DRIVER_OPTIONS, run: async () => 0 }, [], {});
  if (manager === 'help' || driver === 'help') throw new Error('help was not asked for');
  expect(managerConfig(manager.values).root).toBe('/var/lib/gear-manager');
  expect(driverConfig(driver.values).root).toBe('/var/lib/gear');
});
