//! A listener's files from their making to a handshake.
