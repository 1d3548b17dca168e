//! Certificates for a stage, made by openssl: authorities, what they issue for the loopback, and what they say of it later.

import { execFileSync } from 'node:child_process';
import path from 'node:path';

const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();

/** How a key is made, by its kind. */
const KEYS = {
  'P-256': ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'],
  'P-384': ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384'],
  RSA: ['-newkey', 'rsa:2048'],
  Ed25519: ['-newkey', 'ed25519'],
};

/** What stands in every certificate of an authority, but for its names. */
const EXTENSIONS = ['basicConstraints=critical,CA:FALSE', 'keyUsage=critical,digitalSignature', 'extendedKeyUsage=serverAuth,clientAuth'];
const LOOPBACK = ['DNS:localhost', 'IP:127.0.0.1'];
const DAYS = 90;

/** For `openssl ca`, which keeps a database of what was revoked. */
const database = (file) => `[ca]
default_ca = it
[it]
database = ${file('index')}
crlnumber = ${file('number')}
default_md = sha256
default_crl_days = 2
crl_extensions = list
[list]
authorityKeyIdentifier = keyid:always
`;

class Authority {
  constructor(stage, name) {
    this.file = (end) => path.join(stage.dir('tls'), `${name}.${end}`);
    Object.assign(this, { stage, name, ca: this.file('pem'), caKey: this.file('key') });
    openssl('req', '-x509', ...KEYS['P-256'], '-nodes', '-days', `${DAYS}`, '-subj', `/CN=${name}`, '-keyout', this.caKey,
      '-out', this.ca, '-addext', 'keyUsage=critical,keyCertSign,cRLSign');
    for (const [end, text] of [['index', ''], ['number', '01\n'], ['cnf', database(this.file)]]) this.#write(end, text);
  }

  #write(end, text) {
    return this.stage.file(path.relative(this.stage.folder, this.file(end)), text);
  }

  /** Gives the files `cert` and `key` of a new certificate, for servers and clients alike, with these names; of negative `days`
   * it has expired. */
  issue(whose, { key = 'P-256', names = LOOPBACK, days = DAYS } = {}) {
    const of = (end) => this.file(`${whose}.${end}`);
    openssl('req', '-new', ...KEYS[key], '-nodes', '-subj', `/CN=${whose}`, '-keyout', of('key'), '-out', of('csr'));
    const extensions = this.#write(`${whose}.ext`, [`subjectAltName=${names}`, ...EXTENSIONS, ''].join('\n'));
    openssl('x509', '-req', '-in', of('csr'), '-CA', this.ca, '-CAkey', this.caKey, '-CAcreateserial', '-days', `${days}`,
      '-extfile', extensions, '-out', of('pem'));
    return { cert: of('pem'), key: of('key') };
  }

  /** Gives the file of a new revocation list, in which these certificates stand and those of lists before. */
  revoke(...certificates) {
    const ca = ['ca', '-batch', '-config', this.file('cnf'), '-cert', this.ca, '-keyfile', this.caKey];
    for (const { cert } of certificates) openssl(...ca, '-revoke', cert);
    openssl(...ca, '-gencrl', '-out', this.file('crl'));
    return this.file('crl');
  }

  /** Gives the file of an OCSP response that says that a certificate is good. */
  vouch({ cert }) {
    const serial = openssl('x509', '-in', cert, '-noout', '-serial').trim().split('=')[1];
    const index = this.#write('good', `V\t491231235959Z\t\t${serial}\tunknown\t/CN=any\n`);
    openssl('ocsp', '-index', index, '-CA', this.ca, '-rsigner', this.ca, '-rkey', this.caKey, '-issuer', this.ca,
      '-cert', cert, '-ndays', '2', '-respout', this.file('ocsp'));
    return this.file('ocsp');
  }
}

/** A new authority: its certificate is in the file `ca`. */
export const authority = (stage, name) => new Authority(stage, name);

/** The keys of a listener's `tls` for a certificate. */
export const shown = ({ cert, key }) => ({ certificate: cert, key });
