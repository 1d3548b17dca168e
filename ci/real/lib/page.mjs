//! A page in headless Chromium.

import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';

/** What makes the browser go through a proxy of this machine, also to this machine. */
const through = (proxy) => (proxy ? [`--proxy-server=${proxy}`, '--proxy-bypass-list=<-loopback>'] : []);

/** The page at `url`, and what it complains about while it is open; `proxy` as Chromium names one, `env` on top of this
 * environment, `args` on its command line. */
export async function openPage(stage, url, { proxy, env = {}, args: more = [] } = {}) {
  if (!existsSync(CHROMIUM)) throw new Error(`no ${CHROMIUM}: ci/install browser, or set CHROMIUM`);
  const args = ['--no-sandbox', ...through(proxy), ...more];
  const browser = await chromium.launch({ executablePath: CHROMIUM, headless: true, args, env: { ...process.env, ...env } });
  stage.defer(() => browser.close());
  const page = await browser.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  const response = await page.goto(url);
  if (response.status() !== 200) throw new Error(`${url}: HTTP ${response.status()}`);
  return { browser, page, complaints };
}
