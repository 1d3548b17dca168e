//! curl, as anybody would call it, with its output watched while it comes.

import path from 'node:path';
import { mustBe } from './expect.mjs';
import { start } from './processes.mjs';
import { until, within } from './until.mjs';

let count = 0;

/** What a running curl has heard: the head, and the body as far as it has come. */
class Curl {
  constructor(process, args) {
    Object.assign(this, { process, args });
  }

  /** All that has come, head and body. */
  came() {
    return this.process.log();
  }

  head() {
    return this.came().split('\r\n\r\n', 1)[0];
  }

  body() {
    return this.came().slice(this.head().length + 4);
  }

  status() {
    return Number(/^HTTP\/1\.[01] (\d{3}) /.exec(this.came())?.[1]);
  }

  /** A field of the head; undefined where there is none. */
  field(name) {
    return new RegExp(`^${name}: (.*)$`, 'im').exec(this.head())?.[1].trim();
  }

  mustSay(fields) {
    const what = this.args.join(' ');
    for (const [name, value] of Object.entries(fields)) mustBe(`${name} of curl ${what}`, this.field(name), value);
  }

  /** Waits until the body has come as far as `expected`, and is that and no more. */
  async hears(expected) {
    const what = `curl ${this.args.join(' ')} to hear ${JSON.stringify(expected.slice(0, 200))}`;
    await until(what, () => this.body().length >= expected.length);
    mustBe(`body of curl ${this.args.join(' ')}`, this.body(), expected);
  }

  /** Waits for the end of the answer; an exit code of curl that is not this one is an error. */
  async ends(expected = 0) {
    const { code } = await within(`curl ${this.args.join(' ')}`, this.process.exited);
    mustBe(`exit code of curl ${this.args.join(' ')}`, code, expected);
    return this;
  }

  async stop() {
    await this.process.end();
  }
}

/** Begins `curl -sSN -i` with these arguments. */
export function curl(stage, ...args) {
  count += 1;
  const log = path.join(stage.folder, `curl-${count}.log`);
  const process = start('curl', 'curl', ['-sSN', '-i', ...args], { log });
  stage.defer(() => process.kill());
  return new Curl(process, args);
}
