import { type Command, EXIT, main } from '#core/cli/command.ts';
import { createLogger } from '#core/log.ts';
import { serviceReadiness } from '#core/service-ready.ts';
import { MANAGER_OPTIONS, managerConfig } from './config.ts';
import { convertImage } from './converter/convert.ts';
import { Slots } from './converter/slots.ts';
import { startManager } from './manager.ts';
import { Layout } from './store/layout.ts';
import { verifyCommand } from './verify-command.ts';

/** Where images may come from and go to that clients name: never files of this machine. */
const REMOTE_TRANSPORTS = ['docker', 'docker-daemon'] as const;

const command: Command<typeof MANAGER_OPTIONS> = {
  name: 'manager',
  summary: 'Runs the manager: the store of objects, indexes and images, the converter, gRPC and HTTP.',
  options: MANAGER_OPTIONS,
  configFile: { path: '/etc/gear/manager.conf', others: 'refused' },
  details: `
Where it really listens is in the log line "ready" and, while it runs, in addresses.json in its root. It stops on SIGTERM and SIGINT: it takes nothing new,
lets calls under way end for --stop-timeout, and ends the rest.
With --watch the images of a registry are converted as they appear, and pushed beside them as NAME-gear:TAG. The registry tells of a push at once when its
"notifications" have an endpoint http://HTTP-ADDRESS/notifications; else the next look at all tags finds it. With --watch or --upstream the HTTP address is a
registry, too: a pull of NAME:TAG from it, or through it as one of dockerd's "registry-mirrors", gives the Gear image of the upstream's NAME:TAG.
Whoever may reach its ports is said with --tls-cert, --tls-client-ca and --token-file; without them it serves this machine only. deploy/ca makes what they need,
deploy/SECURITY.md says what they protect. Renewed files are taken by themselves.`,
  run: async (values, _operands, signal) => {
    // Objects are for all nodes to read, whatever this process was started with.
    process.umask(0o022);
    const config = managerConfig(values);
    const log = createLogger('manager', values['log-level']);
    const ready = serviceReadiness(process.env, log);
    if (values.verify) return await verifyCommand(config, log, signal);
    const slots = new Slots(config.maxConversions);
    const { scratch } = new Layout(config.root);
    await using _manager = await startManager({
      config,
      log,
      convert: async (request, options) =>
        await convertImage(request, {
          ...options,
          scratch,
          slots,
          access: config.access,
          log,
          transports: REMOTE_TRANSPORTS,
        }),
    });
    await ready();
    const stopped = Promise.withResolvers<void>();
    signal.addEventListener('abort', () => stopped.resolve(), { once: true });
    if (!signal.aborted) await stopped.promise;
    log.info({ reason: String(signal.reason.message) }, 'stopping');
    return EXIT.ok;
  },
};

await main(command);
