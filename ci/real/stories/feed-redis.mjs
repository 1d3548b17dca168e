//! Redis as a feed, killed and ended in mid-stream: its channels are heard again by themselves, and of a stream no number
//! is missing or doubled.

import { startRedis } from '../lib/brokers.mjs';
import { back, count, lost, mustHaveCounted, mustNotTell, startCounting } from '../lib/counted.mjs';
import { ask } from '../lib/redis.mjs';
import { until } from '../lib/until.mjs';

const PASSWORD = 's3cr3t-of-redis';
const PART = 1000;

const source = (broker) => `redis://:${PASSWORD}@127.0.0.1:${broker.port}/2`;
const say = (broker, ...parts) => ask(broker.port, ['AUTH', PASSWORD], ['SELECT', '2'], parts);

/** One hears by the channel's name, the other by its pattern. */
async function channels(stage, broker) {
  const feed = { source: source(broker), topics: ['plain', 'pattern.*'], channel: 'counted' };
  const counting = await startCounting(stage, feed);
  const publish = (n) => say(broker, 'PUBLISH', n % 2 ? 'plain' : 'pattern.a', `${n}`);
  await count(1, PART, publish);
  await mustHaveCounted(counting, PART);
  await broker.kill();
  await lost(counting.edgehold);
  await broker.restart();
  const ms = await back(counting.edgehold);
  await count(PART + 1, 2 * PART, publish);
  await mustHaveCounted(counting, 2 * PART);
  await mustNotTell(counting.edgehold, PASSWORD);
  return ms;
}

/** Adds an entry until Redis says that it is there; its id is ours, so that it is added once. */
function put(broker, n) {
  const entry = ['XADD', 'counted', `${n}-0`, 'data', `${n}`, 'key', 'k'];
  const add = async () => /-0\r\n|equal or smaller/.test(await say(broker, ...entry));
  return until(`${n} to be stored`, add, 30_000);
}

async function streams(stage, broker) {
  const counting = await startCounting(stage, { source: source(broker), topics: ['counted'], redis_streams: true });
  const publishing = count(1, 3 * PART, (n) => put(broker, n));
  for (const [at, leave] of [[PART, 'kill'], [2 * PART, 'end']]) {
    await until(`${at} to be heard`, () => counting.heard.length >= at, 60_000);
    await broker[leave]();
    await lost(counting.edgehold);
    await broker.restart();
  }
  await publishing;
  await mustHaveCounted(counting, 3 * PART);
  await mustNotTell(counting.edgehold, PASSWORD);
}

export default async function redis(stage) {
  const broker = await startRedis(stage, { requirepass: PASSWORD, appendonly: 'yes', appendfsync: 'always' });
  stage.note(`channels: ${2 * PART} numbers, back after ${await channels(stage, broker)} ms`);
  await streams(stage, broker);
  stage.note(`streams: ${3 * PART} numbers over a kill and a restart`);
}
