//! Headless Chromium, as ci/install puts it there for ci/real: Debian's program, and playwright-core to drive it.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** A browser; the caller closes it. */
export async function launch() {
  if (!existsSync(CHROMIUM)) throw new Error(`no ${CHROMIUM}: ci/install browser, or set CHROMIUM`);
  // The clients are installed once, in ci/real.
  const { chromium } = createRequire(new URL('../real/package.json', import.meta.url))('playwright-core');
  return chromium.launch({ executablePath: CHROMIUM, headless: true, args: ['--no-sandbox'] });
}
