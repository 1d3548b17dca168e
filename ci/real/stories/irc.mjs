//! ngIRCd behind edgehold with frames = "lines": one text frame per line, without its line end.

import { startNgircd } from '../lib/brokers.mjs';
import { generator, text } from '../lib/bodies.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { until, within } from '../lib/until.mjs';
import { connect } from '../lib/websocket.mjs';

const COUNT = 10_000;
// An IRC line has 512 bytes with its end; the server puts the sender's prefix in front.
const SAY_BYTES = 380;
// The speaker stays at most so many lines ahead of the listener, so that no limit of the broker's own on what may wait for
// a client comes into play.
const AHEAD = 40;

/** A client that keeps the lines it was sent, and answers the server's PING. */
class IrcClient {
  constructor(nick) {
    Object.assign(this, { nick, lines: [], oddities: [] });
  }

  async open(url) {
    this.ws = await connect(url, { onMessage: (data, isBinary) => this.line(data, isBinary) });
    this.say(`NICK ${this.nick}`);
    this.say(`USER ${this.nick} 0 * :${this.nick}`);
    await this.sees(new RegExp(`^:\\S+ 001 ${this.nick} `));
    return this;
  }

  line(data, isBinary) {
    const line = data.toString('utf8');
    if (isBinary) this.oddities.push('a binary frame');
    if (/[\r\n]/.test(line)) this.oddities.push(`a line end in ${JSON.stringify(line)}`);
    if (line.startsWith('PING ')) this.say(`PONG ${line.slice(5)}`);
    else this.lines.push(line);
  }

  say(line) {
    this.ws.send(line);
  }

  sees(pattern) {
    return until(`${this.nick} to see ${pattern}`, () => this.lines.find((line) => pattern.test(line)));
  }

  heard(from, room) {
    const start = new RegExp(`^:${from}!\\S+ PRIVMSG ${room} :`);
    return this.lines.filter((line) => start.test(line)).map((line) => line.replace(start, ''));
  }
}

/** Lines of up to `SAY_BYTES` bytes. The number in front keeps each from being empty; the full stop keeps the server from taking
 * spaces off the end, as it does. */
function sentences(count) {
  const random = generator(5);
  const cut = (words) => {
    while (Buffer.byteLength(words) > SAY_BYTES) words = [...words].slice(0, -8).join('');
    return words;
  };
  const clean = (words) => words.replace(/[\0\r\n]/g, '');
  return Array.from({ length: count }, (_, i) => `${cut(`${i} ${clean(text(random, random(SAY_BYTES)))}`)}.`);
}

async function speak(speaker, listener, lines) {
  const before = listener.lines.length;
  for (let i = 0; i < lines.length; i += 1) {
    if (i % AHEAD === 0) await until(`line ${i}`, () => listener.lines.length - before >= i - AHEAD);
    // Both ways to end a line are used: edgehold adds the end where it is missing.
    speaker.say(`PRIVMSG #edge :${lines[i]}${i % 3 ? '' : '\r\n'}`);
  }
  await until('the last line', () => listener.lines.length - before >= lines.length);
}

function compare(heard, lines) {
  const at = lines.findIndex((line, i) => heard[i] !== line);
  if (at >= 0) throw new Error(`line ${at}: ${JSON.stringify(heard[at])} instead of ${JSON.stringify(lines[at])}`);
  mustBe('lines', heard.length, lines.length);
}

export default async function irc(stage) {
  const broker = await startNgircd(stage);
  const edgehold = await startEdgehold(stage, {
    routes: [{ path: '/irc', service: 'proxy', upstream: `tcp://127.0.0.1:${broker.port}`, frames: 'lines' }],
  });
  const [ann, bob] = [await new IrcClient('ann').open(edgehold.ws('/irc')), await new IrcClient('bob').open(edgehold.ws('/irc'))];
  for (const client of [ann, bob]) {
    client.say('JOIN #edge');
    await client.sees(new RegExp(` 366 ${client.nick} #edge `));
  }
  await ann.sees(/^:bob!\S+ JOIN :?#edge/);

  const lines = sentences(COUNT);
  await speak(ann, bob, lines);
  compare(bob.heard('ann', '#edge'), lines);

  ann.say('PART #edge :bye');
  await bob.sees(/^:ann!\S+ PART #edge :/);
  bob.say('QUIT :bye');
  await bob.sees(/^ERROR :/);
  const { code } = await within('the end after QUIT', bob.ws.closed);
  mustBe('close code after QUIT', code, 1012);
  ann.ws.close(1000);
  await within('the closing handshake', ann.ws.closed);
  const oddities = [...ann.oddities, ...bob.oddities];
  if (oddities.length) throw new Error(oddities[0]);
  stage.note(`${COUNT} lines, none held back by the server`);
}
