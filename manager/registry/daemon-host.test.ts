import { describe, expect, it } from 'vitest';
import { daemonHost } from './daemon-host.ts';

describe('daemonHost', () => {
  it.each([
    [undefined, {}, undefined],
    [undefined, { DOCKER_HOST: 'unix:///run/x.sock' }, 'unix:///run/x.sock'],
    ['unix:///run/y.sock', { DOCKER_HOST: 'unix:///run/x.sock' }, 'unix:///run/y.sock'],
    ['/run/y.sock', {}, 'unix:///run/y.sock'],
    ['tcp://host:2375', {}, 'http://host:2375'],
    ['tcp://host:2376', { DOCKER_TLS_VERIFY: '1' }, 'https://host:2376'],
    ['http://host:2375', {}, 'http://host:2375'],
  ])('takes %s with %j for %s', (dockerHost, environment, expected) => {
    expect(daemonHost({ dockerHost }, environment)).toBe(expected);
  });

  it('refuses ssh by name', () => {
    expect(() => daemonHost({ dockerHost: 'ssh://host' }, {})).toThrow(
      expect.objectContaining({ code: 'unsupported' }),
    );
  });
});
