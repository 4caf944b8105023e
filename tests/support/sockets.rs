//! Sockets that are there before the server is, as systemd passes them.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::Command;

use command_fds::{CommandFdExt, FdMapping};
use socket2::{Domain, Socket, Type};

/// As systemd does: descriptors from 3 on, and the process that they are for.
pub(crate) fn with_sockets(server: &Command, sockets: Vec<OwnedFd>) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg("LISTEN_PID=$$ exec \"$0\" \"$@\"");
    command.arg(server.get_program()).args(server.get_args());
    command.current_dir(server.get_current_dir().expect("its home"));
    command.env("NO_COLOR", "1").env("LISTEN_FDS", sockets.len().to_string());
    let numbered = sockets.into_iter().zip(3..);
    let mappings = numbered.map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }).collect();
    command.fd_mappings(mappings).expect("each number once");
    command
}

/// TCP and UDP at one address, UDP as often as systemd is told to with `ReusePort=`.
pub(crate) fn bind(count: usize) -> (SocketAddr, Vec<UdpSocket>, TcpListener) {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = tcp.local_addr().unwrap();
    let bind_udp = |_| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&at.into())?;
        Ok(UdpSocket::from(socket))
    };
    match (0..count).map(bind_udp).collect::<io::Result<_>>() {
        Ok(udp) => (at, udp, tcp),
        // Somebody has that port for UDP; the next one is another.
        Err(error) if error.kind() == ErrorKind::AddrInUse => bind(count),
        Err(error) => panic!("{error}"),
    }
}
