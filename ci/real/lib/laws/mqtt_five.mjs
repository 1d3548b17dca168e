//! Laws that only MQTT 5.0 has.

import { mustBe } from '../expect.mjs';
import { TAKES } from './why.mjs';

const five = (law, play, more) => ({ law, versions: [5], play, ...more });

/** PUBLISH of QoS 0 by hand, with properties by hand. */
const publish = (topic, ...properties) => [0x30, topic.length + 4 + properties.length, 0, topic.length, topic, properties.length, ...properties, 'x'];

/** What a client publishes ends its connection. */
const ends = (law, bytes, reasons, direct) => five(law, async (t) => {
  const peer = await t.peer();
  peer.say(...bytes);
  await peer.endsWith(...reasons);
}, { direct });

/** Properties of a message that a subscriber gets as they were said. */
const SAID = {
  payloadFormatIndicator: true, responseTopic: 'answers/\u00fc', correlationData: Buffer.from([0, 1, 255]), contentType: 'text/\u00fc',
};

const shared = (law, filter) => five(`${law} ${filter}`, async (t) => {
  const peer = await t.peer();
  peer.say(0x82, filter.length + 6, 0, 1, 0, 0, filter.length, filter, 0);
  await peer.raw.when('SUBACK, or the end', () => peer.raw.closed || peer.raw.packets.some((it) => it.cmd === 'suback'));
  const [granted] = peer.raw.packets.filter((it) => it.cmd === 'suback').flatMap((it) => it.granted);
  if (granted < 0x80) throw new Error(`granted with ${granted}`);
}, { direct: TAKES });

/** What subscribers of a retained message are sent, by their Retain Handling. */
async function retainHandling(t) {
  const speaker = await t.peer();
  await speaker.pub(`${t.name}/a`, 'kept', { qos: 1, retain: true });
  for (const [rh, first, again] of [[0, 'kept', 'kept'], [1, 'kept', ''], [2, '', '']]) {
    const listener = await t.peer();
    for (const wanted of [first, again]) {
      await listener.sub([[`${t.name}/a`, 1, { rh }]]);
      await speaker.pub(`${t.name}/a`, 'end', { qos: 1 });
      mustBe(`retain handling ${rh}`, (await listener.hears()).replace(`${t.name}/a `, ''), wanted);
    }
  }
}

/** No more than the client's Receive Maximum is under way to it. */
async function receiveMaximum(t) {
  const slow = await t.peer({ properties: { receiveMaximum: 2 } });
  slow.raw.answers = false;
  await slow.sub([[`${t.name}/a`, 1]]);
  const [quick, speaker] = [await t.listener([`${t.name}/a`, 1]), await t.peer()];
  for (let i = 0; i < 5; i += 1) await speaker.pub(`${t.name}/a`, `${i}`, { qos: 1 });
  for (let i = 0; i < 5; i += 1) await quick.take('publish');
  await slow.pong();
  const heard = () => slow.raw.packets.filter((it) => it.cmd === 'publish');
  mustBe('messages under way', heard().length, 2);
  for (let i = 0; i < 5; i += 1) slow.raw.send({ cmd: 'puback', messageId: (await slow.take('publish')).messageId });
  mustBe('what was heard', heard().map((it) => `${it.payload}`).join(), '0,1,2,3,4');
}

/** What is longer than the client takes is not sent to it, and what is behind it is. */
async function maximumPacketSize(t) {
  const small = await t.peer({ properties: { maximumPacketSize: 100 } });
  await small.sub([[`${t.name}/a`, 1]]);
  const speaker = await t.peer();
  for (const body of ['x'.repeat(200), 'short', 'end']) await speaker.pub(`${t.name}/a`, body, { qos: 1 });
  mustBe('what was heard', await small.hears(), `${t.name}/a short`);
}

async function subscriptionIdentifiers(t) {
  const listener = await t.peer();
  for (const [filter, subscriptionIdentifier] of [['a', 1], ['+', 200], ['b', 3]]) {
    await listener.sub([[`${t.name}/${filter}`, 1]], { subscriptionIdentifier });
  }
  await (await t.peer()).pub(`${t.name}/a`, 'x', { qos: 1 });
  const ids = [];
  // A server may send it once with both, or once for each (3.3.4).
  while (ids.length < 2) ids.push(...[(await listener.take('publish')).properties?.subscriptionIdentifier ?? []].flat());
  mustBe('the identifiers', ids.sort((a, b) => a - b).join(), '1,200');
}

async function topicAliases(t) {
  const listener = await t.listener([`${t.name}/#`, 1]);
  const speaker = await t.peer();
  const say = (topic, body, topicAlias) => speaker.pub(topic && `${t.name}/${topic}`, body, { qos: 1, properties: { topicAlias } });
  for (const [topic, body, alias] of [['a', '1', 1], ['', '2', 1], ['b', '3', 1], ['', '4', 1], ['c', 'end', 2]]) await say(topic, body, alias);
  mustBe('what was heard', await listener.hears(), ['a 1', 'a 2', 'b 3', 'b 4'].map((it) => `${t.name}/${it}`).join());
  if (listener.raw.packets.some((it) => it.properties?.topicAlias)) throw new Error('an alias came that was not allowed');
}

async function oneOfAGroup(t) {
  const members = await Promise.all([0, 1, 2].map(() => t.listener([`$share/g/${t.name}/a`, 1])));
  const [witness, speaker] = [await t.listener([`${t.name}/a`, 1]), await t.peer()];
  const bodies = Array.from({ length: 20 }, (_, i) => `${i}`);
  for (const body of [...bodies, 'end']) await speaker.pub(`${t.name}/a`, body, { qos: 1 });
  await witness.hears();
  const heard = () => members.flatMap(({ raw }) => raw.packets.filter((it) => it.cmd === 'publish').map((it) => `${it.payload}`));
  await members[0].raw.when('the group to hear all', () => heard().length > bodies.length).catch(() => {});
  for (const member of members) await member.pong();
  mustBe('what the members have heard', heard().sort().join(), [...bodies, 'end'].sort().join());
}

export const FIVE = [
  ends('MQTT-3.3.2-8 topic alias 0', publish('a', 0x23, 0, 0), [0x94], 'Mosquitto 2.0.11 says 0x81'),
  ends('MQTT-3.3.2-9 topic alias above the maximum', publish('a', 0x23, 0xff, 0xff), [0x94]),
  ends('3.3.2.3.4 a topic alias that stands for nothing', publish('', 0x23, 0, 1), [0x82, 0x94]),
  ends('MQTT-3.3.2-14 a wildcard in the response topic', publish('a', 0x08, 0, 1, 0x23), [0x82, 0x81, 0x90], TAKES),
  ends('MQTT-3.3.4-6 a subscription identifier of a client', publish('a', 0x0b, 1), [0x82, 0x81], TAKES),
  ends('2.2.2.2 a property that is none', publish('a', 0x7f, 0), [0x81, 0x82]),
  ends('2.2.2.2 a property of another packet', publish('a', 0x21, 0, 1), [0x81, 0x82]),
  ends('3.3.2.3.2 a property twice', publish('a', 0x01, 0, 0x01, 0), [0x82, 0x81]),
  ends('3.8.2.1.2 subscription identifier 0', [0x82, 9, 0, 1, 2, 0x0b, 0, 0, 1, 'a', 0], [0x82, 0x81]),
  ends('MQTT-3.8.3-4 No Local of a group', [0x82, 16, 0, 1, 0, 0, 10, '$share/g/a', 4], [0x82], TAKES),
  ends('3.8.3.1 Retain Handling 3', [0x82, 7, 0, 1, 0, 0, 1, 'a', 0x30], [0x82, 0x81]),
  ends('3.15 AUTH without a method', [0xf0, 0], [0x82, 0x81]),
  five('MQTT-4.12.0-1 a method of authentication that is not known', async (t) => {
    const peer = await t.open();
    await peer.greet({ properties: { authenticationMethod: 'none of ours' } });
    await peer.endsWith(0x8c);
  }),
  five('MQTT-3.3.2-4, -15, -16, -20 properties are handed on as they are', async (t) => {
    const listener = await t.listener([`${t.name}/a`, 1]);
    await (await t.peer()).pub(`${t.name}/a`, 'x', { qos: 1, properties: SAID });
    const { properties } = await listener.take('publish');
    for (const [name, value] of Object.entries(SAID)) mustBe(name, `${properties[name]}`, `${value}`);
  }),
  five('MQTT-3.3.2-17, -18 user properties are handed on in their order', async (t) => {
    const listener = await t.listener([`${t.name}/a`, 1]);
    const pairs = [['b', '1'], ['a', '\u00fc'], ['b', ''], ['', 'c']];
    const raw = Buffer.concat(pairs.flatMap((pair) => [Buffer.from([0x26]), ...pair.flatMap((it) => [Buffer.from([0, Buffer.byteLength(it)]), Buffer.from(it)])]));
    const topic = `${t.name}/a`;
    const speaker = await t.peer();
    speaker.say(0x30, topic.length + 3 + raw.length + 1, 0, topic.length, topic, raw.length, raw, 'x');
    const { properties } = await listener.take('publish');
    const heard = Object.entries(properties.userProperties).map(([name, values]) => `${name}=${[values].flat()}`).sort().join(' ');
    mustBe('user properties', heard, '=c a=\u00fc b=1,');
  }),
  five('MQTT-3.3.2-6 the time that is left of a message', async (t) => {
    const listener = await t.listener([`${t.name}/a`, 1]);
    await (await t.peer()).pub(`${t.name}/a`, 'x', { qos: 1, properties: { messageExpiryInterval: 100 } });
    const left = (await listener.take('publish')).properties?.messageExpiryInterval;
    if (!(left > 90 && left <= 100)) throw new Error(`${left} seconds are left`);
  }),
  five('MQTT-3.3.1-13 Retain As Published', async (t) => {
    const listener = await t.peer();
    await listener.sub([[`${t.name}/a`, 1, { rap: true }], [`${t.name}/b`, 1]]);
    const speaker = await t.peer();
    for (const [topic, retain] of [['a', false], ['a', true], ['b', true]]) {
      await speaker.pub(`${t.name}/${topic}`, 'x', { qos: 1, retain });
      mustBe(`RETAIN of ${topic}, ${retain}`, (await listener.take('publish')).retain, retain && topic === 'a');
    }
  }),
  five('MQTT-3.3.1-9, -10, -11 Retain Handling', retainHandling),
  five('MQTT-3.8.3-3 No Local', async (t) => {
    const peer = await t.peer();
    const [granted] = await peer.sub([[`${t.name}/a`, 1, { nl: true }], [`${t.name}/end`, 1]]);
    await peer.pub(`${t.name}/a`, 'own', { qos: 1 });
    await peer.pub(`${t.name}/end`, 'end', { qos: 1 });
    mustBe(`what was heard where ${granted} was answered`, await peer.hears(), '');
  }),
  five('MQTT-3.3.4-3, -4 subscription identifiers', subscriptionIdentifiers),
  five('MQTT-3.3.4-7 the receive maximum of a client', receiveMaximum),
  five('MQTT-3.1.2-24, -25 the maximum packet size of a client', maximumPacketSize),
  five('3.3.2.3.4, MQTT-3.1.2-27 topic aliases', topicAliases),
  five('3.6.2.1 PUBREL of what is not known', async (t) => {
    const peer = await t.peer();
    peer.raw.send({ cmd: 'pubrel', messageId: 77 });
    mustBe('the reason of PUBCOMP', (await peer.take('pubcomp')).reasonCode, 0x92);
  }, { direct: 'Mosquitto 2.0.11 answers 0' }),
  shared('MQTT-4.8.2-1', '$share//a'),
  shared('MQTT-4.8.2-2', '$share/+/a'),
  five('4.8.2 one member of a group hears a message', oneOfAGroup),
];
