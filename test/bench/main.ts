import { parseArgs } from 'node:util';
import { cachedBench } from './cached.ts';
import { coldStartBench } from './cold-start.ts';
import { containerdBench } from './containerd.ts';
import { conversionBench } from './conversion.ts';
import { fetchBench } from './fetch.ts';
import { memoryBench } from './memory.ts';
import { type Bench, lineOf, type Result, reached } from './result.ts';
import { smallFilesBench } from './small-files.ts';
import { startsBench } from './starts.ts';

const BENCHES: Readonly<Record<string, Bench>> = {
  conversion: conversionBench,
  small: smallFilesBench,
  memory: memoryBench,
  cached: cachedBench,
  starts: startsBench,
  containerd: containerdBench,
  fetch: fetchBench,
  cold: coldStartBench,
};

const { values, positionals } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '5' },
    images: { type: 'string' },
  },
  allowPositionals: true,
});
const unknown = positionals.filter((name) => BENCHES[name] === undefined);
if (unknown.length > 0) {
  console.error(`test/bench/run: no ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}`);
  process.exit(2);
}

const results: Result[] = [];
const say = (text: string): void => {
  process.stderr.write(`${text}\n`);
};
for (const [name, bench] of Object.entries(BENCHES)) {
  if (positionals.length > 0 && !positionals.includes(name)) continue;
  say(`=== ${name}`);
  for (const result of await bench({ rounds: Number(values.rounds), images: values.images?.split(','), say })) {
    results.push(result);
    say(lineOf(result));
  }
}
if (values.json)
  console.log(
    JSON.stringify(
      results.map((result) => ({ ...result, reached: reached(result) })),
      undefined,
      2,
    ),
  );
const missed = results.filter((result) => reached(result) === false);
say(`${results.length} figures, ${missed.length} not where they must be`);
process.exitCode = missed.length > 0 ? 1 : 0;
