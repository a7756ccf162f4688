//! The server from outside: HTTP and WebSocket on a real port, one file per subject.

mod authority;
mod refusals;
