// Castagnoli's polynomial, bits reversed.
const POLYNOMIAL = 0x82f63b78;

const table = new Uint32Array(256).map((_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = (value & 1) === 1 ? (value >>> 1) ^ POLYNOMIAL : value >>> 1;
  return value;
});

/** crc32c of `bytes`, starting from all ones and not inverted at the end: as the kernel's crc32c(~0, ...) gives it. Unsigned. */
export function crc32c(bytes: Uint8Array): number {
  let value = 0xffffffff;
  for (const byte of bytes) value = (value >>> 8) ^ (table[(value ^ byte) & 0xff] as number);
  return value >>> 0;
}
