//! Node's `ws` and Python's `websockets` over wss, in both versions of TLS: with the authority, without it, and with client
//! certificates that are good, missing, of another authority, expired, revoked. Who is refused is told why by the alert, and
//! edgehold counts it under the same reason.

import { readFileSync } from 'node:fs';
import { authority, shown } from '../lib/certificates.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe, mustEqual } from '../lib/expect.mjs';
import { python } from '../lib/python.mjs';
import { until, within } from '../lib/until.mjs';
import { connect } from '../lib/websocket.mjs';

const VERSIONS = ['1.2', '1.3'];
const SIZES = [0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, 300_000];

/** What a client is told, by the reason that edgehold counts: the words that OpenSSL has for the alert. */
const ALERTS = {
  certificate_missing: /alert certificate required/,
  certificate_unknown_issuer: /alert unknown ca/,
  certificate_expired: /alert certificate expired/,
  certificate_revoked: /alert certificate revoked/,
};

function mustSay(what, { refused = 'nothing' }, words) {
  if (!words.test(refused.toLowerCase().replaceAll('_', ' '))) throw new Error(`${what}: told ${refused} instead of ${words}`);
}

/** Node's client: resolves with what the Python client prints. */
async function nodeEcho({ url, version, ca, cert, key }) {
  const heard = [];
  const tls = { ca: readFileSync(ca), minVersion: `TLSv${version}`, maxVersion: `TLSv${version}` };
  if (cert) Object.assign(tls, { cert: readFileSync(cert), key: readFileSync(key) });
  let ws;
  try {
    ws = await connect(url, { ...tls, maxPayload: 0, onMessage: (data) => heard.push(data) });
  } catch (error) {
    return { refused: `${error.code} ${error.message}` };
  }
  const bodies = SIZES.map((size) => Buffer.from(Array.from({ length: size }, (_, i) => i % 251)));
  bodies.forEach((body) => ws.send(body));
  await until('the echoes', () => heard.length >= bodies.length);
  bodies.forEach((body, i) => mustEqual(`echo of ${body.length} bytes`, heard[i], body));
  ws.close(1000);
  mustBe('close code', (await within('the close', ws.closed)).code, 1000);
  return { echoed: heard.length };
}

class Bench {
  constructor(stage, edgehold, ca) {
    Object.assign(this, { stage, edgehold, ca, tried: 0 });
    const pythonEcho = (wanted) => python(stage, 'real/clients/echo.py', [JSON.stringify(wanted)]);
    this.clients = { node: nodeEcho, python: pythonEcho };
  }

  failures(reason) {
    return this.edgehold.metric('edgehold_tls_handshake_failures_total', { reason });
  }

  handshakes() {
    return this.edgehold.metric('edgehold_tls_handshakes_total');
  }

  /** Each client in each version does what `judge(what, client, wanted)` says of it. */
  async each(name, listener, whose, judge) {
    for (const [client, run] of Object.entries(this.clients)) {
      for (const version of VERSIONS) {
        const wanted = { url: this.edgehold.wss('/echo', listener), version, ca: this.ca, ...whose };
        await judge(`${name} of ${client}, TLS ${version}, at ${listener}`, () => run(wanted));
        this.tried += 1;
      }
    }
  }

  async isServed(name, listener, whose) {
    await this.each(name, listener, whose, async (what, run) => {
      const before = await this.handshakes();
      mustBe(`${what}: messages`, (await run()).echoed, SIZES.length);
      await until(`${what}: one more handshake`, async () => (await this.handshakes()) === before + 1);
    });
  }

  /** The client refuses: Node once the handshake is over, so that only Python's sends an alert. */
  async refuses(name, listener, whose) {
    await this.each(name, listener, whose, async (what, run) => {
      const before = await this.failures('refused_by_peer');
      mustSay(what, await run(), /unable to verify|unable to get local issuer/);
      const alerts = what.includes('python') ? 1 : 0;
      await until(`${what}: the alert`, async () => (await this.failures('refused_by_peer')) === before + alerts);
    });
  }

  async isRefused(name, listener, reason, whose) {
    await this.each(name, listener, whose, async (what, run) => {
      const before = { failures: await this.failures(reason), handshakes: await this.handshakes() };
      mustSay(what, await run(), ALERTS[reason]);
      await until(`${what}: one more ${reason}`, async () => (await this.failures(reason)) === before.failures + 1);
      mustBe(`${what}: handshakes`, await this.handshakes(), before.handshakes);
    });
  }
}

export default async function tlsClients(stage) {
  const [ours, strangers] = [authority(stage, 'ours'), authority(stage, 'strangers')];
  const [server, good, late, revoked] = [ours.issue('edge'), ours.issue('good'), ours.issue('late', { days: -1 }), ours.issue('revoked')];
  const stranger = strangers.issue('stranger');
  const client = { ca: ours.ca, crl: ours.revoke(revoked) };
  const listener = (verify) => ({ tls: { ...shown(server), ...(verify ? { client: { verify, ...client } } : {}) } });
  const edgehold = await startEdgehold(stage, {
    listeners: { open: listener(), optional: listener('optional'), required: listener('required') },
    routes: [{ path: '/echo', service: 'echo' }],
  });
  const bench = new Bench(stage, edgehold, ours.ca);
  await bench.isServed('no certificate', 'open', {});
  await bench.refuses('a client of another authority', 'open', { ca: strangers.ca });
  await bench.isServed('no certificate', 'optional', {});
  for (const asked of ['optional', 'required']) {
    await bench.isServed('a good certificate', asked, good);
    await bench.isRefused('a certificate of another authority', asked, 'certificate_unknown_issuer', stranger);
    await bench.isRefused('an expired certificate', asked, 'certificate_expired', late);
    await bench.isRefused('a revoked certificate', asked, 'certificate_revoked', revoked);
  }
  await bench.isRefused('no certificate', 'required', 'certificate_missing', {});
  stage.note(`${bench.tried} connections`);
}
