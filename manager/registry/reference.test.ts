import { describe, expect, it } from 'vitest';
import { formatReference, gearDestination, parseReference } from './reference.ts';

const HEX = 'a'.repeat(64);
const refusal = expect.objectContaining({ code: 'invalid-argument' });

describe('parseReference', () => {
  it.each([
    ['docker://host:5000/team/app:1.2', 'docker://host:5000/team/app:1.2'],
    ['host:5000/team/app:1.2', 'docker://host:5000/team/app:1.2'],
    ['localhost/app', 'docker://localhost/app:latest'],
    ['nginx', 'docker://docker.io/library/nginx:latest'],
    ['docker://nginx:1.27', 'docker://docker.io/library/nginx:1.27'],
    ['index.docker.io/nginx', 'docker://docker.io/library/nginx:latest'],
    ['team/app', 'docker://docker.io/team/app:latest'],
    ['127.0.0.1:5000/app', 'docker://127.0.0.1:5000/app:latest'],
    ['[::1]:5000/app:x', 'docker://[::1]:5000/app:x'],
    [`host.example/app@sha256:${HEX}`, `docker://host.example/app@sha256:${HEX}`],
    [`host.example/app:1@sha256:${HEX}`, `docker://host.example/app@sha256:${HEX}`],
    ['docker-daemon:app', 'docker-daemon:app:latest'],
    ['docker-daemon:host:5000/team/app:1', 'docker-daemon:host:5000/team/app:1'],
    [`docker-daemon:sha256:${HEX}`, `docker-daemon:sha256:${HEX}`],
    ['oci:/folder', 'oci:/folder'],
    ['oci:/folder:tag', 'oci:/folder:tag'],
    ['oci:folder:name:with:colons', 'oci:folder:name:with:colons'],
    ['docker-archive:file.tar', 'docker-archive:file.tar'],
    ['docker-archive:file.tar:app:1', 'docker-archive:file.tar:app:1'],
    ['docker-archive:file.tar:@0', 'docker-archive:file.tar:@0'],
  ])('reads %s', (text, written) => {
    expect(formatReference(parseReference(text))).toBe(written);
  });

  it.each([
    '',
    'docker://',
    'docker:host/app',
    'http://host/app',
    'Host/App',
    'host:5000/App',
    'host:port/app',
    'host.example/app:',
    'host.example/app:-1',
    `host.example/app:${'x'.repeat(129)}`,
    'host.example/app@sha256:abc',
    `host.example/app@sha512:${HEX}${HEX}`,
    `host.example/${'x'.repeat(255)}`,
    'host.example/../app',
    'host.example//app',
    'host.example/app ',
    `docker-daemon:app@sha256:${HEX}`,
    'oci:',
    'oci::tag',
    'oci:/folder:',
    'docker-archive:',
    '--help',
  ])('refuses %j', (text) => {
    expect(() => parseReference(text)).toThrow(refusal);
  });

  it.each(['containers-storage:app', 'dir:/folder', 'oci-archive:file', 'ostree:app', 'sif:file', 'tarball:file'])(
    'refuses the transport of %s by name',
    (text) => {
      expect(() => parseReference(text)).toThrow(text.split(':')[0]);
    },
  );

  it('never shows a password', () => {
    for (const text of ['docker://user:secret@host/app:1', 'user:secret@host/app:1', 'https://user:secret@host/app']) {
      const message = (() => {
        try {
          parseReference(text);
          return '';
        } catch (error) {
          return (error as Error).message;
        }
      })();
      expect(message).toContain('image reference');
      expect(message).not.toContain('secret');
    }
  });
});

describe('gearDestination', () => {
  it.each([
    ['host:5000/team/app:1', 'docker://host:5000/team/app-gear:1'],
    [`host.example/app:1@sha256:${HEX}`, 'docker://host.example/app-gear:1'],
    ['docker-daemon:app:1', 'docker-daemon:app-gear:1'],
    ['oci:/folder:1', 'oci:/folder-gear:1'],
    ['oci:folder/', 'oci:folder-gear'],
  ])('adds -gear to %s', (text, destination) => {
    expect(formatReference(gearDestination(parseReference(text)))).toBe(destination);
  });

  it.each([`host.example/app@sha256:${HEX}`, `docker-daemon:sha256:${HEX}`, 'docker-archive:file.tar'])(
    'asks for a destination for %s',
    (text) => {
      expect(() => gearDestination(parseReference(text))).toThrow(/give the Gear image's destination/);
    },
  );
});
