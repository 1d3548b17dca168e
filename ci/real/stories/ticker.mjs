//! The tickers of the demo page in headless Chromium: no number of the counted feed is missing or doubled, over
//! WebSocket and over EventSource, while the page is reloaded and its sockets are cut; each comes back by itself with
//! its last id, and the server replays.

import { PORT, startDemo } from '../lib/demo.mjs';
import { mustBe } from '../lib/expect.mjs';
import { openPage } from '../lib/page.mjs';
import { startRelay } from '../lib/relay.mjs';
import { until } from '../lib/until.mjs';

const TRANSPORTS = ['ws', 'sse'];
const FIELDS = ['last', 'received', 'missing', 'doubled', 'replayed', 'gaps', 'reconnects'];

/** Messages between two events of this story. */
const SOME = 10;

/** What a ticker shows. */
async function look(page, name) {
  const text = (field) => page.textContent(`#${name} [data-of=${field}]`);
  const shown = { state: await text('state') };
  for (const field of FIELDS) shown[field] = Number((await text(field)).replaceAll(',', '')) || 0;
  return shown;
}

function mustBeWhole(name, shown) {
  for (const field of ['missing', 'doubled', 'gaps']) mustBe(`${field} of ${name}`, shown[field], 0);
}

/** Waits until each ticker is connected and has passed the number `past`; resolves with what they show. */
async function passed(page, past) {
  const shown = {};
  for (const name of TRANSPORTS) {
    shown[name] = await until(`${name} to pass ${past}`, async () => {
      const now = await look(page, name);
      return now.state === 'connected' && now.last > past && now;
    }, 30_000);
    mustBeWhole(name, shown[name]);
  }
  return shown;
}

const highest = (shown) => Math.max(...TRANSPORTS.map((name) => shown[name].last));

async function reloaded(page, before) {
  await page.goto('about:blank');
  // The feed goes on while nobody listens: its next numbers are heard elsewhere.
  const away = highest(before) + 2 * SOME;
  await hear(away);
  await page.goBack();
  const shown = await passed(page, away + SOME);
  for (const name of TRANSPORTS) {
    if (shown[name].replayed < SOME) throw new Error(`${name} says that ${shown[name].replayed} were replayed`);
  }
  return shown;
}

/** Resolves when the feed has come to `number`, by long polls. */
async function hear(number) {
  await until(`the feed to say ${number}`, async () => {
    const response = await fetch(`http://127.0.0.1:${PORT}/feed/ticker?after=`);
    if (response.status !== 200) return false;
    const { messages } = await response.json();
    return messages.some(({ data }) => JSON.parse(data).n >= number);
  });
}

/** Cuts the page's connections, and lets it come back when some more was said. */
async function cut(page, relay, before) {
  relay.down();
  for (const name of TRANSPORTS) {
    await until(`${name} to be lost`, async () => (await look(page, name)).state !== 'connected');
  }
  await hear(highest(before) + SOME);
  relay.up();
  const shown = await passed(page, highest(before) + 3 * SOME);
  for (const name of TRANSPORTS) {
    if (shown[name].reconnects < 1) throw new Error(`${name} was never cut`);
  }
  return shown;
}

export default async function ticker(stage) {
  await startDemo(stage);
  const relay = await startRelay(stage);
  const proxy = `socks5://127.0.0.1:${relay.port}`;
  const { browser, page, complaints } = await openPage(stage, `http://127.0.0.1:${PORT}/`, { proxy });
  let shown = await passed(page, SOME);
  shown = await reloaded(page, shown);
  const replayed = TRANSPORTS.map((name) => shown[name].replayed);
  if (complaints.length) throw new Error(`the browser complains: ${complaints.join('; ')}`);
  // From here on it does, of connections that are refused.
  shown = await cut(page, relay, shown);
  shown = await reloaded(page, shown);
  stage.note(`${highest(shown)} numbers, replayed ${replayed.join(' and ')} after the first reload`);
  stage.note(`Chromium ${browser.version()}`);
}
