import { describe, expect, it } from 'vitest';
import { digestOf } from '#core/digest.ts';
import { namesOf, readWanted } from './names.ts';

const DIGEST = digestOf(Buffer.from('x'));

/** Whether an image with this reference is found by these words. */
function finds(reference: string, words: string): boolean {
  const { name } = readWanted(words);
  return name !== undefined && namesOf(reference).includes(name);
}

describe('names', () => {
  it.each([
    ['docker://docker.io/library/nginx:latest', 'nginx'],
    ['docker://nginx', 'nginx:latest'],
    ['docker://nginx', 'docker://docker.io/library/nginx:latest'],
    ['docker://localhost:5000/team/app:1', 'localhost:5000/team/app:1'],
    ['docker://localhost:5000/team/app', 'localhost:5000/team/app:latest'],
    ['docker-daemon:nginx:latest', 'nginx'],
    ['docker-daemon:nginx:latest', 'docker-daemon:nginx'],
    ['oci:/tmp/layout:tag', 'oci:/tmp/layout:tag'],
    [`docker://host.example/app@sha256:${DIGEST}`, `host.example/app@sha256:${DIGEST}`],
  ])('%s is found by %s', (reference, words) => {
    expect(finds(reference, words)).toBe(true);
  });

  it.each([
    ['docker://nginx:1', 'nginx'],
    ['docker-daemon:nginx:latest', 'docker://nginx'],
    ['docker://nginx', 'docker-daemon:nginx:latest'],
    ['docker://localhost:5000/nginx', 'nginx'],
    ['oci:/tmp/layout:tag', 'oci:/tmp/layout:other'],
  ])('%s is not found by %s', (reference, words) => {
    expect(finds(reference, words)).toBe(false);
  });

  it('reads digests with and without the algorithm', () => {
    expect(readWanted(DIGEST)).toEqual({ name: undefined, digest: DIGEST });
    expect(readWanted(`sha256:${DIGEST}`)).toEqual({ name: undefined, digest: DIGEST });
    expect(readWanted(`host.example/app@sha256:${DIGEST}`).digest).toBe(DIGEST);
  });

  it.each(['', 'sha256:12', 'UPPER/Case', 'a b', 'ftp://x/y', 'nginx@sha256:00'])('refuses %j', (words) => {
    expect(() => readWanted(words)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
  });

  it('finds what is registered under no name at all by its digest only', () => {
    expect(namesOf('')).toEqual([]);
    expect(namesOf('not a reference')).toEqual(['not a reference']);
  });
});
