//! Programs in Python, with the packages that ci/install puts into ci/.cache/python3.

import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { mustBe } from './expect.mjs';
import { start } from './processes.mjs';
import { within } from './until.mjs';

const CI = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const PACKAGES = path.join(CI, '.cache/python3');

let count = 0;

/** Runs `file` (from ci) to its end within `ms` milliseconds; gives the JSON that it prints. */
export async function python(stage, file, args, ms = 30_000) {
  if (!existsSync(PACKAGES)) throw new Error(`no ${PACKAGES}: ci/install real tls`);
  count += 1;
  const log = path.join(stage.folder, `python-${count}.log`);
  const program = start(file, 'python3', ['-B', path.join(CI, file), ...args], { log, env: { PYTHONPATH: PACKAGES } });
  stage.defer(() => program.kill());
  const { code } = await within(file, program.exited, ms);
  if (code !== 0) throw new Error(`${file}:\n${program.log().slice(-2000)}`);
  mustBe(`exit code of ${file}`, code, 0);
  return JSON.parse(program.log());
}
