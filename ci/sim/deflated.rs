//! A client's end of permessage-deflate, with the same library but with windows of its own.

use edgehold_wire::deflate::{Deflater, Inflater, Parameters, Window};

pub struct Deflated {
    agreed: Parameters,
    deflater: Deflater,
    inflater: Inflater,
    said: Option<Window>,
    heard: Option<Window>,
}

impl Deflated {
    pub fn new(agreed: Parameters) -> Deflated {
        Deflated {
            agreed,
            deflater: Deflater::default(),
            inflater: Inflater::default(),
            said: agreed.client_takeover.then(|| Window::new(agreed.client_bits)),
            heard: agreed.server_takeover.then(|| Window::new(agreed.server_bits)),
        }
    }

    pub fn deflate(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.deflater.message(message, self.said.as_mut(), self.agreed.client_bits, &mut out);
        out
    }

    pub fn inflate(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let read = self.inflater.message(message, self.heard.as_mut(), u64::MAX, &mut out);
        read.expect("the shard sends what RFC 7692 allows");
        out
    }
}
