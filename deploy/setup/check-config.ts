import { parseCommand } from '#core/cli/command.ts';
import { isGearError } from '#core/errors.ts';
import { DRIVER_OPTIONS, driverConfig } from '../../driver/config.ts';
import { MANAGER_OPTIONS, managerConfig } from '../../manager/config.ts';

// check-config.ts manager|node FILE: fails with what the command would say of the file.

const [role, path = ''] = process.argv.slice(2);

/** Reads the file as the command would; throws what it would print. */
function check<V>(
  parsed: { readonly values: V; readonly explain: (error: unknown) => unknown } | 'help',
  use: (values: V) => unknown,
): void {
  if (parsed === 'help') return;
  try {
    use(parsed.values);
  } catch (error) {
    // Certificates and tokens that it names may come later.
    if (isGearError(error, 'invalid-argument')) throw parsed.explain(error);
  }
}

const facts = { summary: '', configFile: { path, others: 'refused' }, run: async () => 0 } as const;
try {
  if (role === 'manager')
    check(parseCommand({ ...facts, name: 'manager', options: MANAGER_OPTIONS }, ['--config', path], {}), managerConfig);
  else check(parseCommand({ ...facts, name: 'driver', options: DRIVER_OPTIONS }, ['--config', path], {}), driverConfig);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
