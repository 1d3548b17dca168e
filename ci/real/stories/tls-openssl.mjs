//! openssl s_client, which can ask for each thing alone: cipher suites, groups, signatures, names, versions, tickets, stapled
//! answers, KeyUpdates, renegotiation, small and padded records.

import path from 'node:path';
import { authority, shown } from '../lib/certificates.mjs';
import { startEdgehold } from '../lib/edgehold.mjs';
import { mustBe } from '../lib/expect.mjs';
import { start } from '../lib/processes.mjs';
import { until, within } from '../lib/until.mjs';

const PAGE = 'a page of many words';
const GET = 'GET /page.txt HTTP/1.1\r\nHost: localhost\r\n\r\n';
const LAST = GET.replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n');
const VERSIONS = ['1.2', '1.3'];
const AEADS = ['AES128-GCM-SHA256', 'AES256-GCM-SHA384', 'CHACHA20-POLY1305'];
const SUITES = {
  1.3: ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'],
  1.2: ['ECDSA', 'RSA'].flatMap((key) => AEADS.map((aead) => `ECDHE-${key}-${aead}`)),
};
/** What a client asks for, and the words of OpenSSL for what it gets. */
const GROUPS = { X25519: 'X25519', 'P-256': 'ECDH, prime256v1', 'P-384': 'ECDH, secp384r1', 'X448:P-384': 'ECDH, secp384r1' };
/** OpenSSL sends a hello of these versions only if it is told not to mind their weakness. */
const OLD = ['-cipher', 'DEFAULT:@SECLEVEL=0'];

const protocol = (version) => `-tls${version.replace('.', '_')}`;

let count = 0;

/** A connection of s_client; `said` is what it has written of the server's words and of its own. */
class Client {
  constructor(bench, args, listener = 'secure') {
    count += 1;
    this.args = args;
    const connect = ['-connect', `127.0.0.1:${bench.edgehold.ports[listener]}`, '-CAfile', bench.ca, '-verify_return_error'];
    const log = path.join(bench.stage.folder, `s_client-${count}.log`);
    this.process = start('s_client', 'openssl', ['s_client', ...connect, ...args], { log, input: true });
    // A client that was refused reads no more.
    this.process.child.stdin.on('error', () => {});
    bench.stage.defer(() => this.process.kill());
  }

  said() {
    return this.process.log();
  }

  count(words) {
    return this.said().split(words).length - 1;
  }

  type(text) {
    this.process.child.stdin.write(text);
  }

  /** Waits for the words to have been written so often. */
  async says(words, times = 1) {
    const what = `s_client ${this.args.join(' ')} to say ${words}`;
    await until(what, () => {
      if (this.count(words) >= times) return true;
      this.process.mustRun();
      return false;
    });
    return this;
  }

  /** Asks for the page as the `n`th. */
  async asks(n = 1) {
    this.type(GET);
    await this.says(PAGE, n);
  }

  /** Asks the server to end, and holds it to a close_notify: without one OpenSSL tells of an unexpected EOF. */
  async ends() {
    this.type(LAST);
    const { code } = await within(`the end of s_client ${this.args.join(' ')}`, this.process.exited);
    if (code !== 0 || this.count('unexpected eof')) throw new Error(`s_client ${this.args.join(' ')}: ${this.said()}`);
  }

  /** Waits for its end, which must be a failure with these words. */
  async fails(words) {
    const { code } = await within(`the end of s_client ${this.args.join(' ')}`, this.process.exited);
    if (code === 0 || !this.count(words)) throw new Error(`s_client ${this.args.join(' ')} does not say ${words}: ${this.said()}`);
  }
}

/** Opens, asks for two pages, ends; gives what was said. */
async function visit(bench, args, listener) {
  const client = new Client(bench, args, listener);
  await client.asks();
  await client.asks(2);
  await client.ends();
  return client;
}

function mustSay(client, words) {
  if (!client.count(words)) throw new Error(`s_client ${client.args.join(' ')} does not say ${words}: ${client.said()}`);
}

async function suites(bench) {
  for (const version of VERSIONS) {
    for (const suite of SUITES[version]) {
      const choice = version === '1.3' ? '-ciphersuites' : '-cipher';
      const client = await visit(bench, [protocol(version), choice, suite]);
      mustSay(client, `Cipher is ${suite}`);
      mustSay(client, `New, TLSv${version}`);
    }
  }
}

/** A group that the server lacks costs a round more: HelloRetryRequest, in TLS 1.3. The certificate is RSA's: in TLS 1.2 a client
 * that lacks P-256 takes no certificate of it either (RFC 8422 section 5.1.1). */
async function groups(bench) {
  for (const [group, key] of Object.entries(GROUPS)) {
    for (const version of VERSIONS) {
      const client = await visit(bench, [protocol(version), '-groups', group, '-sigalgs', 'RSA-PSS+SHA256', '-msg']);
      mustSay(client, `Server Temp Key: ${key}`);
      const hellos = version === '1.3' && group.includes(':') ? 2 : 1;
      mustBe(`hellos with ${group}, TLS ${version}`, client.count(', ClientHello'), hellos);
    }
  }
}

/** The certificate is the one of the name, or of a name under it; else, and without a name, the first. */
async function names(bench) {
  const shownFor = [
    [['-servername', 'localhost'], 'ecdsa'], [['-noservername'], 'ecdsa'], [['-servername', 'other.example'], 'ecdsa'],
    [['-servername', 'wide.example'], 'wide'], [['-servername', 'WIDE.example'], 'wide'], [['-servername', 'a.wide.example'], 'wide'],
    [['-servername', 'a.b.wide.example'], 'ecdsa'], [['-servername', 'ed.example'], 'ed25519'],
    [['-servername', 'localhost', '-sigalgs', 'RSA-PSS+SHA256'], 'rsa'],
  ];
  for (const [args, subject] of shownFor) {
    for (const version of VERSIONS) {
      const client = await visit(bench, [protocol(version), ...args]);
      mustSay(client, `subject=CN = ${subject}\n`);
    }
  }
}

async function tickets(bench) {
  for (const version of VERSIONS) {
    const file = path.join(bench.stage.folder, `session-${version}`);
    mustSay(await visit(bench, [protocol(version), '-sess_out', file]), `New, TLSv${version}`);
    const resumed = () => bench.edgehold.metric('edgehold_tls_handshakes_total', { kind: 'resumed' });
    const before = await resumed();
    mustSay(await visit(bench, [protocol(version), '-sess_in', file]), `Reused, TLSv${version}`);
    await until('the session to be counted', async () => (await resumed()) === before + 1);
    // The ticket of one listener is nothing to another.
    mustSay(await visit(bench, [protocol(version), '-sess_in', file], 'other'), `New, TLSv${version}`);
  }
}

async function stapled(bench) {
  for (const version of VERSIONS) {
    mustSay(await visit(bench, [protocol(version), '-status']), 'OCSP Response Status: successful (0x0)');
    mustSay(await visit(bench, [protocol(version), '-status', '-servername', 'wide.example']), 'OCSP response: no response sent');
  }
}

/** Who is refused is told so by an alert, and counted. */
async function refusals(bench) {
  const refused = [
    [['-tls1_1', ...OLD], 'no_common_version', 'alert protocol version'],
    [['-tls1', ...OLD], 'no_common_version', 'alert protocol version'],
    [['-tls1_2'], 'no_common_version', 'alert protocol version', 'new'],
    [['-tls1_2', '-cipher', 'AES128-SHA'], 'no_common_cipher', 'alert handshake failure'],
    [['-tls1_2', '-cipher', 'DHE-RSA-AES128-GCM-SHA256'], 'no_common_cipher', 'alert handshake failure'],
    [['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-SHA256'], 'no_common_cipher', 'alert handshake failure'],
    [['-tls1_3', '-ciphersuites', 'TLS_AES_128_CCM_SHA256'], 'no_common_cipher', 'alert handshake failure'],
    [['-tls1_3', '-groups', 'X448'], 'no_common_cipher', 'alert handshake failure'],
    [['-alpn', 'h2'], 'no_common_protocol', 'alert number 120'],
  ];
  for (const [args, reason, alert, listener = 'secure'] of refused) {
    const failures = () => bench.edgehold.metric('edgehold_tls_handshake_failures_total', { reason });
    const before = await failures();
    await new Client(bench, args, listener).fails(alert);
    await until(`${reason} of ${args.join(' ')} to be counted`, async () => (await failures()) === before + 1);
  }
}

/** Asked for (K), each is answered by one of the server's before its next data; told (k), by none. */
async function keyUpdates(bench) {
  const client = new Client(bench, ['-tls1_3', '-msg']);
  await client.asks();
  let answers = 0;
  for (const [n, key] of [...'kKKkKk'].entries()) {
    client.type(`${key}\n`);
    await client.says('KEYUPDATE', n + 1);
    await client.asks(n + 2);
    answers += key === 'K' ? 1 : 0;
    mustBe(`KeyUpdates of the server after ${key}`, client.count('<<< TLS 1.3, Handshake [length 0005], KeyUpdate'), answers);
  }
  await client.ends();
}

/** The request is refused by a warning, which OpenSSL takes for a failure. */
async function renegotiation(bench) {
  const client = new Client(bench, ['-tls1_2']);
  await client.asks();
  client.type('R\n');
  await client.fails('no renegotiation');
}

/** Records that are short, or padded. */
async function records(bench) {
  await visit(bench, ['-tls1_2', '-max_send_frag', '512']);
  await visit(bench, ['-tls1_3', '-max_send_frag', '512', '-record_padding', '512']);
  await visit(bench, ['-tls1_3', '-record_padding', '16384']);
}

function certificates(ours) {
  const [ecdsa, rsa] = [ours.issue('ecdsa'), ours.issue('rsa', { key: 'RSA' })];
  const wide = ours.issue('wide', { key: 'P-384', names: ['DNS:*.wide.example', 'DNS:wide.example'] });
  const ed = ours.issue('ed25519', { key: 'Ed25519', names: ['DNS:ed.example'] });
  return [{ ...shown(ecdsa), ocsp: ours.vouch(ecdsa) }, ...[rsa, wide, ed].map(shown)];
}

export default async function tlsOpenssl(stage) {
  const ours = authority(stage, 'ours');
  const tls = { certificates: certificates(ours) };
  stage.dir('www');
  stage.file('www/page.txt', PAGE);
  const edgehold = await startEdgehold(stage, {
    listeners: { secure: { tls }, other: { tls }, new: { tls: { ...tls, min_version: '1.3' } } },
    routes: [{ path: '/', service: 'files', root: `${stage.folder}/www` }],
  });
  const bench = { stage, edgehold, ca: ours.ca };
  for (const each of [suites, groups, names, tickets, stapled, refusals, keyUpdates, renegotiation, records]) await each(bench);
  // The alert of the one whose renegotiation was refused.
  mustBe('records that were not what they should be', await edgehold.metric('edgehold_tls_record_faults_total'), 1);
  stage.note(`${count} connections`);
}
