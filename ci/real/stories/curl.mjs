//! A broadcast route and curl: event stream, lines, payloads as they are, long poll; resumed, refused, over HTTP/1.0,
//! and asked by pages of other origins.

import { curl } from '../lib/curl.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { until } from '../lib/until.mjs';

/** A type that no page sends unasked: others are refused. */
const TEXT = { 'Content-Type': 'text/x-message' };

const KEPT = 3;
const PADDING = ' '.repeat(2048);
const PAGE = 'https://page.example';
const STREAM = { 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' };

const FEEDS = [{ name: 'http', source: 'http', 'replay.messages': KEPT }];
const ROUTES = [
  {
    path: '/feed/{channel}', service: 'broadcast', feeds: ['http'], channels: ['a*'],
    poll_timeout: '1s', keep_alive: '1s', retry: '2s', allow_origin: [PAGE],
  },
  { path: '/told/{channel}', service: 'broadcast', feeds: ['http'], poll_gap: 'tell' },
];

class Bench {
  constructor(stage, edgehold) {
    Object.assign(this, { stage, edgehold });
  }

  /** Publishes and gives the id, once the shard has the message. */
  async publish(channel, body, query = '') {
    const response = await this.edgehold.ask(`/v1/publish/${channel}${query}`, { method: 'POST', body, headers: TEXT });
    mustBe(`status of publishing to ${channel}`, response.status, 200);
    const { id } = await response.json();
    await until(`the shard to have ${id}`, async () => (await this.#last(channel)) === id);
    return id;
  }

  async #last(channel) {
    const answer = await fetch(this.edgehold.http(`/told/${channel}?after=`), { method: 'HEAD' });
    return answer.headers.get('Last-Event-ID');
  }

  curl(path, ...args) {
    return curl(this.stage, ...args, this.edgehold.http(path));
  }

  /** The same, to its end. */
  answer(path, ...args) {
    return this.curl(path, ...args).ends();
  }

  /** Waits until so many listen to the channel: what is said from then on, they hear. */
  async listeners(channel, count) {
    await until(`${count} to listen to ${channel}`, async () => {
      const response = await this.edgehold.ask(`/v1/channels/${channel}`);
      return (await response.json()).channels[0]?.subscribers === count;
    });
  }
}

const line = (channel, id, data) => `${JSON.stringify({ channel, id, data })}\n`;

async function events(bench) {
  const heard = bench.curl('/feed/a-events', '-H', 'Accept: text/event-stream');
  await bench.listeners('a-events', 1);
  const first = await bench.publish('a-events', 'one');
  const second = await bench.publish('a-events', 'two\nlines', '?event=e');
  const begin = 'retry: 2000\n\n';
  const told = `id: ${first}\ndata: one\n\nid: ${second}\nevent: e\ndata: two\ndata: lines\n\n`;
  await until('the events', () => heard.body().includes(told));
  // Comments may come between, and come when it is quiet.
  await until('a comment', () => heard.body().replace(told, '').includes(':\n\n'));
  mustBe('the events', heard.body().replaceAll(':\n\n', ''), begin + told);
  heard.mustSay({ ...STREAM, 'Content-Type': 'text/event-stream', 'Transfer-Encoding': 'chunked' });
  await heard.stop();

  const third = await bench.publish('a-events', 'three');
  const rest = `${begin}id: ${second}\nevent: e\ndata: two\ndata: lines\n\nid: ${third}\ndata: three\n\n`;
  for (const by of [['/feed/a-events', '-H', `Last-Event-ID: ${first}`], [`/feed/a-events?lastEventId=${first}`]]) {
    const back = bench.curl(...by, '-H', 'Accept: text/event-stream');
    await back.hears(rest);
    await back.stop();
  }
}

async function lines(bench) {
  const heard = bench.curl('/feed/a-lines');
  await bench.listeners('a-lines', 1);
  const id = await bench.publish('a-lines', 'Grüße\n"');
  await heard.hears(line('a-lines', id, 'Grüße\n"'));
  heard.mustSay({ ...STREAM, 'Content-Type': 'application/x-ndjson' });
  await heard.stop();
}

async function raw(bench) {
  const heard = bench.curl('/feed/a-raw', '-H', 'Accept: application/octet-stream');
  await bench.listeners('a-raw', 1);
  await bench.publish('a-raw', 'one');
  await bench.publish('a-raw', 'two\n');
  await heard.hears('onetwo\n');
  heard.mustSay({ ...STREAM, 'Content-Type': 'application/octet-stream' });
  await heard.stop();
}

async function polls(bench) {
  const waiting = bench.curl('/feed/a-poll?after=');
  await bench.listeners('a-poll', 1);
  const ids = [await bench.publish('a-poll', '1')];
  const first = JSON.parse((await waiting.ends()).body());
  mustBe('the polled message', first.messages[0].data, '1');
  mustBe('the last id', first.last, ids[0]);
  waiting.mustSay({ 'Last-Event-ID': ids[0], 'Cache-Control': 'no-store', 'Content-Type': 'application/json' });

  for (const data of ['2', '3']) ids.push(await bench.publish('a-poll', data));
  const next = await bench.answer(`/feed/a-poll?after=${first.last}`);
  mustBe('what is resumed', JSON.parse(next.body()).messages.map((it) => it.data).join(), '2,3');
  next.mustSay({ 'Last-Event-ID': ids[2] });

  const nothing = await bench.answer(`/feed/a-poll?after=${ids[2]}`);
  mustBe('status when nothing comes', nothing.status(), 204);
  nothing.mustSay({ 'Last-Event-ID': ids[2], 'Content-Length': undefined });
  await gone(bench, ids);
}

async function gone(bench, ids) {
  for (let i = 0; i <= KEPT; i += 1) ids.push(await bench.publish('a-poll', `later ${i}`));
  const answer = await bench.answer(`/feed/a-poll?after=${ids[0]}`);
  mustBe('status for what is gone', answer.status(), 410);
  const oldest = ids.at(-KEPT);
  const gap = { after: ids[0], channel: 'a-poll', next: oldest };
  mustBe('the gap', answer.body(), `${JSON.stringify({ gap })}\n`);
  // The answer's own id is where to go on.
  const rest = await bench.answer(`/feed/a-poll?after=${answer.field('Last-Event-ID')}`);
  mustBe('what is left', JSON.parse(rest.body()).messages.length, KEPT);

  const told = JSON.parse((await bench.answer(`/told/a-poll?after=${ids[0]}`)).body());
  mustBe('the gap that is told', told.gaps[0].gap.next, oldest);
  mustBe('what comes with it', told.messages.length, KEPT);
}

async function oldHttp(bench) {
  const heard = bench.curl('/feed/a-old', '-0', '-H', 'Accept: text/event-stream');
  await bench.listeners('a-old', 1);
  const id = await bench.publish('a-old', 'x');
  await heard.hears(`:${PADDING}\nretry: 2000\n\nid: ${id}\ndata: x\n\n`);
  heard.mustSay({ ...STREAM, 'Transfer-Encoding': undefined, 'Content-Length': undefined, Connection: 'close' });
  await heard.stop();
}

async function methods(bench) {
  const head = await bench.answer('/feed/a-events', '-I', '-H', 'Accept: text/event-stream');
  mustBe('status of HEAD', head.status(), 200);
  head.mustSay({ ...STREAM, 'Content-Type': 'text/event-stream' });

  const options = await bench.answer('/feed/a-events', '-X', 'OPTIONS');
  mustBe('status of OPTIONS', options.status(), 204);
  options.mustSay({ Allow: 'GET, HEAD, OPTIONS' });
  const asks = ['-H', `Origin: ${PAGE}`, '-H', 'Access-Control-Request-Method: GET'];
  const preflight = await bench.answer('/feed/a-events', '-X', 'OPTIONS', ...asks);
  mustBe('status of a preflight', preflight.status(), 204);
  preflight.mustSay({
    'Access-Control-Allow-Origin': PAGE,
    'Access-Control-Allow-Methods': 'GET, HEAD, OPTIONS',
    'Access-Control-Allow-Headers': 'Last-Event-ID, Cache-Control, Authorization',
  });

  const post = await bench.answer('/feed/a-events', '-d', 'x');
  mustBe('status of POST', post.status(), 405);
  post.mustSay({ Allow: 'GET, HEAD, OPTIONS' });
}

async function origins(bench) {
  await bench.publish('a-page', 'x');
  const by = (origin) => bench.answer('/feed/a-page?after=0-0', '-H', `Origin: ${origin}`);
  const [page, stranger] = [await by(PAGE), await by('https://stranger.example')];
  const exposed = { 'Access-Control-Expose-Headers': 'Last-Event-ID, Edgehold-Gap' };
  page.mustSay({ 'Access-Control-Allow-Origin': PAGE, Vary: 'Origin', ...exposed });
  stranger.mustSay({ 'Access-Control-Allow-Origin': undefined, Vary: 'Origin' });
}

async function refusals(bench) {
  const status = async (path) => (await bench.answer(path)).status();
  mustBe('status for a channel that is not allowed', await status('/feed/b'), 403);
  mustBe('status for a prefix that is not allowed', await status('/feed/*'), 403);
  mustBe('status for a channel that cannot be', await status('/feed/a%0a'), 400);
  mustBe('status for no channel', await status('/feed/'), 400);
  mustBe('status for an unknown transport', await status('/feed/a?transport=pigeon'), 400);
}

export default async function story(stage) {
  const edgehold = await startEdgehold(stage, { routes: ROUTES, feeds: FEEDS, server: { shards: 1 } });
  const bench = new Bench(stage, edgehold);
  const cases = [events, lines, raw, polls, oldHttp, methods, origins, refusals];
  for (const each of cases) await each(bench);
  stage.note(`${cases.length} groups of requests`);
}
