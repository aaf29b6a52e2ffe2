import {
  appendFileSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { silentLogger } from '#core/log.ts';
import { rotateLog } from './log-file.ts';

const LIMIT = 1000;

test('a log stays below twice its limit, and whoever appends to it goes on', () => {
  const folder = mkdtempSync('/tmp/gear-');
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'x.log');
  const fd = openSync(file, 'a');
  onTestFinished(() => closeSync(fd));
  for (let line = 0; line < 500; line += 1) {
    writeSync(fd, `line ${line}\n`);
    rotateLog(fd, file, LIMIT, silentLogger());
  }
  appendFileSync(file, 'by another\n');
  expect(readdirSync(folder).sort()).toEqual(['x.log', 'x.log.1']);
  for (const name of readdirSync(folder)) expect(statSync(join(folder, name)).size).toBeLessThan(LIMIT + 20);
  const both = readFileSync(`${file}.1`, 'utf8') + readFileSync(file, 'utf8');
  expect(both.endsWith('line 499\nby another\n')).toBe(true);
  // Nothing between the first line that is left and the last one is missing.
  const numbers = [...both.matchAll(/line (\d+)/g)].map(([, number]) => Number(number));
  expect(numbers).toEqual(Array.from({ length: numbers.length }, (_, at) => 500 - numbers.length + at));
});
