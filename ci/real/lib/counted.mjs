//! Counted streams: a feed says 1, 2, 3, …, and what a WebSocket client hears must be just that.

import { startEdgehold } from './edgehold.mjs';
import { mustBe } from './expect.mjs';
import { until } from './until.mjs';
import { connect } from './websocket.mjs';

/** How soon a feed must be back after its broker is. */
const BACK_MS = 20_000;

/** edgehold with one feed, and with clients of its channel `counted`. */
export async function startCounting(stage, feed, env = {}) {
  const feeds = [{ name: 'counted', ...feed }];
  // Whatever comes at once is to wait for the client, who is not slow.
  const patience = { 'slow_client.max_pending': '64MiB', 'slow_client.max_age': '1m' };
  const routes = [{ path: '/feed/{channel}', service: 'broadcast', feeds: ['counted'], ...patience }];
  const edgehold = await startEdgehold(stage, { routes, feeds, env });
  await until('the feed to be up', () => isUp(edgehold));
  const heard = [];
  const ws = await connect(edgehold.ws('/feed/counted'), { onMessage: (data) => heard.push(Number(data)) });
  await until('the client to be counted', async () => (await subscribers(edgehold)) === 1);
  stage.defer(() => ws.close(1000));
  return { edgehold, ws, heard };
}

/** What `/v1/status` says of the first feed. */
export async function stateOf(edgehold) {
  return (await (await edgehold.ask('/v1/status')).json()).feeds[0];
}

async function isUp(edgehold) {
  return (await stateOf(edgehold)).state === 'up';
}

async function subscribers(edgehold) {
  const { channels } = await (await edgehold.ask('/v1/channels/counted')).json();
  return channels.reduce((sum, channel) => sum + channel.subscribers, 0);
}

/** Resolves when the feed has noticed that its broker is gone. */
export function lost(edgehold) {
  return until('the feed to be down', async () => !(await isUp(edgehold)));
}

/** Resolves with the milliseconds until the feed is up again. */
export async function back(edgehold) {
  const from = performance.now();
  await until('the feed to be up again', () => isUp(edgehold), BACK_MS);
  return Math.round(performance.now() - from);
}

/** Waits until `last` was heard, and holds what was heard against 1, 2, 3, …, `last`. */
export async function mustHaveCounted({ heard }, last, ms = 60_000) {
  await until(`${last} to be heard`, () => heard.at(-1) === last, ms).catch((error) => {
    throw new Error(`${error.message}; ${heard.length} were, at last ${heard.at(-1)}`);
  });
  const wrong = heard.findIndex((n, i) => n !== i + 1);
  if (wrong >= 0) throw new Error(`${heard[wrong]} was heard instead of ${wrong + 1}, behind ${heard[wrong - 1]}`);
  mustBe('the count of what was heard', heard.length, last);
}

/** A secret shows nowhere: not in the log, the status, the metrics. */
export async function mustNotTell(edgehold, secret) {
  const seen = await Promise.all(['/v1/status', '/metrics'].map(async (path) => (await edgehold.ask(path)).text()));
  for (const text of [edgehold.process.log(), ...seen]) {
    if (text.includes(secret)) throw new Error('a password is shown');
  }
}

/** Does `step(n)` for each number, one after the other. */
export async function count(from, to, step) {
  for (let n = from; n <= to; n += 1) await step(n);
}
