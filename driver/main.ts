import { defineCommand, EXIT, main } from '#core/cli/command.ts';
import { createLogger } from '#core/log.ts';
import { serviceReadiness } from '#core/service-ready.ts';
import { DRIVER_OPTIONS, driverConfig } from './config.ts';
import { runDriver, shutDownNode } from './node.ts';
import { DRIVER_CONFIG } from './paths.ts';

const command = defineCommand({
  name: 'driver',
  summary: "Run the driver of this node: Docker's graphdriver plugin over the lazy caches.",
  details: `
Start dockerd (up to 27) with --experimental -s gear. Stopping the driver leaves containers and their mounts alone; starting it
again takes them up. --shutdown is for taking Gear off a node: stop dockerd and the driver first.`,
  options: DRIVER_OPTIONS,
  configFile: { path: DRIVER_CONFIG, others: 'refused' },
  async run(values, _operands, signal) {
    // Whatever this process was started with: its sockets are nobody else's to connect to, not even before their mode is set.
    process.umask(0o022);
    const config = driverConfig(values);
    const log = createLogger('driver', config.logLevel);
    const ready = serviceReadiness(process.env, log);
    if (config.shutdown) await shutDownNode(config, log, signal);
    else await runDriver(config, log, signal, ready);
    return EXIT.ok;
  },
});

await main(command);
