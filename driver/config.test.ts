import { describe, expect, test } from 'vitest';
import { parseCommand } from '#core/cli/command.ts';
import { DRIVER_OPTIONS, driverConfig } from './config.ts';

function configOf(args: string[], environment: NodeJS.ProcessEnv = {}) {
  const command = { name: 'driver', summary: '', options: DRIVER_OPTIONS, run: async () => 0 };
  const parsed = parseCommand(command, args, environment);
  if (parsed === 'help') throw new Error('help was not asked for');
  return driverConfig(parsed.values);
}

describe('driver options', () => {
  test('defaults are those of the documentation', () => {
    expect(configOf([])).toMatchObject({
      root: '/var/lib/gear',
      manager: '127.0.0.1:2019',
      monitor: '127.0.0.1:2021',
      listen: { kind: 'unix', path: '/run/docker/plugins/gear.sock' },
      fetchDeadline: 60_000,
      cacheSize: undefined,
    });
  });

  test("the original's four options name the manager and the monitor in parts", () => {
    const config = configOf(['--manager-ip', '10.1.2.3', '--monitor-ip', '::1', '--monitor-port', '99']);
    expect(config.manager).toBe('10.1.2.3:2019');
    expect(config.monitor).toBe('[::1]:99');
  });

  test('the monitor is looked for beside the manager', () => {
    expect(configOf(['--manager', '10.1.2.3:77']).monitor).toBe('10.1.2.3:2021');
    expect(configOf(['--manager', '[::1]:77', '--monitor-port', '5']).monitor).toBe('[::1]:5');
  });

  test('what is learned and filled', () => {
    const plain = { prefetch: true, fill: 'off', audit: 16, recordLongest: 600_000, recordIdle: 30_000 };
    expect(configOf([])).toMatchObject(plain);
    const args = ['--prefetch', 'off', '--fill', 'idle', '--audit', '0', '--record-longest', '5', '--record-idle', '1'];
    expect(configOf(args)).toMatchObject({
      prefetch: false,
      fill: 'idle',
      audit: 0,
      recordLongest: 5_000,
      recordIdle: 1_000,
    });
  });

  test('a plugin name names the socket', () => {
    expect(configOf(['--plugin-name', 'gear-2']).listen).toEqual({
      kind: 'unix',
      path: '/run/docker/plugins/gear-2.sock',
    });
  });

  test('TCP is served to every user of the node only where that is said', () => {
    expect(configOf(['--tcp', '127.0.0.1:0', '--insecure']).listen).toMatchObject({
      kind: 'tcp',
      address: '127.0.0.1:0',
    });
  });

  test('the environment stands behind the command line', () => {
    expect(configOf([], { GEAR_MANAGER: 'm:1' }).manager).toBe('m:1');
    expect(configOf(['--manager', 'n:2'], { GEAR_MANAGER: 'm:1' }).manager).toBe('n:2');
  });

  test.each([
    ['20G', 20 * 2 ** 30],
    ['1.5M', 1.5 * 2 ** 20],
    ['4096', 4096],
    ['2KiB', 2048],
  ])('--cache-size %s', (text, bytes) => expect(configOf(['--cache-size', text]).cacheSize).toBe(bytes));

  test.each([
    [['--root', 'relative'], '--root takes an absolute path'],
    [['--manager', 'nowhere'], '--manager: expected HOST:PORT'],
    [['--manager', 'a:1', '--manager-ip', 'b'], '--manager and --manager-ip'],
    [['--plugin-name', '../x'], '--plugin-name'],
    [['--tcp', '0.0.0.0:1'], 'only a loopback address'],
    [['--tcp', '127.example.org:1'], 'only a loopback address'],
    [['--tcp', '127.0.0.1:1', '--socket', '/x'], 'exclude each other'],
    [['--tcp', '127.0.0.1:1'], 'say --insecure'],
    [['--cache-size', 'much'], '--cache-size takes a size'],
    [['--fetch-deadline', '0'], '--fetch-deadline takes a number from 1'],
    [['--index-format', 'squashfs'], '--index-format takes one of'],
  ])('%j is refused by name', (args, message) => expect(() => configOf(args)).toThrow(message));
});
