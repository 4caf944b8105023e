//! Which rule of a service speaks for a client.
