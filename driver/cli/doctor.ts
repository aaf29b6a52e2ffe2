import { isAbsolute } from 'node:path';
import { defineCommand, EXIT, main } from '#core/cli/command.ts';
import { GearError } from '#core/errors.ts';
import { ACCESS_OPTIONS, accessOf } from '#core/security/access.ts';
import { isFine } from '../doctor/check.ts';
import { diagnose } from '../doctor/diagnose.ts';
import { reportText } from '../doctor/report.ts';
import { DEFAULT_ROOT, DRIVER_CONFIG } from '../paths.ts';

const command = defineCommand({
  name: 'doctor',
  summary: 'Check whether this node can run Gear, and what is missing.',
  details: `
Looks at the kernel (by trying, in a scratch folder that is deleted again), at the filesystem of the root, at Docker, at containerd, at the driver where it runs
already, and at the manager. Says for what is not there what it costs and how to get it.
Exit code: 0 when all that is needed is there, 1 when something is missing.`,
  options: {
    root: { type: 'string', value: 'FOLDER', default: DEFAULT_ROOT, help: "The driver's root; need not exist yet" },
    manager: {
      type: 'string',
      value: 'HOST:PORT',
      help: "Where the manager answers (default: the running driver's, else 127.0.0.1:2019)",
    },
    'manager-http': {
      type: 'string',
      value: 'HOST:PORT',
      help: "The manager's HTTP side (default: the same host, port 2020)",
    },
    ...ACCESS_OPTIONS,
    'docker-host': { type: 'string', value: 'URL', help: 'The engine, as DOCKER_HOST names it' },
    'plugin-name': { type: 'string', value: 'NAME', default: 'gear', help: 'What dockerd calls the driver' },
    socket: {
      type: 'string',
      value: 'PATH',
      help: "The plugin's socket (default: the running driver's, else /run/docker/plugins/NAME.sock)",
    },
    'containerd-socket': {
      type: 'string',
      value: 'PATH',
      help: "Where containerd is to find the driver (default: the running driver's, else /run/gear/containerd.sock)",
    },
    'containerd-config': {
      type: 'string',
      value: 'FILE',
      help: "containerd's configuration (default: the file that containerd reads by itself)",
    },
    json: { type: 'flag', help: 'Print JSON' },
  },
  configFile: { path: DRIVER_CONFIG, others: 'ignored' },
  async run(values, _operands, signal) {
    if (!isAbsolute(values.root))
      throw new GearError('invalid-argument', `--root takes an absolute path, not ${JSON.stringify(values.root)}`);
    const checks = await diagnose({
      root: values.root,
      pluginName: values['plugin-name'],
      socket: values.socket ?? `/run/docker/plugins/${values['plugin-name']}.sock`,
      dockerHost: values['docker-host'],
      manager: values.manager,
      managerHttp: values['manager-http'],
      access: accessOf(values),
      containerdSocket: values['containerd-socket'],
      containerdConfig: values['containerd-config'],
      signal,
    });
    const fine = isFine(checks);
    const text = values.json
      ? `${JSON.stringify({ ok: fine, checks }, undefined, 2)}\n`
      : reportText(checks, { colour: process.stdout.isTTY && process.env['NO_COLOR'] === undefined });
    process.stdout.write(text);
    return fine ? EXIT.ok : EXIT.failed;
  },
});

if (import.meta.main) await main(command);
