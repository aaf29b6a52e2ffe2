import { readdirSync, readFileSync } from 'node:fs';
import type { Logger } from '#core/log.ts';
import { killProcess, type ProcessId, processId, scriptOf } from './processes.ts';

/** The processes that work for this root, told by their command lines: a server or a supervisor that nobody can reach any more. */
export function findProcesses(root: string): ProcessId[] {
  const found: ProcessId[] = [];
  const scripts = new Set(
    ['server', 'supervisor'].map((role) =>
      scriptOf(role as 'server')
        .split('/')
        .slice(-3)
        .join('/'),
    ),
  );
  for (const name of readdirSync('/proc')) {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    let words: string[];
    try {
      words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
    } catch {
      continue;
    }
    const script = words.findIndex((word) => scripts.has(word.split('/').slice(-3).join('/')));
    if (script < 0 || words[script + 1] !== root) continue;
    const id = processId(pid);
    if (id !== undefined) found.push(id);
  }
  return found;
}

/** Kills them: the supervisors first, or they would start servers. */
export async function endLeftovers(root: string, log: Logger): Promise<void> {
  // A process that is being started while we look is found the next time.
  for (let i = 0; i < 50; i++) {
    const found = findProcesses(root);
    if (found.length === 0) return;
    for (const id of found) {
      log.warn({ process: id.pid }, 'killing what is left of a dead object filesystem');
      killProcess(id);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
