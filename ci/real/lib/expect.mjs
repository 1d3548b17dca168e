//! What must be so, with words that say how it is instead.

/** Two values are the same. */
export function mustBe(what, got, expected) {
  if (got !== expected) throw new Error(`${what}: ${got} instead of ${expected}`);
}

/** Two Buffers hold the same bytes; the words give the lengths and the first difference. */
export function mustEqual(what, got, expected) {
  if (got.equals(expected)) return;
  const at = expected.findIndex((byte, i) => byte !== got[i]);
  throw new Error(`${what}: ${got.length} bytes instead of ${expected.length}, different from byte ${at < 0 ? expected.length : at} on`);
}

/** Bytes as megabytes, for the report. */
export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
