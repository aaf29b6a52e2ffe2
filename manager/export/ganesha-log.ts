import type { Logger } from '#core/log.ts';

// "21/11/2026 01:53:23 : epoch 6b00f993 : host : nfs-ganesha-4708[main] function :COMPONENT :LEVEL :text"
const LINE = /^\S+ \S+ : epoch \S+ : .*? : \S+?\[(\S+?)\] (\S+) :(.+?) :([A-Z_]+) :(.*)$/;

const LEVELS: Readonly<Record<string, 'error' | 'warn' | 'info' | 'debug'>> = {
  FATAL: 'error',
  MAJ: 'error',
  CRIT: 'error',
  WARN: 'warn',
  EVENT: 'debug',
  INFO: 'debug',
};

/** What ganesha cannot do here and what this export does without: D-Bus, Kerberos, the port mapper, Ceph. */
const NEEDLESS = /^(gsh_dbus|find_keytab|gssd_|nfs_rpc_cb|__Register_program|unregister|load_rados|client_commit)/;

/** Writes a line of ganesha's log into ours. Gives its text where it says that something is wrong. */
export function logGaneshaLine(line: string, log: Logger): string | undefined {
  const [, , where = '', part, level = '', text = ''] = LINE.exec(line) ?? [];
  if (part === undefined) {
    if (line.trim() !== '') log.info({ source: 'ganesha.nfsd' }, line);
    return undefined;
  }
  const severity = NEEDLESS.test(where) ? 'debug' : (LEVELS[level] ?? 'debug');
  log[severity]({ source: 'ganesha.nfsd', part }, text);
  return severity === 'error' ? text : undefined;
}
