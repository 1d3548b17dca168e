//! Normative statements of MQTT 3.1.1 and 5.0 that concern a server, each with a script of packets that shows whether it is kept.
//!
//! `law` names the statement (of 5.0 where both versions have it, of 3.1.1 where only that has it, a section where it has no
//! number), `versions` those that it is tried in, `play` the script. `direct`: why the broker itself is not held to it; `unmet`:
//! why edgehold is not yet.

import { mustBe } from '../expect.mjs';
import { CONNECTING } from './mqtt_connect.mjs';
import { FIVE } from './mqtt_five.mjs';
import { TAKES } from './why.mjs';

const BOTH = [4, 5];

/** A PUBLISH of QoS 1 or 2 by hand. */
const publish = (first, topic, id, version) => {
  const body = [0, topic.length, topic, id >> 8, id & 255, ...(version === 5 ? [0] : []), 'x'];
  return [first, topic.length + 5 + (version === 5 ? 1 : 0), ...body];
};

/** A SUBSCRIBE of one filter by hand. */
const subscribe = (first, id, filter, options, version) => {
  const properties = version === 5 ? [0] : [];
  return [first, filter.length + 5 + properties.length, 0, id, ...properties, 0, filter.length, filter, options];
};

/** A malformed packet ends the connection. */
const malformed = (law, bytes, direct) => ({
  law, versions: BOTH, direct,
  play: async (t) => {
    const peer = await t.peer();
    peer.say(...bytes(t.version));
    await peer.ends();
  },
});

/** What `filter` matches of what is published. */
const matches = (law, filter, topics, heard) => ({
  law: `${law} ${filter}`, versions: BOTH,
  play: async (t) => {
    const at = (topic) => topic.replace('N', t.name);
    const listener = await t.listener([at(filter), 1], [`${t.name}.end`, 1]);
    const speaker = await t.peer();
    for (const topic of topics) await speaker.pub(at(topic), 'x', { qos: 1 });
    // What may come is waited for, and what is left then is what must not.
    const wanted = heard.map((topic) => `${at(topic)} x`).sort().join();
    await speaker.pub(`${t.name}.end`, 'end', { qos: 1 });
    await listener.raw.when(`${heard.length} messages and the last`, () => listener.raw.packets.filter((it) => it.cmd === 'publish').length > heard.length);
    await listener.pong();
    const all = listener.raw.packets.filter((it) => it.cmd === 'publish' && `${it.payload}` !== 'end').map((it) => `${it.topic} ${it.payload}`);
    mustBe('what was heard', all.sort().join(), wanted);
  },
});

/** A filter that is none is not granted. */
const noFilter = (law, filter) => ({
  law: `${law} ${JSON.stringify(filter)}`, versions: BOTH,
  play: async (t) => {
    const peer = await t.peer();
    peer.say(...subscribe(0x82, 1, filter, 0, t.version));
    await peer.raw.when('SUBACK, or the end', () => peer.raw.closed || peer.raw.packets.some((it) => it.cmd === 'suback'));
    const [granted] = peer.raw.packets.filter((it) => it.cmd === 'suback').flatMap((it) => it.granted);
    if (granted < 0x80) throw new Error(`granted with ${granted}`);
  },
});

const FORM = [
  malformed('MQTT-1.5.4-1 ill-formed UTF-8', (v) => publish(0x32, 'a\u00ff', 1, v).map((it) => (it === 'a\u00ff' ? Buffer.from([0x61, 0xff]) : it))),
  malformed('MQTT-1.5.4-1 a surrogate', (v) => [0x30, 6 + (v === 5), 0, 3, 0xed, 0xa0, 0x80, ...(v === 5 ? [0] : []), 'x']),
  malformed('MQTT-1.5.4-2 U+0000', (v) => publish(0x32, 'a\0b', 1, v)),
  malformed('MQTT-1.5.5-1 five bytes of length', () => [0x30, 0xff, 0xff, 0xff, 0xff, 0x7f]),
  malformed('MQTT-2.1.3-1 flags of PINGREQ', () => [0xc1, 0], TAKES),
  malformed('MQTT-2.1.3-1 flags of PUBACK', () => [0x41, 2, 0, 1], TAKES),
  malformed('MQTT-2.2.1-3 packet identifier 0 of PUBLISH', (v) => publish(0x32, 'a', 0, v)),
  malformed('MQTT-2.2.1-3 packet identifier 0 of SUBSCRIBE', (v) => subscribe(0x82, 0, 'a', 0, v)),
  malformed('2.1.2 packet type 0', () => [0x00, 0]),
  malformed('2.1.2 a packet that only a server sends', () => [0xd0, 0], TAKES),
  malformed('MQTT-3.3.1-4 QoS 3', (v) => publish(0x36, 'a', 1, v)),
  malformed('MQTT-3.3.1-2 DUP with QoS 0', (v) => [0x38, 4 + (v === 5), 0, 1, 'a', ...(v === 5 ? [0] : []), 'x'], TAKES),
  malformed('MQTT-3.3.2-2 a wildcard in the topic of PUBLISH', (v) => publish(0x32, 'a/+', 1, v)),
  malformed('MQTT-4.7.3-1 a topic of no character', (v) => [0x30, 3 + (v === 5), 0, 0, ...(v === 5 ? [0] : []), 'x']),
  malformed('MQTT-3.6.1-1 flags of PUBREL', () => [0x60, 2, 0, 1]),
  malformed('MQTT-3.8.1-1 flags of SUBSCRIBE', (v) => subscribe(0x80, 1, 'a', 0, v)),
  malformed('MQTT-3.8.3-2 SUBSCRIBE without a filter', (v) => (v === 5 ? [0x82, 3, 0, 1, 0] : [0x82, 2, 0, 1])),
  malformed('MQTT-3.8.3-5 reserved bits of options', (v) => subscribe(0x82, 1, 'a', 0xc0, v)),
  malformed('3.8.3.1 QoS 3 in SUBSCRIBE', (v) => subscribe(0x82, 1, 'a', 3, v)),
  malformed('MQTT-3.10.1-1 flags of UNSUBSCRIBE', (v) => [0xa0, 5 + (v === 5), 0, 1, ...(v === 5 ? [0] : []), 0, 1, 'a']),
  malformed('MQTT-3.10.3-2 UNSUBSCRIBE without a filter', (v) => (v === 5 ? [0xa2, 3, 0, 1, 0] : [0xa2, 2, 0, 1])),
  malformed('MQTT-3.14.1-1 flags of DISCONNECT', () => [0xe1, 0]),
];

const TOPICS = [
  noFilter('MQTT-4.7.1-1', 'a/#/b'),
  noFilter('MQTT-4.7.1-1', 'a#'),
  noFilter('MQTT-4.7.1-2', 'a+/b'),
  noFilter('MQTT-4.7.3-1', ''),
  matches('4.7.1.2', 'N/#', ['N', 'N/a', 'N/a/b', 'Nb'], ['N', 'N/a', 'N/a/b']),
  matches('4.7.1.3', 'N/+', ['N', 'N/', 'N/a', 'N/a/b'], ['N/', 'N/a']),
  matches('4.7.1.3', 'N/+/c', ['N/a/c', 'N//c', 'N/a/b/c', 'N/c'], ['N/a/c', 'N//c']),
  matches('4.7.3 a leading level of none', '/N', ['/N', 'N', 'N/'], ['/N']),
  matches('MQTT-4.7.3-4 letters as they are', 'N/A b/\u00fc', ['N/a b/\u00fc', 'N/A b/u\u0308', 'N/A b/\u00fc'], ['N/A b/\u00fc']),
];

const PUBLISHING = [
  ...[1, 2].map((qos) => ({
    law: `MQTT-4.3.${qos + 1}-1 QoS ${qos} there and back, in its order (MQTT-4.6.0-5)`, versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/#`, qos]);
      const speaker = await t.peer();
      const bodies = Array.from({ length: 60 }, (_, i) => `${i}`);
      for (const body of bodies) await speaker.pub(`${t.name}/a`, body, { qos });
      await speaker.pub(`${t.name}/a`, 'end', { qos });
      mustBe('what was heard', await listener.hears(), bodies.map((body) => `${t.name}/a ${body}`).join());
    },
  })),
  {
    law: 'MQTT-4.3.3-10 QoS 2 said again before PUBREL is delivered once', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/a`, 2]);
      const speaker = await t.peer();
      speaker.raw.answers = false;
      const packet = { cmd: 'publish', topic: `${t.name}/a`, payload: 'once', qos: 2, retain: false, messageId: 9 };
      for (const dup of [false, true]) {
        speaker.raw.send({ ...packet, dup });
        mustBe('the identifier of PUBREC', (await speaker.take('pubrec')).messageId, 9);
      }
      speaker.raw.send({ cmd: 'pubrel', messageId: 9 });
      await speaker.take('pubcomp');
      speaker.raw.answers = true;
      await speaker.pub(`${t.name}/a`, 'end', { qos: 2 });
      mustBe('what was heard', await listener.hears(), `${t.name}/a once`);
    },
  },
  {
    law: 'MQTT-3.3.1-3 DUP is not handed on', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/a`, 1]);
      await (await t.peer()).pub(`${t.name}/a`, 'x', { qos: 1, dup: true });
      mustBe('DUP', (await listener.take('publish')).dup, false);
    },
  },
  {
    law: 'MQTT-3.8.4-8 the lower of the QoS published and granted', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/0`, 0], [`${t.name}/1`, 1], [`${t.name}/2`, 2]);
      const speaker = await t.peer();
      for (const granted of [0, 1, 2]) for (const qos of [0, 1, 2]) {
        await speaker.pub(`${t.name}/${granted}`, `${qos}`, { qos });
        mustBe(`QoS of ${qos} where ${granted} is granted`, (await listener.take('publish')).qos, Math.min(qos, granted));
      }
    },
  },
  {
    law: 'MQTT-3.3.4-2 overlapping filters: the highest QoS, and never none', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/#`, 0], [`${t.name}/a`, 2], [`${t.name}/+`, 1]);
      await (await t.peer()).pub(`${t.name}/a`, 'x', { qos: 2 });
      await listener.raw.when('QoS 2', () => listener.raw.packets.some((it) => it.cmd === 'publish' && it.qos === 2));
    },
  },
  {
    law: 'MQTT-3.12.4-1 PINGRESP', versions: BOTH,
    play: async (t) => { await (await t.peer()).pong(); },
  },
];

const SUBSCRIBING = [
  {
    law: 'MQTT-3.8.4-6 an answer for each filter, in their order', versions: BOTH,
    play: async (t) => {
      const granted = await (await t.peer()).sub([[`${t.name}/0`, 0], [`${t.name}/2`, 2], [`${t.name}/1`, 1]]);
      mustBe('what is granted', granted.join(), '0,2,1');
    },
  },
  {
    law: 'MQTT-3.8.4-3 the same filter again replaces the subscription', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/a`, 0]);
      await listener.sub([[`${t.name}/a`, 1]]);
      const speaker = await t.peer();
      await speaker.pub(`${t.name}/a`, 'x', { qos: 1 });
      await speaker.pub(`${t.name}/a`, 'end', { qos: 1 });
      mustBe('what was heard', await listener.hears(), `${t.name}/a x`);
      mustBe('QoS', listener.raw.packets.find((it) => it.cmd === 'publish').qos, 1);
    },
  },
  {
    law: 'MQTT-3.10.4-1 UNSUBSCRIBE ends that filter alone', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/a`, 1], [`${t.name}/b`, 1]);
      await listener.unsub(`${t.name}/a`);
      const speaker = await t.peer();
      for (const [topic, body] of [['a', 'x'], ['b', 'y'], ['b', 'end']]) await speaker.pub(`${t.name}/${topic}`, body, { qos: 1 });
      mustBe('what was heard', await listener.hears(), `${t.name}/b y`);
    },
  },
  {
    law: 'MQTT-3.10.4-5 UNSUBACK although nothing matches', versions: BOTH,
    play: async (t) => {
      const codes = await (await t.listener([`${t.name}/a`])).unsub(`${t.name}/b`, `${t.name}/a`);
      if (t.version === 5) mustBe('the reasons', codes.join(), '17,0');
    },
  },
];

const RETAINING = [
  {
    law: 'MQTT-3.3.1-5, -6, -8 what is retained: the last, for who comes later, with RETAIN', versions: BOTH,
    play: async (t) => {
      const speaker = await t.peer();
      for (const body of ['old', 'new']) await speaker.pub(`${t.name}/a`, body, { qos: 1, retain: true });
      await speaker.pub(`${t.name}/a`, 'not kept', { qos: 1 });
      const { payload, retain } = await (await t.listener([`${t.name}/+`, 1])).take('publish');
      mustBe('what came', `${payload} ${retain}`, 'new true');
    },
  },
  {
    law: 'MQTT-3.3.1-12 who is there hears it without RETAIN', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/a`, 1]);
      await (await t.peer()).pub(`${t.name}/a`, 'x', { qos: 1, retain: true });
      mustBe('RETAIN', (await listener.take('publish')).retain, false);
    },
  },
  {
    law: 'MQTT-3.3.1-6, -7 no payload: it is kept no longer, and is not kept itself', versions: BOTH,
    play: async (t) => {
      const speaker = await t.peer();
      for (const body of ['x', '']) await speaker.pub(`${t.name}/a`, body, { qos: 1, retain: true });
      const listener = await t.listener([`${t.name}/a`, 1]);
      await speaker.pub(`${t.name}/a`, 'end', { qos: 1 });
      mustBe('what was heard', await listener.hears(), '');
    },
  },
];

// The edge stays subscribed to `#` for a while, and behind it who subscribes to anything hears what has just been published.
const EVERYTHING = [
  {
    law: 'MQTT-4.7.2-1 # is not for topics of $', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener(['#', 1]);
      const speaker = await t.peer();
      await speaker.pub(`$${t.name}/a`, 'hidden', { qos: 1 });
      await speaker.pub(`${t.name}/a`, 'end', { qos: 1 });
      const heard = (await listener.hears()).split(',').filter((it) => it.startsWith('$'));
      mustBe('topics of $', heard.join(), '');
    },
  },
];

export const MQTT_LAWS = [...CONNECTING, ...FORM, ...TOPICS, ...PUBLISHING, ...SUBSCRIBING, ...RETAINING, ...FIVE, ...EVERYTHING];
