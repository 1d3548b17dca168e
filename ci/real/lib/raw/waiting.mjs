//! Whoever waits for something of a connection looks again whenever it has said something, and when it ends.

import { within } from '../until.mjs';

const WAIT_MS = 10_000;

export class Waiting {
  #waiting = new Set();

  /** Something has come. */
  wake() {
    for (const look of this.#waiting) look();
  }

  /** Resolves when `condition` holds; rejects after a while, naming `what`. */
  when(what, condition) {
    if (condition()) return Promise.resolve();
    let look;
    const held = new Promise((resolve) => {
      look = () => condition() && resolve();
      this.#waiting.add(look);
    });
    return within(what, held, WAIT_MS).finally(() => this.#waiting.delete(look));
  }
}
