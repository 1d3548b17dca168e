//! The stage of one story: a temporary folder, and what is to be cleared away when the story is over.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export class Stage {
  #deferred = [];
  #failed = false;

  constructor(name) {
    this.folder = mkdtempSync(path.join(tmpdir(), `edgehold-${name}-`));
    this.notes = [];
    this.sweep = () => rmSync(this.folder, { recursive: true, force: true });
    process.on('exit', this.sweep);
  }

  /** A folder of this stage, made when it is missing. */
  dir(name) {
    const dir = path.join(this.folder, name);
    mkdirSync(dir, { recursive: true });
    return dir;
  }

  /** Writes a file of this stage and gives its path. */
  file(name, text) {
    const file = path.join(this.folder, name);
    writeFileSync(file, text);
    return file;
  }

  /** A few words for the story's line in the report. */
  note(words) {
    this.notes.push(words);
  }

  /** `clear` runs when the story is over, the last deferred first, also after a failure. */
  defer(clear) {
    this.#deferred.push(clear);
  }

  /** The story failed: the folder with its logs stays, and endings are not judged any more. */
  fail() {
    this.#failed = true;
  }

  /** Clears everything away; throws the first thing that went wrong, after all of it ran. */
  async end() {
    const problems = [];
    for (const clear of this.#deferred.reverse()) await Promise.resolve().then(clear).catch((e) => problems.push(e));
    process.off('exit', this.sweep);
    if (this.#failed || problems.length) console.log(`     logs: ${this.folder}`);
    else this.sweep();
    if (!this.#failed && problems.length) throw problems[0];
  }
}
