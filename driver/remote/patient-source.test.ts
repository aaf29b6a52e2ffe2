import { expect, test } from 'vitest';
import { deadline } from '#core/abort.ts';
import { type Digest, digestOf } from '#core/digest.ts';
import { GearError } from '#core/errors.ts';
import { silentLogger } from '#core/log.ts';
import { Circuit } from './circuit.ts';
import { PatientSource } from './patient-source.ts';
import { type ObjectSource, tryInOrder } from './source.ts';

const digest: Digest = digestOf(Buffer.from('x'));
const signal = new AbortController().signal;

function source(name: string, answers: (Buffer | GearError | 'never')[]): ObjectSource & { asked: number } {
  return {
    name,
    asked: 0,
    async read(_digest, _offset, _length, options) {
      const answer = answers[Math.min(this.asked++, answers.length - 1)];
      if (answer === 'never') {
        const { promise, reject } = Promise.withResolvers<Buffer>();
        options.signal.addEventListener('abort', () => reject(options.signal.reason), { once: true });
        return await promise;
      }
      if (answer instanceof Error) throw answer;
      return answer as Buffer;
    },
  };
}

function patient(inner: ObjectSource, attempt?: number): PatientSource {
  const circuit = new Circuit({ first: 1, most: 5 });
  return new PatientSource(inner, { log: silentLogger(), circuit, ...(attempt === undefined ? {} : { attempt }) });
}

const away = new GearError('unavailable', 'nobody there');

test('asks again while the source is away', async () => {
  const inner = source('s', [away, away, Buffer.from('ok')]);
  const asked = patient(inner);
  expect(await asked.read(digest, 0, 2, { signal })).toEqual(Buffer.from('ok'));
  expect([inner.asked, asked.away]).toEqual([3, false]);
});

test('takes no for an answer', async () => {
  const inner = source('s', [new GearError('not-found', 'no such object')]);
  await expect(patient(inner).read(digest, 0, 2, { signal })).rejects.toMatchObject({ code: 'not-found' });
  expect(inner.asked).toBe(1);
});

test('gives up at the deadline of the caller, with its reason', async () => {
  const inner = source('s', [away]);
  const asked = patient(inner);
  using limited = deadline(60, 'a read');
  await expect(asked.read(digest, 0, 2, { signal: limited })).rejects.toThrow('a read: no answer within 60 ms');
  expect(asked.away).toBe(true);
});

test('an attempt without an answer is given up and made again', async () => {
  const inner = source('s', ['never', Buffer.from('ok')]);
  expect(await patient(inner, 20).read(digest, 0, 2, { signal })).toEqual(Buffer.from('ok'));
});

test('who waits goes on with another source', async () => {
  const old = source('old', [away]);
  const asked = patient(old);
  const reading = asked.read(digest, 0, 2, { signal });
  await new Promise((resolve) => setTimeout(resolve, 20));
  asked.replace(source('new', [Buffer.from('ok')]));
  expect(await reading).toEqual(Buffer.from('ok'));
  expect(asked.name).toBe('new');
});

test('sources are tried in order, and what all of them say decides', async () => {
  const missing = new GearError('not-found', 'not here');
  const both = tryInOrder([source('a', [away]), source('b', [Buffer.from('ok')])]);
  expect(both.name).toBe('a, then b');
  expect(await both.read(digest, 0, 2, { signal })).toEqual(Buffer.from('ok'));
  const maybe = tryInOrder([source('a', [away]), source('b', [missing])]);
  await expect(maybe.read(digest, 0, 2, { signal })).rejects.toMatchObject({
    code: 'unavailable',
    message: 'nobody there; not here',
  });
  const none = tryInOrder([source('a', [missing]), source('b', [missing])]);
  await expect(none.read(digest, 0, 2, { signal })).rejects.toMatchObject({ code: 'not-found' });
});
