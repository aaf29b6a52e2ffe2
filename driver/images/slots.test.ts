import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { Slots } from './slots.ts';

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'gear-slots-'));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  return path;
}

it('gives each number once, also at the same time and after any end', async () => {
  const images = await folder();
  const given: number[] = [];
  for (let process = 0; process < 3; process++) {
    const slots = await Slots.open(images);
    given.push(...(await Promise.all(Array.from({ length: 300 }, () => slots.next()))));
  }
  expect(new Set(given).size).toBe(900);
  expect(given.every((slot) => slot > 0)).toBe(true);
});

it('has the file say as much before a number is given, and writes it seldom', async () => {
  const images = await folder();
  const slots = await Slots.open(images);
  const first = await slots.next();
  const said = await readFile(join(images, 'last-slot'), 'utf8');
  expect(Number(said)).toBeGreaterThan(first);
  while ((await slots.next()) < Number(said)) expect(await readFile(join(images, 'last-slot'), 'utf8')).toBe(said);
  const next = await slots.next();
  expect(Number(await readFile(join(images, 'last-slot'), 'utf8'))).toBeGreaterThanOrEqual(next);
});

it('refuses a file that holds no number', async () => {
  const images = await folder();
  await writeFile(join(images, 'last-slot'), 'much\n');
  await expect(Slots.open(images)).rejects.toMatchObject({ code: 'corrupt' });
});
