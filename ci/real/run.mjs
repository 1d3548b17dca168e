//! Real back ends, real clients: runs the stories named on the command line, or all of them, one after the other.
//!
//! A story gets a stage, starts what it needs on it, and throws at the first thing that is not as it should be. The last
//! line counts; the exit code is 1 when a story failed and 2 when one is unknown.

import { Stage } from './lib/stage.mjs';
import { within } from './lib/until.mjs';

const STORIES = [
  'stomp', 'browser', 'demo', 'ticker', 'snippets', 'curl', 'mqtt', 'irc', 'redis', 'killed', 'halfclose', 'text', 'slow',
  'feed-http', 'feed-nats', 'feed-redis', 'feed-mqtt', 'feed-tls', 'upstream-tls', 'tls-clients', 'tls-curl', 'tls-openssl',
  'tls-browser', 'proxies', 'gate', 'admin-page', 'same-stomp', 'same-mqtt', 'offload-stomp', 'offload-mqtt', 'private-mqtt', 'offload-page',
  'offload-tls', 'offload-brokers', 'laws-mqtt', 'laws-stomp', 'logins', 'crowd',
];

// Played by its name alone, since it takes minutes: brokers killed again and again under publishers.
const LONG = ['storm', 'streams'];

const STORY_MS = Number(process.env.EDGEHOLD_STORY_MS ?? 240_000);

// A rejection that nobody waited for fails the story that was on at the time.
let strays = [];
process.on('unhandledRejection', (error) => strays.push(error));

async function play(name) {
  const stage = new Stage(name);
  strays = [];
  try {
    const { default: story } = await import(`./stories/${name}.mjs`);
    await within(name, story(stage), STORY_MS);
    if (strays.length) throw strays[0];
  } catch (error) {
    stage.fail();
    throw error;
  } finally {
    // A story that was given up may still be waiting; what it started is taken from under it.
    await stage.end();
  }
  return stage.notes.join('; ');
}

async function report(name) {
  const from = performance.now();
  const seconds = () => `${((performance.now() - from) / 1000).toFixed(1)} s`;
  try {
    console.log(`ok   ${name.padEnd(10)} ${(await play(name)) || 'as it should be'} (${seconds()})`);
    return true;
  } catch (error) {
    console.log(`FAIL ${name.padEnd(10)} ${error.message} (${seconds()})`);
    if (process.env.TRACE) console.log(error.stack);
    return false;
  }
}

const chosen = process.argv.slice(2).length ? process.argv.slice(2) : STORIES;
const unknown = chosen.filter((name) => ![...STORIES, ...LONG].includes(name));
if (unknown.length) {
  console.error(`unknown: ${unknown.join(' ')}; the stories are ${[...STORIES, ...LONG].join(' ')}`);
  process.exit(2);
}
let passed = 0;
for (const name of chosen) passed += (await report(name)) ? 1 : 0;
console.log(`${passed} passed, ${chosen.length - passed} failed`);
process.exit(passed === chosen.length ? 0 : 1);
