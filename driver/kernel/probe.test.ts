import { expect, test } from 'vitest';
import { expectOverlay } from './probe.ts';

const WITHOUT = 'nodev\tsysfs\nnodev\toverlayfs-like\n\text4\nnodev\tfuse\n';
const WITH = `${WITHOUT}nodev\toverlay\n`;

/** A kernel that lists these filesystems, the next text each time it is asked, and counts the trials of overlayfs. */
function kernel(...listed: readonly string[]) {
  const left = [...listed];
  const seen = { tried: 0 };
  const filesystems = async () => left.shift() ?? '';
  const tryOverlay = async () => {
    seen.tried += 1;
    return { works: false, detail: 'mount of overlay: ENODEV' };
  };
  return { seen, options: { filesystems, tryOverlay } };
}

test('takes a kernel that has overlayfs, without trying it', async () => {
  const { seen, options } = kernel(WITH);
  await expectOverlay('/nowhere', options);
  expect(seen.tried).toBe(0);
});

test('takes a kernel that loads overlayfs when it is first used', async () => {
  const { seen, options } = kernel(WITHOUT, WITH);
  await expectOverlay('/nowhere', options);
  expect(seen.tried).toBe(1);
});

test('says of a kernel without overlayfs what is missing and how to get it', async () => {
  const { seen, options } = kernel(WITHOUT, WITHOUT);
  const refused = expectOverlay('/nowhere', options);
  await expect(refused).rejects.toMatchObject({ code: 'failed-precondition' });
  await expect(refused).rejects.toThrow(
    /no overlayfs .*mount of overlay: ENODEV.*CONFIG_OVERLAY_FS \(modprobe overlay\)/,
  );
  expect(seen.tried).toBe(1);
});
