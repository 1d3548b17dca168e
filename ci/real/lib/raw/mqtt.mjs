//! MQTT 3.1.1 and 5 packet by packet: what is said is said as it stands, and every packet that comes is kept.
//!
//! The library `mqtt-packet` (npm, by way of mqtt.js) is only the codec here; `say` sends bytes of any kind.

import mqttPacket from 'mqtt-packet';
import { open } from './transport.mjs';
import { Waiting } from './waiting.mjs';

/** A connection: `packets` has all that came, in order; `closed` is true once it has ended. Whoever gets QoS 1 or 2 answers as
 * it must, so long as `answers` is true. */
export class RawMqtt extends Waiting {
  packets = [];
  closed = false;
  answers = true;
  /** What each packet is marked with as its `step`. */
  step = 0;

  constructor(transport, version) {
    super();
    Object.assign(this, { transport, version, parser: mqttPacket.parser({ protocolVersion: version }) });
    this.parser.on('packet', (packet) => this.#came(packet));
    this.parser.on('error', (error) => { this.broken = error; });
    transport.take((bytes) => this.parser.parse(bytes), () => this.#ended());
  }

  #came(packet) {
    this.packets.push(Object.assign(packet, { step: this.step }));
    if (this.answers) this.#answer(packet);
    this.wake();
  }

  #ended() {
    this.closed = true;
    this.wake();
  }

  #answer(packet) {
    const { cmd, qos, messageId } = packet;
    if (cmd === 'publish' && qos > 0) this.send({ cmd: qos === 1 ? 'puback' : 'pubrec', messageId });
    if (cmd === 'pubrec' && !(packet.reasonCode >= 0x80)) this.send({ cmd: 'pubrel', messageId });
    if (cmd === 'pubrel') this.send({ cmd: 'pubcomp', messageId });
  }

  send(packet) {
    this.transport.write(mqttPacket.generate(packet, { protocolVersion: this.version }));
  }

  /** Bytes as they are. */
  say(bytes) {
    this.transport.write(bytes);
  }

  end() {
    this.transport.end();
  }

  drop() {
    this.transport.drop();
  }
}

/** Opens the connection, without a CONNECT; `version` is 4 or 5. */
export async function openMqtt(address, version) {
  return new RawMqtt(await open(address, ['mqtt']), version);
}
