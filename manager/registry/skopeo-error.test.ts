import { describe, expect, it } from 'vitest';
import { skopeoError } from './skopeo-error.ts';

const fatal = (msg: string) => `time="2024-01-01T00:00:00Z" level=fatal msg=${JSON.stringify(msg)} \n`;

describe('skopeoError', () => {
  it.each([
    [
      'Error parsing image name "docker://h/a": reading manifest 9 in h/a: manifest unknown: manifest unknown',
      'not-found',
    ],
    [
      'pinging container registry h: Get "https://h/v2/": http: server gave HTTP response to HTTPS client',
      'unavailable',
    ],
    [
      'pinging container registry h: Get "https://h/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
      'unavailable',
    ],
    ['pinging container registry h: Get "https://h/v2/": x509: certificate signed by unknown authority', 'unavailable'],
    ['reading manifest 1 in h/a: unauthorized: authentication required', 'unauthenticated'],
    ['requested access to the resource is denied', 'permission-denied'],
    ['writing blob: write /x: no space left on device', 'resource-exhausted'],
    ['Digest did not match, expected sha256:aa, got sha256:bb', 'corrupt'],
    ['Error parsing manifest for image: Manifest does not match provided manifest digest sha256:aa', 'corrupt'],
    ['Error parsing image name "docker://h/a": invalid character \'<\' looking for beginning of value', 'corrupt'],
    ['no descriptor found for reference "x"', 'not-found'],
    ['open /x/index.json: no such file or directory', 'not-found'],
    ['something nobody thought of', 'internal'],
  ])('knows what %j means', (message, code) => {
    const error = skopeoError('docker://h/a:1', `level=warning msg=x\n${fatal(message)}`, 1);
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(message);
    expect(error.message).toContain('docker://h/a:1');
  });

  it('keeps no password of a URL', () => {
    const error = skopeoError('x', fatal('Get "https://user:secret@h/v2/": EOF'), 1);
    expect(error.message).not.toContain('secret');
  });

  it('says so when skopeo said nothing', () => {
    expect(skopeoError('x', '', 2)).toMatchObject({ code: 'internal', message: expect.stringContaining('code 2') });
  });
});
