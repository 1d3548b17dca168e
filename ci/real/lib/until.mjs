//! Waiting: for a condition with a deadline, never for a time.

const PAUSE_MS = 10;

/** Resolves after one pause between two looks at a condition. */
const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

/** An error after which waiting is in vain. */
export class Hopeless extends Error {}

/**
 * Looks at `condition` (may be async) until it gives something truthy, and resolves with that.
 * Rejects after `ms` milliseconds, naming `what` was waited for and the last error seen; an error that is `Hopeless`
 * rejects at once.
 */
export async function until(what, condition, ms = 10_000) {
  const deadline = performance.now() + ms;
  let last = '';
  do {
    try {
      const value = await condition();
      if (value) return value;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = `: ${error.message}`;
    }
    await pause();
  } while (performance.now() < deadline);
  throw new Error(`waited ${ms} ms for ${what}${last}`);
}

/** Resolves or rejects as `promise` does, or rejects after `ms` milliseconds, naming `what`. */
export function within(what, promise, ms = 10_000) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
