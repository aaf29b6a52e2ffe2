import { EXIT } from '#core/cli/command.ts';
import { formatBytes } from '#core/cli/table.ts';
import type { Logger } from '#core/log.ts';
import { openStore } from './catalog/store.ts';
import type { ManagerConfig } from './config.ts';

/** `gear manager --verify`: says on standard output what is damaged. Fails where something is. */
export async function verifyCommand(config: ManagerConfig, log: Logger, signal: AbortSignal): Promise<number> {
  await using store = await openStore({ root: config.root, log, rebuild: config.rebuild });
  const { objects, bytes, indexes, problems, images } = await store.verify({ signal });
  const lines = [...problems, `${objects} objects (${formatBytes(bytes)}) and ${indexes} indexes are whole.`];
  if (images.length > 0) lines.push('To be converted again, with --force:', ...images.map((source) => `  ${source}`));
  process.stdout.write(`${lines.join('\n')}\n`);
  return problems.length === 0 ? EXIT.ok : EXIT.failed;
}
