//! A whole message in presentation format, as dig prints it.
