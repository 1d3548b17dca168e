//! Message bodies that follow from a seed, the same under Node and in a browser; and their comparison.

const WORDS = ['edge ', 'naïve ', 'Grüße ', 'ὕδωρ ', 'мир ', '東京 ', '🚀', '𝄞 ', 'e\u0301', '\u0000', '\r\n', ' '];
const encoder = new TextEncoder();

/** A pseudo-random number generator (mulberry32): `random(n)` gives an integer in 0..n. */
export function generator(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

/** Sizes as in life: nothing, little, and one in a hundred between 10 and 100 KiB. */
export function size(random) {
  const kind = random(100);
  if (kind === 0) return 10_240 + random(92_160);
  return kind < 60 ? random(64) : random(1500);
}

/** `n` random bytes. */
export function bytes(random, n) {
  const out = new Uint8Array(n);
  for (let i = 0; i < n; i += 1) out[i] = random(256);
  return out;
}

/** Text of about `n` bytes of UTF-8, with characters of one to four bytes. */
export function text(random, n) {
  let out = '';
  for (let left = n; left > 0; left -= 5) out += WORDS[random(WORDS.length)];
  return out;
}

/** `count` bodies as bytes: every second one is UTF-8 text, the others are any bytes. */
export function bodies(seed, count) {
  const random = generator(seed);
  return Array.from({ length: count }, (_, i) => {
    const n = size(random);
    return i % 2 ? bytes(random, n) : encoder.encode(text(random, n));
  });
}

/** Whether two byte arrays are equal. */
export function same(a, b) {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/**
 * A receiver that compares what comes with `expected`, one by one, in order. `take(body)` gives the body's number, or
 * undefined once something differed; `done` resolves when all have come and rejects at the first difference.
 */
export function checklist(what, expected) {
  let next = 0;
  let failed = false;
  let settle;
  const done = new Promise((resolve, reject) => { settle = { resolve, reject }; });
  // A difference may show before anybody waits for `done`.
  done.catch(() => {});

  const fail = (words) => {
    failed = true;
    settle.reject(new Error(`${what}: ${words}`));
  };
  const difference = (body) => {
    if (next === expected.length) return `one more than the ${next} that were sent`;
    if (same(body, expected[next])) return '';
    return `message ${next} differs: ${body.length} bytes came instead of ${expected[next].length}`;
  };
  const take = (body) => {
    const words = difference(body);
    if (words && !failed) fail(words);
    if (failed) return undefined;
    next += 1;
    if (next === expected.length) settle.resolve(next);
    return next - 1;
  };
  return { take, done, fail, count: () => next };
}
