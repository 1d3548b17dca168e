//! The first five minutes: `edgehold serve` without a configuration, and its own page in headless Chromium. The page
//! connects, echoes come back, the figures arrive from the admin address, and the browser has nothing to complain of.

import { PORT, startDemo } from '../lib/demo.mjs';
import { openPage } from '../lib/page.mjs';
import { until } from '../lib/until.mjs';

/** Sends `text` as a message of `kind` from the console; resolves when its echo stands in the log. */
async function echo(page, kind, text) {
  await page.check(`input[value=${kind}]`);
  await page.fill('#message', text);
  await page.click('#send');
  const back = page.locator('#log .received', { hasText: text });
  await until(`the ${kind} echo in #log`, async () => (await back.count()) === 1);
}

async function median(page) {
  await page.click('#hundred');
  return until('the median of 100', async () => /^median [\d.]+ ms$/.exec(await page.textContent('#median'))?.[0]);
}

const connections = async (page) => Number((await page.textContent('#connections')).replaceAll(',', ''));

export default async function demo(stage) {
  await startDemo(stage);
  const { page, complaints } = await openPage(stage, `http://127.0.0.1:${PORT}/`);
  await until('the page to connect', async () => (await page.textContent('#state')) === 'connected');
  await echo(page, 'text', 'once around, Grüße');
  await echo(page, 'binary', 'and in bytes, Grüße');
  const trip = await median(page);
  const count = await until('#connections to count this page', async () => (await connections(page)) >= 1 && connections(page));
  const shards = await page.locator('#shards tr').count();
  if (shards < 1) throw new Error('#shards has no row');
  if (complaints.length) throw new Error(`the browser complains: ${complaints.join('; ')}`);
  stage.note(`${trip} of 100, connections: ${count}, shards: ${shards}`);
}
