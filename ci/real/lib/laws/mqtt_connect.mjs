//! Laws about CONNECT, DISCONNECT, wills and keep alive.

import { mustBe } from '../expect.mjs';

const BOTH = [4, 5];

/** CONNECT by hand: the protocol's name, its level, the flags, and a client identifier. */
const connect = (name, level, flags, id = 'a') => {
  const properties = level === 5 ? [0] : [];
  const length = 2 + name.length + 4 + properties.length + 2 + id.length;
  return [0x10, length, 0, name.length, name, level, flags, 0, 0, ...properties, 0, id.length, id];
};

const refused = (law, bytes, ...reasons) => ({
  law, versions: BOTH,
  play: async (t) => {
    const peer = await t.open();
    peer.say(...bytes(t.version));
    await peer.endsWith(...reasons);
    if (peer.raw.packets.some((it) => it.cmd === 'connack' && (it.reasonCode ?? it.returnCode) === 0)) throw new Error('it was let in');
  },
});

const WILL = (t, more) => ({ will: { topic: `${t.name}/will`, payload: Buffer.from('lost'), qos: 1, retain: false, ...more } });

/** Whether the will is heard behind what the client does. */
const will = (law, versions, leave, heard, more) => ({
  law, versions,
  play: async (t) => {
    const listener = await t.listener([`${t.name}/#`, 1]);
    const mortal = await t.peer(WILL(t, more));
    await leave(mortal);
    await mortal.ends();
    if (heard) mustBe('the will', `${(await listener.take('publish')).payload}`, 'lost');
    await (await t.peer()).pub(`${t.name}/a`, 'end', { qos: 1 });
    mustBe('what was heard beside it', await listener.hears(), '');
  },
});

export const CONNECTING = [
  refused('MQTT-3.1.0-1 another packet first', () => [0xc0, 0], 0x82, 0x81),
  refused('MQTT-3.1.2-1 another name of the protocol', (v) => connect('MQTX', v, 2), 0x84, 0x81, 1),
  refused('MQTT-3.1.2-2 another level', () => connect('MQTT', 9, 2), 1, 0x84),
  refused('MQTT-3.1.2-3 the reserved flag', (v) => connect('MQTT', v, 3), 0x81),
  refused('MQTT-3.1.2-12 QoS 3 of a will', (v) => connect('MQTT', v, 0x1e), 0x81),
  refused('MQTT-3.1.2-11 QoS of no will', (v) => connect('MQTT', v, 0x0a), 0x81),
  {
    law: 'MQTT-3.1.0-2 CONNECT twice', versions: BOTH,
    play: async (t) => {
      const peer = await t.peer();
      peer.say(...connect('MQTT', t.version, 2));
      await peer.endsWith(0x82);
    },
  },
  {
    law: 'MQTT-3.1.3-6 no client identifier', versions: BOTH,
    play: async (t) => {
      const connack = await (await t.open()).greet();
      if (t.version === 5 && !connack.properties?.assignedClientIdentifier) throw new Error('none was assigned (MQTT-3.1.3-7)');
      mustBe('session present', connack.sessionPresent, false);
    },
  },
  {
    law: '3.1.1: MQTT-3.1.3-8 no client identifier and no clean session', versions: [4],
    play: async (t) => {
      const peer = await t.open();
      peer.say(...connect('MQTT', 4, 0, ''));
      await peer.endsWith(2);
    },
  },
  {
    law: 'MQTT-3.1.2-4, MQTT-3.2.2-2 a clean start has no session', versions: BOTH,
    play: async (t) => {
      for (let i = 0; i < 2; i += 1) {
        const peer = await t.open();
        mustBe('session present', (await peer.greet({ clientId: `${t.name}-clean` })).sessionPresent, false);
        peer.raw.send({ cmd: 'disconnect' });
        await peer.ends();
      }
    },
  },
  {
    law: 'MQTT-3.1.2-22 silence of one and a half times keep alive', versions: BOTH,
    play: async (t) => {
      const [silent, heard] = [await t.peer({ keepalive: 1 }), await t.peer({ keepalive: 1 })];
      const from = performance.now();
      const pings = setInterval(() => heard.raw.send({ cmd: 'pingreq' }), 300);
      await silent.endsWith(0x8d).finally(() => clearInterval(pings));
      const ms = performance.now() - from;
      if (ms < 1400) throw new Error(`ended after ${ms.toFixed(0)} ms`);
      await heard.pong();
    },
  },
  will('MQTT-3.1.2-8 the will of who is lost', BOTH, (it) => it.raw.drop(), true),
  will('MQTT-3.1.2-8 the will of who says what it must not', BOTH, (it) => it.say(0xf1, 0), true),
  will('MQTT-3.14.4-3 no will behind DISCONNECT', BOTH, (it) => it.raw.send({ cmd: 'disconnect' }), false),
  will('3.14.2.1 the will behind DISCONNECT with reason 4', [5], (it) => it.raw.send({ cmd: 'disconnect', reasonCode: 4 }), true),
  {
    law: 'MQTT-3.1.2-15 a will that is retained', versions: BOTH,
    play: async (t) => {
      const listener = await t.listener([`${t.name}/#`, 1]);
      const mortal = await t.peer(WILL(t, { retain: true }));
      mortal.raw.drop();
      await listener.take('publish');
      const { payload, retain } = await (await t.listener([`${t.name}/will`, 1])).take('publish');
      mustBe('what came', `${payload} ${retain}`, 'lost true');
    },
  },
  {
    law: 'MQTT-3.14.4-1 the connection ends behind DISCONNECT', versions: BOTH,
    play: async (t) => {
      const peer = await t.peer();
      peer.raw.send({ cmd: 'disconnect' });
      await peer.ends();
    },
  },
];
