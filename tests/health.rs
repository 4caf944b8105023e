//! Whether health checks say what is so: real connections to servers that stand here.
//!
//! Every server has an address of its own in 127.77.0.0/16 and a port that the kernel chose, so that nothing that is
//! killed is answered for by another, and so that no outgoing connection (they leave from 127.0.0.1) sits on a port
//! that is to be listened on again. Tests wait for events; a time is only ever the bound that is promised.

#[path = "health/following.rs"]
mod following;
#[path = "health/http.rs"]
mod http;
#[path = "health/kinds.rs"]
mod kinds;
#[path = "health/load.rs"]
mod load;
#[path = "health/others.rs"]
mod others;
#[path = "health/reading.rs"]
mod reading;
#[path = "health/server.rs"]
mod server;
#[path = "health/telling.rs"]
mod telling;
#[path = "health/tls.rs"]
mod tls;
