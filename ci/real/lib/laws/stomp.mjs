//! What STOMP 1.0, 1.1 and 1.2 demand of a server, each with a script of frames that shows whether it is kept. The names are the
//! headings of the specifications. `direct`: why RabbitMQ itself is not held to it; `unmet`: why edgehold is not yet.

import { mustBe } from '../expect.mjs';

const ALL = ['1.0', '1.1', '1.2'];
const ESCAPING = ['1.1', '1.2'];
const law = (name, play, more) => ({ law: name, versions: ALL, play, ...more });

/** What is said to a server that has let the client in ends the connection by ERROR. */
const fails = (name, say, more) => law(name, async (t) => {
  const peer = await t.peer();
  await say(peer, t);
  await peer.fails();
}, more);

/** A frame that wants a receipt gets it. */
const confirms = (command, headers, before = async () => {}) => law(`RECEIPT of ${command}`, async (t) => {
  const peer = await t.peer();
  const more = await before(peer, t);
  await peer.say(command, { ...headers(t), ...more });
});

const begun = async (peer) => { await peer.say('BEGIN', { transaction: 't' }); };

/** A subscription to a queue in which a message is. */
const delivered = async (peer, t) => {
  await peer.say('SUBSCRIBE', { id: 's', destination: t.queue, ack: 'client' });
  await t.send(t.queue, 'x');
  return acknowledging(t, await peer.take('MESSAGE'));
};

/** The headers by which a message is acknowledged, which differ by version. */
function acknowledging({ version }, { headers }) {
  if (version === '1.2') return { id: headers.ack };
  return { 'message-id': headers['message-id'], ...(version === '1.1' && { subscription: headers.subscription }) };
}

const CONNECTING = [
  law('CONNECT: the version is the one that both have', async (t) => {
    const headers = await (await t.open()).greet();
    mustBe('the version', headers.version ?? '1.0', t.version);
  }),
  law('CONNECT: of several versions the highest', async (t) => {
    mustBe('the version', (await (await t.open()).greet({ 'accept-version': '1.0,1.1,1.2' })).version, '1.2');
  }, { versions: ['1.2'] }),
  law('CONNECT: no version that both have is ERROR', async (t) => {
    const peer = await t.open();
    peer.raw.send('CONNECT', { 'accept-version': '2.0,3.0', login: 'guest', passcode: 'guest', host: '/' });
    const { version } = await peer.fails();
    if (!/1\.2/.test(version)) throw new Error(`the versions are told as ${version}`);
  }, { versions: ['1.2'] }),
  law('STOMP in place of CONNECT', async (t) => { await (await t.open()).greet({}, 'STOMP'); }, { versions: ESCAPING }),
  law('CONNECT: headers that no server knows', async (t) => { await (await t.open()).greet({ 'x-any': 'thing' }); }),
  law('CONNECT: wrong credentials', async (t) => {
    const peer = await t.open();
    peer.raw.send('CONNECT', { 'accept-version': t.version, login: 'guest', passcode: 'wrong', host: '/' });
    await peer.fails();
  }, { unmet: 'credentials are not asked for on a route without auth' }),
  law('another frame before CONNECT', async (t) => {
    const peer = await t.open();
    peer.raw.send('SEND', { destination: t.topic }, 'x');
    await peer.ends();
    if (peer.raw.frames.some(({ command }) => command === 'RECEIPT')) throw new Error('it was taken');
  }, { direct: 'RabbitMQ 3.10 waits ten seconds' }),
  law('Heart-beating: none is agreed on where the client wants none', async (t) => {
    const beat = (await (await t.open()).greet({ 'heart-beat': '0,0' }))['heart-beat'];
    if (!/^\d+,\d+$/.test(beat ?? '0,0')) throw new Error(`heart-beat is ${beat}`);
  }, { versions: ESCAPING }),
  law('Heart-beating: the server beats, and a silent client is ended', async (t) => {
    const peer = await t.open();
    const bytes = [];
    await peer.greet({ 'heart-beat': '1000,1000' });
    peer.raw.transport.take((data) => bytes.push(...data), () => {});
    await peer.ends();
    if (!bytes.includes(10)) throw new Error('nothing was heard');
  }, { versions: ESCAPING }),
  law('DISCONNECT: the receipt, then the end', async (t) => {
    const peer = await t.peer();
    await peer.say('DISCONNECT');
    await peer.ends();
  }),
];

const FORM = [
  fails('a command that is none', (peer) => peer.bytes('SHOUT\ndestination:/topic/a\n\n')),
  fails('a header without a colon', (peer) => peer.bytes('SEND\ndestination:/topic/a\nnonsense\n\n'), { direct: 'RabbitMQ 3.10 ends without a word' }),
  fails('Value Encoding: an escape that is none', (peer) => peer.bytes('SEND\ndestination:/topic/a\nx:\\t\n\n'), { versions: ['1.2'], direct: 'RabbitMQ 3.10 takes it' }),
  fails('content-length that is no number', (peer, t) => peer.bytes(`SEND\ndestination:${t.topic}\ncontent-length:x\n\nx`), { direct: 'RabbitMQ 3.10 takes it' }),
  law('Body: NUL within content-length', async (t) => {
    const listener = await t.listener(t.topic);
    const peer = await t.peer();
    await peer.say('SEND', { destination: t.topic, 'content-length': 3 }, 'a\0b');
    mustBe('the body', JSON.stringify(await listener.hears()), '"a\\u0000b"');
  }),
  law('Body: without content-length up to the NUL', async (t) => {
    const listener = await t.listener(t.topic);
    (await t.peer()).bytes(`SEND\ndestination:${t.topic}\n\nas it stands`);
    mustBe('the body', await listener.hears(), 'as it stands');
  }),
  law('Frames: line ends between them', async (t) => {
    const listener = await t.listener(t.topic);
    (await t.peer()).raw.say(Buffer.from(`\n\n\nSEND\ndestination:${t.topic}\n\none\0\n\n\nSEND\ndestination:${t.topic}\n\ntwo\0\n`));
    mustBe('the bodies', `${await listener.hears()} ${await listener.hears()}`, 'one two');
  }),
  law('Frames: CR LF ends a line', async (t) => {
    const listener = await t.listener(t.topic);
    (await t.peer()).bytes(`SEND\r\ndestination:${t.topic}\r\nx:y\r\n\r\nbody`);
    const { body, headers } = await listener.take('MESSAGE');
    mustBe('what came', `${body} ${headers.x}`, 'body y');
  }, { versions: ['1.2'] }),
  law('Repeated Header Entries: the first counts', async (t) => {
    const listener = await t.listener(t.topic);
    (await t.peer()).bytes(`SEND\ndestination:${t.topic}\nx:first\nx:second\n\n`);
    mustBe('the header', (await listener.take('MESSAGE')).headers.x, 'first');
  }, { versions: ESCAPING }),
  law('Value Encoding: what is escaped comes back', async (t) => {
    const listener = await t.listener(t.topic);
    const odd = t.version === '1.2' ? 'a:b\\c\nd\re' : 'a:b\\c\nd';
    await (await t.peer()).say('SEND', { destination: t.topic, 'x-odd': odd, 'x:name': 'v' }, 'x');
    const { headers } = await listener.take('MESSAGE');
    mustBe('the headers', `${JSON.stringify(headers['x-odd'])} ${headers['x:name']}`, `${JSON.stringify(odd)} v`);
  }, { versions: ESCAPING }),
  law('Headers: spaces are kept', async (t) => {
    const listener = await t.listener(t.topic);
    (await t.peer()).bytes(`SEND\ndestination:${t.topic}\nx: a \n\n`);
    mustBe('the header', JSON.stringify((await listener.take('MESSAGE')).headers.x), '" a "');
  }, { versions: ESCAPING }),
];

const RECEIPTS = [
  confirms('SEND', (t) => ({ destination: t.topic })),
  confirms('SUBSCRIBE', (t) => ({ id: 's', destination: t.topic })),
  confirms('UNSUBSCRIBE', () => ({ id: 's' }), (peer, t) => peer.say('SUBSCRIBE', { id: 's', destination: t.topic })),
  confirms('BEGIN', () => ({ transaction: 't' })),
  confirms('COMMIT', () => ({ transaction: 't' }), begun),
  confirms('ABORT', () => ({ transaction: 't' }), begun),
  confirms('ACK', () => ({}), delivered),
  { ...confirms('NACK', () => ({}), delivered), versions: ESCAPING },
];

const MESSAGES = [
  law('MESSAGE: destination, message-id, subscription', async (t) => {
    const listener = await t.listener(t.topic);
    await t.send(t.topic, 'x');
    const { headers } = await listener.take('MESSAGE');
    mustBe('where it is from', `${headers.destination} ${headers.subscription}`, `${t.topic} s`);
    if (!headers['message-id']) throw new Error('it has no message-id');
  }),
  law('MESSAGE: what the sender has put into headers', async (t) => {
    const listener = await t.listener(t.topic);
    await (await t.peer()).say('SEND', { destination: t.topic, 'content-type': 'text/x-any', 'x-mine': '\u00fc' }, 'x');
    const { headers } = await listener.take('MESSAGE');
    mustBe('the headers', `${headers['content-type']} ${headers['x-mine']}`, 'text/x-any \u00fc');
  }),
  law('MESSAGE: ack, where it is to be acknowledged', async (t) => {
    const listener = await t.listener(t.queue, { ack: 'client-individual' });
    await t.send(t.queue, 'x');
    const { headers } = await listener.take('MESSAGE');
    if (!headers.ack) throw new Error('it has no ack');
    await listener.say('ACK', { id: headers.ack });
  }, { versions: ['1.2'] }),
  law('SUBSCRIBE: two to one destination hear a message each', async (t) => {
    const listener = await t.listener(t.topic);
    await listener.say('SUBSCRIBE', { id: 'other', destination: t.topic });
    await t.send(t.topic, 'x');
    const from = [await listener.take('MESSAGE'), await listener.take('MESSAGE')].map(({ headers }) => headers.subscription);
    mustBe('the subscriptions', from.sort().join(), 'other,s');
  }),
  law('UNSUBSCRIBE: nothing more is heard', async (t) => {
    const listener = await t.listener(t.topic);
    await listener.say('SUBSCRIBE', { id: 'other', destination: `${t.topic}.other` });
    await t.send(t.topic, 'heard');
    mustBe('what is heard', await listener.hears(), 'heard');
    await listener.say('UNSUBSCRIBE', { id: 's' });
    await t.send(t.topic, 'unheard');
    await t.send(`${t.topic}.other`, 'end');
    mustBe('what is heard behind it', await listener.all(), '');
  }),
  law('SEND: in its order', async (t) => {
    const listener = await t.listener(t.topic);
    const bodies = Array.from({ length: 50 }, (_, i) => `${i}`);
    await t.send(t.topic, ...bodies, 'end');
    mustBe('what is heard', await listener.all(), bodies.join());
  }),
  fails('SEND without a destination', (peer) => peer.raw.send('SEND', {}, 'x')),
  fails('SUBSCRIBE without a destination', (peer) => peer.raw.send('SUBSCRIBE', { id: 's' })),
  fails('SUBSCRIBE without an id', (peer, t) => peer.raw.send('SUBSCRIBE', { destination: t.topic }), { versions: ESCAPING, direct: 'RabbitMQ 3.10 takes it' }),
  fails('ACK of a message that there is not', (peer, t) => peer.raw.send('ACK', t.version === '1.2' ? { id: 'none' } : { 'message-id': 'none', subscription: 's' }), { versions: ['1.2'] }),
  law('ERROR: receipt-id of the frame, and the end', async (t) => {
    const peer = await t.peer();
    peer.raw.send('COMMIT', { transaction: 'none', receipt: 'mine' });
    mustBe('receipt-id', (await peer.fails())['receipt-id'], 'mine');
  }, { direct: 'RabbitMQ 3.10 does not say it here' }),
];

/** Of three messages of a queue these come again to another client, when the one that had them has left. */
async function again(t, ack, act, ...wanted) {
  const first = await t.listener(t.queue, { ack });
  await t.send(t.queue, '1', '2', '3');
  const messages = [await first.take('MESSAGE'), await first.take('MESSAGE'), await first.take('MESSAGE')];
  await act(first, messages);
  await first.say('DISCONNECT');
  await first.ends();
  const next = await t.listener(t.queue);
  const bodies = [];
  for (const _ of wanted) bodies.push(await next.hears());
  await t.send(t.queue, 'end');
  mustBe('what comes again', `${bodies.sort().join()} ${await next.all()}`, `${wanted.join()} `);
}

const ACKNOWLEDGING = [
  law('ack:client is cumulative', (t) => again(t, 'client', (it, messages) => it.say('ACK', acknowledging(t, messages[1])), '3')),
  law('ack:client-individual is not', (t) => (
    again(t, 'client-individual', (it, messages) => it.say('ACK', acknowledging(t, messages[1])), '1', '3')
  ), { versions: ESCAPING }),
  law('ack:auto needs none', (t) => again(t, 'auto', async () => {})),
  ...['ABORT', 'COMMIT'].map((end) => law(`ACK in a transaction that ends by ${end}`, (t) => again(t, 'client-individual', async (it, messages) => {
    await it.say('BEGIN', { transaction: 't' });
    it.raw.send('ACK', { ...acknowledging(t, messages[0]), transaction: 't' });
    await it.say(end, { transaction: 't' });
    await it.say('ACK', acknowledging(t, messages[1]));
  }, ...(end === 'ABORT' ? ['1', '3'] : ['3'])), { versions: ESCAPING })),
  law('ACK in a transaction of who leaves', (t) => again(t, 'client', async (it, messages) => {
    await it.say('BEGIN', { transaction: 't' });
    it.raw.send('ACK', { ...acknowledging(t, messages[1]), transaction: 't' });
  }, '1', '2', '3')),
];

// For a minute after a transaction may have ended a session of the edge, what is sent in one goes to known destinations alone.
const TRANSACTIONS = [
  law('COMMIT: all of it, then', async (t) => {
    const listener = await t.listener(t.topic);
    const peer = await t.peer();
    await peer.say('SEND', { destination: t.topic }, 'known');
    await peer.say('BEGIN', { transaction: 't' });
    for (const body of ['1', '2']) peer.raw.send('SEND', { destination: t.topic, transaction: 't' }, body);
    await peer.say('SEND', { destination: t.topic }, 'before');
    await peer.say('COMMIT', { transaction: 't' });
    await peer.say('SEND', { destination: t.topic }, 'end');
    mustBe('what is heard', await listener.all(), 'known,before,1,2');
  }),
  law('ABORT: nothing of it', async (t) => {
    const listener = await t.listener(t.topic);
    const peer = await t.peer();
    await peer.say('SEND', { destination: t.topic }, 'known');
    await peer.say('BEGIN', { transaction: 't' });
    peer.raw.send('SEND', { destination: t.topic, transaction: 't' }, 'x');
    await peer.say('ABORT', { transaction: 't' });
    await peer.say('SEND', { destination: t.topic }, 'end');
    mustBe('what is heard', await listener.all(), 'known');
  }),
  law('a transaction of who leaves is aborted', async (t) => {
    const listener = await t.listener(t.topic);
    const peer = await t.peer();
    await peer.say('SEND', { destination: t.topic }, 'known');
    await peer.say('BEGIN', { transaction: 't' });
    peer.raw.send('SEND', { destination: t.topic, transaction: 't' }, 'x');
    await peer.say('DISCONNECT');
    await t.send(t.topic, 'end');
    mustBe('what is heard', await listener.all(), 'known');
  }),
  fails('BEGIN of a transaction that is open', async (peer) => {
    await peer.say('BEGIN', { transaction: 't' });
    peer.raw.send('BEGIN', { transaction: 't' });
  }, { direct: 'RabbitMQ 3.10 takes it' }),
  fails('SEND in a transaction that there is not', (peer, t) => peer.raw.send('SEND', { destination: t.topic, transaction: 'none' }, 'x')),
  fails('ABORT of a transaction that there is not', (peer) => peer.raw.send('ABORT', { transaction: 'none' })),
];

export const STOMP_LAWS = [...CONNECTING, ...FORM, ...RECEIPTS, ...MESSAGES, ...ACKNOWLEDGING, ...TRANSACTIONS];
