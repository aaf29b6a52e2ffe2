import { readFileSync } from 'node:fs';
import { containerdConfig } from './containerd-config.ts';
import { type DockerKind, dockerConfig } from './docker-config.ts';

// Reads a configuration on standard input and prints it with Gear in it.
//
//   edit-config.ts docker graphdriver|containerd
//   edit-config.ts containerd plain|kubernetes MAJOR ROOT

const [what, kind, major = '2', root = '/var/lib/gear'] = process.argv.slice(2);
try {
  const text = readFileSync(0, 'utf8');
  process.stdout.write(
    what === 'docker'
      ? dockerConfig(text, kind as DockerKind)
      : containerdConfig(text, { major: Number(major), root, kubernetes: kind === 'kubernetes' }),
  );
} catch (error) {
  process.stderr.write(`gear: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
